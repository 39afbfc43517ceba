"""Egress policies of containers: whose they are, when they hold, and which names were asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boxwood.drivers.network import CROSSES_HOST
from boxwood.errors import InvalidArgument, NotFound
from boxwood.execution.egress_table import Limited
from boxwood.model.egress import KEY, Policy, parse
from boxwood.services.networks import placing
from boxwood.services.networks.asked import Asked, AskedNames

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from boxwood.execution.egress import Egress
    from boxwood.model.container import Container
    from boxwood.services.networks.placing import Place
    from boxwood.services.networks.service import NetworksService


class Limits:
    """The policies, and what of them the packet filter knows."""

    def __init__(self, networks: NetworksService, egress: Egress, asked: AskedNames) -> None:
        self._networks = networks
        self._egress = egress
        self.asked = asked

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

    async def refused(self, container: str) -> list[Asked]:
        """Return the destinations that a container was refused, the latest last."""
        return self.asked.refused(container, await self._egress.refused(container))

    async def lift(self, container: str) -> None:
        """A container is gone. Idempotent."""
        refused = await self._egress.refused(container)
        if refused:
            self.asked.note_refused(container, refused)
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
