"""What the second machine does before and after its power is cut; see test_power_cut.py.

``python -m tests.faults.power_guest work SEED``: an engine on the disk loads, imports, commits and
removes images for ever, and says each time what was acknowledged. ``look SEED ACKNOWLEDGED``: a
later machine looks at the same disk. Lines that the host reads begin with :data:`MARK`.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.integration.engine.test_layers import tree_tar
from tests.integration.images.make import docker_old
from tests.support.engine import Engine
from tests.support.http import Answer

MARK = "@power "
DISK = Path("/disk")
PATIENCE = 900.0
"""Seconds by a clock that runs up to thrice as fast as the host's where that is busy (120 of them
went by in 45): no limit of its own, whoever runs the machine ends it in time."""
IMAGES = 4
"""How many names are loaded or imported; a commit makes one more of each loaded one."""


class DiskEngine(Engine):
    """An engine whose data root is the same on every machine that has the disk."""

    start_seconds = PATIENCE

    def __init__(self) -> None:
        super().__init__(place=DISK)
        self.data_root.rmdir()
        self.data_root = DISK / "root"
        self.log_path = self.exec_root / "daemon.log"


def say(**words: Any) -> None:
    """Tell the host."""
    print(MARK + json.dumps(words), flush=True)


class Work:
    """The images, and what is done to them; the same for the same seed, on every machine."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self.engine = engine
        dice = random.Random(seed)
        base = _files(dice, 60)
        self.makers: dict[str, Callable[[], Answer]] = {}
        for number in range(IMAGES // 2):
            name = f"loaded{number}:latest"
            archive = docker_old(base, _files(dice, 60), names=(name,))
            self.makers[name] = lambda body=archive: self._call("/images/load", body)
            where = f"/images/create?fromSrc=-&repo=imported{number}"
            plain = _files(dice, 40)
            self.makers[f"imported{number}:latest"] = lambda at=where, body=plain: self._call(
                at, body
            )

    def _call(self, path: str, body: Any = None) -> Answer:
        answer = self.engine.api("POST", path, body, timeout=PATIENCE)
        assert answer.status in (200, 201), (path, answer.body)
        assert b"errorDetail" not in answer.body, (path, answer.body)
        return answer

    def commit(self, name: str, serial: int) -> str:
        """Change a container's files and make an image of them; returns its name."""
        new = f"committed{serial}"
        # As an image without a command has it, one must be named.
        key = self._call("/containers/create", {"Image": name, "Cmd": ["x"]}).json()["Id"]
        changed = tree_tar({f"file-{serial}": b"changed", "file-new": bytes([serial % 256]) * 9000})
        answer = self.engine.api("PUT", f"/containers/{key}/archive?path=/", changed)
        assert answer.status == 200, answer.body
        self._call(f"/commit?container={key}&repo={new}")
        assert self.engine.api("DELETE", f"/containers/{key}").status == 204
        return f"{new}:latest"

    def remove(self, name: str) -> None:
        """Remove an image."""
        answer = self.engine.api("DELETE", f"/images/{name}?force=1")
        assert answer.status == 200, answer.body


def _files(dice: random.Random, count: int) -> bytes:
    return tree_tar({f"file-{number}": dice.randbytes(6000) for number in range(count)})


def work(seed: int) -> None:
    """Load, import, commit and remove until the power goes.

    From ``begun`` on both are right, that the image is there and that it is not.
    """
    say(up=True)
    engine = DiskEngine()
    engine.start()
    job = Work(engine, seed)
    dice, here, serial = random.Random(seed + 1), set[str](), 0
    say(ready=True)
    while True:
        serial += 1
        missing = sorted(job.makers.keys() - here)
        if here and (not missing or dice.random() < 0.4):
            name = dice.choice(sorted(here))
            say(begun=name)
            job.remove(name)
            here.discard(name)
            say(gone=name)
        elif missing and dice.random() < 0.7:
            name = dice.choice(missing)
            say(begun=name)
            job.makers[name]()
            here.add(name)
            say(here=name)
        elif loaded := sorted(name for name in here if not name.startswith("committed")):
            name = job.commit(dice.choice(loaded), serial)
            here.add(name)
            say(here=name)


def look(seed: int, acknowledged: dict[str, list[str]]) -> None:
    """Say what is wrong with what the power cut left; an empty list, it is hoped."""
    say(up=True)
    engine = DiskEngine()
    engine.start()
    wrong = [f"after the start: {finding}" for finding in _findings(engine)]
    names = _names(engine)
    wrong += [f"acknowledged and lost: {n}" for n in acknowledged["here"] if n not in names]
    wrong += [f"removed and back: {n}" for n in acknowledged["gone"] if n in names]
    for name in sorted(names):
        wrong += [f"{name}: {line}" for line in _broken_layers(engine, name)]
    job = Work(engine, seed)
    for name in sorted(job.makers.keys() & names):
        job.remove(name)
    for name, make in job.makers.items():
        make()
        wrong += [f"again: {name}: {line}" for line in _broken_layers(engine, name)]
    wrong += [f"after all of it again: {finding}" for finding in _findings(engine)]
    engine.stop()
    reconciled = [line for line in engine.log.splitlines() if "reconcile" in line]
    subprocess.run(["umount", DISK], check=True)
    checked = subprocess.run(["e2fsck", "-fn", "/dev/vda"], capture_output=True, text=True)
    if checked.returncode:
        wrong.append(f"e2fsck: {checked.stdout[-500:]}")
    say(wrong=wrong, names=sorted(names), reconciled=reconciled)


def _findings(engine: Engine) -> list[Any]:
    answer = engine.api("GET", "/boxwood/fsck?deep=1", timeout=PATIENCE)
    assert answer.status == 200, answer.body
    return list(answer.json()["Findings"])


def _names(engine: Engine) -> set[str]:
    entries = engine.api("GET", "/images/json").json()
    return {name for entry in entries for name in entry["RepoTags"] or ()}


def _broken_layers(engine: Engine, name: str) -> list[str]:
    """Save an image and compare its layers with what its config says of them."""
    answer = engine.api("GET", f"/images/{name}/get", timeout=PATIENCE)
    if answer.status != 200:
        return [f"save: {answer.body!r}"]
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as archive:

        def member(path: str) -> bytes:
            file = archive.extractfile(path)
            assert file is not None
            return file.read()

        (entry,) = json.loads(member("manifest.json"))
        wanted = json.loads(member(entry["Config"]))["rootfs"]["diff_ids"]
        found = [f"sha256:{hashlib.sha256(member(path)).hexdigest()}" for path in entry["Layers"]]
    return [] if found == wanted else [f"layers {found} instead of {wanted}"]


if __name__ == "__main__":
    if sys.argv[1] == "work":
        work(int(sys.argv[2]))
    else:
        look(int(sys.argv[2]), json.loads(sys.argv[3]))
