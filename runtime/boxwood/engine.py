"""The composition root: builds the services and hands each its drivers."""

from __future__ import annotations

import asyncio
import functools
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxwood import facts
from boxwood.configuration import Configuration, pairs
from boxwood.drivers import choice, extensions, manager
from boxwood.errors import BoxwoodError, Unavailable
from boxwood.execution import helper_metrics
from boxwood.execution.egress import Egress, tag_of
from boxwood.execution.helper import Helper
from boxwood.execution.mounting import open_root
from boxwood.execution.names import Names
from boxwood.execution.netns import NetnsPool
from boxwood.execution.ports import Ports
from boxwood.execution.shim import Shim
from boxwood.execution.spec import SpecDefaults, default_seccomp
from boxwood.execution.spec.seccomp_profile import parse_profile
from boxwood.execution.task import Launcher
from boxwood.execution.trash import Trash
from boxwood.execution.worker import WorkerPool
from boxwood.execution.worker_wire import HOST_DIRECTORY
from boxwood.model import ids, times
from boxwood.model.compression import Compression
from boxwood.model.network import DEFAULT
from boxwood.model.place import endpoint
from boxwood.model.policy import RegistryPolicy
from boxwood.model.reference import target_name
from boxwood.registries import transport_options
from boxwood.services.containers import ContainersService, ContainerStore, Context, Settings
from boxwood.services.events import EventsService
from boxwood.services.fsck import Fsck, Report
from boxwood.services.images import ImagesService, Registries
from boxwood.services.images.committing import CommitRequest, committed_config
from boxwood.services.metrics import Metrics, prefix_of
from boxwood.services.networks import Endpoint, NetworkSettings, NetworksService
from boxwood.services.networks.asked import AskedNames
from boxwood.services.networks.endpoints import Endpoints
from boxwood.services.networks.ranges import parse_sources
from boxwood.services.volumes import VolumesService
from boxwood.services.workshop import Workshop
from boxwood.store.content import ContentStore
from boxwood.store.database import Database
from boxwood.store.layers import LayerStore
from boxwood.store.unpacking import LayerLimits

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pluggy

    from boxwood.drivers.isolation import IsolationDriver
    from boxwood.drivers.log import LogDriver
    from boxwood.drivers.network import NetworkDriver
    from boxwood.drivers.registry import RegistryTransport
    from boxwood.drivers.volume import VolumeDriver
    from boxwood.model.config import ContainerConfig
    from boxwood.model.container import Container
    from boxwood.model.image import Image
    from boxwood.model.network import Network

log = logging.getLogger(__name__)

VOLUME_SIZE_DEADLINE = 60.0
"""Seconds for counting a volume: it may lie on a file system that hangs."""
CHECKPOINT_INTERVAL = 60.0
"""Seconds between two looks at the database's journal."""


