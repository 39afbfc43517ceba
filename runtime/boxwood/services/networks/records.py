"""The networks that there are, in memory and in the database's table ``networks``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from boxwood.drivers.network import NetworkSpec, Pool
from boxwood.errors import InvalidArgument, NotFound
from boxwood.model import ids
from boxwood.model.network import (
    DEFAULT,
    DEFAULT_BRIDGE_OPTION,
    HOST,
    IPAM,
    NONE,
    IPAMConfig,
    Network,
)
from boxwood.model.wire import encode, replace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxwood.store.database import Records

_decode = msgspec.json.Decoder(Network).decode


class NetworkRecords:
    """Networks by id and by name. ``host`` and ``none`` are not written: they never change."""

    def __init__(self, records: Records, engine_id: str, created: int) -> None:
        """``records``: of the kind ``networks``; ``created``: of the predefined ones."""
        self._records = records
        self._by_id: dict[str, Network] = {}
        self._by_name: dict[str, Network] = {}
        self._engine_id = engine_id
        for name, driver in ((HOST, "host"), (NONE, "null")):
            self._add(
                Network(
                    id=self.predefined_id(name),
                    name=name,
                    created=created,
                    driver=driver,
                    ipam=IPAM(config=()),
                )
            )

    def predefined_id(self, name: str) -> str:
        """Return the id of a predefined network: the same at each start of the engine."""
        return ids.derived(f"{self._engine_id}/network/{name}")

    def load(self) -> None:
        """Read what is written."""
        for _, body in self._records.load_all():
            self._add(_decode(body))

    def __iter__(self) -> Iterator[Network]:
        """Yield the networks by name; a snapshot."""
        return iter(sorted(self._by_id.values(), key=lambda network: network.name))

    def __contains__(self, name: str) -> bool:
        """Whether a name is taken."""
        return name in self._by_name

    def get(self, ref: str) -> Network:
        """Return a network by id, name or unique beginning of an id, in this order.

        Raises:
            NotFound, InvalidArgument (several): in Docker's words.
        """
        known = self._by_id.get(ref) or self._by_name.get(ref)
        if known is not None:
            return known
        found = [network for key, network in self._by_id.items() if key.startswith(ref)]
        if not ref or not found:
            raise NotFound(f"network {ref} not found")
        if len(found) > 1:
            raise InvalidArgument(f"network {ref} is ambiguous ({len(found)} matches found on ID)")
        return found[0]

    def default(self) -> Network | None:
        """Return the default network; None before the first start is through."""
        return self._by_name.get(DEFAULT)

    def put(self, network: Network) -> None:
        """Write a network, new or changed."""
        self._records.put(network.id, encode(network))
        self._add(network)

    def delete(self, network: Network) -> None:
        """Forget a network. Idempotent."""
        self._records.delete(network.id)
        self._by_id.pop(network.id, None)
        self._by_name.pop(network.name, None)

    def _add(self, network: Network) -> None:
        self._by_id[network.id] = self._by_name[network.name] = network


def spec_of(network: Network) -> NetworkSpec:
    """Return a network as its driver sees it."""
    return NetworkSpec(
        id=network.id,
        name=network.name,
        options=network.options,
        pools=tuple(
            Pool(
                subnet=config.subnet,
                ip_range=config.ip_range,
                gateway=config.gateway,
                auxiliary=config.auxiliary or {},
            )
            for config in network.ipam.config or ()
        ),
        ipv4=network.ipv4,
        ipv6=network.ipv6,
        internal=network.internal,
        default=network.options.get(DEFAULT_BRIDGE_OPTION) == "true",
    )


def with_spec(network: Network, spec: NetworkSpec) -> Network:
    """Return a network with what its driver filled in."""
    config = tuple(
        IPAMConfig(
            subnet=pool.subnet,
            ip_range=pool.ip_range,
            gateway=pool.gateway,
            auxiliary=pool.auxiliary or None,
        )
        for pool in spec.pools
    )
    return replace(
        network,
        options=dict(spec.options),
        ipam=replace(network.ipam, config=config),
        ipv4=spec.ipv4,
        ipv6=spec.ipv6,
        internal=spec.internal,
    )
