"""The HTTP client against servers that answer exact bytes over a real unix socket."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwood.client import ApiError, Client, ConnectError, ProtocolError, parse_address, ssh
from boxwood.client.client import encode_query, quote
from boxwood.client.transport import MAX_CHUNK_LINE, MAX_HEAD, READ_SIZE, parse_head, request_head

SECONDS = 10.0


class Server:
    """Answers each connection with the next of its scripts: bytes sent after a whole request."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requests: list[bytes] = []
        self.connections = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._threads: list[threading.Thread] = []
        self._clients: list[Client] = []

    def serve(self, *scripts: list[bytes]) -> Client:
        """Serve one connection for each script, an answer for each request; the client."""
        thread = threading.Thread(target=self._run, args=(scripts,), daemon=True)
        thread.start()
        self._threads.append(thread)
        self._clients.append(Client(parse_address(f"unix://{self.path}")))
        return self._clients[-1]

    def _run(self, scripts: tuple[list[bytes], ...]) -> None:
        for script in scripts:
            peer, _ = self._listener.accept()
            self.connections += 1
            with peer:
                peer.settimeout(SECONDS)
                for answer in script:
                    self.requests.append(_read_request(peer))
                    with contextlib.suppress(BrokenPipeError):  # what it refuses it may not read
                        peer.sendall(answer)

    def close(self) -> None:
        for client in self._clients:
            client.close()
        for thread in self._threads:
            thread.join(SECONDS)
        self._listener.close()


def _read_request(peer: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += peer.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        while not body.endswith(b"0\r\n\r\n"):
            body += peer.recv(65536)
    elif b"content-length: " in lower:
        size = int(lower.split(b"content-length: ")[1].split(b"\r\n")[0])
        while len(body) < size:
            body += peer.recv(65536)
    return head + b"\r\n\r\n" + body


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "s")
    yield made
    made.close()


