"""Names inside sandboxes: what each sandbox's resolver knows, and where it asks for the rest.

The answers are given by the helper (``helper.py``), which goes on while the daemon is away. This
is the daemon's side: it makes the sockets inside each sandbox, and keeps what the helper should
know, so that a helper which died can be given it again.

Terms:
    zone: the names of one network: name, lower case, to addresses of both families.
    view: what one sandbox is told.
"""

from __future__ import annotations

import asyncio
import fcntl
import ipaddress
import logging
import os
import socket
import struct
from collections.abc import Mapping
from typing import Final

import msgspec

from boxwood.errors import BoxwoodError, InvalidArgument, NotFound, Unavailable
from boxwood.execution.helper import Helper
from boxwood.execution.name_rules import ADDRESS, Sockets, prepare
from boxwood.model.egress import Policy
from boxwood_ext import helper_protocol as protocol

__all__ = ["ADDRESS", "Names", "Sockets", "Upstream", "View", "prepare"]

log = logging.getLogger(__name__)

Records = Mapping[str, tuple[str, ...]]

_Message = tuple[tuple[str, ...], bytes, bytes, int, tuple[str, ...]]

_PART: Final = 40 << 10
"""Bytes of a zone's records in one message."""
_MAX_NAME: Final = 253
"""Characters of a name (RFC 1035)."""


