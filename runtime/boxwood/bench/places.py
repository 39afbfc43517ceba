"""File systems to measure on: made in a file, mounted, and gone when the bench ends or fails."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from boxwood.errors import InvalidArgument, Unavailable

KINDS = ("ext4", "xfs", "btrfs", "tmpfs")
_FLAGS = {"ext4": ["-F"], "xfs": ["-f"], "btrfs": ["-f"]}
_UNMOUNT_SECONDS = 10.0
"""A file system that a process serves ends a moment after its last descriptor is closed."""


def check(kind: str) -> None:
    """Raise InvalidArgument for a file system that this bench does not know."""
    if kind not in KINDS:
        raise InvalidArgument(f"bench: --fs {kind}: not one of {', '.join(KINDS)}")


@contextlib.contextmanager
def place(kind: str, folder: Path, size: int) -> Iterator[Path]:
    """Mount a fresh file system of ``kind`` and yield its root; nothing of it is left after.

    Args:
        kind: one of :data:`KINDS`.
        folder: where its file and its mount point are made; it must exist.
        size: bytes; the file is sparse.

    Raises:
        Unavailable: it cannot be made or mounted here.
    """
    image, root = folder / f"{kind}.img", folder / kind
    root.mkdir()
    try:
        if kind == "tmpfs":
            _command("mount", "-t", "tmpfs", "-o", f"size={size},nr_inodes=0", "tmpfs", str(root))
        else:
            with image.open("xb") as file:
                file.truncate(size)
            _command(f"mkfs.{kind}", "-q", *_FLAGS[kind], str(image))
            _command("mount", "-o", "loop", str(image), str(root))
        try:
            yield root
        finally:
            _unmount(root)
    finally:
        with contextlib.suppress(FileNotFoundError):
            image.unlink()
        if not root.is_mount():
            root.rmdir()


def _unmount(root: Path) -> None:
    deadline = time.monotonic() + _UNMOUNT_SECONDS
    while True:
        try:
            _command("umount", str(root))
        except Unavailable:
            if time.monotonic() > deadline:
                _command("umount", "-l", str(root))  # it goes when what holds it ends
                raise
            time.sleep(0.1)
        else:
            return


def _command(*words: str) -> None:
    program = shutil.which(words[0], path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        raise Unavailable(f"bench: {words[0]}: not installed")
    done = subprocess.run([program, *words[1:]], capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise Unavailable(f"bench: {words[0]}: {said}")
