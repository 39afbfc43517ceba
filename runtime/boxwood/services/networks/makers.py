"""The drivers that make networks real: loaded when needed, given their networks, and guarded."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from boxwood.drivers.network import CONTAINER, OWN_ADDRESSES
from boxwood.errors import BoxwoodError, NotFound
from boxwood.model.network import NONE
from boxwood.services.networks.records import spec_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Protocol

    from boxwood.drivers.network import Attachment, NetworkDriver
    from boxwood.model.network import Network
    from boxwood.store.database import Records

    class Publisher(Protocol):
        """What the service needs of the event bus."""

        def publish(
            self, type: str, action: str, actor_id: str, attributes: Mapping[str, str]
        ) -> object:
            """Tell everybody."""


log = logging.getLogger(__name__)

_PLUGINS = {"null": "none"}
"""Plugins whose networks clients know by another driver's name."""
_USED = "network-driver/"
"""Beginning of the settings that name drivers which may have made something."""


def plugin_of(network: Network) -> str:
    """Return the name of the plugin that a network's driver is."""
    return _PLUGINS.get(network.driver, network.driver)


def drivers_of(plugins: Iterable[str]) -> list[str]:
    """Return what clients call the drivers of networks that these plugins are, sorted."""
    known = {plugin: driver for driver, plugin in _PLUGINS.items()}
    return sorted(known.get(plugin, plugin) for plugin in plugins if plugin != CONTAINER)


class Makers:
    """The network drivers of one engine."""

    def __init__(
        self, memory: Records, select: Callable[[str], NetworkDriver], events: Publisher
    ) -> None:
        """``memory``: records of the kind ``settings``; ``select`` loads a driver by name."""
        self._memory = memory
        self._select = select
        self._events = events
        self._drivers: dict[str, NetworkDriver] = {}
        self._failed: set[str] = set()
        self._guards: list[asyncio.Task[None]] = []

    def driver(self, name: str) -> NetworkDriver:
        """Return a driver by its plugin's name; loaded at its first use.

        Raises:
            NotFound: there is none, in Docker's words.
        """
        if name not in self._drivers:
            try:
                self._drivers[name] = self._select(name)
            except NotFound as error:
                raise NotFound(
                    f"could not find plugin {name} in v1 plugin registry: plugin not found"
                ) from error
        return self._drivers[name]

    def of(self, network: Network) -> NetworkDriver:
        """Return a network's driver. Raises NotFound."""
        try:
            return self.driver(plugin_of(network))
        except NotFound:
            if not network.default:
                raise
            return self.driver(NONE)  # an engine on which nothing else is installed

    def own_addresses(self, network: Network) -> bool:
        """Whether a network's driver gives out addresses itself; False where it is not there."""
        try:
            return OWN_ADDRESSES in self.of(network).capabilities
        except NotFound:
            return False

    def note_use(self, name: str) -> None:
        """Remember a driver beyond its last network: what a crash leaves is its own to remove."""
        if self._memory.get(_USED + name) is None:
            self._memory.put(_USED + name, b"")

    def failed(self, network: Network) -> bool:
        """Whether a network that is recorded could not be made."""
        return network.id in self._failed

    async def make(self, network: Network) -> None:
        """Make a network that is recorded.

        Raises:
            BoxwoodError: it cannot be made; it is logged, and remembered until it can.
        """
        try:
            driver = self.of(network)
            self.note_use(driver.name)
            await driver.create_network(spec_of(network))
        except BoxwoodError as error:
            self._failed.add(network.id)
            log.error("network %s: %s", network.name, error)
            raise
        self._failed.discard(network.id)

    async def unmake(self, network: Network) -> None:
        """Remove what was made of a network; what a driver made that is gone stays."""
        try:
            driver = self.of(network)
        except NotFound as error:
            log.warning("remove network: %s: what it made stays: %s", network.name, error)
            return
        await driver.remove_network(spec_of(network))
        self._failed.discard(network.id)

    async def restore(self, wanted: Mapping[str, Sequence[Attachment]]) -> list[str]:
        """Have each driver, by its name, restore what is wanted and remove the rest; guard it.

        Drivers that were used before are asked too, even if nothing of theirs is wanted.

        Returns:
            one sentence for each thing done.
        """
        used = [
            key.removeprefix(_USED) for key, _ in self._memory.load_all() if key.startswith(_USED)
        ]
        done: list[str] = []
        for name in dict.fromkeys((*used, *wanted)):
            try:
                driver = self.driver(name)
                done += await driver.reconcile(wanted.get(name, ()))
            except BoxwoodError as error:
                log.error("networks: driver %s: %s", name, error)
                continue
            self._guards.append(asyncio.ensure_future(self._guard(name, driver)))
        return done

    async def _guard(self, name: str, driver: NetworkDriver) -> None:
        def tell(sentence: str) -> None:
            log.warning("network driver %s: %s", name, sentence)
            self._events.publish("network", "restore", name, {"type": name, "message": sentence})

        try:
            await driver.guard(tell)
        except BoxwoodError as error:
            log.error("networks: driver %s does not guard what it made: %s", name, error)

    async def close(self) -> None:
        """End the guards. What is attached stays. Idempotent."""
        guards, self._guards = self._guards, []
        for task in guards:
            task.cancel()
        await asyncio.gather(*guards, return_exceptions=True)
