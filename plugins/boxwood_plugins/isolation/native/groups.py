"""What both versions of control groups have in common."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

from boxwood.drivers.isolation import Document
from boxwood.errors import DeadlineExceeded, Internal

# Seconds. A process that does not die by then hangs in the kernel (a dead file server).
KILL_BOUND = 10.0
# Seconds. Freezing waits for system calls that take signals late; Docker waits without a bound.
FREEZE_BOUND = 5.0
_FIRST_SLEEP, _LONGEST_SLEEP = 0.001, 0.05


class Groups(ABC):
    """The control groups of containers, known by their path below each hierarchy."""

    version = 0

    @abstractmethod
    def create(self, path: str, resources: Document) -> list[int]:
        """Make the group (or take the one there), set limits and return open descriptors:
        ``tasks`` files (v1) or the one directory (v2). The caller owns them.

        Raises:
            Internal, Unavailable, InvalidArgument: and nothing is left.
        """

    @abstractmethod
    def enter(self, path: str) -> list[int]:
        """Return the descriptors of a group that is there.

        Raises:
            FileNotFoundError: it is not.
        """

    @abstractmethod
    def update(self, path: str, resources: Document) -> None:
        """Set what is in ``resources``."""

    @abstractmethod
    def stats(self, path: str) -> Document:
        """Return the numbers in the Engine API's shape."""

    @abstractmethod
    def oom_kills(self, path: str) -> int:
        """Return how many processes the kernel killed for want of memory."""

    @abstractmethod
    def freeze(self, path: str) -> None:
        """Ask for it; ``frozen`` says when it is so."""

    @abstractmethod
    def thaw(self, path: str) -> None:
        """Undo it; a group that is gone is thawed."""

    @abstractmethod
    def frozen(self, path: str) -> bool:
        """Whether every process stands still."""

    @abstractmethod
    def directories(self, path: str) -> list[str]:
        """Return the directories of the group, one for each hierarchy, that are there."""

    @abstractmethod
    def main(self) -> str:
        """Return the hierarchy to ask for processes."""

    @abstractmethod
    def binds(self, path: str) -> list[tuple[str, str]] | None:
        """See :class:`MountCompiler`."""

    def processes(self, path: str) -> list[int]:
        """Return the pids in the group and below it."""
        found: set[int] = set()
        for directory, _, _ in os.walk(f"{self.main()}{path}"):
            try:
                found.update(map(int, read(f"{directory}/cgroup.procs").split()))
            except FileNotFoundError:
                continue
        found.discard(0)  # of another pid namespace: not ours to name
        return sorted(found)

    def kill(self, path: str) -> bool:
        """Send SIGKILL to every process; return whether there was one.

        Through pidfds, and only to what is still in the group once they are open: a pid that has
        been given to somebody else meanwhile is not hit.
        """
        opened: dict[int, int] = {}
        try:
            for pid in self.processes(path):
                try:
                    opened[pid] = os.pidfd_open(pid)
                except ProcessLookupError:
                    continue
            for pid in opened.keys() & self.processes(path):
                try:
                    signal.pidfd_send_signal(opened[pid], signal.SIGKILL)
                except ProcessLookupError:
                    continue
        finally:
            close_all(opened.values())
        return bool(opened)

    async def destroy(self, path: str) -> None:
        """Kill what is in the group and remove it. Idempotent.

        Raises:
            DeadlineExceeded: something in it does not die.
        """
        if not path.startswith("/") or path.strip("/") in ("", ".", ".."):
            raise Internal(f"cgroup: {path!r}: not a container's group; nothing is killed in it")
        # Nearly always all of it has ended, and the groups go at the first try.
        tried = [_try_rmdir(directory) for directory in self.directories(path)]
        if all(tried):
            return
        self.thaw(path)

        def removed() -> bool:
            self.kill(path)
            gone = [remove_tree(directory) for directory in self.directories(path)]
            return all(gone)

        if not await wait_for(removed, KILL_BOUND):
            raise DeadlineExceeded(f"cgroup: {path}: processes in it do not die")

    def discard(self, path: str) -> None:
        """Remove a group in which nothing has run yet."""
        for directory in self.directories(path):
            remove_tree(directory)


async def wait_for(done: Callable[[], bool], bound: float) -> bool:
    """Ask until it is so, ever less often; return False when ``bound`` seconds have passed."""
    end = time.monotonic() + bound
    pause = _FIRST_SLEEP
    while not done():
        if time.monotonic() >= end:
            return False
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_SLEEP)
    return True


def remove_tree(directory: str) -> bool:
    """Remove a group and what was made below it; return whether it is gone."""
    try:
        os.rmdir(directory)
        return True
    except FileNotFoundError:
        return True
    except OSError:
        pass  # it has children, or processes that are on their way out
    for below, names, _ in os.walk(directory, topdown=False):
        for name in names:
            _try_rmdir(f"{below}/{name}")
    return _try_rmdir(directory)


def _try_rmdir(directory: str) -> bool:
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def read(path: str) -> str:
    """Read one of the kernel's small files."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
        return b"".join(parts).decode()
    finally:
        os.close(fd)


def write(path: str, value: str | int) -> None:
    """Write one value to a file of a group.

    Raises:
        Internal: the kernel refused it, with its reason.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, str(value).encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise Internal(f"cgroup: {path}: {value}: {error.strerror}") from error


def read_number(path: str) -> int:
    """Read a number; ``max`` and a file that is not there are 0."""
    try:
        text = read(path).strip()
    except OSError:
        return 0
    return int(text) if text.isdecimal() else 0


def read_pairs(path: str) -> dict[str, int]:
    """Read lines of ``name number``; a file that is not there has none."""
    try:
        text = read(path)
    except OSError:
        return {}
    found = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if value.isdecimal():
            found[name] = int(value)
    return found


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors on the way out of an error."""
    for fd in fds:
        os.close(fd)