def ok(body: bytes, *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(*chunks: bytes, tail: bytes = b"0\r\n\r\n") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + tail


def test_one_connection_serves_request_after_request(server: Server) -> None:
    client = server.serve([ok(b'{"a": [1, 2.5, "\xc3\xa9"]}', b"Api-Version: 1.50"), ok(b"")])
    assert client.get("/x", {"all": True, "n": None}) == {"a": [1, 2.5, "é"]}
    assert client.api_version == "1.50"
    assert client.post("/y", {"t": "a b"}, {"k": None}) is None
    first, second = server.requests
    assert first.startswith(b"GET /x?all=1 HTTP/1.1\r\nHost: docker\r\n")
    assert second.startswith(b"POST /y?t=a%20b HTTP/1.1\r\n")
    assert second.endswith(
        b'\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{"k":null}'
    )
    assert server.connections == 1


def test_a_connection_closed_while_idle_is_replaced(server: Server) -> None:
    client = server.serve([ok(b"1")], [ok(b"2")])
    assert client.get("/a") == 1
    server_closed = threading.Event()
    server_closed.wait(0.05)
    assert client.get("/b") == 2
    assert server.connections == 2


def test_an_answer_that_closes_is_not_used_again(server: Server) -> None:
    client = server.serve([ok(b"1", b"Connection: close")], [ok(b"2")])
    assert (client.get("/a"), client.get("/b")) == (1, 2)


def test_a_body_without_a_length_ends_with_the_connection(server: Server) -> None:
    client = server.serve([b"HTTP/1.1 200 OK\r\n\r\n[1,\n2]"])
    assert client.get("/a") == [1, 2]


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_answers_without_a_body_leave_the_connection(server: Server, status: bytes) -> None:
    client = server.serve([b"HTTP/1.1 " + status + b"\r\n\r\n", ok(b"2")])
    assert client.post("/a") is None
    assert client.get("/b") == 2
    assert server.connections == 1


def test_errors_carry_status_and_message(server: Server) -> None:
    body = b'{"message":"No such container: x"}'
    answer = ok(body, b"Content-Type: application/json").replace(b"200 OK", b"404 Not Found")
    client = server.serve([answer, ok(b"1")])
    with pytest.raises(ApiError) as caught:
        client.get("/containers/x/json")
    assert (caught.value.status, caught.value.message) == (404, "No such container: x")
    assert client.get("/b") == 1
    assert server.connections == 1


@pytest.mark.parametrize("body", [b"plain words\n", b""])
def test_errors_that_are_no_json_are_told_as_they_are(server: Server, body: bytes) -> None:
    client = server.serve([ok(body).replace(b"200 OK", b"500 Oops")])
    with pytest.raises(ApiError) as caught:
        client.get("/a")
    assert caught.value.message == (body.decode().strip() or caught.value.message)
    assert caught.value.message


def test_lines_come_as_they_are_cut(server: Server) -> None:
    client = server.serve([chunked(b'{"a":1}\r\n{"a"', b":2}\r\n", b'\n{"a":3}')])
    lines = client.request("GET", "/events").lines()
    assert [line["a"] for line in lines] == [1, 2, 3]


def test_chunks_may_have_extensions_and_trailers(server: Server) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    client = server.serve([answer + b"3;x=y\r\n[1]\r\n0\r\nX: y\r\n\r\n", ok(b"2")])
    assert (client.get("/a"), client.get("/b")) == ([1], 2)
    assert server.connections == 1


@pytest.mark.parametrize(
    "tail",
    [
        b"zz\r\n",
        b"-1\r\n",
        b"\r\n",
        b"3\r\nabcX\r\n",
        b"5\r\nab",
        b"f" * 20 + b"\r\n",
        b"1" * (MAX_CHUNK_LINE + 2 * READ_SIZE),
    ],
)
def test_broken_chunks_are_refused(server: Server, tail: bytes) -> None:
    client = server.serve([chunked(b"[", tail=tail)])
    with pytest.raises(ProtocolError):
        client.get("/a")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * (MAX_HEAD + 2 * READ_SIZE),
        ok(b"{not json"),
        ok(b'{"a":1} trailing'),
        ok(b"\xff\xfe"),
    ],
)
def test_what_is_no_answer_of_an_engine_is_refused(server: Server, answer: bytes) -> None:
    client = server.serve([answer])
    with pytest.raises(ProtocolError):
        client.get("/a")


def test_a_stream_is_sent_in_chunks(server: Server) -> None:
    client = server.serve([ok(b"null")])
    assert client.request("POST", "/load", data=iter([b"abc", b"", b"de"])).json() is None
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert b"Content-Type: application/x-tar" in head
    assert body == b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"


def test_an_early_refusal_of_a_stream_is_read(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()

    def refuse() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(100)
            body = b'{"message":"no"}'
            answer = ok(body, b"Content-Type: application/json")
            peer.sendall(answer.replace(b"200 OK", b"400 Bad Request"))

    thread = threading.Thread(target=refuse)
    thread.start()
    client = Client(parse_address(f"unix://{tmp_path}/s"))
    with pytest.raises((ApiError, ProtocolError)):
        client.request("POST", "/load", data=(b"x" * 65536 for _ in range(1000)))
    client.close()
    thread.join()
    listener.close()


def test_a_hijack_hands_the_bytes_behind_the_head_over(server: Server) -> None:
    head = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    client = server.serve([head + b"first"])
    response = client.receive_hijack(client.send_hijack("/containers/x/attach", {"stdin": True}))
    assert response.connection.duplex().early in (b"first", b"")
    assert b"Connection: Upgrade\r\nUpgrade: tcp" in server.requests[0]
    response.close()


def test_a_hijack_that_is_answered_otherwise_is_refused(server: Server) -> None:
    client = server.serve([b"HTTP/1.1 204 No Content\r\n\r\n"])
    with pytest.raises(ProtocolError):
        client.receive_hijack(client.send_hijack("/x"))


def nothing(path: Path) -> None:
    """Nothing is there."""


def plain_file(path: Path) -> None:
    path.write_text("")


def dead_socket(path: Path) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.close()


@pytest.mark.parametrize(
    ("make", "reason"),
    [(nothing, "missing"), (plain_file, "not-a-socket"), (dead_socket, "missing")],
)
def test_why_there_is_no_connection(
    tmp_path: Path, make: Callable[[Path], None], reason: str
) -> None:
    make(tmp_path / "s")
    with pytest.raises(ConnectError) as caught:
        Client(parse_address(f"unix://{tmp_path}/s")).get("/a")
    assert caught.value.reason == reason


def test_nobody_listens_on_tcp() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectError) as caught:
        Client(parse_address(f"tcp://127.0.0.1:{port}")).get("/a")
    assert caught.value.reason == "missing"


