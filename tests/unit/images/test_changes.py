from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwood.errors import InvalidArgument
from boxwood.model.config import ContainerConfig
from boxwood.model.moments import nanoseconds
from boxwood.services.images.changes import apply_changes
from boxwood.services.images.expansion import word, words


def changed(*changes: str) -> ContainerConfig:
    return apply_changes(ContainerConfig(), changes)


def test_commands() -> None:
    assert changed('CMD ["a", "b c"]').cmd == ("a", "b c")
    assert changed("cmd a  b").cmd == ("/bin/sh", "-c", "a  b")
    assert changed('ENTRYPOINT ["a"]').entrypoint == ("a",)
    assert changed("CMD [a]").cmd == ("/bin/sh", "-c", "[a]")


def test_environment() -> None:
    assert changed('ENV A=1 B="x y" C=a\\ b').env == ("A=1", "B=x y", "C=a b")
    assert changed("ENV A the rest of it").env == ("A=the rest of it",)
    assert changed("ENV A=1", "ENV A=2 B=$A", "ENV C=${B}x").env == ("A=2", "B=1", "C=1x")
    assert changed("ENV A=1", "ENV B=\\$A").env == ("A=1", "B=$A")


def test_the_rest() -> None:
    assert changed("LABEL a=b c='d e'").labels == {"a": "b", "c": "d e"}
    assert set(changed("EXPOSE 80 53/udp 1000-1002/tcp").exposed_ports or {}) == {
        "80/tcp", "53/udp", "1000/tcp", "1001/tcp", "1002/tcp",
    }  # fmt: skip
    assert changed("USER 1000:1000").user == "1000:1000"
    assert set(changed('VOLUME ["/a b"]', "VOLUME /c /d").volumes or {}) == {"/a b", "/c", "/d"}
    assert changed("WORKDIR /a", "WORKDIR b/../c").working_dir == "/a/c"
    assert changed("STOPSIGNAL SIGINT").stop_signal == "SIGINT"
    assert changed("STOPSIGNAL cld").stop_signal == "cld"
    assert changed("ONBUILD RUN x y").on_build == ("RUN x y",)


def test_health_checks() -> None:
    health = changed("HEALTHCHECK --interval=1m30s --retries=2 CMD curl x").healthcheck
    assert health is not None
    assert (health.test, health.interval, health.retries) == (
        ("CMD-SHELL", "curl x"), 90_000_000_000, 2,
    )  # fmt: skip
    exact = changed('HEALTHCHECK CMD ["a"]').healthcheck
    none = changed("HEALTHCHECK NONE").healthcheck
    assert exact is not None
    assert none is not None
    assert (exact.test, none.test) == (("CMD", "a"), ("NONE",))
    assert nanoseconds("1h2m3.5s") == 3723_500_000_000


@pytest.mark.parametrize(
    "change",
    ["RUN x", "FROM x", "COPY a b", 'CMD ["a", 1]', "ENV", "ENV A", "ENV A=1 B", "LABEL a='b",
     "EXPOSE x",
     "EXPOSE 99999", "EXPOSE 5-3", "ONBUILD FROM x", "ONBUILD ONBUILD RUN x", "USER",
     "HEALTHCHECK x", "HEALTHCHECK --interval=5 CMD x", "HEALTHCHECK --what=5 CMD x",
     "HEALTHCHECK --retries=0 CMD x", "STOPSIGNAL a b", 'VOLUME ["" ]', "x" * 70000,
     "ENV =b", 'ENV A="b', "CMD --x y", "VOLUME []",
     "ENV A=${", "ENV A=${}", "ENV A=${B:=c}", "ENV A=${B:?no}", "ENV A=${B?no}", "EXPOSE 80/foo",
     "EXPOSE 80:81/udp:82x", "STOPSIGNAL NOPE", "STOPSIGNAL 99", "HEALTHCHECK NONE x",
     "STOPSIGNAL RTMIN+16",
     "HEALTHCHECK --interval=1us CMD x", "HEALTHCHECK CMD", "HEALTHCHECK CMD []", "# nothing", ""],
)  # fmt: skip
def test_refused(change: str) -> None:
    with pytest.raises(InvalidArgument):
        changed(change)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$V", "a b"), ("${V}", "a b"), ("'$V'", "$V"), ('"$V"', "a b"), ("\\$V", "$V"),
        ("$N", ""), ("$", "$"), ("$-", ""), ("${N:-d e}", "d e"), ("${E:-d}", "d"), ("${E-d}", ""),
        ("${N-d}", "d"), ("${V:+y}", "y"), ("${E:+y}", ""), ("${E+y}", "y"), ("${N+y}", ""),
        ("${V:?x}", "a b"), ("${N:-${V}}", "a b"), ("${N:-'}'}", "}"), ("${P#*/}", "b/c.tar.gz"),
        ("${P##*/}", "c.tar.gz"), ("${P%.*}", "a/b/c.tar"), ("${P%%.*}", "a/b/c"),
        ("${P/\\//:}", "a:b/c.tar.gz"), ("${P//[/]/:}", "a/b/c.tar.gz"), ("${P/b*r/x}", "a/x.gz"),
        ("${P//?/x}", "xxxxxxxxxxxx"), ("${P#nope}", "a/b/c.tar.gz"), ('a"b c"d\'e\'', "ab cde"),
    ],
)  # fmt: skip
def test_expansion(text: str, value: str) -> None:
    known = {"V": "a b", "E": "", "P": "a/b/c.tar.gz"}
    assert word(text, known) == value


def test_words() -> None:
    assert words("a \"$V\"c $V$V 'x y' $N", {"V": "1 2"}) == ["a", "1 2c", "1", "21", "2", "x y"]


def test_as_in_a_dockerfile() -> None:
    """All changes are one file; each instruction's rest is read as Docker reads it."""
    assert changed("LABEL a=b\\\n c=d\n# e=f\nUSER me").labels == {"a": "b", "c": "d"}
    assert changed("", "CMD a").cmd == ("/bin/sh", "-c", "a")
    assert changed("CMD").cmd == ("/bin/sh", "-c")
    assert changed('LABEL "com.x y"="z" a=\'b c\'').labels == {"com.x y": "z", "a": "b c"}
    assert changed("USER a b").user == "a b"
    assert changed("WORKDIR /a b").working_dir == "/a b"
    assert set(changed("EXPOSE 8080:80 127.0.0.1::81/UDP").exposed_ports or {}) == {
        "80/tcp", "81/udp",
    }  # fmt: skip
    assert changed("ENV A=80", "EXPOSE $A $B").exposed_ports == {"80/tcp": {}}
    with pytest.raises(InvalidArgument, match="is not a valid change command"):
        changed("ENV A", "RUN x")


WORDS = st.sampled_from(
    ["CMD", "ENV", "LABEL", "EXPOSE", "USER", "VOLUME", "WORKDIR", "HEALTHCHECK", "STOPSIGNAL"]
)


@pytest.mark.property
@given(WORDS, st.text(alphabet="ab=\"'\\$[]{},: 1-/\n#%*?", max_size=30))
def test_anything_is_applied_or_refused(word: str, rest: str) -> None:
    try:
        changed(f"{word} {rest}")
    except InvalidArgument:
        return
