"""Layers that are unpacked without their parent, and get what they take over from it afterwards.

The oracle is the same layer unpacked with its parent at hand: the branches have to be equal.
"""

from __future__ import annotations

import contextlib
import os
import random
from pathlib import Path
from typing import Any

import pytest

from boxwood.execution.worker_archive import adopt_directories
from boxwood_ext import tar
from tests.integration.tar.archives import archive, entry, folder, link, listing
from tests.integration.tar.conftest import extract_into

ACL = bytes.fromhex("0200000001000700ffffffff04000500ffffffff20000500ffffffff")
"""user::rwx, group::r-x, other::r-x: linux/posix_acl_xattr.h."""
NOW = 10**15
"""Nanoseconds since the epoch: later than any time in these archives."""
LOWER = archive(
    folder("d", mode=0o750, uid=7, gid=8, mtime=1000, pax_headers={"SCHILY.xattr.user.x": "y"}),
    folder("d/sub", mode=0o1777, uid=9, mtime=2000),
    entry("d/file", data=b"f"),
    folder("group", mode=0o2755, gid=8, mtime=3000),
    link("to", "d/sub"), link("out", "/../../etc"), link("loop", "loop"),
)  # fmt: skip


def adopt(branch: Path, below: Path, implied: list[bytes]) -> bool:
    """Call the job as the driver does."""
    fds = [os.open(branch, os.O_PATH), os.open(below, os.O_PATH)]
    try:
        found: bool = adopt_directories({"paths": implied}, fds)["adopted"]
        return found
    finally:
        for fd in fds:
            os.close(fd)


def both_ways(lower: bytes, upper: bytes, room: Path, form: str) -> dict[str, Any] | None:
    """Unpack ``upper`` alone and with its parent, and compare; None: alone it cannot be."""
    below = room / "lower"
    extract_into(lower, below)
    fd = os.open(below, os.O_PATH)
    found = extract_into(upper, room / "with", whiteouts=form, parent_fd=fd)
    os.close(fd)
    assert (found["lacked"], found["implied"]) == (False, [])
    found = extract_into(upper, room / "alone", whiteouts=form)
    if found["lacked"] or not adopt(room / "alone", below, found["implied"]):
        return None
    assert timeless(room / "alone") == timeless(room / "with")
    return found


def timeless(root: Path) -> dict[str, Any]:
    """Return the listing; what has no time from an archive has the one at which it was made."""
    return {path: (*one[:4], min(one[4], NOW), *one[5:]) for path, one in listing(root).items()}


TAKEN = {
    "nested": (archive(entry("d/sub/new")), [b"d", b"d/sub"]),
    "not there below": (archive(entry("e/f/new"), entry("d/e/new")), [b"e", b"e/f", b"d", b"d/e"]),
    "a file below": (archive(entry("d/file/new")), [b"d", b"d/file"]),
    "a link below": (archive(entry("to/new")), [b"to"]),
    "a link out of the root": (archive(entry("out/new")), [b"out"]),
    "a whiteout's": (archive(entry("d/.wh.file")), [b"d"]),
    "hidden": (archive(entry(".wh.d"), entry("d/sub/new")), []),
    "hidden later": (archive(entry("d/sub/new"), entry("d/.wh.sub")), [b"d", b"d/sub"]),
    "opaque": (archive(entry("d/.wh..wh..opq"), entry("d/sub/new")), [b"d"]),
    "through a link of its own": (
        archive(folder("e"), link("l", "e"), entry("l/sub/n")), [b"l/sub"]
    ),
    "no name in UTF-8": (archive(entry(os.fsdecode(b"d/\xff/n"))), [b"d", b"d/\xff"]),
}  # fmt: skip


@pytest.mark.parametrize("form", ["overlay", "aufs"])
@pytest.mark.parametrize("what", TAKEN)
def test_directories_that_no_entry_names(what: str, form: str, tmp_path: Path) -> None:
    upper, implied = TAKEN[what]
    found = both_ways(LOWER, upper, tmp_path, form)
    assert found is not None
    assert found["implied"] == implied


