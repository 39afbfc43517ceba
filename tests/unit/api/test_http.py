"""The HTTP server, byte by byte, through a real socket."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import threading
import time

import pytest

from boxwood.api.http import body as body_module
from boxwood.api.http import connection as connection_module
from boxwood.api.http.message import Request, Response
from tests.unit.api.serving import read_all, read_response, serving

GET = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


class App:
    """Routes that show what the server does."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.cancelled = threading.Event()
        self.gate = threading.Event()
        self.taken: list[socket.socket] = []
        self.prereads: list[bytes] = []

    async def __call__(self, request: Request) -> Response | None:
        name = request.head.target.decode().strip("/").partition("?")[0]
        self.seen.append(name)
        return await getattr(self, name or "echo")(request)

    async def echo(self, request: Request) -> Response:
        return Response(200, await request.body.read(1 << 20), "text/plain")

    async def ignore(self, request: Request) -> Response:
        return Response(200, b"ignored", "text/plain")

    async def nothing(self, request: Request) -> Response:
        return Response(204, b"", "")

    async def peer(self, request: Request) -> Response:
        return Response(200, f"{request.peer.pid} {request.peer.uid}".encode())

    async def digest(self, request: Request) -> Response:
        found = hashlib.sha256()
        async for piece in request.body:
            found.update(piece)
        return Response(200, found.hexdigest().encode(), "text/plain")

    async def stuck(self, request: Request) -> Response:
        await asyncio.to_thread(self.gate.wait, 20)
        return await self.digest(request)

    async def duplex(self, request: Request) -> None:
        stream = request.stream("application/octet-stream")
        async for piece in request.body:
            await stream.write(piece.upper())

    async def late(self, request: Request) -> None:
        stream = request.stream("text/plain")
        for index in range(3):
            await asyncio.sleep(0.05)
            await stream.write(b"%d" % index)

    async def forever(self, request: Request) -> None:
        request.exchange.let_cancel()
        request.stream("text/plain")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def flood(self, request: Request) -> None:
        request.exchange.let_cancel()
        stream = request.stream("text/plain")
        while True:
            await stream.write(b"x" * 65536)

    async def hijack(self, request: Request) -> None:
        fd, preread = await request.upgrade().accept("application/vnd.docker.multiplexed-stream")
        self.prereads.append(preread)
        self.taken.append(socket.socket(fileno=fd))


@pytest.fixture
def app():
    made = App()
    yield made
    for sock in made.taken:
        sock.close()


@pytest.fixture
def server(app, tmp_path):
    with serving(app, tmp_path / "s") as running:
        yield running


@pytest.fixture
def client(server):
    with server.connect() as sock, sock.makefile("rb") as stream:
        yield sock, stream


def ask(server, data: bytes) -> bytes:
    with server.connect() as sock:
        sock.sendall(data)
        return read_all(sock)


def test_answers_carry_the_common_headers(client):
    sock, stream = client
    sock.sendall(GET % b"echo")
    status, headers, _ = read_response(stream)
    assert status == 200
    assert headers["api-version"] == "1.51"
    assert headers["date"].endswith("GMT")


def test_keep_alive_serves_many_on_one_connection(client):
    sock, stream = client
    for index in range(50):
        data = b"%d" % index
        sock.sendall(
            b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data) + data
        )
        assert read_response(stream)[2] == data


def test_pipelined_requests_are_answered_in_order(client, app):
    sock, stream = client
    chunked = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    sock.sendall(
        GET % b"late"
        + chunked
        + b"4\r\n\r\n\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n"
        + b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
        + GET % b"nothing"
        + GET % b"peer"
    )
    assert read_response(stream)[2] == b"012"
    assert read_response(stream)[2] == b"\r\n\r\nabc"
    assert read_response(stream)[2] == b"hi"
    assert read_response(stream)[0] == 204
    assert read_response(stream)[2] == f"{os.getpid()} {os.getuid()}".encode()


