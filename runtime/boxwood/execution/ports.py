"""Ports of the host: chosen, and held for as long as they are published.

A socket is bound for every address, protocol and port, so that a conflict is found before a driver
is asked, and no other program takes the port meanwhile. The sockets live in the helper
(``helper.py``), which outlives the daemon. What the kernel leads never reaches them; what it cannot
lead (``[::1]``, IPv6 to a container that has none) the helper serves itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import ipaddress
import logging
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from boxwood.drivers.network import PortRequest
from boxwood.errors import (
    BoxwoodError,
    Conflict,
    InvalidArgument,
    PermissionDenied,
    Unavailable,
    Unsupported,
)
from boxwood.execution.helper import Helper
from boxwood_ext import helper_protocol as protocol

log = logging.getLogger(__name__)

RANGE_FILE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
RANGE: Final = (32768, 60999)
"""Where the file says nothing: the kernel's own default."""
BOTH: Final = ("0.0.0.0", "::")
"""What an empty host address stands for."""
_SO_ATTACH_FILTER: Final = 26
_SCTP: Final = 132
_KINDS: Final = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_SEQPACKET, _SCTP),
}
_AT_ONCE: Final = 200
"""Descriptors in one message (SCM_MAX_FD is 253)."""

Targets = Mapping[PortRequest, str]
"""For each port that the helper serves, the container's address."""


class _Held(msgspec.Struct):
    request: PortRequest
    target: str = ""


