"""Containers connected to networks, and published ports changed, after their creation."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from boxwood.errors import (
    Conflict,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from boxwood.execution import sandbox
from boxwood.faultpoints import fault
from boxwood.model import container as states
from boxwood.model.config import EndpointSettings, PortBinding
from boxwood.model.endpoint import parse_port
from boxwood.model.wire import replace
from boxwood.services.containers.network import identity_of, view_of
from boxwood.services.containers.start import publish_network

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from boxwood.model.config import ContainerConfig
    from boxwood.model.container import Container
    from boxwood.model.endpoint import PortRequest, SandboxState
    from boxwood.services.containers.context import Context, NetworkInfo

Bindings = dict[str, tuple[PortBinding, ...] | None]
"""Published ports as ``HostConfig.PortBindings`` has them."""

_HOST = "container cannot be disconnected from host network or connected to host network"
_SHARED = (
    "container sharing network namespace with another container or host cannot be connected to "
    "any other network"
)
_NONE = (
    "container cannot be connected to multiple networks with one of the networks in private "
    "(none) mode"
)


class Connector:
    """``network connect``, ``network disconnect`` and ports that come and go."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def connect(self, key: str, network: NetworkInfo, asked: EndpointSettings) -> None:
        """Connect a container to a network, at once if it runs.

        Raises:
            PermissionDenied: it is in it. InvalidArgument: the modes or settings contradict.
        """
        context = self._context
        live = context.of(key)
        async with live.lock:
            container = context.store.current(key)
            _check_alive(container)
            mode = container.host_config.network_mode
            if network.name in container.networks:
                raise PermissionDenied(
                    f"endpoint with name {container.name} already exists in network {network.name}"
                )
            check_together(mode, [*container.networks, network.name])
            endpoint = replace(asked, network_id=network.id)
            wanted = replace(container, networks={**container.networks, network.name: endpoint})
            context.endpoints.check(wanted)
            if not container.state.running:
                context.store.put(wanted)
                return
            with _namespace(container) as netns:
                view = view_of(context, wanted)
                state = await context.endpoints.connect(wanted, network.name, netns, view)
            fault("connect.joined")
            wanted = replace(wanted, sandbox=state)
            context.store.keep(wanted)
            fault("connect.recorded")
            self._files(container, wanted)
            publish_network(context, wanted, "connect", network.name)

    async def disconnect(self, key: str, network: NetworkInfo, force: bool = False) -> None:
        """Disconnect a container from a network, at once if it runs.

        Raises:
            Internal: it is not in it, in Docker's words and with Docker's status.
        """
        del force  # it is for networks that other machines have
        context = self._context
        live = context.of(key)
        async with live.lock:
            container = context.store.current(key)
            _check_alive(container)
            if container.host_config.network_mode == "host" and network.name == "host":
                raise InvalidArgument(_HOST)
            if network.name not in container.networks:
                article = "" if container.state.running else "the "
                raise Internal(
                    f"container {container.id} is not connected to {article}network {network.name}"
                )
            left = {n: at for n, at in container.networks.items() if n != network.name}
            attachments = dict(container.sandbox.attachments)
            attachments.pop(network.name, None)
            state = replace(container.sandbox, attachments=attachments)
            # The record first: what it does not name is removed by a daemon that comes later.
            wanted = replace(container, networks=left, sandbox=state)
            context.store.put(wanted)
            fault("disconnect.recorded")
            if container.state.running and network.name in container.sandbox.attachments:
                with _namespace(container) as netns:
                    state = await context.endpoints.disconnect(container, network.name, netns)
                wanted = replace(wanted, sandbox=state)
                context.store.keep(wanted)
                self._files(container, wanted)
            publish_network(context, container, "disconnect", network.name)

    async def publish(
        self, key: str, add: Mapping[str, tuple[PortBinding, ...] | None], remove: tuple[str, ...]
    ) -> None:
        """Change what a container publishes, at once if it runs.

        Args:
            add: as ``PortBindings``.
            remove: ports of the container (``80/tcp``), with the host's (``8080:80/tcp``) only
                that one.

        Raises:
            Conflict: a port is taken; nothing has changed. NotFound: it is not published.
        """
        context = self._context
        async with context.of(key).lock:
            container = context.store.current(key)
            _check_alive(container)
            bindings = changed(container.host_config.port_bindings or {}, add, remove)
            host = replace(container.host_config, port_bindings=bindings)
            wanted = replace(container, host_config=host, config=expose(container.config, bindings))
            context.endpoints.check(wanted)
            if container.state.running and container.sandbox.attachments:
                with _namespace(container) as netns:
                    state = await context.endpoints.publish(wanted, netns)
                wanted = replace(wanted, sandbox=state)
                context.store.keep(wanted)
            else:
                context.store.put(wanted)
            context.publish(wanted, "update")

    async def take(self, key: str, giver_key: str, ports: tuple[str, ...]) -> None:
        """Have one container publish what another one does; who is connected stays connected.

        Args:
            key: of the container that is to publish them.
            ports: of the container (``80``, ``80/tcp``); none: all that the other publishes.

        Raises:
            Conflict: one of them does not run. NotFound: a port is not published.
            InvalidArgument: both are the same.
        """
        context = self._context
        if key == giver_key:
            raise InvalidArgument(f"container {key}: cannot take over its own ports")
        first, second = sorted((key, giver_key))
        async with context.of(first).lock, context.of(second).lock:
            taker, giver = context.store.current(key), context.store.current(giver_key)
            moved = _chosen(giver, ports)
            with _namespace(giver) as from_, _namespace(taker) as to:
                states = await context.endpoints.take((giver, from_), (taker, to), moved)
            wanted = [
                _with_bindings(giver, _without(giver, moved), states[0]),
                _with_bindings(taker, _with(taker, moved), states[1]),
            ]
            fault("take.moved")
            context.store.keep_all(wanted)
            fault("take.recorded")
            for one in wanted:
                context.publish(one, "update")

    def _files(self, before: Container, after: Container) -> None:
        """Bring the files of identity up to date while they are used."""
        directory = self._context.data / after.id
        identity = identity_of(self._context, after)
        old = identity_of(self._context, before).addresses
        added = [(one, identity.names) for one in identity.addresses if one not in old]
        dropped = [one for one in old if one not in identity.addresses]
        sandbox.change_hosts(directory, dropped, added)
        sandbox.write_resolv_conf(directory, identity)


