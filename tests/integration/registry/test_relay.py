"""The line that benches and fault tests put before a registry carries what it is given."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.needs import until
from tests.support.relay import Relay

DATA = os.urandom(1 << 20)


def whole(one: socket.socket) -> bytes:
    """Return all that comes."""
    return b"".join(iter(lambda: one.recv(1 << 16), b""))


@pytest.fixture(scope="module")
def echo() -> Iterator[tuple[str, int]]:
    """A server that reads to the end and sends it back."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                one, _ = listener.accept()
            except OSError:
                return
            with one:
                one.sendall(whole(one))

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()
    listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    listener.close()


def exchanged(port: int) -> bytes:
    """Send all, end this half, and return all that comes back."""
    with socket.create_connection(("127.0.0.1", port), 10) as one:
        one.sendall(DATA)
        one.shutdown(socket.SHUT_WR)
        return whole(one)


def test_a_line_without_length(echo: tuple[str, int]) -> None:
    """Half-closed connections come through, and are counted."""
    with Relay(echo).serving() as relay:
        assert exchanged(relay.port) == DATA
        assert exchanged(relay.port) == DATA
        assert (relay.connections, relay.received) == (2, 2 * len(DATA))


@pytest.mark.parametrize(("rtt", "rate", "least"), [(0.05, 0.0, 0.1), (0.0, 10e6, 0.2)])
def test_a_long_and_a_narrow_line(
    echo: tuple[str, int], rtt: float, rate: float, least: float
) -> None:
    """It takes its time: a handshake and an answer, or two ways of a MiB."""
    with Relay(echo, rtt=rtt, rate=rate).serving() as relay:
        begun = time.monotonic()
        assert exchanged(relay.port) == DATA
        assert time.monotonic() - begun >= least


def test_a_line_that_breaks(echo: tuple[str, int]) -> None:
    """Whoever waits on it learns it, and the next connection is served."""
    with Relay(echo).serving() as relay:
        with socket.create_connection(("127.0.0.1", relay.port), 10) as one:
            one.sendall(b"some")
            until(lambda: relay.open == 2, "both ends are there")
            relay.cut()
            with contextlib.suppress(ConnectionResetError):
                assert one.recv(1) == b""
        assert exchanged(relay.port) == DATA
