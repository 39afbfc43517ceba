"""The search for what an engine may leave behind on a machine.

A snapshot of the machine is taken before the tests and after them. What is new and ours is a leak.
In CI everything new counts, since nobody else is at work there; elsewhere only what can be told to
be of this very test run, since other engines may come and go meanwhile.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.needs import IN_CI
from tests.support.paths import MARK, ROOMS

SETTLE_SECONDS = 10.0
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")


@dataclass(frozen=True)
class Machine:
    """What is on the machine at one time: of each kind, a name and some words about it."""

    found: dict[str, dict[str, str]]

    def since(self, before: Machine) -> list[str]:
        """Name what is here and was not there before."""
        return [
            f"{kind}: {name}: {words}" if words else f"{kind}: {name}"
            for kind, things in self.found.items()
            for name, words in sorted(things.items())
            if name not in before.found[kind]
        ]


def _read(path: Path) -> str:
    """Read a file of /proc or /sys; one that has gone meanwhile is empty."""
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _of_this_run(text: str) -> bool:
    """Does the text name a folder of this test run?"""
    return any(room in text for room in ROOMS)


def _processes() -> Iterator[Path]:
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            yield path


def _words(process: Path) -> str:
    return _read(process / "cmdline").replace("\0", " ").strip()


def _is_ours(process: Path) -> bool:
    """Does the process come from this test run?"""
    if process.name in (str(os.getpid()), str(os.getppid())):
        return False
    mark = f"{MARK}={os.environ.get(MARK, '')}"
    return (
        mark in _read(process / "environ").split("\0")
        or _of_this_run(_read(process / "cmdline"))
        or (IN_CI and "/boxwood/" in _read(process / "cgroup"))
    )


def _counts(process: Path) -> bool:
    """Is a process to be looked at: ours, or (in CI) anybody's that has an address space?"""
    return _is_ours(process) or (IN_CI and _words(process) != "")


def _ancestors() -> set[str]:
    """Find the processes this one hangs from: they are not ours to judge."""
    found, pid = set(), str(os.getpid())
    while pid not in ("0", ""):
        found.add(pid)
        line = re.search(r"^PPid:\s*(\d+)", _read(Path("/proc", pid, "status")), re.MULTILINE)
        pid = line.group(1) if line else ""
    return found


def processes() -> dict[str, str]:
    """Find the processes, by process id."""
    spared = _ancestors()
    return {
        path.name: _words(path)
        for path in _processes()
        if path.name not in spared and _counts(path) and "\nState:\tZ" not in _read(path / "status")
    }


def namespaces() -> dict[str, str]:
    """Find the namespaces that a process is in, and those that a mount or a descriptor holds."""
    found: dict[str, str] = {}
    for path in _processes():
        if not _counts(path):
            continue
        for kind in NAMESPACES:
            _note(found, path / "ns" / kind, path)
        try:
            descriptors = list((path / "fd").iterdir())
        except OSError:
            continue
        for descriptor in descriptors:
            _note(found, descriptor, path)
    return found


def _note(found: dict[str, str], link: Path, process: Path) -> None:
    try:
        target = os.readlink(link)
    except OSError:
        return
    if target.split(":")[0] in NAMESPACES:
        found.setdefault(target, f"held by {process.name} ({_words(process)[:80]})")


def mounts() -> dict[str, str]:
    """Find the mounts, by mount point and source."""
    found = {}
    for line in _read(Path("/proc/self/mountinfo")).splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        kind, source = after.split()[:2]
        name = f"{point} ({kind} {source} {root})"
        if IN_CI or _of_this_run(name):
            found[name] = ""
    return found


def cgroups() -> dict[str, str]:
    """Find the control groups below ours, by folder; the parent of them all may stay."""
    found = {}
    for folder, below, _ in os.walk("/sys/fs/cgroup"):
        if "/boxwood/" in folder:
            pids = _read(Path(folder, "cgroup.procs")).split()
            others = not IN_CI and pids and not any(_is_ours(Path("/proc", pid)) for pid in pids)
            if not others:
                found[folder] = f"processes {pids}" if pids else ""
        below.sort()
    return found


def links() -> dict[str, str]:
    """Find the network links of this namespace."""
    return {path.name: "" for path in Path("/sys/class/net").iterdir()}


def loops() -> dict[str, str]:
    """Find the loop devices in use, with the file each stands for."""
    found = {}
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        name = _read(path).strip()
        if IN_CI or _of_this_run(name):
            found[path.parts[3]] = name
    return found


KINDS: dict[str, Callable[[], dict[str, str]]] = {
    "mount": mounts,
    "cgroup": cgroups,
    "process": processes,
    "namespace": namespaces,
    "link": links,
    "loop device": loops,
}


def look() -> Machine:
    """Take a snapshot of the machine."""
    return Machine({kind: find() for kind, find in KINDS.items()})


def left_since(before: Machine, *, seconds: float = SETTLE_SECONDS) -> list[str]:
    """Name what is left, once the machine has had time to finish what it was at."""
    end = time.monotonic() + seconds
    while True:
        left = look().since(before)
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.1)
