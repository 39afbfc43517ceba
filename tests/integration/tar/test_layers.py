"""Layers: whiteouts in both forms, against the reference and against the kernel's overlay."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boxwood.execution.worker_whiteouts import convert_whiteouts
from boxwood_ext import mount
from boxwood_ext.tar import TarError
from tests.integration.tar import reference
from tests.integration.tar.archives import archive, entry, folder, hard, link, listing
from tests.integration.tar.conftest import extract_into

LOWER = archive(
    folder("a"), entry("a/old", data=b"old"), folder("a/sub"), entry("a/sub/x", data=b"x"),
    folder("b"), entry("b/old", data=b"old"), entry("c", data=b"c"), link("l", "a"),
)  # fmt: skip

BELOW = {"a", "a/old", "a/sub", "a/sub/x", "b", "b/old", "l"}
# Layer, and what is left of the lower one's paths or comes to it.
CASES: dict[str, tuple[bytes, set[str]]] = {
    "whiteout of a file": (archive(entry(".wh.c")), BELOW),
    "whiteout of a directory": (archive(entry(".wh.a")), {"b", "b/old", "c", "l"}),
    "opaque first": (
        archive(folder("a"), entry("a/.wh..wh..opq"), entry("a/new")),
        {"a", "a/new", "b", "b/old", "c", "l"},
    ),
    "opaque last": (
        archive(folder("a"), entry("a/new"), folder("a/sub"), entry("a/.wh..wh..opq")),
        {"a", "a/new", "a/sub", "b", "b/old", "c", "l"},
    ),
    "opaque without its directory": (
        archive(entry("a/.wh..wh..opq")),
        {"a", "b", "b/old", "c", "l"},
    ),
    "whiteout, then a directory of the name": (
        archive(entry(".wh.a"), folder("a"), entry("a/new")),
        {"a", "a/new", "b", "b/old", "c", "l"},
    ),
    "a directory, then its whiteout": (
        archive(folder("a"), entry("a/new"), entry(".wh.a")),
        {"a", "a/new", "b", "b/old", "c", "l"},
    ),
    "whiteout, then something below": (
        archive(entry(".wh.a"), entry("a/new")),
        {"a", "a/new", "b", "b/old", "c", "l"},
    ),
    "a file for a directory, then a directory again": (
        archive(entry("a"), folder("a")),
        {"a", "b", "b/old", "c", "l"},
    ),
    "a directory for a file": (
        archive(folder("c"), entry("c/new")),
        {"a", "a/old", "a/sub", "a/sub/x", "b", "b/old", "c", "c/new", "l"},
    ),
    "something below, then the whiteout": (
        archive(entry("a/new"), entry(".wh.a")),
        {"a", "a/new", "b", "b/old", "c", "l"},
    ),
    "whiteout of nothing": (
        archive(entry(".wh.nothing")),
        {"a", "a/old", "a/sub", "a/sub/x", "b", "b/old", "c", "l"},
    ),
}  # fmt: skip


@contextmanager
def stacked(lower: Path, upper: Path, place: Path) -> Iterator[Path]:
    """Mount one branch on another."""
    place.mkdir()
    work = place.with_name("work")
    work.mkdir()
    context = mount.fsopen("overlay")
    for key, value in (("lowerdir", lower), ("upperdir", upper), ("workdir", work)):
        mount.fsconfig_string(context, key, value)
    mount.fsconfig_flag(context, "volatile")
    mount.fsconfig_create(context)
    fd = mount.fsmount(context)
    mount.move_mount(fd, "", mount.AT_FDCWD, place, mount.MOVE_MOUNT_F_EMPTY_PATH)
    os.close(fd)
    os.close(context)
    try:
        yield place
    finally:
        mount.umount2(place)


def paths(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


@pytest.fixture
def room() -> Iterator[Path]:
    """A tmpfs: the place of an overlay, and quick."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


@pytest.mark.parametrize("name", CASES)
def test_whiteouts(name: str, room: Path) -> None:
    data, expected = CASES[name]
    for root in ("lower", "ours", "oracle"):
        extract_into(LOWER, room / root)
    extract_into(data, room / "ours", whiteouts="delete")
    reference.extract(data, room / "oracle")
    extract_into(data, room / "upper", whiteouts="overlay")
    assert paths(room / "ours") == expected
    assert paths(room / "oracle") == expected
    with stacked(room / "lower", room / "upper", room / "merged") as merged:
        assert paths(merged) == expected


