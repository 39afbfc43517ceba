"""Network configuration lists, and the results of plugins (CNI specification 1.0.0, 1 and 5)."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import msgspec

from boxwood.errors import InvalidArgument, NotFound

_LARGEST: Final = 1 << 20
"""Bytes of a list: what is longer is something else."""
_BRIDGE: Final = "cni0"
"""Where the plugin is told no name."""
_HOST_LOCAL: Final = "/var/lib/cni/networks"
VERSIONS: Final = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
"""Whose results have this form."""


class ConfigList(msgspec.Struct, frozen=True, rename="camel"):
    """A list: plugins that are asked one after the other. Each is kept as it stands."""

    name: str
    cni_version: str
    plugins: tuple[dict[str, Any], ...]
    disable_check: bool = False

    def able(self, capability: str) -> bool:
        """Does any of the plugins take this of the runtime (``portMappings``, ``mac``, ``ips``)?"""
        return any(plugin.get("capabilities", {}).get(capability) for plugin in self.plugins)

    def bridges(self) -> set[str]:
        """Return the bridges that plugins make on the host, and leave there."""
        return {
            str(plugin.get("bridge") or _BRIDGE)
            for plugin in self.plugins
            if plugin["type"] == "bridge"
        }

    def reserved(self, attachment: str) -> list[str]:
        """Return the addresses that ``host-local`` keeps for an attachment, in CIDR form.

        What a plugin made that was killed before it told is found by them. Its files are named by
        the address, and their first line is the attachment (plugins/ipam/host-local/README.md).
        """
        found = []
        for plugin in self.plugins:
            ipam = plugin.get("ipam")
            if isinstance(ipam, dict) and ipam.get("type") == "host-local":
                folder = Path(str(ipam.get("dataDir") or _HOST_LOCAL)) / self.name
                for file in folder.glob("[0-9a-f]*"):
                    try:
                        address = ip_address(file.name)
                        keeper = file.read_text(errors="replace").split()
                    except (ValueError, OSError):  # its lock; or released meanwhile
                        continue
                    if keeper[:1] == [attachment]:
                        found.append(f"{address}/{address.max_prefixlen}")
        return found


class Interface(msgspec.Struct, frozen=True):
    """A link; ``sandbox`` is empty for one of the host's."""

    name: str = ""
    mac: str = ""
    sandbox: str = ""


class Address(msgspec.Struct, frozen=True):
    """An address of the interface of this number."""

    address: str
    gateway: str = ""
    interface: int = -1


class Route(msgspec.Struct, frozen=True):
    """A route in the sandbox; without ``gw`` by the address's gateway."""

    dst: str
    gw: str = ""


class Result(msgspec.Struct, frozen=True):
    """What a list made, as far as it is anybody's business here."""

    interfaces: tuple[Interface, ...] = ()
    ips: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()

    def inside(self, name: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        """Return of a sandbox's interface: MAC address, addresses, gateways of default routes."""
        numbers = {
            number: link
            for number, link in enumerate(self.interfaces)
            if link.sandbox and link.name == name
        }
        mine = [ip for ip in self.ips if ip.interface in numbers or not numbers]
        gateways = []
        for route in self.routes:
            if route.dst in ("0.0.0.0/0", "::/0"):
                alike = (ip.gateway for ip in mine if (":" in ip.address) == (":" in route.dst))
                gateways.append(route.gw or next((text for text in alike if text), ""))
        mac = next((link.mac for link in numbers.values()), "")
        return mac, tuple(ip.address for ip in mine), tuple(filter(None, dict.fromkeys(gateways)))


def find(said: str, folder: Path) -> ConfigList:
    """Return the list that is named, by a path or by its own name in ``folder``.

    Raises:
        NotFound: there is none.
        InvalidArgument: it is none, or of a version whose results are not understood.
    """
    if said.startswith("/"):
        return read(Path(said))
    files = sorted(folder.glob("*.conflist")) if folder.is_dir() else []
    for file in files:
        try:
            found = read(file)
        except InvalidArgument:  # another's; it is said when that one is asked for
            continue
        if found.name == said:
            return found
    raise NotFound(f"cni: no network configuration list {said} in {folder}")


def read(file: Path) -> ConfigList:
    """Read a list from a file; raises NotFound, InvalidArgument."""
    try:
        with file.open("rb") as stream:
            data = stream.read(_LARGEST + 1)
    except FileNotFoundError as error:
        raise NotFound(f"cni: {file}: no such file") from error
    except OSError as error:
        raise InvalidArgument(f"cni: {file}: {error.strerror}") from error
    if len(data) > _LARGEST:
        raise InvalidArgument(f"cni: {file}: too long for a network configuration list")
    try:
        found = msgspec.json.decode(data, type=ConfigList)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"cni: {file}: no network configuration list: {error}") from error
    if found.cni_version not in VERSIONS:
        listed = ", ".join(VERSIONS)
        raise InvalidArgument(f"cni: {file}: cniVersion {found.cni_version} is not one of {listed}")
    for plugin in found.plugins:
        kind = plugin.get("type")
        if not isinstance(kind, str) or not kind or "/" in kind or kind.startswith("."):
            raise InvalidArgument(f"cni: {file}: a plugin's type is {kind!r}")
    if not found.plugins:
        raise InvalidArgument(f"cni: {file}: no plugins")
    return found
