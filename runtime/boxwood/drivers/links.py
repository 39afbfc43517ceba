"""Links as network drivers meet them: errors, and what is done inside a sandbox."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from boxwood.errors import (
    BoxwoodError,
    Conflict,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unavailable,
    Unsupported,
)
from boxwood_ext import net, rtnl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from boxwood.drivers.network import (
        Attachment,
        EndpointRequest,
        NetworkDriver,
        PortRequest,
    )

_PLAIN: Final = Path("/run/boxwood/network")
_CLASSES: Final[dict[int, type[BoxwoodError]]] = {
    errno.EEXIST: Conflict,
    errno.EBUSY: Conflict,
    errno.EADDRINUSE: Conflict,
    errno.EINVAL: InvalidArgument,
    errno.ERANGE: InvalidArgument,
    errno.EADDRNOTAVAIL: InvalidArgument,
    errno.ENODEV: NotFound,
    errno.EPERM: PermissionDenied,
}


def engine_tag(root: Path) -> str:
    """Return what the aliases of an engine's links begin with, from a driver's root.

    Two engines on one host have different ones, and leave each other's links alone. That of the
    engine which was told of no place of its own is plain.
    """
    if root.parent == _PLAIN:
        return "boxwood"
    return f"boxwood_{hashlib.sha256(str(root).encode()).hexdigest()[:8]}"


def failed(operation: str, target: str, error: OSError) -> BoxwoodError:
    """Return the contract's error for the kernel's."""
    number = error.errno or 0
    if number == errno.EOPNOTSUPP:
        cause = "this kernel has no links of that kind"
    else:
        cause = getattr(error, "detail", "") or os.strerror(number)
    return _CLASSES.get(number, Unavailable)(f"{operation}: {target}: {cause}")


def find(channel: net.Netlink) -> dict[str, rtnl.Link]:
    """Return the links of the channel's namespace, by name."""
    return {link.name: link for link in rtnl.links(channel.query(rtnl.get_links()))}


def furnish(netns: int, channel: net.Netlink, link: int, request: EndpointRequest) -> None:
    """Name a link of a sandbox, bring it up, and give it its addresses.

    IPv6 is off on it unless it has an address of it; then it is static: nobody's advertisements
    are believed.
    """
    channel.batch([rtnl.set_link(request.interface, index=link, up=False)])
    place = f"ipv6/conf/{request.interface}"
    if any(":" in address for address in request.addresses):
        settings = [(f"{place}/disable_ipv6", "0"), (f"{place}/accept_ra", "0")]
    else:
        settings = [(f"{place}/disable_ipv6", "1")]
    if os.path.isdir("/proc/sys/net/ipv6"):
        net.sysctls_in(netns, settings)
    channel.batch(
        [
            rtnl.set_link(index=link, up=True),
            *(rtnl.new_address(link, address) for address in request.addresses),
        ]
    )


def routes(gateways: Iterable[str], link: int, *, direct: bool = False) -> list[bytes]:
    """Return the messages that make default routes; ``direct``: over the link, to whoever it is."""
    return [
        rtnl.new_route(_everywhere(gateway), "" if direct else gateway, link)
        for gateway in gateways
    ]


def _everywhere(gateway: str) -> str:
    return "::/0" if ":" in gateway else "0.0.0.0/0"


def reroute(
    channel: net.Netlink, link: int, old: Iterable[str], new: Iterable[str], *, direct: bool = False
) -> None:
    """Change the default routes over a link; what stays is not touched."""
    before, after = set(old), set(new)
    for gateway in before - after:
        if direct and _everywhere(gateway) in {_everywhere(text) for text in after}:
            continue
        route = rtnl.delete_route(_everywhere(gateway), "" if direct else gateway, link)
        try:
            channel.batch([route])
        except net.NetlinkError as error:
            if error.errno != errno.ESRCH:  # whoever is root in the sandbox has removed it
                raise
    channel.batch(routes(sorted(after - before), link, direct=direct))


async def updated(
    driver: NetworkDriver,
    attachment: Attachment,
    netns: int,
    gateways: tuple[str, ...],
    ports: tuple[PortRequest, ...],
    *,
    direct: bool = False,
) -> Attachment:
    """``NetworkDriver.update`` of a driver that publishes nothing: other default routes.

    Raises:
        Unsupported: ports are asked for.
    """
    if ports:
        raise Unsupported(f"driver {driver.name} publishes no ports")
    await asyncio.to_thread(_rerouted, attachment, netns, gateways, direct)
    return msgspec.structs.replace(attachment, gateways=gateways)


def _rerouted(attachment: Attachment, netns: int, gateways: tuple[str, ...], direct: bool) -> None:
    try:
        with net.Netlink(netns) as channel:
            link = channel.index(attachment.interface)
            reroute(channel, link, attachment.gateways, gateways, direct=direct)
    except OSError as error:
        raise failed("update", attachment.interface, error) from error
