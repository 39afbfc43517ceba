"""The same tests on the second machine: cgroup v2 alone, another kernel (Debian's 6.1)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.needs import need, need_program, need_root
from tests.support.paths import ROOT

pytestmark = [pytest.mark.vm, pytest.mark.root]

POSTURE = "tests/integration/posture"
# No KVM: everything takes ten times as long there, so the rest is left to this machine.
CHOSEN = (
    "block_device or privileged_opens or kernels_files or exec_has or namespace or devices_of or"
    " read_only_root or control_groups or joined or strict_profile"
)


@pytest.mark.timeout(420)
@pytest.mark.parametrize(
    "arguments",
    [[f"{POSTURE}/test_limits.py"], [POSTURE, "-k", CHOSEN]],
    ids=["limits", "posture"],
)
def test_on_cgroup_v2(arguments: list[str]) -> None:
    need_root()
    need_program("qemu-system-x86_64")
    need(list(Path("/boot").glob("vmlinuz-*cloud-amd64")), "linux-image-cloud-amd64")
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    quoted = " ".join(f"'{word}'" for word in pytest_)
    done = subprocess.run(
        [ROOT / "tests/tools/vm-run", f"cd {ROOT} && PYTHONDONTWRITEBYTECODE=1 {quoted}"],
        env={**os.environ, "VM_TIMEOUT": "400"},
        capture_output=True,
        text=True,
    )
    print(done.stdout[-6000:], done.stderr[-2000:])
    assert done.returncode == 0
    assert " passed" in done.stdout
