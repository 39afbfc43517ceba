"""An engine whose data root lies on a small disk of its own, and what fills that disk."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.engine import Engine
from tests.support.loops import unmount
from tests.support.needs import need_program
from tests.support.paths import PREFIX, make_room

SIZE = 96 << 20
"""Bytes of the disk."""
FULL = re.compile(r"no space left on device|disk is full", re.IGNORECASE)
"""The words for it: the kernel's or SQLite's."""
SMALL = 4096


class SmallDisk:
    """A file system in a file (ext4, as servers have), mounted on a loop device."""

    def __init__(self) -> None:
        self.room = make_room("disk")
        self.point = self.room / "point"
        self._filler = self.point / "filler"
        self.point.mkdir()
        image = self.room / "image"
        with image.open("wb") as file:
            file.truncate(SIZE)
        # No blocks are kept back for root: that is who the daemon is.
        self._run("mkfs.ext4", "-q", "-m", "0", "-b", "4096", str(image))
        self._run("mount", "-o", "loop", str(image), str(self.point))

    @staticmethod
    def _run(name: str, *arguments: str) -> None:
        subprocess.run([need_program(name), *arguments], check=True, capture_output=True)

    def fill(self) -> None:
        """Leave not a block free."""
        fd = os.open(self._filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            for size in (1 << 20, SMALL):
                with contextlib.suppress(OSError):
                    while True:
                        os.write(fd, b"\1" * size)
            os.fsync(fd)
        finally:
            os.close(fd)

    def free(self) -> None:
        """Give all of it back."""
        self._filler.unlink(missing_ok=True)

    def room_left(self) -> int:
        """Return the bytes that are free."""
        found = os.statvfs(self.point)
        return found.f_bavail * found.f_frsize

    @contextlib.contextmanager
    def full(self, but: int = 0) -> Iterator[None]:
        """Be full for a while, but for so many bytes."""
        self.fill()
        if but:
            os.truncate(self._filler, self._filler.stat().st_size - but)
        try:
            yield
        finally:
            self.free()

    def close(self) -> None:
        """Unmount it and remove it."""
        unmount(self.point)
        (self.room / "image").unlink()
        self.point.rmdir()
        self.room.rmdir()


class SmallEngine(Engine):
    """An engine on it."""

    def __init__(self, disk: SmallDisk) -> None:
        super().__init__()
        self.data_root.rmdir()
        self.data_root = disk.point / f"{PREFIX}data"
        self.data_root.mkdir()

    def tree(self) -> set[str]:
        """Return the paths of all that the engine keeps, less its database."""
        return tree(self.data_root)


def tree(root: Path) -> set[str]:
    """Return the paths of all that an engine keeps below its data root, less its database."""
    found = set()
    # What is being deleted may go under the walk.
    for folder, below, files in os.walk(root):
        found |= {os.path.relpath(f"{folder}/{name}", root) for name in below + files}
    return {path for path in found if not path.startswith("boxwood.db")}


def is_one_sentence(text: str) -> bool:
    """Whether a message is what a person can read: one line, no traceback, no class's name."""
    return "\n" not in text.strip() and "Traceback" not in text and "Error(" not in text


def settled_tree(engine: Engine, before: set[str]) -> set[str]:
    """Return what is more than before (the trash is emptied in the background)."""
    import time

    for _ in range(400):  # 20 s: a busy machine
        more = tree(engine.data_root) - before
        if not more:
            break
        time.sleep(0.05)
    return more


def entries(path: Path) -> set[str]:
    """Return the names in a folder; none if it is not there."""
    return {entry.name for entry in path.iterdir()} if path.is_dir() else set()
