"""Helpers: an HTTP server in a thread of its own, and raw clients."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from boxwood.api.http.connection import Handler
from boxwood.api.http.listen import Listener, open_unix
from boxwood.api.http.server import HttpServer

TIMEOUT = 10.0
COMMON = (("Api-Version", "1.51"),)


class Running:
    """A server that runs in a thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, server: HttpServer, path: Path) -> None:
        self.loop = loop
        self.server = server
        self.path = path

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(TIMEOUT)
        client.connect(str(self.path))
        return client

    def call(self, work: Callable[[], Awaitable[object]]) -> object:
        """Run a coroutine in the server's loop."""

        async def run() -> object:
            return await work()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(TIMEOUT)


@contextlib.contextmanager
def serving(
    handler: Handler, path: Path, listeners: list[Listener] | None = None
) -> Iterator[Running]:
    """Serve ``handler`` on the unix socket ``path`` (or ``listeners``) meanwhile."""
    started = threading.Event()
    done: list[Running] = []
    stop: list[Callable[[], None]] = []
    failed: list[BaseException] = []

    async def main() -> None:
        server = HttpServer(handler, COMMON)
        await server.start(listeners if listeners is not None else [open_unix(path)])
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(ended.set))
        done.append(Running(loop, server, path))
        started.set()
        await ended.wait()
        await server.stop(timeout=1)

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
            failed.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(TIMEOUT)
    if failed:
        raise failed[0]
    try:
        yield done[0]
    finally:
        stop[0]()
        thread.join(TIMEOUT)
        assert not thread.is_alive()
        if failed:
            raise failed[0]


def read_all(client: socket.socket) -> bytes:
    """Read until the server closes."""
    parts = []
    while piece := client.recv(65536):
        parts.append(piece)
    return b"".join(parts)


def read_response(stream) -> tuple[int, dict[str, str], bytes]:
    """Read one response from a file made of the socket."""
    status = int(stream.readline().split(b" ")[1])
    headers = {}
    while (line := stream.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    if status == 100:
        return read_response(stream)
    if headers.get("transfer-encoding") == "chunked":
        return status, headers, read_chunks(stream)
    return status, headers, stream.read(int(headers.get("content-length", "0")))


def read_chunks(stream) -> bytes:
    parts = []
    while size := int(stream.readline().partition(b";")[0], 16):
        parts.append(stream.read(size))
        assert stream.read(2) == b"\r\n"
    assert stream.readline() == b"\r\n"
    return b"".join(parts)
