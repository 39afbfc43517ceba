"""The second machine (Debian's 6.1): SCTP, ipvlan, VLANs and dummy links, which this kernel may
lack."""

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


@pytest.mark.timeout(320)
def test_on_another_kernel(soak: bool) -> None:
    need_root()
    need_program("qemu-system-x86_64")
    need(list(Path("/boot").glob("vmlinuz-*cloud-amd64")), "linux-image-cloud-amd64")
    words = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider"]
    words += ["tests/conformance/other_kernel.py"]
    if not soak:
        words += [
            "-k",
            "not any_call and not (TestIpvlanL3 and not route) and not (TestVlan and not vlan)",
        ]
    quoted = " ".join(f"'{word}'" for word in words)
    modules = (
        "ipvlan macvlan dummy 8021q veth bridge sctp nf_tables nft_chain_nat nft_nat nft_masq "
        "nft_ct nft_reject_inet nft_fib_inet nft_limit nft_meta_bridge nf_conntrack_bridge"
    )
    done = subprocess.run(
        [ROOT / "tests/tools/vm-run", f"cd {ROOT} && PYTHONDONTWRITEBYTECODE=1 {quoted}"],
        env={**os.environ, "VM_TIMEOUT": "300", "VM_MODS": modules},
        capture_output=True,
        text=True,
    )
    print(done.stdout[-6000:], done.stderr[-2000:])
    assert done.returncode == 0
    plain = re.sub(r"\x1b\[\d*m", "", done.stdout)
    assert int(re.search(r"(\d+) passed", plain)[1]) >= 20