REFUSED = {
    "an entry names it later": archive(entry("d/new"), folder("d", mode=0o711)),
    "by another name": archive(folder("e"), link("l", "e"), entry("l/sub/n"), folder("e/sub")),
    "it goes again": archive(entry("d/new"), entry("d")),
    "something goes": archive(link("l", "d"), entry("d/new"), entry("l")),
    "a group that is inherited": archive(entry("group/new")),
    "a loop of links below": archive(entry("loop/new")),
    "more than an answer holds": archive(*(entry(f"d{n:04}-{'x' * 90}/new") for n in range(400))),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_has_to_be_unpacked_on_its_parent(what: str, tmp_path: Path) -> None:
    """Where the answer could be another one it is not given."""
    extract_into(LOWER, tmp_path / "lower")
    found = extract_into(REFUSED[what], tmp_path / "alone", whiteouts="overlay")
    if what == "a loop of links below":
        with pytest.raises(tar.TarError, match=r"'loop': open the lower .*: Too many levels"):
            adopt(tmp_path / "alone", tmp_path / "lower", found["implied"])
        return
    assert found["lacked"] or not adopt(tmp_path / "alone", tmp_path / "lower", found["implied"])


def test_an_acl_that_is_inherited(tmp_path: Path) -> None:
    (tmp_path / "lower/d").mkdir(parents=True)
    (tmp_path / "alone/d").mkdir(parents=True)
    assert adopt(tmp_path / "alone", tmp_path / "lower", [b"d"])
    os.setxattr(tmp_path / "lower/d", "system.posix_acl_default", ACL)
    assert not adopt(tmp_path / "alone", tmp_path / "lower", [b"d"])


def test_nothing_outside_is_touched(tmp_path: Path) -> None:
    """Links in either tree lead nowhere but beneath its root, and the last one is not followed."""
    for name in ("lower/d/d", "alone", "outside"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "outside/d").mkdir(mode=0o711)
    before = listing(tmp_path / "outside")
    (tmp_path / "lower/d").chmod(0o4700)
    for number, target in enumerate(("../outside", str(tmp_path / "outside"), "../outside/d")):
        (tmp_path / f"alone/{number}").symlink_to(target)
        (tmp_path / f"lower/{number}").symlink_to("d")
        for path in (b"%d" % number, b"%d/d" % number, b"../outside/d"):
            with contextlib.suppress(tar.TarError):
                adopt(tmp_path / "alone", tmp_path / "lower", [path])
    assert listing(tmp_path / "outside") == before
    with pytest.raises(ValueError, match="NUL"):
        adopt(tmp_path / "alone", tmp_path / "lower", [b"a\0b"])


def members(chance: random.Random, depth: int) -> list[Any]:
    """Return members whose names meet again and again."""

    def name() -> str:
        return "/".join(chance.choices("abc", k=chance.randint(1, depth)))

    def one() -> Any:
        kind, at = chance.random(), name()
        if kind < 0.4:
            return entry(at, data=b"x", mode=chance.choice((0o644, 0o4755)))
        if kind < 0.6:
            mode = chance.choice((0o755, 0o700, 0o1777, 0o2755))
            more = chance.choice(({}, {"SCHILY.xattr.user.x": "y"}))
            return folder(at, mode=mode, uid=chance.randint(0, 2), mtime=5, pax_headers=more)
        if kind < 0.75:
            return link(at, chance.choice(("a", "/b", "../c", "c/a", "..")))
        head, _, last = at.rpartition("/")
        mark = ".wh..wh..opq" if kind > 0.9 and head else f".wh.{last}"
        return entry(f"{head}/{mark}" if head else mark)

    return [one() for _ in range(chance.randint(1, 6))]


def test_any_layer(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """By chance: whatever is not refused has become the same."""
    taken = 0
    for seed in range(2000 if request.config.getoption("--soak") else 200):
        chance = random.Random(seed)
        lower = archive(*(one for one in members(chance, 2) if ".wh." not in one[0].name))
        upper = archive(*members(chance, 4))
        room = tmp_path / str(seed)
        room.mkdir()
        try:
            found = both_ways(lower, upper, room, chance.choice(("overlay", "aufs")))
        except tar.TarError:
            continue  # no layer at all, by either way
        taken += found is not None and found["implied"] != []
    assert taken > 30