class Upstream(msgspec.Struct, frozen=True):
    """A server to ask: from the host, or ``inside``, from the sandbox's namespace (``--dns``)."""

    address: str
    port: int = 53
    inside: bool = False


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What a sandbox's resolver knows.

    Attributes:
        zones: network ids; the first that has a name answers for it.
        names: names of this sandbox alone (links), before all zones.
        upstreams: asked in this order for what is not known; three at most are used.
        forward: False: nothing is asked elsewhere (``--internal``).
        egress: the policy of its container (``egress.py``): None: none. Under one all servers are
            asked from the host, and only for names that it allows.
        ndots: the option was set; a name of one label that is not known is then answered with
            nothing, and the asker tries its search domains.
    """

    zones: tuple[str, ...] = ()
    names: dict[str, tuple[str, ...]] = {}
    upstreams: tuple[Upstream, ...] = ()
    forward: bool = True
    ndots: bool = False
    egress: Policy | None = None

    def inside(self) -> frozenset[int]:
        """The families of the servers that are asked from inside."""
        if self.egress is not None:
            return frozenset()
        return frozenset(_family(server.address) for server in self.upstreams if server.inside)


class _Zone(msgspec.Struct, frozen=True):
    domain: str
    records: bytes


class _Sandbox(msgspec.Struct):
    view: View
    netns: int


class Names:
    """The names of an engine's sandboxes. Calls for one sandbox come one after the other."""

    def __init__(self, helper: Helper) -> None:
        self._helper = helper
        self.measured: dict[str, int] = {}
        self._sandboxes: dict[str, _Sandbox] = {}
        self._zones: dict[str, _Zone] = {}
        self._inside: dict[
            str, frozenset[int]
        ] = {}  # families, of each sandbox that the helper has sockets of
        helper.restorers.append(self._restore)

    async def open(
        self, sandbox: str, netns: int, view: View, prepared: Sockets | None = None
    ) -> None:
        """Serve names in a sandbox, or give it another view.

        Args:
            sandbox: its id.
            netns: a descriptor of its namespace, the caller's; a copy is kept until :meth:`close`.
            view: what it is told.
            prepared: what :func:`prepare` made there already; closed by this.

        Raises:
            Unavailable: the helper or the kernel cannot.
            InvalidArgument: the view has a bad address or name.
        """
        try:
            message = _view(view)
            known = self._sandboxes.get(sandbox)
            if known is not None:
                known.view = view
            else:
                copy = fcntl.fcntl(netns, fcntl.F_DUPFD_CLOEXEC, 3)
                self._sandboxes[sandbox] = _Sandbox(view, copy)
            try:
                if not await self._helper.ensure() or sandbox not in self._inside:
                    await self._send_view(sandbox, message, prepared)
            except BaseException:
                if known is None:
                    self._forget(sandbox)
                raise
        finally:
            if prepared is not None:
                prepared.close()

    async def change(self, sandbox: str, view: View) -> None:
        """Give a sandbox that is open another view.

        Raises:
            NotFound: it is not open.
            Unavailable, InvalidArgument: as :meth:`open`.
        """
        known = self._sandboxes.get(sandbox)
        if known is None:
            raise NotFound(f"names: {sandbox}: has no resolver")
        await self.open(sandbox, known.netns, view)

    async def zone(self, network: str, records: Records, domain: str = "") -> None:
        """Set the names of a network, all of them.

        Args:
            network: its id.
            records: a name's addresses. Of several names with one address the first stands in the
                answer to a reverse question.
            domain: the network's name: each name is also known as ``name.domain``, and that is
                what a reverse question is answered with.

        Raises:
            InvalidArgument: a name or an address is none.
            Unavailable: the helper is gone.
        """
        self._zones[network] = _Zone(domain.lower(), encode_records(records))
        if self._helper.connected:
            await self._send_zone(network)

    async def forget(self, network: str) -> None:
        """A network is no more. Idempotent."""
        if self._zones.pop(network, None) is not None and self._helper.connected:
            await self._helper.request("forget", network)

    async def close(self, sandbox: str) -> None:
        """A sandbox is gone: its namespace is let go of. Idempotent."""
        self._forget(sandbox)
        known = self._inside.pop(sandbox, None)
        if known is not None and self._helper.connected:
            await self._helper.request("close", sandbox)

    async def reconcile(
        self,
        sandboxes: Mapping[str, tuple[int, View]],
        zones: Mapping[str, tuple[Records, str]],
    ) -> None:
        """After a start: have exactly this served. Who is served already does not notice.

        Args:
            sandboxes: pid of a process in it, and its view.
            zones: records and domain of each network.

        Raises:
            Unavailable: the helper cannot be had. One sandbox that fails is logged.
        """
        for network, (records, domain) in zones.items():
            self._zones[network] = _Zone(domain.lower(), encode_records(records))
        for sandbox, (pid, view) in sandboxes.items():
            netns = _namespace_of(pid)
            if netns is not None:
                self._forget(sandbox)
                self._sandboxes[sandbox] = _Sandbox(view, netns)
        if not await self._helper.adopt() and not self._sandboxes:
            return
        if await self._helper.ensure():
            return
        await self._take_over()

    async def _take_over(self) -> None:
        """Bring a helper that was there before us to what we want."""
        for thing in list(self._helper.present.values()):
            if thing.kind == protocol.KIND_ZONE and thing.owner not in self._zones:
                await self._helper.request("forget", thing.owner)
            if thing.kind != protocol.KIND_SANDBOX or thing.fds:
                continue
            if thing.owner not in self._sandboxes:
                await self._helper.request("close", thing.owner)
                continue
            # Their families are not told: a record's servers do not change while we are away.
            families = self._sandboxes[thing.owner].view.inside()
            self._inside[thing.owner] = families if thing.inside else frozenset()
        await self._restore(anew=False)

    async def metrics(self) -> dict[str, int]:
        """The helper's counters; empty when there is no helper."""
        return await self._helper.count() if self._helper.connected else {}

    async def measure(self) -> None:
        """Take the counters into ``measured``; a helper that does not answer leaves the last."""
        try:
            self.measured = await self.metrics() or self.measured
        except BoxwoodError as error:
            log.warning("names: %s", error)

    def release(self) -> None:
        """Close what is kept here (the daemon's end); the helper goes on."""
        for sandbox in list(self._sandboxes):
            self._forget(sandbox)

    # ---- to the helper

    async def _restore(self, *, anew: bool = True) -> None:
        """Tell a helper everything."""
        if anew:
            self._inside.clear()
        for network in list(self._zones):
            await self._send_zone(network)
        for sandbox in list(self._sandboxes):
            try:
                await self._send_view(sandbox, _view(self._sandboxes[sandbox].view), None)
            except BoxwoodError as error:
                if not self._helper.connected:
                    raise
                log.error("names: %s: %s", sandbox, error)

    async def _send_zone(self, network: str) -> None:
        zone = self._zones[network]
        parts = [zone.records[at : at + _PART] for at in range(0, max(len(zone.records), 1), _PART)]
        for part in parts[:-1]:
            await self._helper.request("zone", network, zone.domain, 0, part)
        await self._helper.request("zone", network, zone.domain, 1, parts[-1])

    async def _send_view(
        self,
        sandbox: str,
        message: _Message,
        prepared: Sockets | None,
    ) -> None:
        known = self._sandboxes[sandbox]
        wanted = known.view.inside()
        if sandbox in self._inside and wanted <= self._inside[sandbox]:
            await self._helper.request("view", sandbox, *message[:-1], 0, message[-1])
            return
        given = self._helper.present.get((protocol.KIND_SANDBOX, sandbox, ""))
        if given is not None and given.fds and (not wanted or given.inside):
            values = (*message[:-1], given.inside, message[-1])
            await self._helper.request("view", sandbox, *values, fds=given.fds)
            self._inside[sandbox] = wanted
            for fd in given.fds:
                os.close(fd)
            given.fds = []
            return
        if prepared is None or (wanted and not prepared.inside):
            prepared = await asyncio.to_thread(prepare, known.netns, wanted)
        try:
            values = (*message[:-1], prepared.inside, message[-1])
            await self._helper.request("view", sandbox, *values, fds=prepared.filenos())
        finally:
            prepared.close()
        self._inside[sandbox] = wanted

    def _forget(self, sandbox: str) -> None:
        known = self._sandboxes.pop(sandbox, None)
        if known is not None:
            os.close(known.netns)


