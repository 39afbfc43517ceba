"""The hooks that plugins implement, by kind, and the two pluggy markers.

A plugin is a module (or any object) named by an entry point of the group ``boxwood.<kind>``; its
functions are marked with :data:`hookimpl`. Each kind has a hookspec class below; the manager of
a kind knows that class only, so a hook of another kind in the same module is an error that names
it. ``VERSION`` goes up when a hook changes in a way that an old plugin would notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from boxwood.drivers.extension import (
        AdmissionRequest,
        Metrics,
        RouteTable,
        Verdict,
        Verification,
    )
    from boxwood.drivers.isolation import IsolationDriver
    from boxwood.drivers.log import LogDriver
    from boxwood.drivers.network import NetworkDriver
    from boxwood.drivers.registry import RegistryTransport
    from boxwood.drivers.storage import StorageDriver
    from boxwood.drivers.volume import VolumeDriver
    from boxwood.model.container import Container
    from boxwood.model.event import Event
    from boxwood.model.network import Network

PROJECT = "boxwood"
VERSION = 1

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class StorageHooks:
    """Group ``boxwood.storage``."""

    @hookspec(firstresult=True)
    def storage_driver(
        self, name: str, root: Path, options: Mapping[str, str]
    ) -> StorageDriver | None:
        """Return the driver ``name`` working beneath ``root``, or None if it is not yours.

        Args:
            name: the entry point's name.
            root: ``<data-root>/storage/<name>``; may not exist yet; the driver's alone.
            options: ``storage-opts`` of the configuration, key to value.

        Raises:
            boxwood.errors.Unavailable: the machine cannot do it; the message says what is
                missing.
            boxwood.errors.InvalidArgument: an option is unknown or wrong.
        """

    @hookspec(firstresult=True)
    def storage_rank(self, name: str) -> int | None:
        """Return how much the driver ``name`` is to be preferred when nobody has chosen one.

        The highest that works on the machine is taken. None (or no such hook): never without
        being asked for. First-party: ``overlay`` 100, ``btrfs`` 80, ``erofs`` 60,
        ``fuse-overlayfs`` 40, ``vfs`` 10.
        """


class IsolationHooks:
    """Group ``boxwood.isolation``."""

    @hookspec(firstresult=True)
    def isolation_driver(
        self, name: str, root: Path, options: Mapping[str, str]
    ) -> IsolationDriver | None:
        """Return the driver ``name``; ``root`` is ``<exec-root>/isolation``."""


class NetworkHooks:
    """Group ``boxwood.network``."""

    @hookspec(firstresult=True)
    def network_driver(
        self, name: str, root: Path, options: Mapping[str, str]
    ) -> NetworkDriver | None:
        """Return the driver ``name``; ``root`` is ``<exec-root>/network/<name>``.

        ``options`` are the daemon's settings that concern every driver, ``true`` or ``false``:
        ``ip-forward`` (it may turn on forwarding), ``respect-host-firewall`` (it adds no rule to
        another program's). A driver ignores what it has no use for.
        """


class VolumeHooks:
    """Group ``boxwood.volume``."""

    @hookspec(firstresult=True)
    def volume_driver(
        self, name: str, root: Path, options: Mapping[str, str]
    ) -> VolumeDriver | None:
        """Return the driver ``name``; ``root`` is ``<data-root>/volumes``."""


class LogHooks:
    """Group ``boxwood.log``."""

    @hookspec(firstresult=True)
    def log_driver(self, name: str, options: Mapping[str, str]) -> LogDriver | None:
        """Return the driver ``name``; ``options`` are the daemon's ``log-opts``."""


class RegistryHooks:
    """Group ``boxwood.registry``."""

    @hookspec(firstresult=True)
    def registry_transport(
        self, scheme: str, options: Mapping[str, str]
    ) -> RegistryTransport[Any] | None:
        """Return the transport for references that begin with ``scheme``."""


class ExtensionHooks:
    """Group ``boxwood.extension``: plugins that watch or change."""

    @hookspec
    def adjust_spec(self, spec: dict[str, Any], container: Container) -> None:
        """Change the OCI runtime document in place, before each start.

        Called in the daemon's thread: it must not wait for anything. An exception refuses the
        start with :class:`boxwood.errors.PluginError`.
        """

    @hookspec
    def choose_subnet(self, network: Network, version: int) -> str | None:
        """Return the subnet (CIDR form) of a new network that asked for none of this family.

        None: the next plugin, or the engine, chooses. It is checked as a client's would be: one
        that overlaps another network refuses the creation. Called in the daemon's thread, as
        :meth:`choose_address` is: neither may wait for anything. When a network or an endpoint
        goes, :meth:`on_event` sees it.

        Args:
            network: as it will be recorded; its id is known to nobody yet.
            version: 4 or 6.
        """

    @hookspec
    def choose_address(self, network: Network, endpoint: str, version: int) -> str | None:
        """Return the address of an endpoint that asked for none of this family, at each start.

        None: the next plugin, or the engine, chooses. It is checked as a client's would be: one
        that is taken, or lies in no subnet of the network, refuses the start.
        """

    @hookspec
    def admit(self, request: AdmissionRequest) -> AdmissionRequest | None:
        """Allow (None), change (another request) or refuse (raise ``PermissionDenied``).

        Called one plugin after the other, each with what the one before it returned.
        """

    @hookspec
    async def verify_image(self, image: Verification) -> Verdict | None:
        """Say whether an image may be pulled, before its config and layers are fetched.

        A coroutine function. It is called at every pull, also where no key is required. None: it
        has nothing to say; ``PermissionDenied`` refuses the pull. Where keys are required one
        extension at least must return a verdict. Other errors refuse as well: nothing is pulled
        because a verifier failed.
        """

    @hookspec
    def on_event(self, event: Event) -> None:
        """Watch an event. What it raises is logged, once per plugin, and changes nothing."""

    @hookspec
    def register_routes(self, api: RouteTable) -> None:
        """Add routes below ``/ext/<plugin>/``; called once, when the engine starts.

        What it raises is logged, and the engine goes on without this plugin.
        """

    @hookspec
    def register_metrics(self, registry: Metrics) -> None:
        """Add gauges and counters; called once, when the engine starts.

        Their names get ``boxwood_<plugin>_`` put before them. What it raises is logged, and the
        engine goes on without this plugin.
        """


SPECS: dict[str, type] = {
    "storage": StorageHooks,
    "isolation": IsolationHooks,
    "network": NetworkHooks,
    "volume": VolumeHooks,
    "log": LogHooks,
    "registry": RegistryHooks,
    "extension": ExtensionHooks,
}
