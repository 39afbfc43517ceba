"""``search`` against a registry that has one, and one that has none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.engine import Engine
from tests.support.scripted import Handler, Scripted

pytestmark = pytest.mark.root

FOUND = [
    {"name": "box", "description": "A box.\nFor things.", "is_official": True, "star_count": 70},
    {"name": "me/box", "description": "d" * 60, "is_official": False, "star_count": 3,
     "is_automated": True, "pull_count": 9},
    {"name": "you/box", "description": "", "is_official": False, "star_count": 0},
]  # fmt: skip


@pytest.fixture
def registry() -> Iterator[Scripted]:
    """A registry whose search finds three repositories for anything."""
    one = Scripted()

    def script(handler: Handler) -> bool:
        if not handler.path.startswith("/v1/search?"):
            return False
        handler.answer(200, json.dumps({"num_results": 3, "results": FOUND}).encode())
        return True

    one.script = script
    with one.serving():
        yield one


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--no-trunc",),
        ("--filter", "stars=3"),
        ("--filter", "is-official=true"),
        ("--filter", "is-official=false", "--filter", "stars=1"),
        ("--filter", "is-automated=true"),
        ("--limit", "1"),
        ("--format", "{{.Name}} {{.StarCount}} {{.IsOfficial}}"),
        ("--filter", "nonsense=1"),
        ("--filter", "stars=many"),
        ("--filter", "is-official=maybe"),
        ("--limit", "101"),
    ],
    ids=" ".join,
)
def test_as_docker_shows_it(
    clean_engine: Engine, registry: Scripted, flags: tuple[str, ...]
) -> None:
    """Both clients print the same: table, filters, and what they say of wrong ones."""
    term = f"{registry.address}/box"
    ours = clean_engine.cli("search", *flags, term, check=False)
    theirs = clean_engine.docker("search", *flags, term, check=False)
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout)
    if ours.returncode:  # (Docker's client warns of is-automated)
        assert ours.stderr.splitlines()[:1] == theirs.stderr.splitlines()[:1]


def test_what_is_asked(clean_engine: Engine, registry: Scripted) -> None:
    """The words and the number; 25 when none is given."""
    clean_engine.cli("search", "--limit", "7", f"{registry.address}/a b/c&d")
    clean_engine.cli("search", f"{registry.address}/x")
    asked = [parse_qs(urlsplit(one.split()[1]).query) for one in registry.asked("GET", "/v1/")]
    assert asked == [{"q": ["a b/c&d"], "n": ["7"]}, {"q": ["x"], "n": ["25"]}]
    names = clean_engine.cli("search", "--format", "{{.Name}}", f"{registry.address}/x").stdout
    assert names.split() == ["box", "me/box", "you/box"]


def test_a_registry_without(clean_engine: Engine, registry: Scripted) -> None:
    """Most have none: one sentence says so."""
    registry.script = lambda _: False
    done = clean_engine.cli("search", f"{registry.address}/x", check=False)
    assert done.returncode == 1
    assert f"{registry.address}: this registry has no search (/v1/search)" in done.stderr
    registry.script = lambda handler: handler.answer(200, b"<html>") is None
    done = clean_engine.cli("search", f"{registry.address}/x", check=False)
    assert done.returncode == 1
    assert "search" in done.stderr
