"""Endpoints: containers join networks when they start, leave them at their end, or in between.

The order of a start: addresses, held ports, the drivers' attachments one by one, the rest of the
ports, names. What was done is undone when a step fails; what a daemon leaves that dies in between
is removed by :meth:`Endpoints.reconcile` of the next one, because no record names it.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from boxwood.drivers.network import NEW, OWN_ADDRESSES, PUBLISHES_PORTS, EndpointRequest
from boxwood.errors import BoxwoodError, Conflict, NotFound
from boxwood.faultpoints import fault
from boxwood.model import ids
from boxwood.model.endpoint import SandboxState
from boxwood.model.network import DNS_ON
from boxwood.services.networks import placing, publishing
from boxwood.services.networks.announcing import Announcer
from boxwood.services.networks.checks import check_settings
from boxwood.services.networks.limiting import Limits
from boxwood.services.networks.placing import Place
from boxwood.services.networks.taking import Side, Taking, change

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence

    from boxwood.execution.egress import Egress
    from boxwood.execution.names import Names, View
    from boxwood.execution.ports import Ports
    from boxwood.model.config import EndpointSettings
    from boxwood.model.container import Container
    from boxwood.model.endpoint import Attachment, PortRequest
    from boxwood.services.networks.asked import AskedNames
    from boxwood.services.networks.service import NetworksService

log = logging.getLogger(__name__)


class Endpoints:
    """The places of containers in networks."""

    def __init__(
        self,
        networks: NetworksService,
        names: Names,
        ports: Ports,
        egress: Egress,
        asked: AskedNames,
    ) -> None:
        self._networks = networks
        self.limits = Limits(networks, egress, asked)
        self._announcer = Announcer(names)
        self._ports = ports
        self._users: dict[str, dict[str, tuple[str, str]]] = {}

    # -- asked before anything is made --

    def check(self, container: Container) -> list[str]:
        """Check what a container asks of its networks; returns warnings.

        Raises:
            NotFound: no such network. InvalidArgument: in Docker's words.
        """
        warnings: list[str] = []
        self.limits.check(container)
        wanted = publishing.requests_of(container)
        publishes = not wanted
        for name, at in container.networks.items():
            network, driver = self._networks.resolve(name)
            if network is None:
                continue
            own = OWN_ADDRESSES in driver.capabilities
            check_settings(network.name, self._networks.spec(network), at, own=own)
            driver.namespace(self._ask(container))
            publishes = publishes or PUBLISHES_PORTS in driver.capabilities
        if not publishes and container.host_config.network_mode != "host":
            warnings.append("Published ports are discarded: no network of the container has any")
        return warnings

    @staticmethod
    def _ask(container: Container) -> EndpointRequest:
        return EndpointRequest(sandbox=container.id, mode=container.host_config.network_mode)

    def connects(self, container: Container) -> bool:
        """Whether a start of it needs a network namespace beforehand."""
        for name in container.networks:
            network, driver = self._networks.resolve(name)
            if network is not None and placing.attaches(driver):
                return driver.namespace(self._ask(container)).kind == NEW
        return False

    def users(self, network: str) -> dict[str, tuple[str, str]]:
        """Return who is in a network, starting or running: id to (name, endpoint id)."""
        return dict(self._users.get(network, {}))

    # -- a start and an end --

    async def join(self, container: Container, netns: int, view: View | None) -> SandboxState:
        """Connect a container that is about to start to all its networks.

        Args:
            netns: its network namespace, the caller's.
            view: of the name server, without zones; None: it does not ask that.

        Raises:
            BoxwoodError: in Docker's words; nothing is left of what was made.
        """
        places: list[Place] = []
        try:
            for name, at in placing.ordered(container.networks):
                place = await self._made(name, at)
                if placing.attaches(place.driver):
                    places.append(place)
                    self._allocate(container, place)
            fault("net.addresses")
            placing.name_interfaces(places)
            ports = await self._hold(container, places, placing.wanted(container, places))
            fault("net.ports")
            placing.share(places, ports)
            for place in places:
                await self._attach(container, place, netns)
            fault("net.attached")
            state = _state(places, ports)
            await self._serve(container.id, places, ports)
            await self.limits.limit(container, places)
            await self._announcer.announce(container, places, netns, view)
            fault("net.named")
        except BaseException as error:
            await self._part(container, places)
            if isinstance(error, BoxwoodError):
                text = f"failed to set up container networking: {error}"
                raise type(error)(text) from error
            raise
        return state

    async def leave(self, container: Container, netns: int | None = None) -> None:
        """Take a container out of all its networks. Idempotent; logs what it cannot do.

        ``netns``: its namespace, when others live in it on.
        """
        if container.sandbox.attachments:
            await self._part(container, self._places(container), netns)

    async def _part(
        self, container: Container, places: Sequence[Place], netns: int | None = None
    ) -> None:
        work: list[Awaitable[None]] = [
            self._announcer.close(container.id),
            self._ports.release(container.id),
            self.limits.lift(container.id),
        ]
        for place in places:
            self._unuse(container.id, place)
            work.append(self._announcer.forget(container.id, place))
            if place.attachment is not None:
                work.append(place.driver.detach(place.attachment, netns))
        for found in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(found, BaseException):
                log.error("container %s: leave its networks: %s", ids.short(container.id), found)
        for place in places:
            self._networks.addresses.release(place.spec.id, place.endpoint)

    # -- while it runs --

    async def connect(
        self, container: Container, name: str, netns: int, view: View | None
    ) -> SandboxState:
        """Connect a running container to one more network, which its record names already.

        ``view``: as of :meth:`join`.

        Raises:
            BoxwoodError: as it was before.
        """
        places = self._places(container)
        place = await self._made(name, container.networks[name])
        before = container.sandbox
        if not placing.attaches(place.driver):
            return before  # `none`, for one that was in no network
        try:
            self._allocate(container, place)
            placing.name_interfaces([*places, place])
            everything = _sorted([*places, place])
            ports = before.ports or await self._hold(
                container, everything, placing.wanted(container, everything)
            )
            placing.share(everything, ports)
            # What it takes over, the others give up first: a port leads to one place.
            await change((place, netns) for place in places)
            await self._attach(container, place, netns)
            fault("connect.attached")
            await self._serve(container.id, everything, ports)
            await self.limits.limit(container, everything)
            await self._announcer.announce(container, everything, netns, view)
        except BaseException:
            placing.share(places, before.ports)
            await self._part_one(container, place, netns)
            await self._restore(places, netns)
            if not before.ports:
                await self._ports.release(container.id)
            raise
        return _state(everything, ports)

    async def disconnect(self, container: Container, name: str, netns: int) -> SandboxState:
        """Take a running container out of one of its networks."""
        places = self._places(container)
        going = [place for place in places if place.name == name]
        staying = [place for place in places if place.name != name]
        ports = container.sandbox.ports
        for place in going:
            await self._part_one(container, place, netns)
        fault("disconnect.detached")
        placing.share(staying, ports)
        if not any(place.ports for place in staying):
            await self._ports.release(container.id)
            ports = ()
        await self._restore(staying, netns)
        await self._serve(container.id, staying, ports)
        await self._announcer.announce(container, staying, netns, None)
        return _state(staying, ports)

    async def publish(self, container: Container, netns: int) -> SandboxState:
        """Publish what the container's record asks for by now, instead of what it did.

        What stays is not interrupted.

        Raises:
            Conflict: a port is taken; as it was before.
        """
        places = self._places(container)
        before = container.sandbox.ports
        kept, missing = publishing.matched(placing.wanted(container, places), before)
        new = await self._hold(container, places, missing)
        ports = (*kept, *new)
        placing.share(places, ports)
        try:
            await change((place, netns) for place in places)
            await self._serve(container.id, places, ports)
        except BaseException:
            placing.share(places, before)
            await self._restore(places, netns)
            if new:
                await self._ports.release(container.id, new)
            raise
        gone = [port for port in before if port not in ports]
        if gone:
            await self._ports.release(container.id, gone)
        return _state(places, ports)

    async def take(
        self,
        giver: tuple[Container, int],
        taker: tuple[Container, int],
        moved: Sequence[PortRequest],
    ) -> tuple[SandboxState, SandboxState]:
        """Have one running container publish what another does; returns both by now.

        Where the driver can, each port leads somewhere all the time. What is connected stays.

        Args:
            giver, taker: each with its network namespace, the caller's.
            moved: some of the giver's ports.

        Raises:
            Conflict: the taker is in no network where ports are published; as it was before.
        """
        sides = Side(*giver, self._places(giver[0])), Side(*taker, self._places(taker[0]))
        await Taking(self._ports, self._serve).run(*sides, moved)
        first, second = (_state(side.places, side.ports) for side in sides)
        return first, second

    async def renamed(self, container: Container) -> None:
        """Make a running container known by the name that it has now."""
        for place in self._places(container):
            self._use(container, place)
            if self._announcer.know(container, place):
                await self._announcer.tell(place)

    async def _part_one(self, container: Container, place: Place, netns: int) -> None:
        self._unuse(container.id, place)
        await self._announcer.forget(container.id, place)
        if place.attachment is not None:
            await place.driver.detach(place.attachment, netns)
        self._networks.addresses.release(place.spec.id, place.endpoint)

    async def _restore(self, places: Iterable[Place], netns: int) -> None:
        try:
            await change((place, netns) for place in places)
        except BoxwoodError as error:
            log.error("restore default routes and ports: %s", error)

    # -- the steps --

    def _use(self, container: Container, place: Place) -> None:
        users = self._users.setdefault(place.spec.id, {})
        users[container.id] = (container.name, place.endpoint)

    def _unuse(self, container: str, place: Place) -> None:
        users = self._users.get(place.spec.id, {})
        users.pop(container, None)
        if not users:
            self._users.pop(place.spec.id, None)

    async def _made(self, name: str, at: EndpointSettings) -> Place:
        """Return a place in a network that is there; one that failed at the start is tried now."""
        network, _ = self._networks.resolve(at.network_id or name)
        if network is not None:
            await self._networks.ensure(network)
        return self._resolve(name, at)

    def _resolve(self, name: str, at: EndpointSettings) -> Place:
        network, driver = self._networks.resolve(at.network_id or name)
        if network is None:
            raise NotFound(f"network {name} not found")
        spec = self._networks.spec(network)
        return Place(name, at, spec, driver, ids.new_id(), named=network.dns == DNS_ON)

    def _places(self, container: Container) -> list[Place]:
        """Return the places of a running container, from its record."""
        found = []
        for name, at in placing.ordered(container.networks):
            attachment = container.sandbox.attachments.get(name)
            if attachment is None:
                continue
            try:
                place = self._resolve(name, at)
            except NotFound as error:
                log.error("container %s: %s", ids.short(container.id), error)
                continue
            place.endpoint, place.interface = attachment.endpoint, attachment.interface
            place.addresses = tuple(
                one for one in attachment.addresses if one not in place.link_local
            )
            place.attachment = attachment
            found.append(place)
        placing.share(found, container.sandbox.ports)
        return found

    def _allocate(self, container: Container, place: Place) -> None:
        self._use(container, place)
        asked = place.asked.ipam_config
        place.addresses = self._networks.addresses.allocate(
            place.spec.id,
            place.endpoint,
            asked.ipv4_address if asked else "",
            asked.ipv6_address if asked else "",
            member=container.id,
        )

    async def _hold(
        self, container: Container, places: Sequence[Place], wanted: Sequence[PortRequest]
    ) -> tuple[PortRequest, ...]:
        """Choose and hold ports of the host; Conflict in Docker's words."""
        if not wanted:
            return ()
        try:
            return await self._ports.hold(container.id, wanted)
        except Conflict as error:
            leading = next(one for one in places if one.publishes)
            raise Conflict(
                "driver failed programming external connectivity on endpoint "
                f"{container.name} ({leading.endpoint}): {error}"
            ) from error

    async def _attach(self, container: Container, place: Place, netns: int) -> None:
        place.attachment = await place.driver.attach(place.request(container), netns)
        if place.own:
            place.addresses = place.attachment.addresses
            self._networks.addresses.claim(place.spec.id, place.endpoint, place.addresses)
        text = (place.asked.driver_opts or {}).get(placing.SYSCTLS, "")
        if text:
            await asyncio.to_thread(placing.set_sysctls, netns, text, place.interface)

    async def _serve(
        self, container: str, places: Iterable[Place], ports: Sequence[PortRequest]
    ) -> None:
        """Have the helper serve the ports that no driver leads to the sandbox itself."""
        if not ports:
            return
        await self._ports.serve(container, placing.targets(places).items())

    # -- the daemon --

    def claim(self, container: Container) -> None:
        """Take up what a running container has, from its record, before anybody else asks."""
        for place in self._places(container):
            self._use(container, place)
            self._announcer.know(container, place)
            try:
                self._networks.addresses.claim(
                    place.spec.id, place.endpoint, place.addresses, member=container.id
                )
            except BoxwoodError as error:
                log.error("container %s: %s", ids.short(container.id), error)

    async def reconcile(
        self, containers: Sequence[Container], views: Mapping[str, View]
    ) -> list[str]:
        """Restore what running containers have, remove what nobody has.

        Args:
            containers: those that run, each claimed before.
            views: of those that ask the name server, without zones.

        Returns:
            one sentence for each thing done.
        """
        wanted: list[Attachment] = []
        held = {}
        there = [(container, self._places(container)) for container in containers]
        for container, places in there:
            if container.sandbox.ports:
                held[container.id] = dict.fromkeys(container.sandbox.ports, "") | placing.targets(
                    places
                )
            wanted += [place.attachment for place in places if place.attachment is not None]
        done = await self._networks.restore(wanted)
        with _logged("name server"):
            await self._announcer.reconcile(there, views)
        with _logged("egress"):
            await self.limits.reconcile(there)
        with _logged("published ports"):
            done += await self._ports.reconcile(held)
        return done


def _sorted(places: Iterable[Place]) -> list[Place]:
    return sorted(places, key=lambda place: (-place.asked.gw_priority, place.name))


def _state(places: Iterable[Place], ports: tuple[PortRequest, ...]) -> SandboxState:
    return SandboxState(
        attachments={place.name: place.attachment for place in places if place.attachment},
        gateways={place.name: place.known_gateways for place in places},
        ports=ports,
    )


@contextmanager
def _logged(what: str) -> Iterator[None]:
    try:
        yield
    except BoxwoodError as error:
        log.error("%s: %s", what, error)
