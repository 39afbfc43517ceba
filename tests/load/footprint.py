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
            "shims": shims_of(engine),
            "run directories": _entries(engine.exec_root / "containers"),
            "data directories": _entries(engine.data_root / "containers"),
            "snapshots": _entries(engine.data_root / "storage" / "overlay" / "active"),
            "trash": _entries(engine.data_root / "storage" / "overlay" / "trash"),
            "mounts in the daemon": len((process / "mountinfo").read_text().splitlines()),
        } | _kinds(process)
        found = leaks.look().found
        # These change names while they stay as many: a spare shim, a warm worker.
        kept = {kind: found[kind] for kind in ("mount", "cgroup", "link", "loop device")}
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


def shims_of(engine: Engine) -> int:
    """Count the shims of this test run that belong to the engine or to nobody any more."""
    del engine
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
    while True:
        left = Footprint.of(engine).left(before, allowance)
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.1)
