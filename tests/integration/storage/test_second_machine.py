"""The second machine (Debian's 6.1): an xfs with quotas, and an overlay without ``lowerdir+``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.needs import need, need_program, need_root
from tests.support.paths import ROOT

pytestmark = [pytest.mark.vm, pytest.mark.root]

HERE = "tests/integration/storage"
CHOSEN = ("a_size", "removed_one", "(as_older and 300)", "volatile")
MORE = ("each_its_own", "committed_one", "500_layers")


@pytest.mark.timeout(320)
def test_on_another_kernel(soak: bool) -> None:
    need_root()
    for program in ("qemu-system-x86_64", "mkfs.xfs"):
        need_program(program)
    need(list(Path("/boot").glob("vmlinuz-*cloud-amd64")), "linux-image-cloud-amd64")
    chosen = (*CHOSEN, *MORE) if soak else CHOSEN
    files = [f"{HERE}/test_quota.py", f"{HERE}/test_overlay.py"]
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *files]
    quoted = " ".join(f"'{word}'" for word in [*pytest_, "-k", " or ".join(chosen)])
    # pytest's rooms lie in /tmp: overlay needs another file system below it than an overlay.
    settings = {"VM_TIMEOUT": "300", "VM_MODS": "xfs loop", "VM_TMPFS": "/rooms"}
    done = subprocess.run(
        [
            ROOT / "tests/tools/vm-run",
            f"cd {ROOT} && TMPDIR=/rooms PYTHONDONTWRITEBYTECODE=1 {quoted}",
        ],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
    )
    print(done.stdout[-6000:], done.stderr[-2000:])
    assert done.returncode == 0
    plain = re.sub(r"\x1b\[\d*m", "", done.stdout)
    assert f"{len(chosen)} passed" in plain
    assert "skipped" not in plain