LONG = "n" * 255
"""As long as names get; its whiteout has a name that no file can have."""


@pytest.mark.parametrize("whiteouts", ["delete", "overlay"])
def test_a_whiteout_of_the_longest_name(whiteouts: str, room: Path) -> None:
    below = archive(folder("d"), entry(f"d/{LONG}"), entry("d/stays"))
    extract_into(below, room / "lower")
    top = room / ("lower" if whiteouts == "delete" else "upper")
    extract_into(archive(folder("d"), entry(f"d/.wh.{LONG}")), top, whiteouts=whiteouts)
    with (
        nullcontext(top) if whiteouts == "delete" else stacked(room / "lower", top, room / "merged")
    ) as tree:
        assert paths(tree) == {"d", "d/stays"}


@pytest.mark.parametrize(
    ("name", "whiteouts"),
    [
        (f".wh.{LONG}x", "overlay"),  # hides a name that nothing has
        (f".wh.{LONG}/inside", "overlay"),
        (f".wx.{LONG}", "overlay"),
        (f".wh.{LONG}", "aufs"),  # the mark is a file there
        (f".wh.{LONG}", "plain"),
    ],
)
def test_names_too_long(name: str, whiteouts: str, room: Path) -> None:
    with pytest.raises(TarError, match="the name is too long") as caught:
        extract_into(archive(entry(name)), room / "root", whiteouts=whiteouts)
    assert caught.value.kind == "budget"
    assert paths(room / "root") == set()


def test_an_opaque_root(room: Path) -> None:
    """All of the layers below goes; the kernel's overlay knows no such mark on a root."""
    extract_into(LOWER, room / "root")
    extract_into(archive(entry(".wh..wh..opq"), entry("new")), room / "root")
    assert paths(room / "root") == {"new"}


def test_the_forms_of_overlay(room: Path) -> None:
    """A whiteout is the device 0:0, an opaque directory carries the mark."""
    data = archive(entry(".wh.c"), folder("a"), entry("a/.wh..wh..opq"))
    extract_into(data, room / "root", whiteouts="overlay")
    status = (room / "root/c").lstat()
    assert stat.S_ISCHR(status.st_mode)
    assert status.st_rdev == 0
    assert os.getxattr(room / "root/a", "trusted.overlay.opaque") == b"y"
    extract_into(data, room / "user", whiteouts="overlay", userxattr=True)
    assert os.getxattr(room / "user/a", "user.overlay.opaque") == b"y"


def test_the_forms_of_aufs(room: Path) -> None:
    """Marks are the files themselves; what the layer brings needs none, or is opaque."""
    data = archive(
        entry(".wh.gone"), entry(".wh.d"), folder("d"), entry("d/new"), entry("f"), entry(".wh.f"),
        entry("o/.wh..wh..opq"), entry(".wh.t"), entry("t"), entry(".wh..wh.aufs"),
    )  # fmt: skip
    extract_into(data, room / "root", whiteouts="aufs")
    marks = {".wh.gone", "d/.wh..wh..opq", "o/.wh..wh..opq"}
    assert paths(room / "root") == marks | {"d", "d/new", "f", "o", "t"}
    for mark in marks:
        status = (room / "root" / mark).lstat()
        assert (stat.S_IMODE(status.st_mode), status.st_size) == (0o444, 0)