@pytest.mark.parametrize(
    ("text", "tls", "shown"),
    [
        ("unix:///run/x.sock", False, "unix:///run/x.sock"),
        ("unix://", False, "unix:///run/boxwood/boxwood.sock"),
        ("tcp://h", False, "tcp://h:2375"),
        ("tcp://h", True, "tcp://h:2376"),
        ("h:1", False, "tcp://h:1"),
        ("tcp://[::1]:5", False, "tcp://[::1]:5"),
        ("tcp://h:1/base/", False, "tcp://h:1/base"),
        ("ssh://h", True, "ssh://h"),
    ],
)
def test_addresses(text: str, tls: bool, shown: str) -> None:
    assert parse_address(text, tls=tls).text == shown


@pytest.mark.parametrize(
    ("text", "options", "there"),
    [
        ("ssh://h", [], "boxwood system dial-stdio"),
        ("ssh://me@h:22", ["-l", "me", "-p", "22"], "boxwood system dial-stdio"),
        ("ssh://h/a b", [], "boxwood -H 'unix:///a b' system dial-stdio"),
        ("ssh://h/$(x)", [], "boxwood -H 'unix:///$(x)' system dial-stdio"),
    ],
)
def test_what_is_run_for_ssh(text: str, options: list[str], there: str) -> None:
    words = ssh.command(parse_address(text))
    assert words[0] == "ssh"
    assert words[-len(options) - 3 :] == [*options, "--", "h", there]
    docker = ssh.command(parse_address(text, program="docker"))
    assert docker[-1] == there.replace("boxwood", "docker")


@pytest.mark.parametrize(
    "text",
    "npipe://x fd:// ftp://h h:x h:99999 ssh:// ssh:///x ssh://@h ssh://a:b@h ssh://h:0 ssh://h:x "
    "ssh://-oProxyCommand=x ssh://-l@h".split(),
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError):
        parse_address(text)


@pytest.mark.property
@given(st.text(max_size=20), st.text(max_size=20))
def test_no_text_splits_a_request(method: str, path: str) -> None:
    try:
        head = request_head(method, path, "h", [])
    except (ProtocolError, UnicodeEncodeError):
        return
    assert head.count(b"\r\n") == 3


@pytest.mark.property
@given(st.text(max_size=30))
def test_queries_decode_to_what_was_encoded(text: str) -> None:
    from urllib.parse import parse_qs, unquote

    try:
        text.encode()
    except UnicodeEncodeError:
        return
    query = {"a": text, "b": [text, "x"], "c": None, "d": False}
    found = parse_qs(encode_query(query)[1:], keep_blank_values=True)
    assert found == {"a": [text], "b": [text, "x"], "d": ["0"]}
    assert unquote(quote(text)) == text


@pytest.mark.property
@given(st.text(alphabet=st.characters(codec="latin-1"), max_size=80))
def test_any_head_is_read_or_refused(text: str) -> None:
    try:
        status, headers = parse_head(text)
    except ProtocolError:
        return
    assert 0 <= status <= 999
    assert all(name == name.lower() for name in headers)
