"""The search for what an engine may leave behind on a machine.

A snapshot of the machine is taken before the tests and after them. What is new and of this very
test run is a leak; others may be at work on the machine meanwhile. A process is of this run by its
environment, its arguments, its parents, or the files and mounts it holds; a mount and a loop device
by the folder they stand for; a control group by its processes.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.needs import IN_CI
from tests.support.networks import LINKS, tag_of
from tests.support.paths import MARK, ROOMS

SETTLE_SECONDS = 10.0
# Where everybody keeps what is for a while: what is there has an owner to be told by its name.
SHARED = ("/tmp", "/var/tmp", "/dev/shm", "/run")
# Set once other engines were seen at work meanwhile.
COMPANY = threading.Event()
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


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _words(pid: int) -> str:
    return _read(Path("/proc", str(pid), "cmdline")).replace("\0", " ").strip()


def _field(pid: int, name: str) -> str:
    """Read a field of a process's status."""
    found = re.search(rf"^{name}:\s*(\S+)", _read(Path("/proc", str(pid), "status")), re.MULTILINE)
    return found.group(1) if found else ""


def _links_to(pid: int) -> Iterator[tuple[Path, str]]:
    """Name what a process has open, is in, and stands in."""
    process = Path("/proc", str(pid))
    paths = [process / "cwd", process / "root", *(process / "ns" / kind for kind in NAMESPACES)]
    with contextlib.suppress(OSError):
        paths += (process / "fd").iterdir()
    for path in paths:
        with contextlib.suppress(OSError):
            yield path, os.readlink(path)


def _is_marked(pid: int) -> bool:
    """Does a process by itself, whoever its parents are, show that it is of this run?"""
    process = Path("/proc", str(pid))
    mark = f"{MARK}={os.environ[MARK]}"
    return (
        any(word.startswith(mark) for word in _read(process / "environ").split("\0"))
        or _of_this_run(_read(process / "cmdline"))
        or any(_of_this_run(target) for _, target in _links_to(pid))
        # Many a process outside sees this run's mounts; in a container they are what it stands on.
        or ("/boxwood/" in _read(process / "cgroup") and _of_this_run(_read(process / "mountinfo")))
    )


def _ours() -> set[int]:
    """Find the processes of this run: the marked ones and all that hang from them or from this."""
    spared = _ancestors()
    pids = _pids()
    parents = {pid: int(_field(pid, "PPid") or 0) for pid in pids}
    ours = {pid for pid in pids if pid not in spared and _is_marked(pid)}
    found = ours | {os.getpid()}
    while more := {pid for pid in pids if parents[pid] in found and pid not in found}:
        found |= more
    return found - spared


def _ancestors() -> set[int]:
    """Find this process and those it hangs from: they are not to be judged."""
    found, pid = set(), os.getpid()
    while pid:
        found.add(pid)
        pid = int(_field(pid, "PPid") or 0)
    return found


def processes() -> dict[str, str]:
    """Find the processes, by process id."""
    return {str(pid): _words(pid) for pid in _ours() if _field(pid, "State") not in ("Z", "")}


def namespaces() -> dict[str, str]:
    """Find the namespaces that our processes are in or hold, this one's included."""
    found: dict[str, str] = {}
    for pid in _ours() | {os.getpid()}:
        for _, target in _links_to(pid):
            if target.split(":")[0] in NAMESPACES:
                found.setdefault(target, f"held by {pid} ({_words(pid)[:80]})")
    return found


def mounts() -> dict[str, str]:
    """Find the mounts, by mount point and source."""
    found = {}
    for line in _read(Path("/proc/self/mountinfo")).splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        kind, source = after.split()[:2]
        name = f"{point} ({kind} {source} {root})"
        # Nobody but an engine has a reason to mount something among the system's own folders.
        if _of_this_run(name) or (IN_CI and not point.startswith(SHARED)):
            found[name] = ""
    return found


def _is_company(pid: int) -> bool:
    """Is a process an engine's, or that of other tests which make what an engine makes?"""
    words = _words(pid)
    programs = ("boxwood-shim", "boxwood-helper")
    return words.startswith(programs) or "boxwood daemon" in words or "pytest" in words


def cgroups() -> dict[str, str]:
    """Find the control groups below ours, by folder; the parent of them all may stay.

    An empty one tells nobody whose it was: it counts when this run is alone on the machine.
    """
    found = {}
    ours, spared = _ours(), _ancestors()
    if any(_is_company(pid) for pid in _pids() if pid not in ours | spared):
        COMPANY.set()
    for folder, below, _ in os.walk("/sys/fs/cgroup"):
        below.sort()
        if "/boxwood/" not in folder:
            continue
        pids = {int(pid) for path in _groups(folder) for pid in _read(path).split()}
        if pids & ours or not (pids or COMPANY.is_set()):
            found[folder] = f"processes {sorted(pids)}" if pids else ""
    return found


def _groups(folder: str) -> Iterator[Path]:
    """Name the lists of processes of a control group and of those below it."""
    for path, _, _ in os.walk(folder):
        yield Path(path, "cgroup.procs")


def links() -> dict[str, str]:
    """Find the network links of this namespace, but those of other runs' engines."""
    found = {}
    tags = {tag_of(Path(room)) for room in ROOMS}
    for path in LINKS.iterdir():
        alias = _read(path / "ifalias").strip()
        if not alias.startswith("boxwood_") or alias.partition(":")[0] in tags:
            found[path.name] = alias
    return found


def loops() -> dict[str, str]:
    """Find the loop devices in use, with the file each stands for."""
    found = {}
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        name = _read(path).strip()
        if _of_this_run(name):
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
    """Name what is left, once the machine has had time to finish what it was at.

    What is not there all the time is somebody else's: the tests are over.
    """
    end = time.monotonic() + seconds
    left = look().since(before)
    while left and time.monotonic() < end:
        time.sleep(0.1)
        now = {words.partition(": processes")[0] for words in look().since(before)}
        left = [words for words in left if words.partition(": processes")[0] in now]
    return left