NAMES = st.sampled_from(["a", "b", "c", "l"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
MODES = st.sampled_from([0o644, 0o600, 0o4755, 0o1777, 0o000])


class Member(tuple[Any, bytes]):
    """A member that shows itself in a failure."""

    __slots__ = ()

    def __repr__(self) -> str:
        info, data = self
        return f"({info.name!r}, {info.type!r}, link={info.linkname!r}, {oct(info.mode)}, {data!r})"


@st.composite
def members(draw: st.DrawFn) -> Any:
    return Member(draw_one(draw))


def draw_one(draw: st.DrawFn) -> Any:
    path = draw(PATHS)
    fields = {
        "mode": draw(MODES),
        "uid": draw(st.integers(0, 70000)),
        "mtime": draw(st.integers(0, 2**33)),
    }
    kind = draw(st.sampled_from(["file", "dir", "link", "hard", "whiteout", "opaque", "fifo"]))
    if kind == "file":
        return entry(path, data=draw(st.binary(max_size=20)), **fields)
    if kind == "dir":
        return folder(path, **fields)
    if kind == "link":
        return entry(path, b"2", linkname=draw(PATHS), **fields)
    if kind == "hard":
        return hard(path, draw(PATHS))
    if kind == "fifo":
        return entry(path, b"6", **fields)
    if kind == "opaque":
        return entry(f"{path}/.wh..wh..opq")
    head, _, base = path.rpartition("/")
    return entry(f"{head}/.wh.{base}" if head else f".wh.{base}")


ARCHIVES = st.lists(members(), max_size=8)


def attempt(data: bytes, root: Path, **options: Any) -> bool:
    try:
        extract_into(data, root, **options)
    except TarError:
        return False
    return True


@pytest.mark.property
@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(lower=ARCHIVES, layer=ARCHIVES)
def test_overlay_shows_what_deletion_leaves(lower: list[Any], layer: list[Any]) -> None:
    """Both forms of a layer are the same tree, whatever is in it and in which order."""
    compare_forms(archive(*lower), archive(*layer))


def compare_forms(lower: bytes, layer: bytes) -> None:
    before = os.umask(0)
    room = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        if not attempt(lower, room / "lower"):
            return
        shutil.rmtree(room / "lower")
        # Twice the same: one to stand below, one to be changed.
        attempt(lower, room / "lower")
        attempt(lower, room / "ours")
        if not attempt(layer, room / "upper", whiteouts="overlay"):
            return
        # A layer that leans on links or files of the one below has no branch of its own form.
        if not attempt(layer, room / "ours", whiteouts="delete"):
            return
        if any(path.is_symlink() for path in (room / "lower").rglob("*")):
            return
        explicit = {p for p, kind in _kinds(layer) if kind == "5"}
        with stacked(room / "lower", room / "upper", room / "merged") as merged:
            left, right = (
                {
                    path: (
                        what[0],
                        what[5],
                        what[1] if what[0] != stat.S_IFDIR or path in explicit else 0,
                    )
                    for path, what in listing(root, times=False).items()
                }
                for root in (merged, room / "ours")
            )
            assert left == right
    finally:
        os.umask(before)
        shutil.rmtree(room)


@pytest.mark.property
@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(layer=ARCHIVES)
def test_the_branch_of_aufs_says_the_same(layer: list[Any]) -> None:
    """Converted, it is the branch that is written for the kernel's overlay."""
    data = archive(*layer)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        room = Path(name)
        done = attempt(data, room / "overlay", whiteouts="overlay")
        assert attempt(data, room / "aufs", whiteouts="aufs") == done
        if not done:
            return
        fd = os.open(room / "aufs", os.O_RDONLY)
        try:
            convert_whiteouts({"form": "overlay"}, [fd])
        finally:
            os.close(fd)
        found = [_without_parents(listing(room / form)) for form in ("aufs", "overlay")]
        assert found[0] == found[1]


def _without_parents(tree: dict[str, Any]) -> dict[str, Any]:
    """Leave out the times of what no archive names: the present, and of whiteouts likewise."""
    now = time.time_ns() - 60 * 10**9
    return {path: (*e[:4], e[4] * (e[4] < now), *e[5:]) for path, e in tree.items()}


def _kinds(data: bytes) -> list[tuple[str, str]]:
    import io
    import tarfile

    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [(member.name, member.type.decode()) for member in tar]


@pytest.mark.property
@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(entries=ARCHIVES)
def test_as_the_reference(entries: list[Any]) -> None:
    """On what means no harm the result is the slow extractor's."""
    data = archive(*entries)
    before = os.umask(0)
    room = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        if not attempt(data, room / "ours"):
            return
        (room / "oracle").mkdir()
        try:
            reference.extract(data, room / "oracle")
        except OSError:
            return  # it does not know how to resolve links beneath a root
        explicit = {path for path, kind in _kinds(data) if kind == "5"}
        left, right = (
            {
                path: what if what[0] != stat.S_IFDIR or path in explicit else what[0]
                for path, what in listing(root).items()
            }
            for root in (room / "ours", room / "oracle")
        )
        assert left == right
    finally:
        os.umask(before)
        shutil.rmtree(room)
