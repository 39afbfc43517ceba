"""A container's side of its networks: joined at the start, left at the end, and what files say."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

from boxwood.drivers.network import CONTAINER, EndpointRequest
from boxwood.errors import BoxwoodError, Conflict, NotFound
from boxwood.execution import sandbox
from boxwood.execution.names import Upstream, View
from boxwood.model import ids
from boxwood.model.endpoint import SandboxState
from boxwood.model.network import DEFAULT, DNS_OFF, DNS_ON
from boxwood.model.place import split_link
from boxwood.model.wire import replace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from boxwood.drivers.network import Namespace
    from boxwood.model.container import Container
    from boxwood.services.containers.context import Context

log = logging.getLogger(__name__)

DEFAULT_BRIDGE = DEFAULT
"""The network without a name server: links are lines in ``/etc/hosts`` there."""


class Joining:
    """A container that joins its networks, beside the rest of its start.

    ``state`` and ``path`` (of the namespace to launch in; empty: it is not made beforehand) count
    once :meth:`done` has returned.
    """

    def __init__(self, context: Context, container: Container) -> None:
        self._context = context
        self._container = container
        self._netns = -1
        self.state = SandboxState()
        self._work: asyncio.Task[None] | None = None
        if context.endpoints.connects(container):
            self._work = asyncio.get_running_loop().create_task(self._join())

    async def _join(self) -> None:
        context = self._context
        self._netns = await context.netns.take()
        view = view_of(context, self._container)
        self.state = await context.endpoints.join(self._container, self._netns, view)

    async def done(self) -> None:
        """Wait until it has joined; raises what stands against it."""
        if self._work is not None:
            await self._work

    @property
    def path(self) -> str:
        """Where the namespace is to be found while this object is there."""
        return f"/proc/{os.getpid()}/fd/{self._netns}" if self._netns >= 0 else ""

    async def undo(self) -> None:
        """Leave the networks again: the start has failed."""
        if self._work is not None:
            await asyncio.gather(self._work, return_exceptions=True)
        joined = replace(self._container, sandbox=self.state)
        await self._context.endpoints.leave(joined)

    def close(self) -> None:
        """Let go of the namespace: the container's process has it by now. Idempotent."""
        if self._netns >= 0:
            os.close(self._netns)
            self._netns = -1


def namespace_of(context: Context, container: Container) -> Namespace:
    """Return which network namespace a container lives in."""
    mode = container.host_config.network_mode
    _, driver = context.networks.resolve(mode)
    return driver.namespace(EndpointRequest(sandbox=container.id, mode=mode))


def identity_of(context: Context, container: Container) -> sandbox.Identity:
    """Return what the container's three files say; ``sandbox`` of it is the new one."""
    settings, host = context.settings, container.host_config
    attachments = container.sandbox.attachments
    addresses = [
        address.partition("/")[0]
        for attachment in attachments.values()
        for address in attachment.addresses
    ]
    wants_gateway = any(sandbox.HOST_GATEWAY in entry for entry in host.extra_hosts or ())
    return sandbox.Identity(
        hostname=container.config.hostname,
        domainname=container.config.domainname,
        addresses=tuple(addresses),
        extra_hosts=host.extra_hosts or (),
        gateways=context.host_gateway() if wants_gateway else (),
        links=tuple(link_lines(context, container)),
        host_network=host.network_mode == "host",
        connected=bool(attachments),
        resolver=asks_resolver(context, container),
        silent=_modes(context, container) == {DNS_OFF},
        nameservers=host.dns or settings.dns,
        search=host.dns_search or settings.dns_search,
        options=host.dns_options or settings.dns_options,
    )


def asks_resolver(context: Context, container: Container) -> bool:
    """Whether a container asks the engine's name server: a network of its has names, or it is
    limited."""
    if DNS_ON in _modes(context, container):
        return True
    return bool(container.networks) and context.endpoints.limits.policy(container) is not None


def _modes(context: Context, container: Container) -> set[str]:
    """Return who answers in its networks."""
    found = set()
    for name, at in container.networks.items():
        try:
            network, _ = context.networks.resolve(at.network_id or name)
        except NotFound:
            continue  # its start says so
        if network is not None:
            found.add(network.dns)
    return found