def test_a_request_in_single_bytes(client):
    sock, stream = client
    data = (
        b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nab\r\n1\r\nc\r\n0\r\nTrailer: t\r\n\r\n"
    ) + GET % b"nothing"
    for byte in data:
        sock.sendall(bytes([byte]))
        time.sleep(0.0005)
    assert read_response(stream)[2] == b"abc"
    assert read_response(stream)[0] == 204


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00", 400),
        (b"GET / HTTP/1.1\nHost: x\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\na", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (
            POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nExpect: gold\r\n\r\n", 417),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /" + b"a" * 33_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (
            b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
            400,
        ),
        (
            CHUNKED + b"ffffffffffffffffffff\r\n",
            400,
        ),
        (
            b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
            + b"A: b\r\n" * 9000,
            400,
        ),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", 413),
    ],
)
def test_bad_requests_are_refused_and_the_connection_ends(server, data, status):
    answer = ask(server, data)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert b'{"message":' in answer
    assert b"connection: close" in answer.lower()
    assert answer.count(b"HTTP/1.1 ") == 1


def test_a_bad_request_does_not_hurt_the_next_client(server):
    ask(server, b"garbage\r\n\r\n")
    with server.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(GET % b"nothing")
        assert read_response(stream)[0] == 204


def test_a_body_that_ends_too_early_is_an_error(server):
    with server.connect() as sock:
        sock.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock).startswith(b"HTTP/1.1 400 ")


def test_half_close_keeps_the_response(server):
    with server.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(GET % b"late")
        sock.shutdown(socket.SHUT_WR)
        assert read_response(stream)[2] == b"012"
        assert stream.read() == b""


def test_pipelined_requests_before_a_half_close_are_all_served(server):
    with server.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(GET % b"late" + GET % b"peer")
        sock.shutdown(socket.SHUT_WR)
        assert read_response(stream)[2] == b"012"
        assert read_response(stream)[0] == 200
        assert stream.read() == b""


@pytest.mark.parametrize("half_closed", [False, True])
def test_a_client_that_goes_away_cancels_its_wait(server, app, half_closed):
    with server.connect() as sock:
        sock.sendall(GET % b"forever")
        assert sock.recv(17) == b"HTTP/1.1 200 OK\r\n"
        if half_closed:
            sock.shutdown(socket.SHUT_WR)
    assert app.cancelled.wait(5)


def test_a_client_that_goes_away_while_flooded(server):
    with server.connect() as sock:
        sock.sendall(GET % b"flood")
        sock.recv(1000)
    deadline = time.monotonic() + 5
    while server.server.connections and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.server.connections == 0


