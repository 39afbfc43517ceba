"""Who answers to which name in a network: the zones of the name server and each sandbox's view."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Link(NamedTuple):
    """Another name, for one container alone, of whoever has the name ``target`` in a network."""

    network: str
    target: str
    alias: str


@dataclass(slots=True)
class Zone:
    """The names of one network, by container."""

    name: str
    members: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict)
    """Container id to (names, addresses without prefix length)."""

    def records(self) -> dict[str, tuple[str, ...]]:
        """Return lower-case name to addresses; several containers may have one name."""
        found: dict[str, tuple[str, ...]] = {}
        for names, addresses in self.members.values():
            for name in names:
                known = found.get(name.lower(), ())
                new = tuple(one for one in addresses if one not in known)
                found[name.lower()] = known + new
        return found


class Directory:
    """The zones of all user networks, from what is attached at this moment."""

    def __init__(self) -> None:
        self._zones: dict[str, Zone] = {}

    def add(
        self,
        network: str,
        name: str,
        container: str,
        names: Iterable[str],
        addresses: Iterable[str],
    ) -> None:
        """Make a container known in a network, or known anew."""
        zone = self._zones.setdefault(network, Zone(name))
        zone.members[container] = (tuple(names), tuple(addresses))

    def drop(self, network: str, container: str) -> bool:
        """Forget a container in a network; whether it was known."""
        zone = self._zones.get(network)
        if zone is None or zone.members.pop(container, None) is None:
            return False
        if not zone.members:
            del self._zones[network]
        return True

    def get(self, network: str) -> Zone | None:
        """Return the zone of a network; None when nobody is in it."""
        return self._zones.get(network)

    def find(self, network: str, name: str) -> tuple[str, ...]:
        """Return the addresses of whoever has a name, or an id that begins so, in a network."""
        zone = self._zones.get(network)
        for container, (names, addresses) in (zone.members if zone else {}).items():
            if name in names or container.startswith(name):
                return addresses
        return ()

    def all(self) -> dict[str, Zone]:
        """Return every zone."""
        return dict(self._zones)
