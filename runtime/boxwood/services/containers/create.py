"""Creating a container: check, resolve, make, record."""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING

from boxwood.drivers.storage import SnapshotOptions
from boxwood.errors import (
    BoxwoodError,
    Conflict,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unsupported,
)
from boxwood.execution.spec import validate_host_config
from boxwood.faultpoints import fault
from boxwood.model import ids, names, times
from boxwood.model.config import EndpointSettings, HostConfig, LogConfig
from boxwood.model.container import Container, MountPoint, State
from boxwood.model.place import split_link
from boxwood.model.platform import Platform
from boxwood.model.sizes import parse_size
from boxwood.model.wire import replace
from boxwood.services.containers import merge
from boxwood.services.containers.connect import check_together, expose
from boxwood.services.containers.mountplan import MountPlan
from boxwood.services.containers.network import DEFAULT_BRIDGE, linked

if TYPE_CHECKING:
    from boxwood.drivers.network import NetworkDriver
    from boxwood.model.config import ContainerConfig
    from boxwood.model.image import Image
    from boxwood.model.request import CreateRequest
    from boxwood.services.containers.context import Context, NetworkInfo

log = logging.getLogger(__name__)

_NAME_RETRIES = 8


class Creator:
    """``create``, and what it undoes when it fails."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def create(
        self, name: str | None, request: CreateRequest, platform: str
    ) -> tuple[str, list[str]]:
        """Make a container; returns its id and warnings. See the service."""
        context = self._context
        key = ids.new_id()
        wanted = self._reserve(name, key)
        try:
            image = context.images.get(request.config.image)
            if platform:
                image.check_platform(request.config.image, Platform.parse(platform))
            merge.check_host(request.config, request.host_config)
            config = merge.merge(request.config, image.config.config)
            merge.check_config(config)
            host, warnings = self._host_config(config, request.host_config)
            config, networks = self._network(key, config, host, request)
            host = self._by_id(host)
            container = self._draft(key, wanted, image, config, host, networks, platform)
            warnings += self._check_network(container)
            warnings += self._check_machine(request.config, container)
            fault("create.begun")
            container = await self._make(container, image)
        except BaseException:
            context.store.release(wanted, key)
            raise
        context.publish(container, "create")
        return key, warnings

    def _reserve(self, name: str | None, key: str) -> str:
        store = self._context.store
        if name:
            wanted = names.check_name(name)
            store.reserve(wanted, key)
            return wanted
        for retry in range(_NAME_RETRIES):
            wanted = names.random_name(retry)
            if store.owner(wanted) is None:
                store.reserve(wanted, key)
                return wanted
        wanted = ids.short(key)
        store.reserve(wanted, key)
        return wanted

    def _host_config(
        self, config: ContainerConfig, host: HostConfig
    ) -> tuple[HostConfig, list[str]]:
        """Fill in the daemon's defaults, check drivers by name."""
        settings = self._context.settings
        kind = host.log_config.type or settings.log_driver
        options = dict(host.log_config.config or {})
        if kind == settings.log_driver:
            options = {**settings.log_options, **options}
        try:
            self._context.log_driver(kind).validate(options)
        except NotFound as error:
            raise InvalidArgument(
                f'error looking up logging plugin {kind}: plugin "{kind}" not found'
            ) from error
        spec = settings.spec_defaults
        changes: dict[str, object] = {
            "log_config": LogConfig(type=kind, config=options),
            "network_mode": self._mode(config, host),
            "shm_size": host.shm_size or spec.shm_size,
            "ipc_mode": host.ipc_mode or settings.ipc_mode,
            "cgroupns_mode": host.cgroupns_mode or _cgroupns(spec),
            "restart_policy": replace(host.restart_policy, name=host.restart_policy.name or "no"),
            "oom_kill_disable": bool(host.oom_kill_disable),
            "runtime": host.runtime or settings.runtime,
        }
        if host.memory > 0 and host.memory_swap == 0:
            changes["memory_swap"] = host.memory * 2
        return replace(host, **changes), []

    def _mode(self, config: ContainerConfig, host: HostConfig) -> str:
        if config.network_disabled:
            return "none"
        mode = host.network_mode
        return self._context.settings.network if mode in ("", "default") else mode

    def _isolation_name(self, host: HostConfig) -> str:
        wanted = host.runtime or self._context.settings.runtime
        return self._context.settings.runtimes.get(wanted, wanted)

    def _network(
        self, key: str, config: ContainerConfig, host: HostConfig, request: CreateRequest
    ) -> tuple[ContainerConfig, dict[str, EndpointSettings]]:
        context = self._context
        mode = host.network_mode
        network, _ = self._network_of(mode)
        hostname = config.hostname or ids.short(key)
        if mode == "host" or host.uts_mode == "host":
            hostname = config.hostname or socket.gethostname()
        endpoints = request.networking.endpoints_config or {}
        if network is None:
            check_together(mode, [name for name in endpoints if name != mode])
            target = self._joined(mode)
            config = replace(
                config,
                hostname=target.config.hostname,
                domainname=target.config.domainname,
            )
            return config, {}
        networks: dict[str, EndpointSettings] = {}
        # As in Docker: who names networks and leaves the mode alone is in those only.
        others = mode == context.settings.network and endpoints
        for name in (*(() if others else (mode,)), *endpoints):
            asked = endpoints.get(name) or networks.get(name) or EndpointSettings()
            known, _ = self._network_of(name)
            if known is not None and (known.name not in networks or name in endpoints):
                networks[known.name] = replace(asked, network_id=known.id)
        check_together(mode, list(networks))
        config = expose(config, host.port_bindings or {})
        return replace(config, hostname=hostname), networks

    def _network_of(self, name: str) -> tuple[NetworkInfo | None, NetworkDriver]:
        try:
            return self._context.networks.resolve(name)
        except NotFound as error:
            # Not as 404: the docker client would take it for a missing image, and pull.
            raise InvalidArgument(str(error)) from error

    def _check_network(self, container: Container) -> list[str]:
        """Check endpoints, ports and links; returns warnings."""
        host = container.host_config
        warnings = self._context.endpoints.check(container)
        for link in (host.links or ()) if host.network_mode == DEFAULT_BRIDGE else ():
            try:
                linked(self._context, split_link(link)[0])
            except Conflict as error:
                raise InvalidArgument(str(error)) from error
        if host.network_mode == "host" and (host.port_bindings or host.publish_all_ports):
            warnings.append("Published ports are discarded when using host network mode")
        return warnings

    def _draft(
        self,
        key: str,
        name: str,
        image: Image,
        config: ContainerConfig,
        host: HostConfig,
        networks: dict[str, EndpointSettings],
        platform: str,
    ) -> Container:
        path, arguments = merge.command_of(config)
        return Container(
            id=key,
            name=name,
            created_at=times.now(),
            image_id=str(image.id),
            image_ref=config.image,
            path=path,
            args=arguments,
            config=config,
            host_config=host,
            networks=networks,
            storage_driver=self._context.settings.storage_driver,
            isolation_driver=self._isolation_name(host),
            snapshot_key=key,
            platform=platform.partition("/")[0] or image.config.os or "linux",
            state=State(),
        )

    def _by_id(self, host: HostConfig) -> HostConfig:
        """Return it with the joined container by its id, which outlives its name."""
        if not host.network_mode.startswith("container:"):
            return host
        return replace(host, network_mode=f"container:{self._joined(host.network_mode).id}")

    def _joined(self, mode: str) -> Container:
        """Return the container that a mode `container:NAME` names.

        Raises:
            InvalidArgument: there is none. As NotFound, Docker's client would take it for the
                image that is missing, and try to pull it.
        """
        try:
            return self._context.store.get(mode.partition(":")[2])
        except NotFound as error:
            raise InvalidArgument(str(error)) from error

    def _check_machine(self, asked: ContainerConfig, container: Container) -> list[str]:
        """Ask the isolation driver and the spec's own checks; returns warnings."""
        name = container.isolation_driver
        try:
            driver = self._context.isolation(name)
        except NotFound as error:
            raise InvalidArgument(
                f"unknown or invalid runtime name: {container.host_config.runtime}"
            ) from error
        host = container.host_config
        checked = replace(container.config, hostname=asked.hostname, domainname=asked.domainname)
        spec = self._context.settings.spec_defaults
        warnings = validate_host_config(checked, host, driver.machine(), dict(spec.ulimits))
        for mode in (host.ipc_mode, host.pid_mode):
            if mode.startswith("container:"):
                self._joined(mode)
        return list(dict.fromkeys(warnings + driver.check(host)))

    async def _make(self, container: Container, image: Image) -> Container:
        """Volumes, snapshot, directory, record; undone in reverse when one fails."""
        context = self._context
        plan = MountPlan(context, container)
        mounts: tuple[MountPoint, ...] = ()
        directory = context.data / container.id
        snapshot = ""
        try:
            mounts = await plan.resolve()
            fault("create.volumes")
            snapshot = await self._snapshot(container, image)
            fault("create.snapshot")
            os.mkdir(directory, 0o710)
            fault("create.directory")
            if context.closing:
                raise Conflict("create container: the daemon is stopping")
            container = replace(container, mounts=mounts, snapshot_key=snapshot)
            context.store.put(container)
            fault("create.recorded")
        except OSError as error:
            await self._unmake(plan, directory, snapshot)
            raise ResourceExhausted(f"create container: {directory}: {error.strerror}") from error
        except BaseException:
            await self._unmake(plan, directory, snapshot)
            raise
        return container

    async def _snapshot(self, container: Container, image: Image) -> str:
        options = _snapshot_options(container.host_config)
        try:
            return await self._context.layers.prepare_container(
                container.id, image, options=options
            )
        except Unsupported as error:
            if options.size_limit:
                raise Unsupported(f"StorageOpt: size: {error}") from error
            raise

    async def _unmake(self, plan: MountPlan, directory: os.PathLike[str], snapshot: str) -> None:
        try:
            os.rmdir(directory)
        except OSError as error:
            log.debug("create: undo: %s: %s", directory, error)
        if snapshot:
            await self._context.layers.release(snapshot)
        for name in plan.made:
            try:
                await self._context.volumes.remove(name)
            except BoxwoodError as error:
                log.error("create: undo: volume %s: %s", name, error)


def _cgroupns(spec: object) -> str:
    mode = getattr(spec, "cgroupns_mode", "")
    machine = getattr(spec, "machine", None)
    if mode:
        return str(mode)
    return "private" if getattr(machine, "cgroup_version", 0) == 2 else "host"


def _snapshot_options(host: HostConfig) -> SnapshotOptions:
    options = dict(host.storage_opt or {})
    size = parse_size(options.pop("size", "0"))
    if options:
        raise InvalidArgument(f"unknown option {next(iter(options))}")
    return SnapshotOptions(volatile=host.auto_remove, size_limit=size)
