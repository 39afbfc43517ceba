"""File systems in files: made, mounted, unmounted and removed by the test that wants one."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.needs import need_program, need_root, until

MIN_BYTES = {"btrfs": 120 << 20, "ext4": 8 << 20, "xfs": 300 << 20}
"""What the mkfs programs of Debian 12 take at least."""
FLAGS = {"btrfs": ["-f", "-m", "single"], "ext4": ["-F", "-O", "^has_journal"], "xfs": ["-f"]}


@contextlib.contextmanager
def loop_fs(kind: str, folder: Path, *, size: int = 512 << 20, options: str = "") -> Iterator[Path]:
    """Mount a fresh file system of ``kind`` (ext4, xfs, btrfs, tmpfs) and yield its root.

    Args:
        kind: the type, as mount(8) knows it.
        folder: where the file and the mount point are made; it must exist.
        size: bytes of the file, which is sparse.
        options: of the mount, separated by commas.
    """
    need_root()
    image, place = folder / f"{kind}.img", folder / f"{kind}.mnt"
    place.mkdir()
    if kind == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place]
    else:
        mkfs = need_program(f"mkfs.{kind}")
        with image.open("xb") as file:
            file.truncate(max(size, MIN_BYTES[kind]))
        subprocess.run([mkfs, "-q", *FLAGS[kind], image], check=True, capture_output=True)
        command = ["mount", "-o", ",".join(filter(None, ["loop", options])), image, place]
    subprocess.run(command, check=True)
    try:
        yield place
    finally:
        unmount(place)
        place.rmdir()
        image.unlink(missing_ok=True)


def unmount(place: Path) -> None:
    """Unmount what a test has mounted; whoever used it may be just about to let go.

    A worker has answered before it ends, and the kernel takes a detached mount apart after its
    last descriptor was closed.
    """
    said: list[str] = []

    def done() -> bool:
        found = subprocess.run(["umount", place], capture_output=True, text=True, check=False)
        said[:] = [found.stderr.strip()]
        return found.returncode == 0

    until(done, f"{place} is not in use any more: {said}")
