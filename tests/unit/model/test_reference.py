from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwood.errors import InvalidArgument
from boxwood.model.reference import Reference

HEX = "0123456789abcdef" * 4

# As written, canonical, familiar.
GOOD = [
    ("busybox", "docker.io/library/busybox", "busybox"),
    ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
    ("docker.io/busybox", "docker.io/library/busybox", "busybox"),
    ("index.docker.io/library/busybox", "docker.io/library/busybox", "busybox"),
    ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
    ("user/app", "docker.io/user/app", "user/app"),
    ("localhost/app", "localhost/app", "localhost/app"),
    ("localhost:5000/app:x", "localhost:5000/app:x", "localhost:5000/app:x"),
    ("ghcr.io/o/a__b/c--d.e", "ghcr.io/o/a__b/c--d.e", "ghcr.io/o/a__b/c--d.e"),
    ("[::1]:5000/app", "[::1]:5000/app", "[::1]:5000/app"),
    ("Upper/app", "Upper/app", "Upper/app"),
    (f"a@sha256:{HEX}", f"docker.io/library/a@sha256:{HEX}", f"a@sha256:{HEX}"),
    (f"a:t@sha256:{HEX}", f"docker.io/library/a:t@sha256:{HEX}", f"a:t@sha256:{HEX}"),
    ("host:5000", "docker.io/library/host:5000", "host:5000"),
]
BAD = [
    "", ":", "/", "a//b", "a/", "/a", "a:", "a@", "-a", "a-", "a..b", "a___b", "a b", "a\n",
    "Foo",
    "foo/Bar", "a:b:c", "a:" + "t" * 129, "a@sha256:abc", f"a@md5:{HEX}", f"a@sha256:{HEX.upper()}",
    HEX, "a" * 300, "host:port/a", "https://host/a", "a/../b", "äpp", "-host.com/a", "a:.t",
    "a@b@c",
]  # fmt: skip


@pytest.mark.parametrize(("text", "canonical", "familiar"), GOOD)
def test_forms(text: str, canonical: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert str(reference) == canonical
    assert reference.familiar == familiar
    assert Reference.parse(canonical) == reference
    assert Reference.parse(familiar) == reference


@pytest.mark.parametrize("text", BAD)
def test_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        Reference.parse(text)


def test_words_of_docker() -> None:
    for text, words in {
        "Foo": "invalid reference format: repository name (Foo) must be lowercase",
        HEX: f"invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings",
        "a b": "invalid reference format",
        "x.io/" + "a" * 255: "repository name must not be more than 255 characters",
    }.items():
        with pytest.raises(InvalidArgument) as caught:
            Reference.parse(text)
        assert str(caught.value) == words


def test_tags() -> None:
    reference = Reference.parse("a")
    assert reference.with_default_tag().tag == "latest"
    assert reference.with_tag("x").familiar == "a:x"
    assert Reference.parse("a:1").with_default_tag().tag == "1"
    assert Reference.parse(f"a@sha256:{HEX}").with_default_tag().tag is None
    with pytest.raises(InvalidArgument):
        reference.with_tag("no/tag")


@pytest.mark.property
@given(st.text(alphabet="ab1./:@-_A[] \n", max_size=40) | st.text(max_size=40))
def test_whatever_parses_is_stable(text: str) -> None:
    """Canonical and familiar forms parse to the same again; nothing else but our error comes."""
    try:
        reference = Reference.parse(text)
    except InvalidArgument:
        return
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar) == reference
    assert ".." not in reference.path
    assert not reference.path.startswith("/")