def _namespace_of(pid: int) -> int | None:
    try:
        return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unavailable(f"names: network of process {pid}: {error.strerror}") from error


# ---- the wire


def _packed(address: str) -> bytes:
    try:
        return ipaddress.ip_address(address).packed
    except ValueError as error:
        raise InvalidArgument(f"names: {address!r}: not an address") from error


def _family(address: str) -> int:
    return socket.AF_INET if len(_packed(address)) == 4 else socket.AF_INET6


def encode_records(records: Records) -> bytes:
    """The records of a zone as the helper reads them.

    Raises:
        InvalidArgument: a name or an address is none, or they are too many.
    """
    parts = []
    for name, addresses in records.items():
        text = name.lower().encode("utf-8", "surrogateescape")
        if not 0 < len(text) <= _MAX_NAME or b"\0" in text or len(addresses) > 255:
            raise InvalidArgument(f"names: {name!r}: not a name, or too many addresses")
        packed = [_packed(address) for address in addresses]
        parts.append(bytes([len(text)]) + text + bytes([len(packed)]))
        parts += [bytes([len(address)]) + address for address in packed]
    data = b"".join(parts)
    if len(data) > protocol.MAX_ZONE:
        raise InvalidArgument(f"names: {len(records)} of them: too many for one network")
    return data


def _view(view: View) -> _Message:
    """A view's zones, names, servers and flags as the helper reads them."""
    servers = []
    inside = view.inside()
    patterns: tuple[str, ...] = ()
    for server in view.upstreams[: protocol.MAX_UPSTREAMS]:
        packed = _packed(server.address)
        is_inside = server.inside and bool(inside)
        servers.append(struct.pack(">BBH", is_inside, len(packed), server.port) + packed)
    flags = view.forward * protocol.VIEW_FORWARD | view.ndots * protocol.VIEW_NDOTS
    if view.egress is not None and view.egress.learn:
        flags |= protocol.VIEW_LEARN
    elif view.egress is not None:
        flags |= protocol.VIEW_EGRESS
        patterns = tuple(rule.host for rule in view.egress.rules if not rule.is_network)
    if len(view.zones) > protocol.MAX_ZONES:
        raise InvalidArgument(f"names: {len(view.zones)} networks: too many for one sandbox")
    return view.zones, encode_records(view.names), b"".join(servers), flags, patterns
