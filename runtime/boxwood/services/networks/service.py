"""The networks service: records, subnets, and the drivers that make networks real.

What a driver makes comes before the record that names it, and goes before it: a daemon that was
killed in between leaves either a network whose record is there, which is made again at the next
start, or something without a record, which the driver removes then (its ``reconcile``).
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, NamedTuple

from boxwood.errors import (
    AlreadyExists,
    BoxwoodError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unsupported,
)
from boxwood.faultpoints import fault
from boxwood.model import ids, times
from boxwood.model.network import DEFAULT, HOST, IPAM, NONE, IPAMConfig, Network, NetworkCreate
from boxwood.model.wire import replace
from boxwood.services.networks import filters as tests
from boxwood.services.networks import options, pools, ranges
from boxwood.services.networks.addresses import Addresses
from boxwood.services.networks.makers import Makers, plugin_of
from boxwood.services.networks.records import NetworkRecords, spec_of, with_spec
from boxwood.store.locks import KeyedLocks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

    from boxwood.drivers.network import Attachment, NetworkDriver, NetworkSpec
    from boxwood.model.config import EndpointSettings
    from boxwood.services.networks.makers import Publisher
    from boxwood.services.networks.options import NetworkSettings
    from boxwood.store.database import Database


log = logging.getLogger(__name__)

# The service has a method of the name ``list``.
_Texts = list[str]
_Networks = list[Network]

_NO_ADDRESSES = "null"
"""The IPAM driver of networks whose endpoints get no address from the core."""


class Endpoint(NamedTuple):
    """A container in a network, as far as it has a place there now."""

    container: str
    name: str
    id: str
    settings: EndpointSettings


class NetworksService:
    """One lock for each network's name; lists are snapshots."""

    def __init__(
        self,
        database: Database,
        select: Callable[[str], NetworkDriver],
        events: Publisher,
        settings: NetworkSettings,
        engine_id: str,
        created: int,
        routes: Callable[[int], list[ranges.Range]] = ranges.host_routes,
    ) -> None:
        """Take the collaborators.

        Args:
            database: of which the kinds ``networks`` and ``settings`` are used.
            select: loads a driver by name; NotFound if there is none.
            events: where to publish.
            settings: of the configuration.
            engine_id: what ids of the predefined networks are derived from.
            created: nanoseconds; of the predefined networks.
            routes: of the host, by IP version.
        """
        self._records = NetworkRecords(database.records("networks"), engine_id, created)
        self._makers = Makers(database.records("settings"), select, events)
        self._events = events
        self._settings = settings
        self._created = created
        self._pools = pools.Pools(settings.sources or ranges.default_sources(engine_id), routes)
        self._locks = KeyedLocks()
        self.choose_subnet: Callable[[Network, int], str] = lambda *_: ""
        """Chooses a subnet of a new network, by IP version; empty: the pools do."""
        self.addresses = Addresses()
        """Gives out the addresses of all networks."""
        self.endpoints_of: Callable[[str], list[Endpoint]] = lambda _: []
        """The endpoints of a network, by its id; the engine sets it."""

    # -- start and end --

    async def load(self) -> _Texts:
        """Read the records, make the default network, and give each network to its driver.

        A driver that fails is named in the log, and in what its networks are used for.

        Returns:
            one sentence for each thing done.

        Raises:
            InvalidArgument: the configuration of the default network is wrong.
        """
        self._records.load()
        for network in self._records:
            if not network.config_only:
                self._pools.hold(network.id, network.ipam.config or ())
        self._put_default()
        for network in self._records:
            if network.config_only or network.name in (HOST, NONE):
                continue
            with contextlib.suppress(BoxwoodError):  # named in the log
                await self._makers.make(network)
            self.addresses.open(network, own=self._makers.own_addresses(network))
        return []

    def _put_default(self) -> None:
        """Make the record of the default network, or bring it up to the configuration."""
        known, settings = self._records.default(), self._settings
        network = known or Network(
            id=self._records.predefined_id(DEFAULT),
            name=DEFAULT,
            created=self._created,
            driver=DEFAULT,
        )
        network = replace(network, options=options.default_options(settings), ipv6=settings.ipv6)
        asked = options.default_pools(settings)
        pools.check(asked)
        old = network.ipam.config or ()
        kept = {(":" in config.subnet): config for config in old}
        kept.update({(":" in config.subnet): config for config in asked})
        self._pools.free(network.id)
        try:
            planned = self._pools.plan(network.id, kept.values(), ipv4=True, ipv6=settings.ipv6)
        except BoxwoodError as error:
            log.error("default network: %s: %s", DEFAULT, error)
            self._pools.hold(network.id, old)
            planned = old
        planned = options.with_gateways(settings, planned)
        network = replace(network, ipam=replace(network.ipam, config=planned))
        with contextlib.suppress(BoxwoodError):  # told by `_make`
            network = with_spec(network, self._makers.of(network).defaults(spec_of(network)))
        if network != known:
            self._records.put(network)

    async def restore(self, attachments: Iterable[Attachment] = ()) -> _Texts:
        """Have each driver restore what is wanted and remove what is not, and guard it.

        Returns:
            one sentence for each thing done.
        """
        wanted: dict[str, list[Attachment]] = {}
        for attachment in attachments:
            with contextlib.suppress(BoxwoodError):  # a network whose record is gone
                network = self.get(attachment.network)
                wanted.setdefault(plugin_of(network), []).append(attachment)
        return await self._makers.restore(wanted)

    async def close(self) -> None:
        """End the guards. What is attached stays. Idempotent."""
        await self._makers.close()

    # -- what there is --

    def list(self, filters: Mapping[str, Iterable[str]] | None = None) -> _Networks:
        """Return networks by name; raises InvalidArgument for an unknown filter."""
        test = tests.listed(filters, lambda network: bool(self.endpoints_of(network.id)))
        return [network for network in self._records if test(network)]

    def get(self, ref: str) -> Network:
        """Return a network by name, id or unique prefix of an id; raises NotFound."""
        return self._records.get(ref)

    def spec(self, network: Network) -> NetworkSpec:
        """Return a network as its driver sees it."""
        return spec_of(network)

    def resolve(self, mode: str) -> tuple[Network | None, NetworkDriver]:
        """Return the network (None for ``container:``) and the driver behind a network mode.

        Raises:
            NotFound: no such network, or its driver is not installed.
            PermissionDenied: a configuration, not a network.
        """
        if mode.startswith("container:"):
            return None, self.driver("container")
        network = self.get(mode)
        if network.config_only:
            raise PermissionDenied(f"network {network.name} is a configuration network")
        return network, self.driver_of(network)

    def driver_of(self, network: Network) -> NetworkDriver:
        """Return a network's driver. Raises NotFound."""
        return self._makers.of(network)

    def drivers(self) -> tuple[NetworkDriver, ...]:
        """Return the drivers that have networks, each once."""
        found: dict[str, NetworkDriver] = {}
        for network in self._records:
            if network.config_only or plugin_of(network) in found:
                continue
            with contextlib.suppress(BoxwoodError):  # it does not load: told by its plugin's check
                found[plugin_of(network)] = self.driver_of(network)
        return tuple(found.values())

    def driver(self, name: str) -> NetworkDriver:
        """Return a driver by its plugin's name. Raises NotFound in Docker's words."""
        return self._makers.driver(name)

    def on_host(self, ref: str) -> dict[str, object]:
        """Return what is on the host for a network: links, addresses, rules."""
        network = self.get(ref)
        return {} if network.config_only else self.driver_of(network).inspect_host(spec_of(network))

    async def ensure(self, network: Network) -> None:
        """Make a network that could not be made at the start; nothing for all others.

        Raises:
            BoxwoodError: why it still cannot.
        """
        if self._makers.failed(network):
            async with self._locks.hold(network.name):
                if self._makers.failed(network):
                    await self._makers.make(network)

    # -- create --

    async def create(self, wanted: NetworkCreate) -> tuple[Network, str]:
        """Make a network.

        Returns:
            the network, and a warning that may be empty.

        Raises:
            AlreadyExists: the name is taken.
            NotFound: the driver, or the network to take the configuration from.
            PermissionDenied: a subnet is taken, a predefined name, a driver with one network.
            InvalidArgument: a subnet, an address, an option; no subnet is left.
        """
        options.refuse(wanted)
        options.check_labels(wanted.labels or {})
        async with self._locks.hold(wanted.name):
            if wanted.name in self._records:
                raise AlreadyExists(f"network with name {wanted.name} already exists")
            source = wanted.config_from.network if wanted.config_from else ""
            if source:
                wanted = options.configured(wanted, self._configuration(source))
            draft, warning = self._chosen(self._draft(wanted, source)), ""
            asked = draft.ipam.config or ()
            pools.check(asked, ipv6=draft.ipv6)
            if not draft.config_only:
                clashes = self._pools.clashes(asked)
                if clashes:
                    warning = f"the host has routes into {', '.join(clashes)} already"
                draft = await self._realize(draft)
            else:
                self._records.put(draft)
        self._publish("create", draft)
        return draft, warning

    def _configuration(self, name: str) -> Network:
        with contextlib.suppress(NotFound):
            network = self.get(name)
            if network.config_only:
                return network
        raise NotFound(f'configuration network "{name}" does not exist')

    def _draft(self, wanted: NetworkCreate, source: str) -> Network:
        name = wanted.driver or DEFAULT
        ipam = wanted.ipam or IPAM()
        if wanted.config_only:
            name = "null"
        elif (ipam.driver or "default") not in ("default", _NO_ADDRESSES):
            raise NotFound(
                f"could not find plugin {ipam.driver} in v1 plugin registry: plugin not found"
            )
        preset = {} if wanted.config_only else self._settings.options.get(name, {})
        return Network(
            id=ids.new_id(),
            name=wanted.name,
            created=times.now(),
            driver=name,
            ipv4=wanted.ipv4 is not False,
            ipv6=bool(wanted.ipv6),
            ipam=replace(ipam, driver=ipam.driver or "default", config=ipam.config or ()),
            internal=wanted.internal,
            attachable=wanted.attachable,
            config_from=source,
            config_only=wanted.config_only,
            options={**preset, **(wanted.options or {})},
            labels=dict(wanted.labels or {}),
        )

    def _chosen(self, network: Network) -> Network:
        """Return a network with the subnets that an extension chooses for it."""
        without = network.config_only or network.ipam.driver == _NO_ADDRESSES
        if without or self._makers.own_addresses(network):
            return network
        config = network.ipam.config or ()
        asked = {6 if ":" in one.subnet else 4 for one in config}
        for version, wanted in ((4, network.ipv4), (6, network.ipv6)):
            if wanted and version not in asked:
                subnet = self.choose_subnet(network, version)
                config += (IPAMConfig(subnet=subnet),) if subnet else ()
        return replace(network, ipam=replace(network.ipam, config=config))

    async def _realize(self, network: Network) -> Network:
        """Choose subnets, have the driver make the network, and record it; or leave nothing."""
        driver = self.driver(plugin_of(network))
        own = self._makers.own_addresses(network)
        async with self._planned(network, own=own) as network:
            try:
                spec = driver.defaults(spec_of(network))
            except Unsupported as error:
                raise PermissionDenied(
                    f'only one instance of "{network.driver}" network is allowed'
                ) from error
            network = with_spec(network, spec)
            self._makers.note_use(driver.name)
            fault("network.create.begun")
            await driver.create_network(spec)
            try:
                fault("network.create.made")
                self._records.put(network)
            except BaseException:
                await driver.remove_network(spec)
                raise
            fault("network.create.recorded")
            self.addresses.open(network, own=own)
        return network

    @contextlib.asynccontextmanager
    async def _planned(self, network: Network, *, own: bool) -> AsyncIterator[Network]:
        """Hold subnets for a network; for good if the body succeeds.

        ``own``: its driver gives out addresses itself, of subnets that it knows.
        """
        asked = network.ipam.config or ()
        if own:
            yield network
            return
        if network.ipam.driver == _NO_ADDRESSES:
            if asked:
                raise InvalidArgument("null ipam driver does not support subnets")
            yield network
            return
        planned = self._pools.plan(network.id, asked, ipv4=network.ipv4, ipv6=network.ipv6)
        try:
            yield replace(network, ipam=replace(network.ipam, config=planned))
        except BaseException:
            self._pools.free(network.id)
            raise

    # -- remove --

    async def remove(self, ref: str) -> None:
        """Remove a network that nobody is in.

        Raises:
            NotFound; PermissionDenied: predefined, or in use.
        """
        network = self.get(ref)
        if network.predefined:
            raise PermissionDenied(f"{network.name} is a pre-defined network and cannot be removed")
        async with self._locks.hold(network.name):
            network = self.get(network.id)
            self._refuse_in_use(network)
            self.addresses.close(network.id)
            try:
                fault("network.remove.begun")
                if not network.config_only:
                    await self._makers.unmake(network)
                fault("network.remove.unmade")
                self._records.delete(network)
            except BaseException:
                if not network.config_only:
                    self.addresses.open(network, own=self._makers.own_addresses(network))
                raise
            fault("network.remove.recorded")
            self._pools.free(network.id)
        self._publish("destroy", network)

    async def prune(self, filters: Mapping[str, Iterable[str]] | None = None) -> _Texts:
        """Remove the networks that no running container is in.

        Returns:
            the names of those that are gone.
        """
        test = tests.pruned(filters)
        removed = []
        for network in list(self._records):
            if network.predefined or network.config_only or not test(network):
                continue
            try:
                await self.remove(network.id)
                removed.append(network.name)
            except (PermissionDenied, NotFound):
                continue  # in use, or somebody was quicker
            except BoxwoodError as error:
                log.error("prune network: %s: %s", network.name, error)
        return removed

    def _refuse_in_use(self, network: Network) -> None:
        if network.config_only:
            if any(other.config_from == network.name for other in self._records):
                raise PermissionDenied(
                    f'error while removing network: configuration network "{network.name}" is in '
                    "use"
                )
            return
        users = {endpoint.id: endpoint.name for endpoint in self.endpoints_of(network.id)}
        users = {**dict.fromkeys(self.addresses.owners(network.id), ""), **users}
        if users:
            shown = ", ".join(
                f'name:"{name}" id:"{ids.short(key)}"' for key, name in sorted(users.items())
            )
            raise PermissionDenied(
                f"error while removing network: network {network.name} id {network.id} has active "
                f"endpoints ({shown})"
            )

    def _publish(self, action: str, network: Network) -> None:
        self._events.publish(
            "network", action, network.id, {"name": network.name, "type": network.driver}
        )
