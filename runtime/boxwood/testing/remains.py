"""What a driver may leave behind: descriptors, mounts, processes, loop devices."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path
from typing import ClassVar

SETTLE_SECONDS = 5.0
"""In which what ends by itself must have ended: a process that served a mount."""


class Remains:
    """Remembers what is there at first, and tells what came and stayed.

    What is not this process's own counts when it names or holds the driver's root.
    """

    settle_seconds: ClassVar[float] = SETTLE_SECONDS

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._before = self._found()

    def now(self) -> list[str]:
        """Name what is here and was not there before."""
        return sorted(self._found() - self._before)

    def wait(self) -> list[str]:
        """Name what stays, after the time that things may take to end."""
        end = time.monotonic() + self.settle_seconds
        while left := self.now():
            if time.monotonic() > end:
                return left
            gc.collect()
            time.sleep(0.01)
        return []

    def _found(self) -> set[str]:
        return {*_descriptors(), *self._mounts(), *self._processes(), *self._loops()}

    def _mounts(self) -> set[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return {f"mount: {line}" for line in lines if f"{self._root}/" in line}

    def _loops(self) -> set[str]:
        found = set()
        for file in Path("/sys/block").glob("loop*/loop/backing_file"):
            try:
                name = file.read_text().strip()
            except OSError:  # detached meanwhile
                continue
            if name.startswith(f"{self._root}/"):
                found.add(f"loop device: {file.parts[3]}: {name}")
        return found

    def _processes(self) -> set[str]:
        return {
            f"process: {entry.name}"
            for entry in os.scandir("/proc")
            if entry.name.isdigit() and int(entry.name) != os.getpid() and self._holds(entry.path)
        }

    def _holds(self, process: str) -> bool:
        try:
            for name in os.listdir(f"{process}/fd"):
                if os.readlink(f"{process}/fd/{name}").startswith(f"{self._root}/"):
                    return True
        except OSError:  # it has ended meanwhile, or hides
            return False
        return False


def _descriptors() -> set[str]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(f"descriptor: {name}: {os.readlink(f'/proc/self/fd/{name}')}")
        except OSError:  # the one of this very listing
            continue
    return found
