"""Egress by name: which addresses a container may send to, opened as its resolver answers.

A table of ours in the host's packet filter refuses what limited containers (known by their
addresses) send out of their network, but to what its sets have. Subnets are put there at once;
names by the broker (``ext/c/broker``), a program which can do nothing else, for as long as each
answer lives: the helper tells it of an answer before the container has it. Both go on while the
daemon is away. The container's own resolver is the only one it reaches, and asks for no name that
may not be reached.

Life: :meth:`Egress.open` before the container's first process, :meth:`Egress.close` after its end;
:meth:`Egress.reconcile` at the daemon's start.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import ipaddress
import logging
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

import msgspec

from boxwood.errors import BoxwoodError, Unavailable
from boxwood.execution.helper import Helper, listen_at
from boxwood.execution.name_rules import NETLINK_NETFILTER
from boxwood.execution.shim_packets import send_packet
from boxwood.execution.shim_process import connect, seal
from boxwood.model.egress import Policy, Rule
from boxwood_ext import broker_protocol as protocol
from boxwood_ext import launch
from boxwood_ext.nft import Nft, NftError
from boxwood_ext.wire import Op, ProgramError, Value

log = logging.getLogger(__name__)

SOCKET: Final = "broker.sock"
TIMEOUT: Final = 10.0
USUAL_ROOT: Final = Path("/run/boxwood")
_GROUP_NFTABLES: Final = 7
_REMOVALS: Final = frozenset(10 << 8 | kind for kind in (2, 5, 8, 11))
"""Of a table, a chain, a rule, a set."""
_REVIVE_WAIT: Final = 10.0
"""Seconds between two brokers that die."""
_PAUSE: Final = 0.2
"""Seconds between two looks, whatever others do."""
_PROTOCOLS: Final = {"": 6, "tcp": 6, "udp": 17}


class Limited(msgspec.Struct, frozen=True):
    """A container under a policy, and its addresses."""

    policy: Policy
    addresses: tuple[str, ...]


class Broker:
    """The connection to the broker, which is started when it is first needed."""

    def __init__(self, directory: Path, table: str) -> None:
        self._directory, self._table = directory, table
        self._socket: socket.socket | None = None
        self._lock = asyncio.Lock()
        self._number = 0
        self._pidfd = -1
        self.pid = 0
        self.on_end: Callable[[], None] = _nothing
        """Called when the process that is spoken to has ended."""

    @property
    def connected(self) -> bool:
        return self._socket is not None

    async def open(self, *, spawn: bool) -> bool:
        """Connect, to a new one if need be and ``spawn`` says so. True: to a new one.

        Raises:
            Unavailable: it cannot be started, or does not answer.
        """
        self.close()
        connection = connect(self._directory, SOCKET)
        if connection is not None and await self._greeted(connection):
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            self.pid = struct.unpack("iII", credentials)[0]
            self._watch()
            return False
        # None, or one that was just about to end.
        if not spawn:
            return False
        if not await self._greeted(self._spawn()):
            raise Unavailable("egress broker: does not answer")
        self._watch()
        return True

    async def _greeted(self, connection: socket.socket) -> bool:
        """Use a connection, if the broker at its end says that it is there."""
        connection.setblocking(False)
        self._socket = connection
        try:
            if (await self._receive()).name == "ready":
                return True
        except Unavailable as error:
            log.info("%s", error)
        self.close()
        return False

    def _watch(self) -> None:
        """Hear of its end; it is our child, or was another daemon's."""
        with contextlib.suppress(ProcessLookupError):
            self._pidfd = os.pidfd_open(self.pid)
            asyncio.get_running_loop().add_reader(self._pidfd, self._ended)

    def _ended(self) -> None:
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        self.close()
        self.on_end()

    def _spawn(self) -> socket.socket:
        executable, build = _executable()
        listener = listen_at(self._directory, SOCKET)
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        try:
            args = (b"boxwood-broker", build.encode(), self._table.encode())
            fds = [listener.fileno(), netlink.fileno()]
            self.pid, pidfd = launch.spawn_shim(executable, fds, args)
            os.close(pidfd)
        except OSError as error:
            raise Unavailable(f"egress broker: start: {error.strerror}") from error
        finally:
            listener.close()
            netlink.close()
        connection = connect(self._directory, SOCKET)
        if connection is None:
            raise Unavailable("egress broker: it ended at once")
        return connection

    async def request(self, name: str, *values: Value, fds: Iterable[int] = ()) -> None:
        """Ask for one thing.

        Raises:
            Unavailable: it is gone, or refuses.
        """
        async with self._lock:
            self._number += 1
            if self._socket is None:
                raise Unavailable("egress broker: is gone")
            data = protocol.encode(name, self._number, *values)
            if not send_packet(self._socket, data, list(fds)):
                raise Unavailable("egress broker: does not read")
            error = (await self._receive()).values[1]
        if error:
            raise Unavailable(f"egress broker: {name}: {os.strerror(int(str(error))).lower()}")

    async def _receive(self) -> Op:
        connection = self._socket
        if connection is None:
            raise Unavailable("egress broker: is gone")
        try:
            async with asyncio.timeout(TIMEOUT):
                loop = asyncio.get_running_loop()
                data = await loop.sock_recv(connection, protocol.MAX_MESSAGE)
            return protocol.decode(data)
        except (OSError, TimeoutError, ProgramError) as error:
            self.close()
            raise Unavailable(f"egress broker: does not answer: {error}") from error

    def close(self) -> None:
        """Let go of it; with a policy it goes on. Idempotent."""
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


