"""CVE-2019-5736: a container that gets hold of the shim's own program writes to it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from boxwood.execution import shim_process
from tests.attacks.ground import Ground
from tests.integration.launch.programs import container

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

# The interpreter of the payload is, by a link, our own program, called by a name under which it
# stays (docker-init). Its child takes hold of it, ends it, and writes as soon as nobody runs it.
ATTACK = """#!/bin/sh
exec 7</proc/$PPID/exe </dev/null >/dev/null 2>&1
kill -9 $PPID
i=0
while [ $i -lt 100 ]; do
    echo owned > /proc/self/fd/7 && exit
    i=$((i + 1))
    sleep 0.05
done
"""


def overwrites(ground: Ground) -> bool:
    """Run the attack; is the program another one afterwards?"""
    (ground.tree / "docker-init").symlink_to("/proc/self/exe")
    for name, text in (("evil", "#!/docker-init /bin/attack\n"), ("attack", ATTACK)):
        (ground.tree / "bin" / name).write_text(text)
        (ground.tree / "bin" / name).chmod(0o755)
    # In the host's PID namespace the child outlives the container, and so the shim.
    got = ground.launch(container(["/bin/evil"], pid_namespace=False), stdin=True)
    assert got.code == 137, got
    size = os.fstat(ground.program).st_size
    end = time.monotonic() + 2
    while time.monotonic() < end and os.fstat(ground.program).st_size == size:
        time.sleep(0.05)
    return os.pread(ground.program, 5, 0) == b"owned"


def test_the_sealed_program_stands(ground: Callable[..., Ground]) -> None:
    before = shim_process.shim_path().read_bytes()
    assert not overwrites(ground())
    assert shim_process.shim_path().read_bytes() == before


def test_it_bites_a_program_that_is_a_file(ground: Callable[..., Ground], tmp_path: Path) -> None:
    """Defence: shim_process.executable(), a sealed memfd. Here: a copy, started as it lies."""
    weak = ground(plain=True)
    weak.shim = Path(shutil.copy(shim_process.shim_path(), tmp_path / "boxwood-shim"))
    assert overwrites(weak)


def test_the_engine_starts_the_sealed_one() -> None:
    """What the tests start by hand is what the engine starts by itself."""
    assert os.readlink(f"/proc/self/fd/{shim_process.executable()}").startswith("/memfd:")
