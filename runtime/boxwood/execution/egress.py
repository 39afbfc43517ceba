"""Egress by name: which addresses a container may send to, opened as its resolver answers.

A table of ours in the host's packet filter refuses what limited containers (known by their
addresses) send out of their network, but to what its sets have. Subnets are put there at once;
names by the broker (``ext/c/broker``), a program which can do nothing else, for as long as each
answer lives: the helper tells it of an answer before the container has it. Both go on while the
daemon is away. The container's own resolver is the only one it reaches, and asks for no name that
may not be reached.

Should the table vanish while nobody can put it back, routing rules close the limited containers
(:mod:`egress_routes`).

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
import socket
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from boxwood.errors import BoxwoodError, Unavailable
from boxwood.execution.egress_broker import Broker
from boxwood.execution.egress_routes import Routes
from boxwood.execution.egress_table import PROTOCOLS, Limited, Refused, Table, removes
from boxwood.execution.helper import Helper
from boxwood.execution.name_rules import NETLINK_NETFILTER
from boxwood.model.egress import Policy

log = logging.getLogger(__name__)

RULES: Final = "egress-rules.json"
"""The file, in the engine's exec-root, that names its routing rules."""
USUAL_ROOT: Final = Path("/run/boxwood")
_GROUP_NFTABLES: Final = 7
_REVIVE_WAIT: Final = 10.0
"""Seconds between two brokers that die."""
_PAUSE: Final = 0.2
"""Seconds between two looks, whatever others do."""


class Egress:
    """The policies of an engine's containers."""

    def __init__(self, directory: Path, helper: Helper, tag: str = "") -> None:
        """``directory``: the engine's exec-root. ``tag``: of its table, when there are several."""
        self.table = f"boxwood-egress{tag}"
        self.broker = Broker(directory, self.table)
        self._table = Table(self.table)
        self._routes = Routes(directory / RULES)
        self._routing = asyncio.Lock()
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
        await asyncio.to_thread(self._table.change, old, limited)
        self._limited[sandbox] = limited
        fresh = set(limited.addresses).difference(old.addresses if old else ())
        await asyncio.to_thread(self._forget, fresh)
        await self._close_otherwise()
        await self._tell(sandbox, limited)

    async def refused(self, sandbox: str) -> list[Refused]:
        """Return the destinations that a container was refused, the latest last."""
        limited = self._limited.get(sandbox)
        if limited is None:
            return []
        return await asyncio.to_thread(self._table.refused, limited.addresses)

    async def close(self, sandbox: str) -> None:
        """A container is gone: its addresses are free for others. Idempotent."""
        old = self._limited.pop(sandbox, None)
        if old is None:
            return
        await self._close_otherwise()
        if self._limited:
            await asyncio.to_thread(self._table.change, old, None)
        else:
            await asyncio.to_thread(self._table.remove)
        if self.broker.connected:
            await self.broker.request("close", sandbox)

    async def reconcile(self, wanted: Mapping[str, Limited]) -> None:
        """After a start: limit exactly these. What is open for them stays open."""
        self._limited = dict(wanted)
        if not self._limited:
            await self._close_otherwise()
            await asyncio.to_thread(self._table.remove)
            await self.broker.open(spawn=False)
            if self.broker.connected:
                await self.broker.request("keep", ())
            return
        await self._ensure()
        await asyncio.to_thread(self._table.settle, list(self._limited.values()))
        await self._close_otherwise(anew=True)
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
                if data and not removes(data, self.table):
                    continue
                try:
                    if await self.restore():
                        tell(f"egress: table {self.table}: put back")
                except BoxwoodError as error:
                    log.error("egress: put the table back: %s", error)
                await asyncio.sleep(_PAUSE)

    async def restore(self) -> bool:
        """Put the table back if it is gone. True: it was. For who watches the packet filter."""
        if not self._limited or await asyncio.to_thread(self._table.is_there):
            return False
        await asyncio.to_thread(self._table.make, list(self._limited.values()))
        await self._close_otherwise(anew=True)
        return True

    def release(self) -> None:
        """Let go (the daemon's end): the policies stay."""
        if self._reviving is not None:
            self._reviving.cancel()
        self.broker.close()

    def _forget(self, addresses: Iterable[str]) -> None:
        with contextlib.suppress(Unavailable):  # some of it has just run out
            self._table.forget(addresses)

    async def _close_otherwise(self, *, anew: bool = False) -> None:
        """Have the routing rules of exactly the limited; without them the table alone closes."""
        async with self._routing:
            closed = [one for one in self._limited.values() if not one.policy.learn]
            addresses = [text for one in closed for text in one.addresses]
            try:
                await asyncio.to_thread(self._routes.settle, addresses, anew=anew)
            except OSError as error:
                log.warning("egress: routing rules: %s", error.strerror)

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
        if not await asyncio.to_thread(self._table.is_there):
            await asyncio.to_thread(self._table.make, list(self._limited.values()))
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
                ">BHB", PROTOCOLS[rule.protocol] if rule.port else 0, rule.port, len(rule.host)
            )
            + rule.host.encode()
            for rule in rules
        )
        await self.broker.request("policy", sandbox, sources, packed_rules)


def tag_of(exec_root: Path) -> str:
    """What tells an engine's table from another's: nothing for the usual place."""
    if exec_root == USUAL_ROOT:
        return ""
    return "_" + hashlib.sha256(str(exec_root).encode()).hexdigest()[:8]
