"""The record of a copy changes nothing of what a comparison finds, and spares it work."""

from __future__ import annotations

import asyncio
import io
import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from boxwood.execution import worker_record
from boxwood_ext import diff
from tests.integration.diff.trees import Gardener, written
from tests.support.loops import loop_fs
from tests.support.needs import need_root
from tests.support.storage import make_driver, offload

ROUNDS, FULL = 5, 200
HEAD = 32
"""Bytes of a record's file before the record."""


@pytest.fixture(autouse=True)
def _root() -> None:
    need_root()


@pytest.fixture(params=["tmpfs", "ext4", "xfs", "btrfs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system on which a copy can be recorded."""
    with loop_fs(request.param, tmp_path) as path:
        yield path


def copied(old: Path, new: Path, file: Path) -> bytes:
    """Copy as the driver vfs does, wait for the clock's next tick, and return the record."""
    new.mkdir()
    with ExitStack() as stack:
        source, target = (os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (old, new))
        stack.callback(os.close, source)
        stack.callback(os.close, target)
        asyncio.run(offload("copy_tree", {}, [source, target]))
        made = os.fstat(target).st_ctime_ns
        with file.open("w+b") as record:
            for _ in range(1000):  # a tick is 10 ms at most
                os.fchmod(record.fileno(), 0o600)
                if os.fstat(record.fileno()).st_ctime_ns > made:
                    break
                time.sleep(0.001)
            worker_record.write(record.fileno(), target, source)
            record.seek(0)
            return worker_record.read(record.fileno())


def listed(new: Path, old: Path, sink: Path, record: bytes = b"") -> bytes:
    return written(new, old, sink, listing=True, copied=record)


def test_it_finds_the_same(place: Path, fuzz_random: random.Random, soak: bool) -> None:
    """Whatever was done to the copy: the same tar and the same list as without the record."""
    for number in range(FULL if soak else ROUNDS):
        room = place / str(number)
        room.mkdir()
        old, new = room / "old", room / "new"
        old.mkdir()
        Gardener(fuzz_random, old).work(80)
        record = copied(old, new, room / "record")
        assert any(record[HEAD:])
        assert listed(new, old, room / "sink", record) == b""
        Gardener(fuzz_random, new).work(fuzz_random.choice([1, 2, 5, 30]))
        for listing in (True, False):
            plain = written(new, old, room / "plain", listing=listing)
            assert written(new, old, room / "sink", listing=listing, copied=record) == plain


def tree(root: Path) -> None:
    """Directories that look alike, with other files in them."""
    for name in ("one", "two", "deep/one", "deep/two"):
        (root / name).mkdir(parents=True)
        (root / name / "file").write_text(name.rpartition("/")[2])
        (root / name / "inner").mkdir()
        (root / name / "inner/file").write_text(f"{name} inside")
        (root / name / "empty").mkdir()
    (root / "twice").write_text("one file")
    os.link(root / "twice", root / "deep/again")


TRICKS = (
    "rm -r one; mv two one",
    "mv one t; mv two one; mv t two",
    "mv deep/one/file t; mv deep/two/file deep/one/file; mv t deep/two/file",
    "touch -r one/file t; echo x > one/file; touch -r t one/file; rm t",
    "mv deep t; mv t deep",
    "chmod 600 deep/one/file",
    "chown 5:6 two/empty",
    "rm -r deep/one/empty two/file",
    "ln twice one/third",
    "rm deep/again",
    "cp -p twice t; mv t twice",
    "cp -p one/file t; mv t one/file",
    "rm twice; mkdir twice",
    "rm -r deep/two/empty; touch deep/two/empty",
    "chmod 700 .",
)
"""What moves inodes about, and what changes one thing alone."""


def play(trick: str, new: Path) -> None:
    """Do a trick to a tree."""
    subprocess.run(["sh", "-ec", trick], cwd=new, check=True)


def test_tricks(place: Path) -> None:
    """Each on a copy of its own, and attributes of a file and of a directory."""
    old = place / "old"
    old.mkdir()
    tree(old)
    for number, trick in enumerate((*TRICKS, "deep/two/file", "deep/one")):
        new = place / str(number)
        record = copied(old, new, place / "record")
        if trick in TRICKS:
            play(trick, new)
        else:
            os.setxattr(new / trick, "user.x", b"y")
        for listing in (True, False):
            plain = written(new, old, place / "plain", listing=listing)
            found = written(new, old, place / "sink", listing=listing, copied=record)
            assert found == plain, trick


def test_what_is_recorded_is_not_compared(tmp_path: Path) -> None:
    """Nor looked at in the original, which nobody may change: changed all the same, nobody sees."""
    with loop_fs("ext4", tmp_path) as place:
        old, new = place / "old", place / "new"
        old.mkdir()
        tree(old)
        record = copied(old, new, place / "record")
        (old / "deep/one/file").write_text("changed in the original")
        (old / "deep/new").touch()
        assert (
            listed(new, old, place / "sink") == b"C/deep\0D/deep/new\0C/deep/one\0C/deep/one/file\0"
        )
        assert listed(new, old, place / "sink", record) == b""
        # What has been touched since is compared, and what lies in a directory that was.
        (new / "deep/one/more").touch()
        wanted = b"C/deep\0D/deep/new\0C/deep/one\0C/deep/one/file\0A/deep/one/more\0"
        assert listed(new, old, place / "sink", record) == wanted


def test_comparing_content_trusts_no_record(tmp_path: Path) -> None:
    with loop_fs("ext4", tmp_path) as place:
        old, new = place / "old", place / "new"
        old.mkdir()
        tree(old)
        record = copied(old, new, place / "record")
        time_before = (old / "one/file").stat()
        (old / "one/file").write_text("eno")
        os.utime(old / "one/file", ns=(time_before.st_atime_ns, time_before.st_mtime_ns))
        options = {"listing": True, "copied": record}
        assert written(new, old, place / "sink", **options) == b""
        found = written(new, old, place / "sink", content=True, **options)
        assert found == b"C/one\0C/one/file\0"


def test_what_was_made_at_that_very_moment_is_not_recorded(tmp_path: Path) -> None:
    """A change that follows may bear the same time."""
    with loop_fs("ext4", tmp_path) as place, ExitStack() as stack:
        fds = []
        for name in ("new", "old"):
            (place / name).mkdir()
            (place / name / "file").touch()
            fds.append(os.open(place / name, os.O_RDONLY))
            stack.callback(os.close, fds[-1])
        newest = max(path.stat().st_ctime_ns for path in (place / "new", place / "new/file"))
        whole = diff.record(fds[0], fds[1], newest + 1)
        assert any(whole)
        assert len(diff.record(fds[0], fds[1], newest)) < len(whole)
        assert not any(diff.record(fds[0], fds[1], 0))


def test_other_file_systems_give_no_record(tmp_path: Path) -> None:
    """Theirs are times of another machine, or rounded."""
    fd = os.open("/proc/self/fdinfo", os.O_RDONLY)
    try:
        assert diff.record(fd, fd, 1 << 62) == b""
    finally:
        os.close(fd)


@pytest.mark.parametrize("size", [1, 23, 25])
def test_what_is_no_record(tmp_path: Path, size: int) -> None:
    with pytest.raises(ValueError, match="record"):
        written(tmp_path, tmp_path, tmp_path / "sink", copied=bytes(size))


def test_any_slots_are_borne(place: Path, fuzz_random: random.Random) -> None:
    """Full of others' inodes, with none free: nothing is found and nothing goes round for ever."""
    old, new = place / "old", place / "new"
    old.mkdir()
    tree(old)
    copied(old, new, place / "record")
    (new / "one/file").chmod(0o600)
    for size in (24, 48, 2400):
        record = fuzz_random.randbytes(size)
        assert listed(new, old, place / "sink", record) == b"C/one\0C/one/file\0"


def spoil(path: Path, how: str) -> None:
    """Make of a record what a power cut or a full disk may."""
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "half":
        path.write_bytes(data[: len(data) // 2])
    elif how == "zeros":
        path.write_bytes(bytes(len(data)))
    else:
        path.write_bytes(data[:-24] + bytes([data[-24] ^ 1]) + data[-23:])


@pytest.mark.parametrize("how", ["whole", "gone", "half", "zeros", "bit"])
def test_the_driver_vfs(tmp_path: Path, how: str) -> None:
    """It records each copy; a record that is spoiled is passed over."""

    async def changes() -> bytes:
        driver = make_driver("vfs", root)
        await driver.prepare("base", None)
        tree(root / "active/base/fs")
        await driver.commit("base", "one")
        await driver.prepare("two", "one")
        record = driver.copy_record("two")
        assert record is not None
        if how == "whole":  # as it is where the copy takes longer than a tick of the clock
            record.unlink()
            with ExitStack() as stack:
                fds = [os.open(path, os.O_RDONLY) for path in (
                    root / "active/two/fs", root / "committed/one/fs")]  # fmt: skip
                for fd in fds:
                    stack.callback(os.close, fd)
                await asyncio.sleep(0.02)
                with record.open("xb") as file:
                    worker_record.write(file.fileno(), *fds)
        else:
            spoil(record, how)
        (root / "active/two/fs/one/more").touch()
        # Seen only where the record is not used: the original is as it was copied.
        (root / "committed/one/fs/deep/two/file").chmod(0o600)
        await driver.commit("two", "done")
        with io.FileIO(os.memfd_create("sink"), "r+") as sink:
            await driver.diff("done", sink.fileno(), listing=True)
            sink.seek(0)
            return sink.read()

    root = tmp_path / "vfs"
    seen = b"C/deep\0C/deep/two\0C/deep/two/file\0" if how != "whole" else b""
    assert asyncio.run(changes()) == seen + b"C/one\0A/one/more\0"
