"""Debian's own Docker daemon, on roots of its own, to compare with."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.engine import ALONE, Server
from tests.support.needs import need_program


class Dockerd(Server):
    """dockerd without a bridge and without touching the packet filter, unless it is ``alone``: in
    a network namespace of its own it may do what it likes."""

    def __init__(self, place: Path | None = None, *, alone: bool = False) -> None:
        super().__init__("d", place)
        self._alone = alone

    def command(self) -> list[str]:
        # It starts a containerd of its own below its exec root.
        network = [
            *("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"),
            *("--ip-masq=false", "--userland-proxy=false"),
        ]
        return [
            *(ALONE if self._alone else ()),
            *(need_program("dockerd"), "-H", self.host),
            *([] if self._alone else network),
            "--log-level=warn",
            *("--data-root", str(self.data_root), "--exec-root", str(self.exec_root)),
            *("--pidfile", str(self.exec_root / "dockerd.pid")),
        ]

    def _clear(self) -> None:
        # It leaves the namespace of --network host mounted below its exec root.
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            point = line.split()[4]
            if point.startswith((f"{self.exec_root}/", f"{self.data_root}/")):
                subprocess.run(["umount", "-l", point], check=True)
        super()._clear()
