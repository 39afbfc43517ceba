"""What an engine holds while it does nothing: to be the same before and after a load."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.support import leaks
from tests.support.engine import Engine
from tests.support.leaks import Machine
from tests.support.paths import PREFIX

SETTLE_SECONDS = 15.0
"""For shims to go, trash to be emptied, a used spare to be replaced."""
GONE_BEFORE_LOOKED = (FileNotFoundError, ProcessLookupError)


@dataclass(frozen=True)
class Footprint:
    """The counts must come back to what they were; memory (KiB) may differ by an allowance."""

    machine: Machine
    counts: dict[str, int]
    memory: int

    @classmethod
    def of(cls, engine: Engine) -> Footprint:
        """Look at the machine and at the daemon."""
        process = Path("/proc", str(engine.pid))
        counts = {
            "descriptors": len(list((process / "fd").iterdir())),
            "threads": len(list((process / "task").iterdir())),
            "processes below": len(family(engine.pid)),
            "shims": shims(),
            "run directories": _entries(engine.exec_root / "containers"),
            "data directories": _entries(engine.data_root / "containers"),
            "snapshots": _entries(engine.data_root / "storage" / "overlay" / "active"),
            "trash": _entries(engine.data_root / "storage" / "overlay" / "trash"),
            # Of its own folders: one that was started anew has what others have mounted meanwhile.
            "mounts in the daemon": sum(
                _is_ours(line, engine) for line in (process / "mountinfo").read_text().splitlines()
            ),
        } | _kinds(process)
        found = leaks.look().found
        # These change names while they stay as many: a spare shim, a warm worker.
        kept: dict[str, dict[str, str]] = {}
        for kind in ("mount", "cgroup", "link", "loop device"):
            things = found[kind].items()
            kept[kind] = {name: words for name, words in things if not _is_foreign(name, engine)}
        return cls(Machine(kept), counts, memory_of(engine.pid))

    def left(self, before: Footprint, allowance: int) -> list[str]:
        """Name what is there now and was not ``before``; ``allowance`` in KiB of memory."""
        found = self.machine.since(before.machine)
        found += [
            f"{name}: {before.counts.get(name, 0)} before, {count} after"
            for name, count in self.counts.items()
            if count > before.counts.get(name, 0)
        ]
        if self.memory > before.memory + allowance:
            found.append(f"memory: {before.memory} KiB before, {self.memory} KiB after")
        return found


def _is_foreign(line: str, engine: Engine) -> bool:
    """Whether a mount is of another engine under test on this machine."""
    return PREFIX in line and not _is_ours(line, engine)


def _is_ours(line: str, engine: Engine) -> bool:
    """Whether a mount is in the engine's folders."""
    return any(name in line for name in (engine.data_root.name, engine.exec_root.name))


def _entries(folder: Path) -> int:
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def _kinds(process: Path) -> dict[str, int]:
    """Count the descriptors by what they are: that names a leak better than their number."""
    found: Counter[str] = Counter()
    for link in (process / "fd").iterdir():
        with contextlib.suppress(*GONE_BEFORE_LOOKED):
            found["descriptor " + re.sub(r"[0-9a-f]{12,}|\d+", "N", os.readlink(link))] += 1
    return dict(found)


def family(pid: int) -> list[int]:
    """Return the processes below one."""
    found: list[int] = []
    for task in Path("/proc", str(pid), "task").iterdir():
        for child in (task / "children").read_text().split():
            with contextlib.suppress(*GONE_BEFORE_LOOKED):
                found += [int(child), *family(int(child))]
    return found


def shims() -> int:
    """Count the shims of this test run: the engine's, and those that nobody has any more."""
    return sum(
        words.startswith("boxwood-shim") or words.endswith("boxwood-shim")
        for words in leaks.processes().values()
    )


def memory_of(pid: int) -> int:
    """Return the KiB of memory that are the process's own (its proportional set)."""
    text = Path("/proc", str(pid), "smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    assert found is not None
    return int(found.group(1))


def settled(engine: Engine, before: Footprint, allowance: int) -> list[str]:
    """Name what the load has left once the engine has had time to tidy up."""
    end = time.monotonic() + SETTLE_SECONDS
    while left := Footprint.of(engine).left(before, allowance):
        time.sleep(0.2)
        if time.monotonic() > end:
            # What somebody else's engine made just now is not there a second time.
            again = Footprint.of(engine).left(before, allowance)
            return [words for words in left if words in again]
    return []


def at_rest(engine: Engine) -> Footprint:
    """Look once what the last container has left behind is dealt with."""
    before = Footprint.of(engine)
    end = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < end:
        time.sleep(0.5)
        after = Footprint.of(engine)
        if after.counts == before.counts:
            return after
        before = after
    return before
