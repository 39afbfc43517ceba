"""What a running container has of its networks: attachments and published ports.

Terms: see :mod:`boxwood.drivers.network`, which hands these values to drivers.
"""

from __future__ import annotations

import msgspec

from boxwood.errors import InvalidArgument
from boxwood.model.wire import Wire

_PROTOCOLS = frozenset({"tcp", "udp", "sctp"})
LAST_PORT = 65535


class PortRequest(msgspec.Struct, frozen=True):
    """A port to publish. The core has chosen ``host_port`` and holds a socket on it.

    ``host_ip`` is an address in its plain form; ``0.0.0.0`` and ``::`` are every one of their
    family. ``last`` is for the core alone, before it has chosen: any free one of the numbers from
    ``host_port`` to it; a driver sees 0.
    """

    port: int
    protocol: str = "tcp"
    host_ip: str = "0.0.0.0"
    host_port: int = 0
    last: int = 0

    @property
    def key(self) -> str:
        """The port of the container as Docker writes it: ``80/tcp``."""
        return f"{self.port}/{self.protocol}"


def parse_port(key: str) -> tuple[int, str]:
    """Split ``80/tcp``; the protocol may be left out. Raises InvalidArgument."""
    number, _, protocol = key.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in _PROTOCOLS or not number.isascii() or not number.isdecimal():
        raise InvalidArgument(f'invalid port specification: "{key}"')
    if not 1 <= int(number) <= LAST_PORT:
        raise InvalidArgument(f'invalid port specification: "{key}"')
    return int(number), protocol


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """What was made. Kept by the core in the record, given back to the driver's other methods.

    Attributes:
        gateways: through which the sandbox's default routes go; empty: not through this network.
        ports: what this driver leads to the sandbox itself; what is missing of the request's, the
            core serves by a process of its own.
        data: what the driver wants to find again (the name of the host's end of a link).
    """

    network: str = ""
    sandbox: str = ""
    endpoint: str = ""
    interface: str = ""
    mac_address: str = ""
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    ports: tuple[PortRequest, ...] = ()
    data: dict[str, str] = {}


class SandboxState(Wire):
    """What a container has of its networks while it runs; empty when it does not.

    Attributes:
        attachments: by name of the network.
        gateways: of each network, also where the default route is another's.
        ports: what is published, the host's numbers chosen.
    """

    attachments: dict[str, Attachment] = msgspec.field(default_factory=dict)
    gateways: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    ports: tuple[PortRequest, ...] = ()