class Egress:
    """The policies of an engine's containers."""

    def __init__(self, directory: Path, helper: Helper, tag: str = "") -> None:
        """``directory``: the engine's exec-root. ``tag``: of its table, when there are several."""
        self.table = f"boxwood-egress{tag}"
        self.broker = Broker(directory, self.table)
        self._helper = helper
        self.broker.on_end = self._lost
        self._revived = 0.0
        self._reviving: asyncio.Task[None] | None = None
        self._limited: dict[str, Limited] = {}
        helper.restorers.append(self._introduce)

    async def open(self, sandbox: str, addresses: Iterable[str], policy: Policy) -> None:
        """Limit a container, from now on: before its first process. Replaces what was.

        ``addresses``: its own, without prefix length.

        Raises:
            Unavailable: no nftables, or the broker cannot be had.
        """
        limited = Limited(policy, tuple(addresses))
        old = self._limited.get(sandbox)
        await self._ensure()
        await asyncio.to_thread(self._apply, self._forget(old) + self._elements(limited, "add"))
        self._limited[sandbox] = limited
        await self._tell(sandbox, limited)

    async def close(self, sandbox: str) -> None:
        """A container is gone: its addresses are free for others. Idempotent."""
        old = self._limited.pop(sandbox, None)
        if old is None:
            return
        if self._limited:
            await asyncio.to_thread(self._apply, self._forget(old))
        else:
            await asyncio.to_thread(self._remove)
        if self.broker.connected:
            await self.broker.request("close", sandbox)

    async def reconcile(self, wanted: Mapping[str, Limited]) -> None:
        """After a start: limit exactly these. What is open for them stays open."""
        self._limited = dict(wanted)
        if not self._limited:
            await asyncio.to_thread(self._remove)
            await self.broker.open(spawn=False)
            if self.broker.connected:
                await self.broker.request("keep", ())
            return
        await self._ensure()
        await asyncio.to_thread(self._settle)
        await self.broker.request("keep", tuple(self._limited))
        for sandbox, limited in self._limited.items():
            await self._tell(sandbox, limited)

    async def guard(self, tell: Callable[[str], None]) -> None:
        """Put the table back whenever somebody else takes it, or a part of it, away.

        ``tell`` is given a sentence each time. What names had opened has to be asked for again.
        """
        loop = asyncio.get_running_loop()
        try:
            watch = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_NETFILTER
            )
        except OSError as error:
            log.info("egress: no packet filter to watch: %s", error.strerror)
            return
        with watch:
            try:
                watch.bind((0, 1 << (_GROUP_NFTABLES - 1)))
            except OSError as error:
                log.info("egress: the packet filter is not watched: %s", error.strerror)
                return
            while True:
                try:
                    data = await loop.sock_recv(watch, 1 << 16)
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    data = b""  # some were lost: look
                if data and not _removes(data, self.table):
                    continue
                try:
                    if await self.restore():
                        tell(f"egress: table {self.table}: put back")
                except BoxwoodError as error:
                    log.error("egress: put the table back: %s", error)
                await asyncio.sleep(_PAUSE)

    async def restore(self) -> bool:
        """Put the table back if it is gone. True: it was. For who watches the packet filter."""
        if not self._limited or await asyncio.to_thread(self._is_there):
            return False
        await asyncio.to_thread(self._make)
        return True

    def release(self) -> None:
        """Let go (the daemon's end): the policies stay."""
        if self._reviving is not None:
            self._reviving.cancel()
        self.broker.close()

    # ---- the broker

    def _lost(self) -> None:
        """It has ended: as long as there are policies there is another, at once or, when that one
        too did not last, after a while."""
        if self._limited:
            log.warning("egress: the broker is gone: a new one is started")
            self._reviving = asyncio.get_running_loop().create_task(self._revive())

    async def _revive(self) -> None:
        if time.monotonic() - self._revived < _REVIVE_WAIT:
            await asyncio.sleep(_REVIVE_WAIT)
        self._revived = time.monotonic()
        try:
            await self._ensure()
        except BoxwoodError as error:
            log.error("egress: start the broker again: %s", error)

    async def _ensure(self) -> None:
        if not await asyncio.to_thread(self._is_there):
            await asyncio.to_thread(self._make)
        if not self.broker.connected:
            fresh = await self.broker.open(spawn=True)
            for sandbox, limited in self._limited.items() if fresh else ():
                await self._tell(sandbox, limited)
            if self._helper.connected:
                await self._introduce()

    async def _introduce(self) -> None:
        """Connect helper and broker with each other."""
        if not self.broker.connected:
            return
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with one, other:
            await self.broker.request("helper", fds=[one.fileno()])
            await self._helper.request("broker", fds=[other.fileno()])

    async def _tell(self, sandbox: str, limited: Limited) -> None:
        sources = b"".join(
            bytes([len(packed)]) + packed
            for packed in (ipaddress.ip_address(one).packed for one in limited.addresses)
        )
        rules = [rule for rule in limited.policy.rules if not rule.is_network]
        if limited.policy.learn:
            rules = []
        packed_rules = b"".join(
            struct.pack(
                ">BHB", _PROTOCOLS[rule.protocol] if rule.port else 0, rule.port, len(rule.host)
            )
            + rule.host.encode()
            for rule in rules
        )
        await self.broker.request("policy", sandbox, sources, packed_rules)

    # ---- the table

    def _apply(self, commands: str) -> None:
        nft = Nft()
        try:
            nft.run(commands)
        except NftError as error:
            raise Unavailable(f"egress: packet filter: {error}") from error
        finally:
            nft.close()

    def _is_there(self) -> bool:
        nft = Nft()
        try:
            there = nft.query(f"list table inet {self.table}")
        except NftError:
            return False
        finally:
            nft.close()
        rules = [line for line in _table(self.table).splitlines() if not line.startswith(_OTHER)]
        return sum("rule" in one for one in there) == len(rules)

    def _make(self) -> None:
        elements = "".join(self._elements(one, "add") for one in self._limited.values())
        # The first of the two lines makes the other one possible.
        anew = f"table inet {self.table}\ndelete table inet {self.table}\n"
        self._apply(anew + _table(self.table) + elements)

    def _settle(self) -> None:
        """Have the wanted elements in the table that is there, and no others of the daemon's; what
        names have opened stays."""
        clear = "".join(
            f"flush set inet {self.table} {kind}{family}\n"
            for kind in ("limited", "nets")
            for family in (4, 6)
        )
        self._apply(clear + "".join(self._elements(one, "add") for one in self._limited.values()))

    def _remove(self) -> None:
        """Remove the table; where there is no nftables, there is none."""
        nft = None
        try:
            nft = Nft()
            tables = nft.query("list tables inet")
        except NftError:
            return
        finally:
            if nft is not None:
                nft.close()
        if not any(one.get("table", {}).get("name") == self.table for one in tables):
            return
        self._apply(f"table inet {self.table}\ndelete table inet {self.table}\n")

    def _forget(self, limited: Limited | None) -> str:
        """Commands that take a container's elements away; what names opened runs out by itself, and
        its table is of no use without the container's address among the limited."""
        return self._elements(limited, "delete") if limited is not None else ""

    def _elements(self, limited: Limited, verb: str) -> str:
        if limited.policy.learn:
            return ""
        lines = []
        for text in limited.addresses:
            family = ipaddress.ip_address(text).version
            head = f"{verb} element inet {self.table}"
            lines.append(f"{head} limited{family} {{ {text} }}")
            for rule in limited.policy.rules:
                if rule.is_network and ipaddress.ip_network(rule.host).version == family:
                    key = f"{text} . {rule.host} . {_ports(rule)}"
                    lines.append(f"{head} nets{family} {{ {key} }}")
        return "\n".join([*lines, ""])


