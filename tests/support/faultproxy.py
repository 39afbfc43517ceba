"""A proxy before a registry that harms what goes through, by seed: which fault meets which request.

The fault of a request depends on the seed, on the request and on how often it has been made
before, not on the order in which connections come: a run can be repeated. See
:mod:`tests.support.httpfaults` for what the faults are.
"""

from __future__ import annotations

import contextlib
import random
import re
import select
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.support.httpfaults import SILENCE, Fault, Head, Wire, chosen
from tests.support.relay import Relay

PIECE = 64 << 10
LONGEST_STALL = 30.0
"""Seconds after which a stalled connection is ended if the client does not do it."""
_UPLOAD = re.compile(r"/blobs/uploads/[^?]+")


@dataclass
class Asked:
    """One request, for the log."""

    method: str
    path: str
    start: int = 0
    """The first byte asked for (Range)."""
    fault: str = ""
    status: int = 0
    sent: int = 0
    """Bytes of the answer's body that went to the client."""
    received: int = 0
    """Bytes of the request's body that the client sent."""


@dataclass
class _Way:
    """A connection with both its ends, and what has been read of them already."""

    client: Wire
    server: Wire
    asked: Asked = field(default_factory=lambda: Asked("", ""))


class FaultProxy(Relay):
    """``with FaultProxy(upstream).serving() as proxy: proxy.begin(seed, rate)``"""

    def __init__(self, upstream: tuple[str, int], rate: float = 0.0) -> None:
        """``rate``: bytes a second of answers' bodies, all connections together; 0: no limit."""
        super().__init__(upstream, rate=rate)
        self.log: list[Asked] = []
        self._seed, self._rate, self._only = 0, 0.0, ""
        self._counts: Counter[str] = Counter()
        self._state = threading.Lock()

    def begin(self, seed: int, rate: float, only: str = "") -> None:
        """From now on harm so many requests of one, as the seed says; 0.0: none. A new log.

        ``only`` names the one fault of bodies that there is then.
        """
        with self._state:
            self._seed, self._rate, self._only = seed, rate, only
            self._counts.clear()
            self.log = []

    def fetched(self, part: str) -> int:
        """Return the bytes of answers to GET that clients were sent, of paths with ``part``."""
        return sum(one.sent for one in self.log if one.method == "GET" and part in one.path)

    def told(self) -> str:
        """Return a line for each request: what was done to it, what went through."""
        return "\n".join(
            f"  {one.method} {one.path} from {one.start}: {one.status}, {one.received} up, "
            f"{one.sent} down {one.fault}"
            for one in self.log
        )

    def serve(self, client: socket.socket, server: socket.socket) -> None:
        way, reset = _Way(Wire(client), Wire(server)), False
        try:
            while self._exchange(way):
                pass
        except (OSError, EOFError) as error:
            reset = isinstance(error, ConnectionResetError)
        finally:
            way.client.close(reset=reset)
            way.server.close()

    def _exchange(self, way: _Way) -> bool:
        """Carry one request and its answer; False: the connection ends."""
        head = way.client.head()
        if head is None:
            return False
        asked, fault = self._asked(head)
        way.asked = asked
        try:
            return self._request(way, head, fault) and self._answer(way, head, fault)
        finally:
            if fault is not None:
                asked.fault = fault.name + fault.told

    def _asked(self, head: Head) -> tuple[Asked, Fault | None]:
        method, path = head.line.split(" ")[:2]
        start = re.match(r"bytes=(\d+)-", head.get("Range"))
        asked = Asked(method, path, int(start[1]) if start else 0)
        # A session's name is made up by the registry: it is another one each time.
        key = f"{method} {_UPLOAD.sub('/blobs/uploads/SESSION', path)}"
        with self._state:
            self._counts[key] += 1
            dice = random.Random(f"{self._seed} {key} {self._counts[key]}")
            harmed = dice.random() < self._rate
            fault = chosen(dice, head, asked.start, self._only) if harmed else None
            self.log.append(asked)
        return asked, fault

    def _request(self, way: _Way, head: Head, fault: Fault | None) -> bool:
        way.server.send(head.bytes())
        size = head.size or 0
        pieces = way.client.body(head)
        if fault is not None and fault.of_request:
            pieces = fault.body(pieces, size)
        for piece in pieces:
            if piece is None:
                return self._stalled(way)
            way.asked.received += len(piece)
            way.server.send(piece)
        return True

    def _answer(self, way: _Way, head: Head, fault: Fault | None) -> bool:
        if fault is not None and fault.instead:
            # The registry has done it; its answer is lost.
            answer = way.server.head()
            if answer is not None:
                for _ in way.server.body(answer, head):
                    pass
            way.asked.status = fault.instead
            way.client.send(fault.page())
            return self._stalled(way) if fault.instead == SILENCE else fault.instead > 0
        answer = way.server.head()
        if answer is None:
            return False
        way.asked.status = answer.status
        size = answer.size or 0
        pieces = way.server.body(answer, head)
        endless = answer.size is None and not answer.chunked
        ends = endless or answer.get("Connection").lower() == "close"
        if fault is not None:
            ends = ends or fault.ends
            if not fault.of_request:
                answer = fault.head(answer)
                pieces = fault.body(pieces, size)
        way.client.send(answer.bytes())
        for piece in pieces:
            if piece is None:
                return self._stalled(way)
            way.client.send(piece)
            way.asked.sent += len(piece)
            if self.rate:
                self._closing.wait(self._down.sent(len(piece)) - time.monotonic())
        return not ends

    def _stalled(self, way: _Way) -> bool:
        """Wait until the client has had enough."""
        ends = time.monotonic() + LONGEST_STALL
        while not self._closing.is_set() and time.monotonic() < ends:
            if select.select([way.client.socket], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):
                    if way.client.socket.recv(PIECE):
                        continue  # a request's body that goes on
                break
        return False