def test_expect_continue_is_answered_when_the_body_is_wanted(client):
    sock, stream = client
    sock.sendall(
        b"POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    )
    assert stream.readline() == b"HTTP/1.1 100 Continue\r\n"
    assert stream.readline() == b"\r\n"
    sock.sendall(b"ok")
    assert read_response(stream)[2] == b"ok"


def test_expect_continue_is_not_answered_when_it_is_not(server):
    head = b"POST /ignore HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    with server.connect() as sock:
        sock.sendall(head)
        answer = read_all(sock)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close" in answer


def test_full_duplex(client):
    sock, stream = client
    sock.sendall(b"POST /duplex HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(12):
        if stream.readline() == b"\r\n":
            break
    for word in (b"one", b"two"):
        sock.sendall(b"%x\r\n%b\r\n" % (len(word), word))
        assert stream.readline() == b"3\r\n"
        assert stream.read(5) == word.upper() + b"\r\n"
    sock.sendall(b"0\r\n\r\n")
    assert stream.readline() == b"0\r\n"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_passes_unharmed_in_bounded_memory(server, app, chunked, monkeypatch):
    block = os.urandom(1 << 16) + b"\r\n\r\n" * 100
    count = 300
    want = hashlib.sha256()
    with server.connect() as sock, sock.makefile("rb") as stream:
        if chunked:
            sock.sendall(b"POST /stuck HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        else:
            length = count * len(block)
            sock.sendall(b"POST /stuck HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length)
        sent = []

        def send() -> None:
            for _ in range(count):
                data = b"%x\r\n%b\r\n" % (len(block), block) if chunked else block
                sock.sendall(data)
                sent.append(1)
            if chunked:
                sock.sendall(b"0\r\n\r\n")

        sender = threading.Thread(target=send)
        sender.start()
        time.sleep(0.3)
        # The route reads nothing: the sender is held up by what the server and kernel buffer.
        assert len(sent) * len(block) < 3 * body_module.HIGH_WATER
        app.gate.set()
        sender.join(20)
        for _ in range(count):
            want.update(block)
        assert read_response(stream)[2].decode() == want.hexdigest()


def test_an_unread_body_does_not_lose_the_answer(server):
    with server.connect() as sock:
        sock.sendall(b"POST /ignore HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n")
        sender = threading.Thread(target=lambda: _send_some(sock))
        sender.start()
        answer = read_all(sock)
        sender.join()
    assert answer.startswith(b"HTTP/1.1 200 ")


def _send_some(sock: socket.socket) -> None:
    try:
        for _ in range(100):
            sock.sendall(b"z" * 10_000)
    except (BrokenPipeError, ConnectionResetError):
        pass


def test_http_1_0_gets_an_unframed_stream(server):
    answer = ask(server, b"GET /late HTTP/1.0\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert body == b"012"


def test_connection_close_is_obeyed(server):
    answer = ask(server, b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"\r\nConnection: close\r\n" in answer


def test_a_slow_head_times_out(tmp_path, app, monkeypatch):
    monkeypatch.setattr(connection_module, "HEAD_TIMEOUT", 0.1)
    with serving(app, tmp_path / "t") as server, server.connect() as sock:
        sock.sendall(b"GET / HT")
        assert read_all(sock).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("upgrade", [True, False])
def test_hijack_hands_over_the_socket_and_what_was_read(server, app, upgrade):
    headers = b"Connection: Upgrade\r\nUpgrade: tcp\r\n" if upgrade else b""
    with server.connect() as sock:
        sock.sendall(
            b"POST /hijack HTTP/1.1\r\nHost: x\r\n%bContent-Length: 2\r\n\r\n{}early" % headers
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(1000)
        if upgrade:
            assert head.startswith(b"HTTP/1.1 101 UPGRADED\r\n")
            assert b"Connection: Upgrade\r\nUpgrade: tcp\r\n" in head
        else:
            assert head == (
                b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
            )
        sock.sendall(b" later")
        sock.shutdown(socket.SHUT_WR)
        while not app.taken:
            time.sleep(0.005)
        taken = app.taken[0]
        assert not os.get_blocking(taken.fileno())
        assert not os.get_inheritable(taken.fileno())
        taken.setblocking(True)
        taken.settimeout(5)
        got = app.prereads[0]
        while piece := taken.recv(100):
            got += piece
        assert got == b"early later"
        taken.sendall(b"output after the end of input")
        taken.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b"output after the end of input"
    assert server.server.connections == 0


def test_hijack_of_an_expecting_client_reads_the_body_first(server, app):
    with server.connect() as sock:
        sock.sendall(
            b"POST /hijack HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n"
            b"Content-Length: 4\r\n\r\nab"
        )
        time.sleep(0.05)
        assert not app.taken
        sock.sendall(b"cdXY")
        assert sock.recv(1000).startswith(b"HTTP/1.1 101 UPGRADED\r\n")
        while not app.prereads:
            time.sleep(0.005)
    assert app.prereads == [b"XY"]


def test_stop_does_not_wait_for_who_only_watches(app, tmp_path):
    with serving(app, tmp_path / "v") as server, server.connect() as sock:
        sock.sendall(GET % b"forever")
        assert sock.recv(17) == b"HTTP/1.1 200 OK\r\n"
        begun = time.monotonic()
        server.call(lambda: server.server.stop(timeout=9))
        assert time.monotonic() - begun < 3
        assert app.cancelled.wait(3)


def test_stop_lets_running_requests_end(app, tmp_path):
    with serving(app, tmp_path / "u") as server:
        sock = server.connect()
        idle = server.connect()
        sock.sendall(GET % b"late")
        time.sleep(0.02)
        server.call(lambda: server.server.stop(timeout=5))
        with sock, idle, sock.makefile("rb") as stream:
            assert read_response(stream)[2] == b"012"
            assert idle.recv(1) == b""
    assert not (tmp_path / "u").exists()
