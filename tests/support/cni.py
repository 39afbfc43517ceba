"""Network configuration lists for the CNI plugins that Debian packages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.needs import need, need_program

FOLDER = Path("/usr/lib/cni")


def need_plugins() -> None:
    """Fail or skip unless the plugins are installed."""
    need((FOLDER / "bridge").exists(), "the package containernetworking-plugins")
    need_program("iptables")


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
