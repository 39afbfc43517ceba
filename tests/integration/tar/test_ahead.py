"""What the extractor tells while an archive still comes, and what it says it has lacked."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxwood.execution.worker_archive import unpack_layer
from boxwood.model import growing
from tests.integration.tar.archives import archive, entry, folder, hard, link
from tests.integration.tar.conftest import extract_into

LARGE = 3 << 20


def records(data: bytes) -> Iterator[tuple[str, int, str]]:
    """Take the records of ext/c/tar/follow.c apart: kind, inode, path."""
    at = 0
    while at < len(data):
        kind, inode, path = chr(data[at]), 0, ""
        at += 1
        if kind == "B":
            inode = int.from_bytes(data[at : at + 8], "little")
            length = int.from_bytes(data[at + 8 : at + 10], "little")
            path = data[at + 10 : at + 10 + length].decode()
            at += 10 + length
        yield kind, inode, path


def test_large_files_are_told_of(tmp_path: Path) -> None:
    """In the archive's order, with their inodes; small ones and links are not."""
    data = archive(
        entry("small", data=b"s" * 60_000),
        entry("one/large", data=b"l" * LARGE),
        link("link", "one/large"),
        entry("other", data=b"o" * 70_000),
    )
    read_end, write_end = os.pipe()
    extract_into(data, tmp_path / "to", whiteouts="plain", archive=True, follow_fd=write_end)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        found = list(records(pipe.read()))
    inodes = {name: (tmp_path / "to" / name).stat().st_ino for name in ("one/large", "other")}
    assert found == [
        ("B", inodes["one/large"], "one/large"),
        *[("G", 0, "")] * (LARGE // (1 << 20) - 1),
        ("E", 0, ""),
        ("B", inodes["other"], "other"),
        ("E", 0, ""),
    ]


def test_nobody_listens(tmp_path: Path) -> None:
    """Then it is an error, not a signal."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with pytest.raises(Exception, match="tell of the file: Broken pipe"):
        extract_into(
            archive(entry("large", data=bytes(LARGE))), tmp_path / "to", follow_fd=write_end
        )
    os.close(write_end)


LACKING = {
    "nothing": (archive(folder("a"), entry("a/b")), False),
    "a directory": (archive(entry("a/b")), False),
    "a directory's own name, later": (archive(entry("a/b"), folder("a")), True),
    "an opaque root": (archive(entry(".wh..wh..opq")), True),
    "an opaque directory": (archive(folder("a"), entry("a/.wh..wh..opq")), False),
    "a whiteout": (archive(entry(".wh.a")), False),
    "a hard link of its own": (archive(entry("a"), hard("b", "a")), False),
}


@pytest.mark.parametrize("form", ["overlay", "aufs"])
@pytest.mark.parametrize("what", LACKING)
def test_what_is_lacking(what: str, form: str, tmp_path: Path) -> None:
    """Without the parent's tree it says whether it would have looked there."""
    data, wanted = LACKING[what]
    assert extract_into(data, tmp_path / "alone", whiteouts=form)["lacked"] is wanted
    (tmp_path / "parent").mkdir()
    parent = os.open(tmp_path / "parent", os.O_RDONLY)
    found = extract_into(data, tmp_path / "on", whiteouts=form, parent_fd=parent)
    os.close(parent)
    assert found["lacked"] is False


def unpack_growing(data: bytes, to: Path, step: int, *, whole: bool = True) -> dict[str, object]:
    """Unpack a layer from a file that another thread writes, a step at a time."""
    to.mkdir()
    file = to.with_name("growing")
    writer = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
    news, more = os.pipe()

    def write() -> None:
        for at in range(0, len(data), step):
            os.write(writer, data[at : at + step])
            growing.tell(more, min(at + step, len(data)))
        os.close(writer)
        if whole:
            growing.tell(more, len(data))
        os.close(more)

    thread = threading.Thread(target=write)
    fds = [os.open(file, os.O_RDONLY), os.open(to, os.O_RDONLY), news]
    arguments = {
        "growing": True, "whiteouts": "overlay", "max_bytes": 1 << 30, "max_entries": 1000,
    }  # fmt: skip
    thread.start()
    try:
        return unpack_layer(arguments, fds)
    finally:
        thread.join()
        for fd in fds:
            os.close(fd)


@pytest.mark.parametrize("step", [700, 300_000, 10_000_000])
def test_a_file_that_grows(step: int, tmp_path: Path) -> None:
    """It is read to the end that its writer says, not to what is there by then."""
    content = os.urandom(1_000_000)
    data = archive(entry("a", data=content), entry("b", data=b"b"))
    found = unpack_growing(data, tmp_path / "to", step)
    assert (tmp_path / "to/a").read_bytes() == content
    assert (tmp_path / "to/b").read_bytes() == b"b"
    assert found["stored"] == len(data)


def test_what_is_not_said_is_not_read(tmp_path: Path) -> None:
    """A file with a hole is read up to it, until its writer says that it is closed."""
    content = os.urandom(1_000_000)
    data = archive(entry("a", data=content))
    (tmp_path / "to").mkdir()
    file = tmp_path / "growing"
    file.write_bytes(bytes(len(data) - 100_000) + data[-100_000:])
    news, more = os.pipe()
    fds = [os.open(file, os.O_RDONLY), os.open(tmp_path / "to", os.O_RDONLY), news]

    def write() -> None:
        with file.open("r+b") as writer:
            for at in range(0, len(data) - 100_000, 100_000):
                writer.write(data[at : min(at + 100_000, len(data) - 100_000)])
                writer.flush()
                growing.tell(more, writer.tell())
        os.close(more)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        unpack_layer(
            {"growing": True, "whiteouts": "overlay", "max_bytes": 1 << 30, "max_entries": 9}, fds
        )
    finally:
        thread.join()
        for fd in fds:
            os.close(fd)
    assert (tmp_path / "to/a").read_bytes() == content


def test_a_file_that_stays_short(tmp_path: Path) -> None:
    """A writer that ends early leaves a broken archive."""
    data = archive(entry("a", data=os.urandom(1_000_000)))
    with pytest.raises(Exception, match="cut off"):
        unpack_growing(data[:500_000], tmp_path / "to", 100_000, whole=False)