def tag_of(exec_root: Path) -> str:
    """What tells an engine's table from another's: nothing for the usual place."""
    if exec_root == USUAL_ROOT:
        return ""
    return "_" + hashlib.sha256(str(exec_root).encode()).hexdigest()[:8]


def _removes(data: bytes, table: str) -> bool:
    """Do these notifications tell that something of the table was removed?"""
    at = 0
    while at + 24 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        if length < 24:
            break
        size = struct.unpack_from("=H", data, at + 20)[0]
        name = data[at + 24 : at + 20 + size].rstrip(b"\0")
        if kind in _REMOVALS and name == table.encode():
            return True
        at += length + 3 & ~3
    return False


def _ports(rule: Rule) -> str:
    if not rule.port:
        return "0-255 . 0-65535"
    return f"{_PROTOCOLS[rule.protocol]} . {rule.port}"


_OTHER: Final = ("table ", "set ", "chain ", "}")
"""How lines of the table begin that are no rules."""


def _table(name: str) -> str:
    """The whole table. Names never open the host itself (``input``), only subnets do: a name's
    owner says where it leads."""
    parts = [f"table inet {name} {{"]
    for family, kind in ((4, "ipv4_addr"), (6, "ipv6_addr")):
        pair = f"{kind} . {kind}"
        ports = f"{pair} . inet_proto . inet_service"
        parts += [
            f"set limited{family} {{ type {kind}; }}",
            f"set hosts{family} {{ type {pair}; flags timeout; }}",
            f"set ports{family} {{ type {ports}; flags timeout; }}",
            f"set nets{family} {{ type {ports}; flags interval; }}",
        ]
    for family, ip in ((4, "ip"), (6, "ip6")):
        key = f"{ip} saddr . {ip} daddr"
        parts += [
            f"chain named{family} {{",
            f"{key} @hosts{family} accept",
            f"{key} . meta l4proto . th dport @ports{family} accept",
            "}",
        ]
    parts += ["chain refuse {", "meta l4proto tcp reject with tcp reset", "reject", "}"]
    for hook, named in (("forward", True), ("input", False)):
        for family, ip in ((4, "ip"), (6, "ip6")):
            key = f"{ip} saddr . {ip} daddr . meta l4proto . th dport"
            parts += [
                f"chain {hook}{family} {{",
                "ct state established,related accept",
                *(["icmpv6 type { 133, 134, 135, 136 } accept"] if family == 6 else []),
                f"{key} @nets{family} accept",
                *([f"jump named{family}"] if named else []),
                "goto refuse",
                "}",
            ]
        parts += [
            f"chain {hook} {{ type filter hook {hook} priority -5; policy accept;",
            f"ip saddr @limited4 goto {hook}4",
            f"ip6 saddr @limited6 goto {hook}6",
            "}",
        ]
    return "\n".join([*parts, "}", ""])


@cache
def _executable() -> tuple[int, str]:
    path = Path(str(resources.files("boxwood_ext") / "bin" / "boxwood-broker"))
    return seal(path), hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _nothing() -> None:
    """Nobody wants to hear of it."""
