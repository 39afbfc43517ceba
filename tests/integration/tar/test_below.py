"""What a layer needs of the tree it is for, and the ways an archive may go elsewhere."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boxwood.execution.worker_whiteouts import convert_whiteouts
from boxwood_ext.tar import TarError
from tests.integration.tar.archives import archive, entry, folder, hard, link, listing
from tests.integration.tar.conftest import extract_into
from tests.integration.tar.test_layers import paths, stacked

LOWER = archive(
    folder("d", mode=0o2750, uid=7, gid=8, mtime=1000, pax_headers={"SCHILY.xattr.user.x": "y"}),
    folder("d/sub", mode=0o700, uid=9, mtime=2000),
    entry("d/sub/f", data=b"content", mode=0o4711, uid=5, mtime=3000,
          pax_headers={"SCHILY.xattr.user.f": "g"}),
    link("d/l", "sub"), entry("top", data=b"t"),
)  # fmt: skip


@pytest.fixture
def room() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


@pytest.fixture(params=["overlay", "aufs"])
def merged(request: pytest.FixtureRequest, room: Path) -> Any:
    """Unpack a layer on LOWER as a branch, and return what both together show."""

    def apply(data: bytes) -> dict[str, Any]:
        extract_into(LOWER, room / "lower")
        below = os.open(room / "lower", os.O_PATH)
        try:
            extract_into(data, room / "upper", whiteouts=request.param, parent_fd=below)
        finally:
            os.close(below)
        if request.param == "aufs":
            fd = os.open(room / "upper", os.O_RDONLY)
            convert_whiteouts({"form": "overlay"}, [fd])
            os.close(fd)
        with stacked(room / "lower", room / "upper", room / "merged") as place:
            return listing(place)

    return apply


def test_directories_that_no_entry_names(merged: Any, room: Path) -> None:
    """They keep owner, mode, attributes and time."""
    found = merged(archive(entry("d/sub/new", data=b"n")))
    before = listing(room / "lower")
    assert set(found) == set(before) | {"d/sub/new"}
    for path in ("d", "d/sub"):
        assert found[path][:5] == before[path][:5]
        assert found[path][7] == before[path][7]


def test_the_layer_has_the_last_word(merged: Any) -> None:
    found = merged(archive(entry("d/new"), folder("d", mode=0o711, uid=1, mtime=5)))
    assert found["d"][1:5] == (0o711, 1, 0, 5 * 10**9)


@pytest.mark.parametrize("data", [
    archive(entry(".wh.d"), entry("d/sub/new")),
    archive(folder("d"), entry("d/.wh..wh..opq"), entry("d/sub/new")),
])  # fmt: skip
def test_what_is_gone_gives_nothing(data: bytes, merged: Any) -> None:
    found = merged(data)
    assert found["d/sub"][1:4] == (0o755, 0, 0)
    assert {"d", "d/sub", "d/sub/new", "top"} == set(found)


def test_a_hard_link_to_what_lies_below(merged: Any, room: Path) -> None:
    found = merged(archive(hard("again", "d/sub/f"), hard("link", "d/l")))
    before = listing(room / "lower")["d/sub/f"]
    for path in ("again", "d/sub/f"):
        assert found[path][:6] == before[:6]
        assert found[path][7] == before[7]
    assert found["again"][6] == found["d/sub/f"][6]
    assert found["link"][5] == "sub"


@pytest.mark.parametrize("data", [
    archive(entry(".wh.d"), hard("again", "d/sub/f")),
    archive(entry("d/sub/.wh.f"), hard("again", "d/sub/f")),
    archive(folder("d"), entry("d/.wh..wh..opq"), hard("again", "d/sub/f")),
    archive(hard("again", "d")),
    archive(hard("again", "nothing")),
])  # fmt: skip
def test_a_hard_link_to_what_is_not_there(data: bytes, merged: Any) -> None:
    with pytest.raises(TarError):
        merged(data)


@pytest.mark.parametrize("data", [
    archive(entry(".wh..wh..opq"), entry("d/new"), entry("new")),
    archive(entry("d/new"), entry("new"), entry(".wh..wh..opq")),
])  # fmt: skip
def test_an_opaque_root(data: bytes, merged: Any) -> None:
    assert set(merged(data)) == {"d", "d/new", "new"}


# Where an archive goes


def test_a_prefix(room: Path) -> None:
    extract_into(LOWER, room / "root")
    data = archive(
        folder(".", mode=0o701), entry("a", data=b"1"), hard("h", "a"), link("/l", "/top")
    )
    extract_into(data, room / "root", whiteouts="plain", prefix="/d/./sub/", chown=(3, 4))
    found = listing(room / "root")
    assert {path for path in found if path.startswith("d/sub/")} == {
        "d/sub/f", "d/sub/a", "d/sub/h", "d/sub/l"}  # fmt: skip
    assert found["d/sub"][1:4] == (0o701, 3, 4)
    assert found["d/sub/a"][2:4] == (3, 4)
    assert found["d/sub/h"][6] == "d/sub/a"
    assert found["d/sub/f"][2:4] == (5, 0)


def test_a_prefix_that_is_a_link(room: Path) -> None:
    """It leads where it leads in the root, absolute or not."""
    extract_into(LOWER, room / "root")
    (room / "root/abs").symlink_to("/d/sub")
    for name in ("d/l", "abs"):
        extract_into(archive(folder("."), entry(f"in-{name[0]}")), room / "root", prefix=name)
        assert (room / "root" / name).is_symlink()
    assert {"d/sub/in-d", "d/sub/in-a"} <= paths(room / "root")


@pytest.mark.parametrize("prefix", ["../x", "d/..", "a/" * 3000])
def test_a_prefix_outside(prefix: str, room: Path) -> None:
    with pytest.raises(TarError):
        extract_into(archive(entry("a")), room / "root", prefix=prefix)
    assert paths(room) == {"root"}


@pytest.mark.parametrize(
    "data", [archive(folder("top")), archive(entry("d")), archive(link("d", "x"))]
)
def test_kinds_are_kept_where_asked(data: bytes, room: Path) -> None:
    extract_into(LOWER, room / "root")
    before = listing(room / "root")
    with pytest.raises(TarError) as caught:
        extract_into(data, room / "root", whiteouts="plain", keep_kinds=True)
    assert caught.value.kind == "hostile"
    assert listing(room / "root") == before
    extract_into(data, room / "root", whiteouts="plain")
    assert listing(room / "root") != before


def test_a_directory_loses_what_its_entry_has_not(room: Path) -> None:
    """A layer that says nothing of an attribute says that it is gone."""
    extract_into(LOWER, room / "root")
    os.setxattr(room / "root/d", "trusted.keep", b"1")
    extract_into(archive(folder("d")), room / "root")
    assert os.listxattr(room / "root/d") == ["trusted.keep"]
    assert stat.S_IMODE((room / "root/d").stat().st_mode) == 0o755