class Ports:
    """The ports that an engine has published, by owner (a container's id)."""

    def __init__(self, helper: Helper) -> None:
        self._helper = helper
        self._owners: dict[str, dict[str, _Held]] = {}
        self._next = 0
        helper.restorers.append(self._restore)

    async def hold(self, owner: str, wanted: Sequence[PortRequest]) -> tuple[PortRequest, ...]:
        """Choose and hold ports, all or none; to those the owner has already.

        A request without ``host_ip`` stands for both families, with one number for both, and
        becomes two (one where the host has no IPv6). ``host_port`` 0 is any of the kernel's range
        for such ports; with ``last`` it is the first free of ``host_port`` to ``last``.

        Returns:
            What is held, in the order of the request.

        Raises:
            Conflict: a port is taken; in Docker's words.
            InvalidArgument: the address is not this host's.
            PermissionDenied: the port needs a privilege.
            Unavailable: the helper cannot be had.
        """
        chosen: list[tuple[PortRequest, socket.socket]] = []
        try:
            for request in wanted:
                chosen += self._choose(request, [made for made, _ in chosen])
            if chosen:
                await self._helper.ensure()
                await self._send(owner, [(key_of(made), held.fileno()) for made, held in chosen])
        finally:
            for _, held in chosen:
                held.close()
        held_now = self._owners.setdefault(owner, {})
        for made, _ in chosen:
            held_now[key_of(made)] = _Held(made)
        return tuple(made for made, _ in chosen)

    async def serve(self, owner: str, wanted: Iterable[tuple[PortRequest, str]]) -> None:
        """Lead the traffic of these of the owner's ports, and of no others, by the helper.

        ``wanted``: what :meth:`hold` returned, and the address where ``request.port`` is.

        Raises:
            NotFound: a port is not held.
            Unavailable: the helper is gone.
        """
        targets = {key_of(request): address for request, address in wanted}
        ports = self._owners.get(owner, {})
        for key in targets.keys() | {key for key, held in ports.items() if held.target}:
            held = ports.get(key)
            address = targets.get(key, "")
            if held is None or held.target != address:
                await self._serve(owner, key, held.request.port if held else 0, address)
            if held is not None:
                held.target = address

    async def release(self, owner: str, gone: Sequence[PortRequest] = ()) -> None:
        """Let go of the owner's ports, of all when none are named. Idempotent."""
        keys = tuple(key_of(request) for request in gone)
        ports = self._owners.get(owner)
        if ports is None:
            return
        for key in keys or tuple(ports):
            ports.pop(key, None)
        if not ports:
            del self._owners[owner]
        if self._helper.connected:
            await self._helper.request("release", owner, keys)

    async def move(self, owner: str, to: str, moved: Sequence[PortRequest]) -> None:
        """Make ports that an owner holds another's; they are held, and served, all the time.

        Raises:
            NotFound, Conflict: the one does not hold them, or the other does; nothing has changed.
            Unavailable: the helper is gone.
        """
        keys = tuple(key_of(request) for request in moved)
        if not keys:
            return
        await self._helper.ensure()
        await self._helper.request("move", owner, keys, to)
        given, taken = self._owners[owner], self._owners.setdefault(to, {})
        for key in keys:
            taken[key] = given.pop(key)
        if not given:
            del self._owners[owner]

    def held(self, owner: str) -> tuple[PortRequest, ...]:
        """What an owner holds."""
        return tuple(held.request for held in self._owners.get(owner, {}).values())

    async def reconcile(self, wanted: Mapping[str, Mapping[PortRequest, str]]) -> list[str]:
        """After a start: hold exactly these (and serve those with an address).

        Returns:
            A sentence for each that another program has taken meanwhile.

        Raises:
            Unavailable: the helper cannot be had.
        """
        self._owners = {
            owner: {key_of(request): _Held(request, target) for request, target in ports.items()}
            for owner, ports in wanted.items()
            if ports
        }
        if not await self._helper.adopt() and not self._owners:
            return []
        lost: list[str] = []
        if not await self._helper.ensure():
            await self._release_others()
            lost = await self._complete(anew=False)
        return lost

    async def _release_others(self) -> None:
        for thing in list(self._helper.present.values()):
            ours = thing.key in self._owners.get(thing.owner, {})
            if thing.kind == protocol.KIND_PORT and not ours and not thing.fds:
                await self._helper.request("release", thing.owner, (thing.key,))

    async def _restore(self) -> None:
        for sentence in await self._complete(anew=True):
            log.error("ports: %s", sentence)

    async def _complete(self, *, anew: bool) -> list[str]:
        """Hold in the helper what it has not, and serve what is to be served."""
        lost = []
        for owner, ports in self._owners.items():
            for key, held in list(ports.items()):
                try:
                    await self._hold_again(owner, key, held.request, anew=anew)
                except BoxwoodError as error:
                    if not self._helper.connected:
                        raise
                    lost.append(f"{owner}: {error}")
                    del ports[key]
                    continue
                if held.target or not anew:
                    await self._serve(owner, key, held.request.port, held.target)
        return lost

    async def _hold_again(self, owner: str, key: str, request: PortRequest, *, anew: bool) -> None:
        thing = None if anew else self._helper.present.get((protocol.KIND_PORT, owner, key))
        if thing is not None and thing.fds:
            fds, thing.fds = thing.fds, []
            try:
                await self._send(owner, [(key, fds[0])])
            finally:
                for fd in fds:
                    os.close(fd)
        elif thing is None:
            held = _bound(request)
            if held is not None:
                with held:
                    await self._send(owner, [(key, held.fileno())])

    async def _send(self, owner: str, sockets: Sequence[tuple[str, int]]) -> None:
        for at in range(0, len(sockets), _AT_ONCE):
            part = sockets[at : at + _AT_ONCE]
            keys, fds = tuple(key for key, _ in part), [fd for _, fd in part]
            try:
                await self._helper.request("hold", owner, keys, fds=fds)
            except BoxwoodError:
                if at and self._helper.connected:
                    done = tuple(key for key, _ in sockets[:at])
                    await self._helper.request("release", owner, done)
                raise

    async def _serve(self, owner: str, key: str, port: int, address: str) -> None:
        target = b""
        if address:
            target = struct.pack(">H", port) + ipaddress.ip_address(address).packed
        await self._helper.request("serve", owner, key, target)

    # ---- choosing

    def _choose(
        self, request: PortRequest, chosen: Sequence[PortRequest]
    ) -> list[tuple[PortRequest, socket.socket]]:
        """Bind a request's sockets on the first number that is free for all of them."""
        taken = {key_of(made) for made in chosen}
        first_error: Conflict | None = None
        for number in self._numbers(request):
            try:
                return self._bind(request, number, taken)
            except Conflict as error:
                first_error = first_error or error
        if request.host_port and not _last(request) and first_error is not None:
            raise first_error
        host = _shown(request.host_ip or BOTH[0])
        asked = (request.host_port, _last(request))
        first, last = asked if request.host_port else ephemeral_range()
        raise Conflict(f"Bind for {host}:{first}-{last} failed: all ports are allocated")

    def _numbers(self, request: PortRequest) -> Iterator[int]:
        if request.host_port:
            yield from range(request.host_port, max(request.host_port, _last(request)) + 1)
            return
        first, last = ephemeral_range()
        count = last - first + 1
        begin = self._next if first <= self._next <= last else first
        for step in range(count):
            number = first + (begin - first + step) % count
            self._next = number + 1
            yield number

    def _bind(
        self, request: PortRequest, number: int, taken: set[str]
    ) -> list[tuple[PortRequest, socket.socket]]:
        made: list[tuple[PortRequest, socket.socket]] = []
        try:
            for host in (request.host_ip,) if request.host_ip else BOTH:
                one = PortRequest(request.port, request.protocol, host, number)
                if key_of(one) in taken:
                    raise _taken(one)
                held = _bound(one, optional=not request.host_ip and host == "::")
                if held is not None:
                    made.append((one, held))
        except BaseException:
            for _, held in made:
                held.close()
            raise
        return made


