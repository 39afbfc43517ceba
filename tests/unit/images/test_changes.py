from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwood.errors import InvalidArgument
from boxwood.model.config import ContainerConfig
from boxwood.services.images.changes import apply_changes, nanoseconds


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
    ["RUN x", "FROM x", "COPY a b", "CMD", "ENV", "ENV A", "ENV A=1 B", "LABEL a='b", "EXPOSE x",
     "EXPOSE 99999", "EXPOSE 5-3", "ONBUILD FROM x", "ONBUILD ONBUILD RUN x", "USER a b",
     "HEALTHCHECK x", "HEALTHCHECK --interval=5 CMD x", "HEALTHCHECK --what=5 CMD x",
     "HEALTHCHECK --retries=0 CMD x", "STOPSIGNAL a b", 'VOLUME ["" ]', "x" * 70000],
)  # fmt: skip
def test_refused(change: str) -> None:
    with pytest.raises(InvalidArgument):
        changed(change)


WORDS = st.sampled_from(
    ["CMD", "ENV", "LABEL", "EXPOSE", "USER", "VOLUME", "WORKDIR", "HEALTHCHECK"]
)


@pytest.mark.property
@given(WORDS, st.text(alphabet="ab=\"'\\$[]{},: 1-/\n", max_size=30))
def test_anything_is_applied_or_refused(word: str, rest: str) -> None:
    try:
        changed(f"{word} {rest}")
    except InvalidArgument:
        return
