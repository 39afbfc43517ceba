"""Egress policies of containers: whose they are, when they hold, and which names were asked for."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import msgspec

from boxwood.drivers.network import CROSSES_HOST
from boxwood.errors import InvalidArgument, NotFound
from boxwood.execution.egress import Limited
from boxwood.model.egress import KEY, Policy, parse
from boxwood.services.networks import placing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from boxwood.execution.egress import Egress
    from boxwood.model.container import Container
    from boxwood.services.networks.placing import Place
    from boxwood.services.networks.service import NetworksService

MAX_NAMES: Final = 1000
"""Kept of one container."""
MAX_CONTAINERS: Final = 200


class Asked(msgspec.Struct):
    """A name that a container under a policy asked for."""

    name: str
    allowed: bool
    count: int = 0
    last: int = 0
    """Nanoseconds since the epoch."""


class AskedNames:
    """What was asked for by whom, the latest of it; it is gone with the daemon."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, OrderedDict[str, Asked]] = OrderedDict()

    def note(self, container: str, name: str, allowed: bool) -> None:
        """Write one down."""
        names = self._of.setdefault(container, OrderedDict())
        self._of.move_to_end(container)
        entry = names.setdefault(name, Asked(name, allowed))
        entry.allowed, entry.count, entry.last = allowed, entry.count + 1, time.time_ns()
        names.move_to_end(name)
        if len(names) > MAX_NAMES:
            names.popitem(last=False)
        if len(self._of) > MAX_CONTAINERS:
            self._of.popitem(last=False)

    def of(self, container: str) -> list[Asked]:
        """Return a container's names, the latest last."""
        return list(self._of.get(container, {}).values())


class Limits:
    """The policies, and what of them the packet filter knows."""

    def __init__(self, networks: NetworksService, egress: Egress) -> None:
        self._networks = networks
        self._egress = egress
        self.asked = AskedNames()

    def policy(self, container: Container) -> Policy | None:
        """Return a container's policy: its own, else that of the first of its networks with one.

        Raises:
            InvalidArgument: the values make no sense.
        """
        own = (container.host_config.annotations or {}).get(KEY)
        if own is not None:
            return parse(own.split())
        for name, at in placing.ordered(container.networks):
            try:
                network, _ = self._networks.resolve(at.network_id or name)
            except NotFound:
                continue
            if network is not None and KEY in network.labels:
                return parse(network.labels[KEY].split())
        return None

    def check(self, container: Container) -> None:
        """Refuse a policy that could not be kept.

        Raises:
            InvalidArgument: it makes no sense, or a network's traffic does not cross the host.
        """
        policy = self.policy(container)
        if policy is None:
            return
        host = container.host_config
        if host.network_mode == "host" or host.network_mode.startswith("container:"):
            raise InvalidArgument(
                f"invalid egress: network mode {host.network_mode} cannot be limited"
            )
        for name in container.networks:
            network, driver = self._networks.resolve(name)
            if network is None or not placing.attaches(driver):
                continue
            if CROSSES_HOST not in driver.capabilities:
                raise InvalidArgument(
                    f"invalid egress: network {network.name}: traffic of driver {driver.name} "
                    "cannot be limited"
                )

    async def limit(self, container: Container, places: Sequence[Place]) -> None:
        """Have a container's policy kept for the addresses that it has by now."""
        policy = self.policy(container)
        if policy is None or policy.learn:
            await self._egress.close(container.id)
        else:
            await self._egress.open(container.id, _addresses(places), policy)

    async def lift(self, container: str) -> None:
        """A container is gone. Idempotent."""
        await self._egress.close(container)

    async def reconcile(self, there: Iterable[tuple[Container, Sequence[Place]]]) -> None:
        """Keep exactly the policies of containers that run."""
        wanted = {}
        for container, places in there:
            policy = self.policy(container)
            if policy is not None and not policy.learn:
                wanted[container.id] = Limited(policy, _addresses(places))
        await self._egress.reconcile(wanted)


def _addresses(places: Iterable[Place]) -> tuple[str, ...]:
    return tuple(
        dict.fromkeys(
            placing.plain(address)
            for place in places
            for address in (place.attachment.addresses if place.attachment else place.addresses)
        )
    )