def _chosen(giver: Container, ports: tuple[str, ...]) -> list[PortRequest]:
    """Return the ports of the host that lead to some ports, or all, of a container."""
    held = giver.sandbox.ports
    keys = {f"{port}/{protocol}" for port, protocol in map(parse_port, ports)}
    for key in sorted(keys):
        if not any(one.key == key for one in held):
            raise NotFound(f"port {key} is not published")
    if not held:
        raise NotFound(f"container {giver.name} publishes no ports")
    return [one for one in held if not keys or one.key in keys]


def _without(giver: Container, moved: Sequence[PortRequest]) -> Bindings:
    gone = {one.key for one in moved}
    bindings = giver.host_config.port_bindings or {}
    return {key: value for key, value in bindings.items() if key not in gone}


def _with(taker: Container, moved: Sequence[PortRequest]) -> Bindings:
    """Add what was moved, by the numbers it has; one for both families names no address."""
    found = dict(taker.host_config.port_bindings or {})
    for one in moved:
        twins = {
            two.host_ip for two in moved if two.key == one.key and two.host_port == one.host_port
        }
        both = {"0.0.0.0", "::"} <= twins
        binding = PortBinding(host_ip="" if both else one.host_ip, host_port=str(one.host_port))
        there = found.get(one.key) or ()
        found[one.key] = there if binding in there else (*there, binding)
    return found


def _with_bindings(container: Container, bindings: Bindings, state: SandboxState) -> Container:
    host = replace(container.host_config, port_bindings=bindings)
    config = expose(container.config, bindings)
    return replace(container, host_config=host, config=config, sandbox=state)


def check_together(mode: str, networks: list[str]) -> None:
    """Refuse networks that exclude one another. Raises InvalidArgument in Docker's words."""
    if networks and mode.startswith("container:"):
        raise InvalidArgument(_SHARED)
    if "host" in networks and mode != "host":
        raise InvalidArgument(_HOST)
    if len(networks) < 2:
        return
    if "host" in networks:
        raise InvalidArgument(_SHARED)
    if "none" in networks:
        raise InvalidArgument(_NONE)


def expose(config: ContainerConfig, bindings: Iterable[str]) -> ContainerConfig:
    """Return a config that exposes what is published, as Docker shows it."""
    exposed = dict(config.exposed_ports or {})
    for port in bindings:
        exposed.setdefault(port, {})
    return replace(config, exposed_ports=exposed) if exposed else config


def changed(
    bindings: Mapping[str, tuple[PortBinding, ...] | None],
    add: Mapping[str, tuple[PortBinding, ...] | None],
    remove: tuple[str, ...],
) -> dict[str, tuple[PortBinding, ...] | None]:
    """Return port bindings without some and with others; NotFound: one is not there."""
    result = dict(bindings)
    for text in remove:
        host, _, port = text.rpartition(":")
        key = port if "/" in port else f"{port}/tcp"
        kept = tuple(one for one in result.get(key) or () if host and not _names_binding(one, host))
        if key not in result or len(kept) == len(result[key] or ()):
            raise NotFound(f"port {text} is not published")
        if kept:
            result[key] = kept
        else:
            del result[key]
    for key, wanted in add.items():
        new = tuple(one for one in wanted or (PortBinding(),) if one not in (result.get(key) or ()))
        result[key] = (*(result.get(key) or ()), *new)
    return result


def _names_binding(binding: PortBinding, text: str) -> bool:
    address, _, port = text.rpartition(":")
    return binding.host_port == port and address.strip("[]") in ("", binding.host_ip)


def _check_alive(container: Container) -> None:
    if container.state.status in (states.REMOVING, states.DEAD):
        raise Conflict(
            f"container {container.id} is marked for removal and cannot be connected or "
            "disconnected to the network"
        )


@contextmanager
def _namespace(container: Container) -> Iterator[int]:
    """Yield a descriptor of a running container's network namespace.

    Raises:
        Conflict: it has just ended.
    """
    try:
        fd = os.open(f"/proc/{container.state.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Conflict(f"container {container.id} is not running") from error
    try:
        yield fd
    finally:
        os.close(fd)
