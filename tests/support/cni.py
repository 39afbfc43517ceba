"""Network configuration lists for the CNI plugins that Debian packages."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.needs import need, need_program

FOLDER = Path("/usr/lib/cni")


def need_plugins() -> None:
    """Fail or skip unless the plugins are installed."""
    need((FOLDER / "bridge").exists(), "the package containernetworking-plugins")
    need_program("iptables")


@contextlib.contextmanager
def tables_as_before() -> Iterator[None]:
    """Remove the empty tables of iptables that plugins leave: who uses it makes them, for good."""

    def listed() -> set[str]:
        done = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True)
        return set(done.stdout.splitlines())

    before = listed()
    yield
    for table in listed() - before:
        if table in ("table ip nat", "table ip6 nat", "table ip filter", "table ip6 filter"):
            told = subprocess.run(["nft", "list", *table.split()], capture_output=True, text=True)
            rules = [line for line in told.stdout.splitlines() if "counter" in line]
            assert not rules, f"left in {table}: {rules}"
            subprocess.run(["nft", "delete", *table.split()], check=True)


def write_list(folder: Path, number: int = 0, **changes: Any) -> Path:
    """Write a list of a bridge; the first has the default route."""
    content = {
        "cniVersion": "1.0.0",
        "name": f"kit{number}",
        "plugins": [
            {
                "type": "bridge",
                "bridge": f"kit-cni{number}",
                "isGateway": True,
                "isDefaultGateway": number == 0,
                "ipMasq": True,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(folder / "ipam"),
                    "ranges": [[{"subnet": f"10.214.{number}.0/24"}]],
                },
            },
            {"type": "tuning", "capabilities": {"mac": True}},
        ],
        **changes,
    }
    file = folder / f"kit{number}.conflist"
    file.write_text(json.dumps(content))
    return file
