"""TCP with TLS: the peer's name, and connections that are relayed instead of handed over."""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
import time

import pytest
import trustme

from boxwood.api.http import connection as connection_module
from boxwood.api.http.listen import open_tcp
from boxwood.api.http.message import Response
from tests.unit.api.serving import read_response, serving

GET = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"


class App:
    def __init__(self):
        self.taken = []

    async def __call__(self, request):
        if request.head.target == b"/hijack":
            fd, preread = await request.upgrade().accept("application/vnd.docker.raw-stream")
            self.taken.append((socket.socket(fileno=fd), preread))
            return None
        return Response(200, f"{request.peer.kind} {request.peer.common_name}".encode())


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def app():
    made = App()
    yield made
    for sock, _ in made.taken:
        sock.close()


@pytest.fixture
def server(app, authority, tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    listener = open_tcp("127.0.0.1", 0, context)
    with serving(app, tmp_path / "unused", [listener]) as running:
        running.address = listener.socket.getsockname()
        yield running


@pytest.fixture
def client(server, authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    authority.issue_cert("client@example.org", common_name="alice").configure_cert(context)
    with (
        socket.create_connection(server.address, timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
    ):
        yield sock


def test_the_peer_has_the_name_of_its_certificate(client):
    client.sendall(GET % b"")
    assert read_response(client.makefile("rb"))[2] == b"tls alice"


def test_a_client_without_a_certificate_is_turned_away(server, authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    with (
        socket.create_connection(server.address, timeout=10) as plain,
        pytest.raises((ssl.SSLError, ConnectionResetError)),
        context.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
    ):
        _ask_or_be_cut_off(sock)


def _ask_or_be_cut_off(sock):
    sock.sendall(GET % b"")
    if not sock.recv(100):
        raise ConnectionResetError


def test_a_hijacked_connection_is_relayed(client, app):
    client.sendall(
        b"POST /hijack HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nearly"
    )
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.recv(1000)
    assert head.startswith(b"HTTP/1.1 101 UPGRADED\r\n")
    while not app.taken:
        time.sleep(0.005)
    taken = app.taken[0][0]
    taken.setblocking(True)
    taken.settimeout(10)
    assert app.taken[0][1] == b""
    client.sendall(b" later")
    got = b""
    while len(got) < len(b"early later"):
        got += taken.recv(100)
    assert got == b"early later"

    # Both ways at once, more than any buffer on the way holds.
    data = os.urandom(3_000_000)

    def echo():
        received = 0
        while received < len(data):
            piece = taken.recv(65536)
            received += len(piece)
            taken.sendall(piece)
        taken.shutdown(socket.SHUT_WR)

    echoer = threading.Thread(target=echo)
    echoer.start()
    assert both_ways(client, data) == data
    echoer.join(20)


def both_ways(client, data):
    """Send all and read to the end, in one thread: an SSL object is not for two at once."""
    back, rest, end = bytearray(), memoryview(data), time.monotonic() + 20
    client.setblocking(False)
    while time.monotonic() < end:
        select.select([client], [client] if rest else [], [], 0.1)
        try:
            if rest:
                rest = rest[client.send(rest[:65536]) :]
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        try:
            piece = client.recv(65536)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            continue
        if not piece:
            break
        back += piece
    return bytes(back)


def test_half_close_keeps_the_output(server, authority, app):
    """Docker's client sends close_notify at once when it attaches without input."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    authority.issue_cert("client@example.org").configure_cert(context)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with socket.create_connection(server.address, timeout=10) as sock:

        def step(work):
            while True:
                try:
                    done = work()
                except ssl.SSLWantReadError:
                    sock.sendall(outgoing.read())
                    incoming.write(sock.recv(65536))
                    continue
                sock.sendall(outgoing.read())
                return done

        step(tls.do_handshake)
        request = b"POST /hijack HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\n\r\n"
        step(lambda: tls.write(request))
        assert step(lambda: tls.read(1000)).startswith(b"HTTP/1.1 101 ")
        with pytest.raises(ssl.SSLWantReadError):
            tls.unwrap()
        sock.sendall(outgoing.read())
        while not app.taken:
            time.sleep(0.005)
        taken = app.taken[0][0]
        taken.setblocking(True)
        taken.settimeout(10)
        assert taken.recv(10) == b""
        taken.sendall(b"output")
        assert step(lambda: tls.read(1000)) == b"output"
        taken.shutdown(socket.SHUT_WR)
        assert step(lambda: _read_end(tls)) == b""


def _read_end(tls):
    try:
        return tls.read(1000)
    except ssl.SSLZeroReturnError:
        return b""


def test_a_client_that_goes_away_ends_the_relay(client, app):
    client.sendall(b"POST /hijack HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\n\r\n")
    assert client.recv(1000)
    while not app.taken:
        time.sleep(0.005)
    client.close()
    taken = app.taken[0][0]
    taken.setblocking(True)
    taken.settimeout(10)
    assert taken.recv(100) == b""


def test_an_idle_connection_is_closed(app, tmp_path, monkeypatch):
    monkeypatch.setattr(connection_module, "IDLE_TIMEOUT", 0.1)
    listener = open_tcp("127.0.0.1", 0, None)
    with (
        serving(app, tmp_path / "unused", [listener]),
        socket.create_connection(listener.socket.getsockname(), timeout=10) as sock,
        sock.makefile("rb") as stream,
    ):
        sock.sendall(GET % b"")
        assert read_response(stream)[2] == b"tcp "
        assert stream.read() == b""
