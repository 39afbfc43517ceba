"""Telling the name server who is where, and each sandbox's view of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boxwood.model.place import names_of, split_link
from boxwood.model.wire import replace
from boxwood.services.networks import placing
from boxwood.services.networks.naming import Directory, Link

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from boxwood.execution.names import Names, View
    from boxwood.model.container import Container
    from boxwood.services.networks.placing import Place


class Announcer:
    """What the name server knows of containers: of those in networks that have names."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._directory = Directory()
        self._views: dict[str, View] = {}
        """Of the containers that ask the name server."""
        self._links: dict[str, tuple[Link, ...]] = {}

    def know(self, container: Container, place: Place) -> bool:
        """Note a container's names in a network, or note them anew; whether it has any there."""
        if not place.named:
            return False
        self._directory.add(
            place.spec.id,
            place.name,
            container.id,
            names_of(container, place.asked),
            (placing.plain(address) for address in place.addresses),
        )
        return True

    async def announce(
        self, container: Container, places: Sequence[Place], netns: int, view: View | None
    ) -> None:
        """Make a container known in its networks and let it ask.

        Args:
            netns: its network namespace, the caller's.
            view: without zones; None: what it had before, if it had any.
        """
        for place in places:
            if self.know(container, place):
                await self.tell(place)
        view = view or self._views.get(container.id)
        if view is not None:
            view = self._view(container, places, view)
            await self._names.open(container.id, netns, view)
            self._views[container.id] = view

    async def forget(self, container: str, place: Place) -> None:
        """Make a container unknown in a network. Idempotent."""
        if self._directory.drop(place.spec.id, container):
            await self.tell(place)

    async def close(self, container: str) -> None:
        """A container asks no more. Idempotent."""
        self._links.pop(container, None)
        if self._views.pop(container, None) is not None:
            await self._names.close(container)

    async def tell(self, place: Place) -> None:
        """Tell the name server who is in a network by now, and who is linked to them."""
        zone = self._directory.get(place.spec.id)
        if zone is None:
            await self._names.forget(place.spec.id)
        else:
            await self._names.zone(place.spec.id, zone.records(), zone.name)
        for container, links in list(self._links.items()):
            view = self._views.get(container)
            if view is None or place.spec.id not in {link.network for link in links}:
                continue
            changed = replace(view, names=self._link_names(links))
            if changed != view:
                self._views[container] = changed
                await self._names.change(container, changed)

    async def reconcile(
        self, containers: Iterable[tuple[Container, Sequence[Place]]], views: Mapping[str, View]
    ) -> None:
        """Have exactly what running containers need, each of which is known already."""
        sandboxes = {}
        for container, places in containers:
            view = views.get(container.id)
            if view is not None and places:
                view = self._views[container.id] = self._view(container, places, view)
                sandboxes[container.id] = (container.state.pid, view)
        zones = {
            network: (zone.records(), zone.name) for network, zone in self._directory.all().items()
        }
        await self._names.reconcile(sandboxes, zones)

    def _view(self, container: Container, places: Sequence[Place], view: View) -> View:
        """Return the view of a container that is in these places."""
        links = tuple(_links_of(container, places))
        if links:
            self._links[container.id] = links
        return replace(
            view,
            zones=tuple(place.spec.id for place in places if place.named),
            names=self._link_names(links),
            forward=any(not place.spec.internal for place in places),
        )

    def _link_names(self, links: Iterable[Link]) -> dict[str, tuple[str, ...]]:
        found = {link.alias: self._directory.find(link.network, link.target) for link in links}
        return {alias: addresses for alias, addresses in found.items() if addresses}


def _links_of(container: Container, places: Iterable[Place]) -> Iterator[Link]:
    """Yield the links of a container in user networks."""
    host = container.host_config
    for place in places:
        if place.named:
            own = host.links if place.name == host.network_mode else ()
            for text in dict.fromkeys((*(place.asked.links or ()), *(own or ()))):
                target, alias = split_link(text)
                yield Link(place.spec.id, target, alias)