class Engine:
    """Everything the API serves. Made by :meth:`start`, ended by :meth:`stop`."""

    def __init__(self, config: Configuration) -> None:
        """Nothing is touched yet; ``config`` says where everything is."""
        self.config = config
        self.data_root = Path(config.data_root)
        self.exec_root = Path(config.exec_root)
        self.started_at = times.now()
        self.extensions: pluggy.PluginManager = manager.load_manager("extension")
        self.workers = WorkerPool()
        self.metrics = Metrics()
        self._logs: dict[str, LogDriver] = {}
        self._registries: dict[str, RegistryTransport[Any]] = {}
        self._transport_options = transport_options(config)
        self._isolation: dict[str, IsolationDriver] = {}
        self._background: list[asyncio.Task[None]] = []
        self._checking = asyncio.Lock()

    @classmethod
    async def start(cls, config: Configuration) -> Engine:
        """Make the directories, open the stores, reconcile; returns an engine that serves.

        Raises:
            BoxwoodError: it cannot work here; one sentence says why.
        """
        engine = cls(config)
        try:
            await engine._start()
        except BaseException:
            for task in engine._background:
                task.cancel()
            await asyncio.gather(*engine._background, return_exceptions=True)
            await engine.workers.close()
            raise
        return engine

    async def _start(self) -> None:
        self._make_directories()
        self.extensions = manager.load_extensions(self._extensions())
        warm = asyncio.ensure_future(self.workers.warm())
        self._background.append(warm)
        self.database = Database(self.data_root / "boxwood.db")
        self.id = self._engine_id()
        self.events = EventsService(extensions.Observer(self.extensions))
        self.content = ContentStore(self.data_root / "content")
        self.storage_choice = choice.choose(
            self.data_root / "storage", self.config.storage_driver, pairs(self.config.storage_opts)
        )
        self.storage = self.storage_choice.driver
        log.debug("storage driver: %s: %s", self.storage_choice.name, self.storage_choice.reason)
        config = self.config
        self.layers = LayerStore(
            self.database,
            self.storage,
            self.content,
            self.workers.offload,
            open_root,
            LayerLimits(
                config.layer_max_entries,
                config.layer_size,
                config.layer_max_ratio,
                config.layer_max_name,
            ),
            config.keep_blobs,
        )
        self.images = ImagesService(
            self.database,
            self.content,
            self.layers,
            self.workers,
            self.events,
            Registries(
                self._registry,
                lambda: {info.name for info in manager.available("registry")},
                config.max_concurrent_downloads,
                config.max_concurrent_uploads,
                config.max_download_attempts,
                config.max_concurrent_ranges,
                Compression.parse(config.push_compression),
                functools.partial(extensions.verify_image, self.extensions),
            ),
        )
        self.images.shipping.policy = RegistryPolicy(config.registry_policy)
        self.trash = Trash(self.data_root / "trash", self.workers)
        self.networks = NetworksService(
            self.database,
            self._network_driver,
            self.events,
            self._network_settings(),
            self.id,
            self.started_at,
        )
        self.volumes = VolumesService(
            self.database.records("volumes"),
            self._volume_driver,
            self.events,
            self.trash.discard,
        )
        self.helper = Helper(self.exec_root)
        self.names = Names(self.helper)
        self.egress = Egress(self.exec_root, self.helper, tag_of(self.exec_root))
        asked = AskedNames(self.data_root / "containers")
        self.endpoints = Endpoints(
            self.networks, self.names, Ports(self.helper), self.egress, asked
        )
        self.helper.on_asked = asked.note
        self.namespaces = NetnsPool()
        self.log_driver(self.config.log_driver).validate(self.config.log_opts)
        self.containers = ContainersService(self._context())
        self.workshop = Workshop(self.images, self.containers)
        self.images.shipping.workshop = self.workshop
        self.images.in_use = self.containers.of_image
        self.volumes.users_of = self.containers.of_volume
        self.volumes.mounted_by = self.containers.mounting
        self.networks.endpoints_of = self._endpoints_of
        self.networks.choose_subnet = self._choose_subnet
        self.networks.addresses.choose = self._choose_address
        await warm
        await self._reconcile()
        self._register_metrics()
        self._background.append(asyncio.ensure_future(self._checkpoints()))
        self._background.append(asyncio.ensure_future(self.egress.guard(self._restored)))

    def _make_directories(self) -> None:
        for path, mode in (
            (self.data_root, 0o710),
            (self.data_root / "containers", 0o710),
            (self.data_root / "storage", 0o700),
            (self.exec_root, 0o711),
            (self.exec_root / "containers", 0o700),
            (self.exec_root / "isolation", 0o700),
            (self.exec_root / "netns", 0o711),
        ):
            try:
                path.mkdir(mode=mode, parents=True, exist_ok=True)
            except OSError as error:
                raise Unavailable(f"make directory: {path}: {error.strerror}") from error

    def _engine_id(self) -> str:
        settings = self.database.records("settings")
        known = settings.get("engine-id")
        if known is not None:
            return known.decode()
        fresh = ids.new_id()
        settings.put("engine-id", fresh.encode())
        return fresh

    def _context(self) -> Context:
        config = self.config
        return Context(
            settings=Settings(
                spec=self._spec_defaults(),
                storage_driver=self.storage_choice.name,
                runtime=config.default_runtime,
                runtimes=config.runtimes,
                network=config.default_network,
                ipc_mode=config.default_ipc_mode,
                log_driver=config.log_driver,
                log_options=config.log_opts,
                stop_timeout=config.default_stop_timeout,
                dns=config.dns,
                dns_options=config.dns_opts,
                dns_search=config.dns_search,
            ),
            store=ContainerStore(self.database.records("containers")),
            layers=self.layers,
            images=self.images,
            volumes=self.volumes,
            networks=self.networks,
            endpoints=self.endpoints,
            netns=self.namespaces,
            events=self.events,
            workers=self.workers,
            launcher=Launcher(),
            trash=self.trash,
            isolation=self.isolation,
            log_driver=self.log_driver,
            adjust=self._adjust,
            host_gateway=self._host_gateway,
            data=self.data_root / "containers",
            run=self.exec_root / "containers",
            keys=self.exec_root / "netns",
        )

    def _spec_defaults(self) -> SpecDefaults:
        config = self.config
        profile = None
        if config.seccomp_profile not in ("", "builtin", "unconfined"):
            try:
                profile = parse_profile(Path(config.seccomp_profile).read_text(encoding="utf-8"))
            except OSError as error:
                raise Unavailable(
                    f"seccomp profile: {config.seccomp_profile}: {error.strerror}"
                ) from error
        driver = self.isolation(config.default_runtime)
        defaults = SpecDefaults(
            machine=driver.machine(),
            ulimits=config.default_ulimits,
            cgroup_parent=config.cgroup_parent,
            cgroupns_mode=config.default_cgroupns_mode,
            shm_size=config.shm_size,
            init=config.init,
            no_new_privileges=config.no_new_privileges,
            seccomp=profile,
            unconfined=config.seccomp_profile == "unconfined",
            masked_paths=facts.machine_masked_paths(),
        )
        seccomp = default_seccomp(defaults)
        if seccomp is not None:
            driver.warm(seccomp)  # 10 ms, once: not on the way of the first container
        return defaults

    # -- drivers, loaded at their first use --

    def isolation(self, name: str) -> IsolationDriver:
        """Return the isolation driver ``name``; NotFound if there is none."""
        if name not in self._isolation:
            self._isolation[name] = manager.select(
                "isolation",
                name,
                root=self.exec_root / "isolation",
                options=pairs(self.config.exec_opts),
            )
        return self._isolation[name]

    def log_driver(self, name: str) -> LogDriver:
        """Return the log driver ``name``; NotFound if there is none."""
        if name not in self._logs:
            self._logs[name] = manager.select("log", name, options={})
        return self._logs[name]

    def _network_driver(self, name: str) -> NetworkDriver:
        driver: NetworkDriver = manager.select(
            "network",
            name,
            root=self.exec_root / "network" / name,
            options={
                "ip-forward": "true" if self.config.ip_forward else "false",
                "respect-host-firewall": "true" if self.config.respect_host_firewall else "false",
            },
        )
        return driver

    def _registry(self, scheme: str) -> RegistryTransport[Any]:
        if scheme not in self._registries:
            options = {
                **self._transport_options,
                "directory": str(self.data_root / "registry" / scheme),
            }
            self._registries[scheme] = manager.select("registry", scheme, options=options)
        return self._registries[scheme]

    def _extensions(self) -> list[str]:
        """Return the extensions to load."""
        verifier = self.config.signature_verifier
        return [*self.config.plugins, *((verifier,) if verifier else ())]

    def _network_settings(self) -> NetworkSettings:
        config = self.config
        pools = [(pool.base, pool.size) for pool in config.default_address_pools]
        return NetworkSettings(
            sources=parse_sources(pools, self.id),
            bip=config.bip,
            bip6=config.bip6,
            fixed_cidr=config.fixed_cidr,
            fixed_cidr6=config.fixed_cidr_v6,
            gateway=config.default_gateway,
            gateway6=config.default_gateway_v6,
            bridge=config.bridge,
            ipv6=config.ipv6,
            mtu=config.mtu,
            icc=config.icc,
            ip_masq=config.ip_masq,
            publish=config.ip,
            options=config.default_network_opts,
        )

    def _endpoints_of(self, network_id: str) -> list[Endpoint]:
        """Return the endpoints of a network: of containers that run, or that start just now."""
        found = []
        users = self.endpoints.users(network_id)
        for container in self.containers.list(all=True):
            for name, at in container.networks.items():
                if at.network_id != network_id:
                    continue
                if container.id in users or container.state.running:
                    shown = endpoint(container, name)
                    key = shown.endpoint_id or users[container.id][1]
                    found.append(Endpoint(container.id, container.name, key, shown))
        return found

    def _host_gateway(self) -> tuple[str, ...]:
        """Return the host's addresses as containers reach them."""
        if self.config.host_gateway_ip:
            return (self.config.host_gateway_ip,)
        return self.networks.addresses.gateways(self.networks.get(DEFAULT).id)

    def _choose_subnet(self, network: Network, version: int) -> str:
        arguments = {"network": network, "version": version}
        return extensions.choose(self.extensions, "choose_subnet", **arguments)

    def _choose_address(self, network: Network, endpoint: str, version: int) -> str:
        arguments = {"network": network, "endpoint": endpoint, "version": version}
        return extensions.choose(self.extensions, "choose_address", **arguments)

    def _volume_driver(self, name: str) -> VolumeDriver:
        driver: VolumeDriver = manager.select(
            "volume", name, root=self.data_root / "volumes", options={}
        )
        return driver

    def _adjust(self, spec: dict[str, Any], container: Container) -> None:
        extensions.adjust_spec(self.extensions, spec, container)

    def _register_metrics(self) -> None:
        for state in ("Running", "Paused", "Stopped"):
            word = state.lower()
            count = functools.partial(self._count, f"Containers{state}")
            self.metrics.add("gauge", f"boxwood_containers_{word}", f"Containers {word}.", count)
        helper_metrics.register(self.names, self.metrics.add)
        extensions.register_metrics(
            self.extensions, self.metrics.of, lambda name: self.metrics.drop(prefix_of(name))
        )

    def _count(self, key: str) -> float:
        return self.containers.counts()[key]

    # -- start and end --

    async def _reconcile(self) -> None:
        self.containers.read()
        # Before containers are settled: that unmounts volumes, and may remove them.
        done = await self.networks.load()
        done += await self.volumes.load()
        done += await self.containers.load()
        self.helper.drop_given()
        done += await self.images.reconcile()
        done += await self.workshop.sweep()
        for sentence in done:
            log.info("reconcile: %s", sentence)
        Shim.prewarm()
        self.namespaces.fill()
        await self.containers.restore()

    def _restored(self, sentence: str) -> None:
        log.warning("%s", sentence)
        self.events.publish("network", "restore", "egress", {"type": "", "message": sentence})

    async def _checkpoints(self) -> None:
        while True:
            await asyncio.sleep(CHECKPOINT_INTERVAL)
            self.containers.pay()
            try:
                self.database.checkpoint()
            except BoxwoodError as error:
                log.error("checkpoint: %s", error)

    async def stop(self) -> None:
        """End: containers live on or stop, as the configuration says. Idempotent."""
        for task in self._background:
            task.cancel()
        self._background = []
        await self.containers.close(
            stop=not self.config.live_restore, timeout=self.config.shutdown_timeout
        )
        self.containers.pay()
        await self.networks.close()
        await self.namespaces.close()
        await self.helper.close()
        self.names.release()
        self.egress.release()
        self.endpoints.limits.asked.save()
        self.events.close()
        Shim.drop_spare()
        await self.images.peers.close()
        await self.layers.close()
        for transport in self._registries.values():
            await transport.close()
        await self.trash.close()
        await self.workers.close()
        self.database.close()

    def reconfigure(self, config: Configuration) -> None:
        """Take over a configuration of which only what may change has changed.

        Raises:
            InvalidArgument, Unavailable: the registries' file is wrong; nothing has changed.
        """
        options = transport_options(config)
        for transport in self._registries.values():
            transport.reconfigure(options)
        self.config, self._transport_options = config, options
        self.containers.reconfigure(config.default_stop_timeout)
        self.images.shipping.policy = RegistryPolicy(config.registry_policy)

    def busy(self) -> bool:
        """Whether a container runs or is about to."""
        return bool(self.containers.list())

    async def commit(
        self,
        ref: str,
        repo: str = "",
        tag: str = "",
        *,
        comment: str = "",
        author: str = "",
        changes: Sequence[str] = (),
        pause: bool = True,
        config: ContainerConfig | None = None,
    ) -> Image:
        """Make an image of what a container has changed; it is paused meanwhile if it runs.

        Raises:
            NotFound, InvalidArgument (a name, a change), ResourceExhausted
        """
        container = self.containers.get(ref)
        name = target_name(repo, tag) if repo else None
        wanted = committed_config(config or container.config, changes)
        request = CommitRequest(
            snapshot=container.snapshot_key,
            base=self.images.get(container.image_id),
            config=self.containers.merged(wanted, container),
            command=container.config.cmd or (),
            name=name,
            comment=comment,
            author=author,
        )
        async with self.containers.held_still(container.id, pause=pause):
            image = await self.images.commit(request)
            shown = name.familiar if name else ""
            told = {"comment": comment, "imageID": image.id, "imageRef": shown}
            self.containers.publish(container.id, "commit", told)
        return image

    async def fsck(self, *, deep: bool, repair: bool) -> Report:
        """Compare records and disk; see :mod:`boxwood.services.fsck`. One at a time."""
        async with self._checking:
            check = Fsck(self.images, self.containers.snapshots)
            return await check.run(deep=deep, repair=repair)

    async def volume_size(self, name: str) -> int:
        """Return the bytes of a volume's files; -1 when nobody can say."""
        mountpoint = self.volumes.get(name).mountpoint
        try:
            found = await self.workers.call(
                "tree_usage", {HOST_DIRECTORY: mountpoint}, deadline=VOLUME_SIZE_DEADLINE
            )
        except BoxwoodError as error:
            log.info("size of volume %s: %s", name, error)
            return -1
        return int(found["bytes"])

    # -- facts --

    def info(self) -> dict[str, Any]:
        """Return the object of ``GET /info``."""
        return facts.info(self)

    def version(self) -> dict[str, Any]:
        """Return the object of ``GET /version``; the API adds its own versions."""
        return {**facts.version(), "MinAPIVersion": self.config.min_api_version}

    def plugins(self) -> list[manager.PluginInfo]:
        """Return every plugin that is installed."""
        return [found for kind in manager.kinds() for found in manager.available(kind)]

    async def doctor(self) -> list[dict[str, str]]:
        """Return what this machine can do, and what to do about what it cannot."""
        return await facts.doctor(self)
