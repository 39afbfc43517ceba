"""The power goes while images come and go: the next machine finds them whole, or not at all.

A virtual machine runs the engine on a disk of its own (ext4), qemu is killed at a seeded moment,
and what the guest had not written out is lost. The next machine looks at the disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from tests.faults.power_guest import DISK, MARK
from tests.support.needs import need, need_program, need_root
from tests.support.paths import ROOT

pytestmark = [pytest.mark.vm, pytest.mark.root]

SEEDS, SOAK_SEEDS = 1, 40
STEPS = 6
"""Steps of the work after which the power goes at the latest."""
LINGER = 1.5
"""Seconds into the next step at the latest: it takes about as long."""
DISK_BYTES = 512 << 20
LIFE = 240
"""Seconds after which a machine is given up: ten times what it needs."""
BOOTS = 3
"""Times that a machine is switched on which does not come up: an emulator hangs now and then."""
COMMIT = 1
"""Seconds between two commits of ext4's journal: the names go to disk long before the files."""


class Machine:
    """A virtual machine with the disk, doing one thing of :mod:`tests.faults.power_guest`."""

    def __init__(self, disk: Path, *words: str) -> None:
        command = shlex.join([sys.executable, "-m", "tests.faults.power_guest", *words])
        script = (
            f"mkdir -p {DISK} && mount -o commit={COMMIT} /dev/vda {DISK} && cd {ROOT}"
            f" && PYTHONDONTWRITEBYTECODE=1 exec {command}"
        )
        settings = {"VM_DISK": str(disk), "VM_TIMEOUT": str(LIFE), "VM_MEM": "768"}
        self._process = subprocess.Popen(
            [ROOT / "tests/tools/vm-run", script],
            env={**os.environ, **settings, "VM_MODS": "nls_utf8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
            errors="replace",
        )
        self.heard: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._process.communicate()

    def says(self) -> Iterator[dict[str, Any]]:
        """Yield what it tells, until it is off."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.heard.append(line.rstrip())
            # A line that the cut has cut is none.
            if line.startswith(MARK) and line.endswith("\n"):
                yield json.loads(line.removeprefix(MARK))

    def cut(self) -> None:
        """Kill qemu, as a power cut would end a machine; what the guest kept in memory is lost."""
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if (entry / "comm").read_text().startswith("qemu-system") and (
                    os.getsid(int(entry.name)) == self._process.pid
                ):
                    os.kill(int(entry.name), signal.SIGKILL)

    def report(self) -> str:
        """Return its last words, for whoever wonders."""
        return "\n".join(self.heard[-60:])


def work_and_cut(disk: Path, seed: int) -> dict[str, list[str]]:
    """Work until the power goes; returns what was acknowledged."""
    for _ in range(BOOTS):
        with Machine(disk, "work", str(seed)) as machine:
            if (found := _watched(machine, random.Random(seed))) is not None:
                return found
        print(f"it did not come up:\n{machine.report()}")
    raise AssertionError(f"no machine came up:\n{machine.report()}")


def _watched(machine: Machine, dice: random.Random) -> dict[str, list[str]] | None:
    """Cut a machine's power after some steps; what was acknowledged; None: it never came up."""
    steps, linger = dice.randint(1, STEPS), dice.uniform(0, LINGER)
    here, gone, up = set[str](), set[str](), False
    timer = threading.Timer(linger, machine.cut)
    for said in machine.says():
        up = True
        if name := said.get("begun"):
            here.discard(name)
            gone.discard(name)
        if name := said.get("here"):
            here.add(name)
        if name := said.get("gone"):
            gone.add(name)
        if "begun" not in said and "up" not in said:
            steps -= 1
            if steps == 0:
                timer.start()
    if not up:
        return None
    assert steps <= 0, f"it never came to the power cut:\n{machine.report()}"
    timer.join()
    # What was being made when the power went may be there or not.
    return {"here": sorted(here), "gone": sorted(gone)}


def check(disk: Path, seed: int, acknowledged: dict[str, list[str]]) -> None:
    """Have the next machine look."""
    said: list[dict[str, Any]] = []
    for _ in range(BOOTS):
        with Machine(disk, "look", str(seed), json.dumps(acknowledged)) as machine:
            said = list(machine.says())
        if said:
            break
        print(f"it did not come up:\n{machine.report()}")
    assert len(said) == 2, machine.report()
    print(said[1])
    assert said[1]["wrong"] == [], said[1]


@pytest.mark.timeout(4000)
def test_power_cut(tmp_path: Path, soak: bool) -> None:
    need_root()
    need_program("qemu-system-x86_64")
    need(list(Path("/boot").glob("vmlinuz-*cloud-amd64")), "linux-image-cloud-amd64")
    disk = tmp_path / "disk"
    for _ in range(SOAK_SEEDS if soak else SEEDS):
        seed = int(os.environ.get("POWER_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
        print(f"POWER_SEED={seed}")
        disk.unlink(missing_ok=True)
        with disk.open("xb") as file:
            file.truncate(DISK_BYTES)
        subprocess.run([need_program("mkfs.ext4"), "-q", "-F", disk], check=True)
        acknowledged = work_and_cut(disk, seed)
        print(acknowledged)
        check(disk, seed, acknowledged)
