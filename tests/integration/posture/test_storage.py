"""The posture on every storage driver: one look at each, all of it with ``--soak``.

``BOXWOOD_TEST_STORAGE=NAME pytest tests/integration`` runs any tests on a driver.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxwood.model.config import HostConfig
from tests.integration.posture import box
from tests.integration.posture.box import Box
from tests.support.needs import need_root
from tests.support.paths import ROOT
from tests.support.storage import DRIVERS, Roots

pytestmark = pytest.mark.root

LOOK = """
grep -E '^(Cap(Eff|Bnd)|Seccomp:|NoNew)' /proc/self/status
touch /written; rm /bin/vi; test -e /bin/vi || echo gone
chmod 4755 /bin/busybox; stat -c %a /bin/busybox
mknod /dev/disk b 8 0; mknod /null c 1 3 && echo x > /null; ls /dev | tr '\\n' ' '; echo
mount -t tmpfs none /tmp || echo no mount
mkdir /d && mv /d /e && ls -d /e
"""


@pytest.fixture
def roots(driver: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the roots come from the driver."""
    need_root()
    made = Roots(driver, box.fill)
    monkeypatch.setattr(box, "ROOTS", made)
    yield
    made.close()


def look(*, read_only: bool = False) -> box.Result:
    host = HostConfig(network_mode="none", readonly_rootfs=read_only)
    with Box("sh", "-c", LOOK, host=host) as one:
        return one.start().wait()


@pytest.mark.usefixtures("roots")
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_look() -> None:
    """What a process finds in a container is the same, whoever keeps its files."""
    found = look()
    lines = found.out.splitlines()
    assert "Seccomp:\t2" in lines
    assert "CapEff:\t00000000a80425fb" in lines
    assert "gone" in lines
    assert "4755" in lines
    assert "no mount" in lines
    assert lines[-1] == "/e"
    for device in box.DEVICES:
        assert f"{device} " in found.out
    denied = look(read_only=True)
    assert "Read-only file system" in denied.err
    assert "gone" not in denied.out.splitlines()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("driver", DRIVERS)
def test_all_of_it(driver: str, soak: bool) -> None:
    if not soak:
        pytest.skip("with --soak only")
    need_root()
    here = Path(__file__)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", here.parent, "--ignore", here, "-x"],
        env=os.environ | {"BOXWOOD_TEST_STORAGE": driver},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:]
