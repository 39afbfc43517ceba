"""The predefined networks ``bridge``, ``host`` and ``none``."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import msgspec

from boxwood.errors import InvalidArgument, NotFound, PermissionDenied, Unsupported
from boxwood.model.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from boxwood.drivers.network import NetworkDriver

STUB = "bridge"
"""The default network, for which there is no driver yet: containers in it are in ``none``."""
STUB_WARNING = (
    "The bridge network is not available yet: the container has no network (as with --network none)"
)
_FILTERS = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})


class Network(Wire, kw_only=True):
    """A network as ``inspect`` shows it. ``created``: nanoseconds since the epoch."""

    name: str = msgspec.field(name="Name")
    id: str = msgspec.field(name="Id")
    created: int = 0
    scope: str = msgspec.field(default="local", name="Scope")
    driver: str = msgspec.field(name="Driver")
    internal: bool = msgspec.field(default=False, name="Internal")
    attachable: bool = msgspec.field(default=False, name="Attachable")
    ingress: bool = msgspec.field(default=False, name="Ingress")
    options: dict[str, str] = msgspec.field(default_factory=dict, name="Options")
    labels: dict[str, str] = msgspec.field(default_factory=dict, name="Labels")


class NetworksService:
    """Says which networks there are and which driver a network mode belongs to."""

    def __init__(
        self, select: Callable[[str], NetworkDriver], engine_id: str, created: int
    ) -> None:
        """``select`` loads a driver by name; ids are derived from ``engine_id``."""
        self._select = select
        self._implementations = {"bridge": "none", "host": "host", "null": "none"}
        self._drivers: dict[str, NetworkDriver] = {}
        self._networks = {
            name: Network(name=name, id=_id(engine_id, name), created=created, driver=driver)
            for name, driver in (("bridge", "bridge"), ("host", "host"), ("none", "null"))
        }

    def list(self, filters: Mapping[str, Iterable[str]] | None = None) -> list[Network]:
        """Return networks by name; raises InvalidArgument for an unknown filter."""
        wanted = {key: tuple(values) for key, values in (filters or {}).items()}
        for key in wanted:
            if key not in _FILTERS:
                raise InvalidArgument(f"invalid filter '{key}'")
        return [network for network in self._networks.values() if _matches(network, wanted)]

    def get(self, ref: str) -> Network:
        """Return a network by name, id or unique prefix; raises NotFound."""
        if ref in self._networks:
            return self._networks[ref]
        found = [network for network in self._networks.values() if network.id.startswith(ref)]
        if not ref or not found:
            raise NotFound(f"network {ref} not found")
        if len(found) > 1:
            raise InvalidArgument(f"network {ref} is ambiguous ({len(found)} matches found on ID)")
        return found[0]

    def create(self, name: str) -> Network:
        """Refuse: there is no driver that could.

        Raises:
            PermissionDenied: a predefined name.
            Unsupported: every other name.
        """
        if name in self._networks or name == "default":
            raise PermissionDenied(f"operation is not permitted on predefined {name} network")
        raise Unsupported(f"create network: {name}: this engine has no driver for networks yet")

    def remove(self, ref: str) -> None:
        """Refuse to remove a predefined network."""
        network = self.get(ref)
        raise PermissionDenied(f"{network.name} is a pre-defined network and cannot be removed")

    def resolve(self, mode: str) -> tuple[Network | None, NetworkDriver]:
        """Return the network (None for ``container:``) and the driver behind a network mode.

        Raises:
            NotFound: no such network, in Docker's words.
        """
        if mode.startswith("container:"):
            return None, self.driver("container")
        network = self.get(mode)
        return network, self.driver(self._implementations[network.driver])

    def warning(self, mode: str) -> str:
        """Return what a client should know of a network mode; empty: nothing."""
        return STUB_WARNING if mode == STUB else ""

    def driver(self, name: str) -> NetworkDriver:
        """Return the driver; loaded at its first use."""
        if name not in self._drivers:
            self._drivers[name] = self._select(name)
        return self._drivers[name]


def _id(engine_id: str, name: str) -> str:
    return hashlib.sha256(f"{engine_id}/network/{name}".encode()).hexdigest()


def _matches(network: Network, wanted: Mapping[str, tuple[str, ...]]) -> bool:
    return all(
        not values or any(_match_one(network, key, value) for value in values)
        for key, values in wanted.items()
    )


def _match_one(network: Network, key: str, value: str) -> bool:
    match key:
        case "name":
            return re.search(re.escape(value), network.name) is not None
        case "id":
            return network.id.startswith(value)
        case "driver":
            return network.driver == value
        case "scope":
            return network.scope == value
        case "type":
            return value == "builtin"
        case "label":
            name, equals, wanted = value.partition("=")
            return name in network.labels and (not equals or network.labels[name] == wanted)
        case _:  # dangling: a predefined network never is
            return value.lower() in ("false", "0")
