"""What an engine's bridge driver keeps on the host when the engine has ended, found and removed."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from boxwood.execution import egress
from boxwood.execution.egress_routes import Routes
from boxwood_ext import net, nft, rtnl

LINKS = Path("/sys/class/net")
DEFAULT = Path("/run/boxwood")
"""The exec-root of an engine that was told of none: its names are plain."""


def tag_of(exec_root: Path) -> str:
    """What the tables and the aliases of links of an engine begin with."""
    if exec_root == DEFAULT:
        return "boxwood"
    root = str(exec_root / "network" / "bridge")
    return f"boxwood_{hashlib.sha256(root.encode()).hexdigest()[:8]}"


def links_of(exec_root: Path) -> dict[str, str]:
    """The links of an engine on the host, each with the id of what it is for."""
    found = {}
    tag = tag_of(exec_root)
    for path in LINKS.iterdir():
        try:
            alias = (path / "ifalias").read_text().strip()
        except OSError:
            continue  # it has just gone
        if alias.startswith(f"{tag}:"):
            found[path.name] = alias.partition(":")[2]
    return found


def clear_networks(exec_root: Path) -> None:
    """Remove links and tables of an engine that has ended and was not to take them along."""
    for name in links_of(exec_root):
        with net.Netlink() as link:
            try:
                link.batch([rtnl.delete_link(name)])
            except net.NetlinkError:
                continue  # its other end was removed
    Routes(exec_root / egress.RULES).settle(())
    tables = [(family, tag_of(exec_root)) for family in ("inet", "bridge")]
    tables.append(("inet", f"boxwood-egress{egress.tag_of(exec_root)}"))
    for family, table in tables:
        with contextlib.suppress(nft.NftError):  # there is none, or no library for any
            nft.Nft().run(f"delete table {family} {table}")
