"""Accepting connections, and stopping without cutting anybody off in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Sequence
from functools import partial

from boxwood.api.http.connection import Connection, Handler, ServerSide
from boxwood.api.http.listen import BACKLOG, Listener
from boxwood.api.http.tls import TlsLayer

STOP_STEP = 0.02


class HttpServer:
    """Serves ``handler`` on a set of listeners."""

    def __init__(self, handler: Handler, common_headers: tuple[tuple[str, str], ...]) -> None:
        self._side = ServerSide(handler, common_headers)
        self._servers: list[asyncio.Server] = []
        self._listeners: list[Listener] = []
        self._inodes: dict[str, int] = {}

    async def start(self, listeners: Sequence[Listener]) -> None:
        """Accept on ``listeners``; the sockets are the server's from now on."""
        loop = asyncio.get_running_loop()
        for listener in listeners:
            server = await loop.create_server(
                partial(self._connection, listener.tls), sock=listener.socket, backlog=BACKLOG
            )
            self._servers.append(server)
            self._listeners.append(listener)
            if listener.path is not None:
                self._inodes[str(listener.path)] = os.stat(listener.path).st_ino

    def _connection(self, tls: ssl.SSLContext | None) -> asyncio.Protocol:
        connection = Connection(self._side)
        return connection if tls is None else TlsLayer(tls, connection)

    @property
    def connections(self) -> int:
        """Number of open connections (those handed over not counted)."""
        return len(self._side.connections)

    async def stop(self, timeout: float = 10.0) -> None:
        """Accept no more, let requests end for ``timeout`` seconds, then cut them off."""
        for server in self._servers:
            server.close()
        for listener in self._listeners:
            self._unlink(listener)
        self._side.closing = True
        for connection in list(self._side.connections):
            connection.close_idle()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while self._side.connections and loop.time() < deadline:  # noqa: ASYNC110 - bounded
            await asyncio.sleep(STOP_STEP)
        for connection in list(self._side.connections):
            connection.abort()
        await asyncio.sleep(0)

    def _unlink(self, listener: Listener) -> None:
        """Remove our socket file, not one that somebody else has put in its place."""
        if listener.path is None:
            return
        with contextlib.suppress(FileNotFoundError):
            if os.stat(listener.path).st_ino == self._inodes.get(str(listener.path)):
                os.unlink(listener.path)
