"""Published ports that go from one running container to another and lead somewhere all along."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boxwood.drivers.network import Change
from boxwood.errors import Conflict
from boxwood.services.networks import placing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from boxwood.drivers.network import NetworkDriver
    from boxwood.execution.ports import Ports
    from boxwood.model.container import Container
    from boxwood.model.endpoint import PortRequest
    from boxwood.services.networks.placing import Place

    Serve = Callable[[str, Sequence[Place], Sequence[PortRequest]], Awaitable[None]]


@dataclass(slots=True)
class Side:
    """A container that gives or takes ports; ``ports`` are those it has, by and by."""

    container: Container
    netns: int
    places: list[Place]
    ports: tuple[PortRequest, ...] = ()


class Taking:
    """One exchange of ports."""

    def __init__(self, ports: Ports, serve: Serve) -> None:
        """``serve`` has the helper serve what no driver leads; see ``Endpoints``."""
        self._ports, self._serve = ports, serve

    async def run(self, giver: Side, taker: Side, moved: Sequence[PortRequest]) -> None:
        """Do it; see :meth:`Endpoints.take`."""
        sides = (giver, taker)
        before = [side.container.sandbox.ports for side in sides]
        giver.ports = tuple(port for port in before[0] if port not in moved)
        taker.ports = (*before[1], *moved)
        if not any(place.publishes for place in taker.places):
            raise Conflict(f"container {taker.container.name}: its networks publish no ports")
        await self._ports.move(giver.container.id, taker.container.id, moved)
        try:
            await self._lead(sides)
        except BaseException:
            giver.ports, taker.ports = before
            await self._ports.move(taker.container.id, giver.container.id, moved)
            await self._lead(sides)
            raise

    async def _lead(self, sides: Sequence[Side]) -> None:
        """Make the drivers and the helper follow."""
        for side in sides:
            placing.share(side.places, side.ports)
        await change((place, side.netns) for side in sides for place in side.places)
        for side in sides:
            await self._serve(side.container.id, side.places, side.ports)


async def change(places: Iterable[tuple[Place, int]]) -> None:
    """Give attachments the default routes and ports that are theirs by now.

    Those of one driver change in one step, where it can. Each place comes with its namespace.
    """
    wanted: dict[NetworkDriver, list[tuple[Place, Change]]] = {}
    for place, netns in places:
        if place.attachment is not None and place.changed:
            one = Change(place.attachment, netns, place.gateways, place.ports)
            wanted.setdefault(place.driver, []).append((place, one))
    for driver, changes in wanted.items():
        made = await driver.exchange([one for _, one in changes])
        for (place, _), attachment in zip(changes, made, strict=True):
            place.attachment = attachment