def key_of(request: PortRequest) -> str:
    """The name of a held port: ``tcp/0.0.0.0/80``."""
    return f"{request.protocol}/{request.host_ip}/{request.host_port}"


def ephemeral_range() -> tuple[int, int]:
    """First and last of the ports that the kernel gives out by itself (ip(7))."""
    with contextlib.suppress(OSError, ValueError):
        first, last = map(int, RANGE_FILE.read_text().split())
        return first, last
    return RANGE


def _last(request: PortRequest) -> int:
    return int(getattr(request, "last", 0))


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _taken(request: PortRequest) -> Conflict:
    return Conflict(
        f"Bind for {_shown(request.host_ip)}:{request.host_port} failed: port is already allocated"
    )


def _bound(request: PortRequest, *, optional: bool = False) -> socket.socket | None:
    """A socket on the port that takes no packet yet; None: optional, and the host has no IPv6."""
    kind, protocol_number = _KINDS[request.protocol]
    family = socket.AF_INET6 if ":" in request.host_ip else socket.AF_INET
    try:
        held = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol_number)
    except OSError as error:
        if optional and error.errno == errno.EAFNOSUPPORT:
            return None
        if error.errno in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
            raise Unsupported(
                f"publish port {request.host_port}/{request.protocol}: this kernel has no "
                f"{request.protocol.upper()}"
            ) from error
        raise Unavailable(f"publish port {request.host_port}: {error.strerror}") from error
    try:
        if family == socket.AF_INET6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _drop_all(held)
        # Connections of an earlier life that linger (TIME_WAIT) are no conflict; who listens is.
        if request.protocol != "udp":
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((request.host_ip, request.host_port))
        if request.protocol != "udp":
            held.listen(socket.SOMAXCONN)
    except OSError as error:
        held.close()
        if optional and error.errno == errno.EADDRNOTAVAIL:
            return None
        raise _refusal(request, error) from error
    return held


def _drop_all(held: socket.socket) -> None:
    """A filter that lets nothing through: a connection is not accepted for nobody to serve."""
    program = struct.pack("HBBI", 0x06, 0, 0, 0)  # BPF_RET | BPF_K, 0
    buffer = ctypes.create_string_buffer(program)
    fprog = struct.pack("HP", 1, ctypes.addressof(buffer))
    held.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)


def _refusal(request: PortRequest, error: OSError) -> BoxwoodError:
    if error.errno == errno.EADDRINUSE:
        return _taken(request)
    where = f"{_shown(request.host_ip)}:{request.host_port}"
    if error.errno == errno.EADDRNOTAVAIL:
        return InvalidArgument(f"bind for {where} failed: cannot assign requested address")
    if error.errno in (errno.EACCES, errno.EPERM):
        return PermissionDenied(f"bind for {where} failed: permission denied")
    return Unavailable(f"bind for {where} failed: {error.strerror}")