def view_of(context: Context, container: Container) -> View | None:
    """Return what the name server shows a container, but for zones; None: it is not asked."""
    if not asks_resolver(context, container):
        return None
    identity = sandbox.Identity(
        hostname=container.config.hostname,
        nameservers=container.host_config.dns or context.settings.dns,
        options=container.host_config.dns_options or context.settings.dns_options,
    )
    return View(
        upstreams=tuple(
            Upstream(address=address, inside=inside)
            for address, inside in sandbox.upstreams(identity)
        ),
        ndots=sandbox.sets_ndots(identity),
        egress=context.endpoints.limits.policy(container),
    )


def link_lines(context: Context, container: Container) -> Iterator[tuple[str, str]]:
    """Yield the lines of ``/etc/hosts`` for links in the default network.

    Raises:
        Conflict: a linked container does not run, in Docker's words.
    """
    if container.host_config.network_mode != DEFAULT_BRIDGE:
        return
    for link in container.host_config.links or ():
        name, alias = split_link(link)
        target = linked(context, name)
        if not target.state.running or DEFAULT_BRIDGE not in target.sandbox.attachments:
            raise Conflict(
                f"Cannot link to a non running container: /{target.name} AS "
                f"/{container.name}/{alias}"
            )
        yield from _lines(target, alias)


def relink(context: Context, container: Container) -> None:
    """Write a container that has just started into the files of those that are linked to it."""
    attachment = container.sandbox.attachments.get(DEFAULT_BRIDGE)
    if attachment is None:
        return
    for other in context.store:
        host = other.host_config
        if not other.state.running or host.network_mode != DEFAULT_BRIDGE:
            continue
        for name, alias in map(split_link, host.links or ()):
            try:
                if context.store.get(name).id == container.id:
                    lines = _lines(container, alias)
                    sandbox.change_hosts(context.data / other.id, (), lines, alias)
            except BoxwoodError as error:
                log.error("container %s: link %s: %s", ids.short(other.id), name, error)


def _lines(target: Container, alias: str) -> list[tuple[str, str]]:
    """Return the lines of ``/etc/hosts`` for a link to a container that runs."""
    names = " ".join(dict.fromkeys((alias, target.config.hostname, target.name)))
    addresses = target.sandbox.attachments[DEFAULT_BRIDGE].addresses
    return [(address.partition("/")[0], names) for address in addresses]


def linked(context: Context, name: str) -> Container:
    """Return the container that a link names; Conflict in Docker's words."""
    try:
        return context.store.get(name)
    except NotFound as error:
        raise Conflict(f"could not get container for {name}: {error}") from error


# -- SandboxKey: a path by which others enter the namespace --


def key_path(context: Context, container: Container) -> Path:
    """Return where the path to a container's network namespace lies."""
    return context.keys / ids.short(container.id)


def has_key(container: Container) -> bool:
    """Whether a container's sandbox is its own."""
    return not container.host_config.network_mode.startswith("container:")


def make_key(context: Context, container: Container) -> None:
    """Make the path; ``container`` is the version that runs."""
    if not has_key(container):
        return
    path = key_path(context, container)
    target = f"/proc/{container.state.pid}/ns/net"
    try:
        try:
            os.symlink(target, path)
        except FileExistsError:
            path.unlink()
            os.symlink(target, path)
    except OSError as error:
        log.error("make sandbox key: %s: %s", path, error.strerror)


def drop_key(context: Context, container: Container) -> None:
    """Remove the path. Idempotent."""
    try:
        key_path(context, container).unlink(missing_ok=True)
    except OSError as error:
        log.error("remove sandbox key: %s: %s", container.id, error.strerror)


async def leave(context: Context, container: Container) -> None:
    """Take a container that has ended out of its networks."""
    drop_key(context, container)
    if not container.sandbox.attachments:
        return
    netns = _still_used(context, container)
    try:
        await context.endpoints.leave(container, netns)
    finally:
        if netns is not None:
            os.close(netns)


def _still_used(context: Context, container: Container) -> int | None:
    """Return a descriptor of the namespace if others that joined it live on."""
    for other in context.store:
        if not other.host_config.network_mode.startswith("container:") or not other.state.running:
            continue
        try:
            if context.store.get(namespace_of(context, other).container).id != container.id:
                continue
            return os.open(f"/proc/{other.state.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except (BoxwoodError, OSError) as error:
            log.debug("container %s: joined by %s: %s", container.id, other.id, error)
    return None


def shares(namespace: Namespace) -> bool:
    """Whether a network namespace is another container's."""
    return namespace.kind == CONTAINER
