"""Mutual TLS, and raw bytes over it, against a real TLS server."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from boxwood.cli.streams import Relay, Verbatim
from boxwood.client import Client, ClientError, ConnectError, parse_address
from boxwood.client.tls import TlsFiles

SECONDS = 10.0


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    """A certificate authority whose files lie in the folder."""
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    client = made.issue_cert("client@example.org")
    client.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    client.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    return made


def files(folder: Path, *, verify: bool = True, cert: str = "cert.pem") -> TlsFiles:
    return TlsFiles(
        str(folder / "ca.pem"), str(folder / cert), str(folder / "key.pem"), verify=verify
    )


Serve = Callable[..., int]


@pytest.fixture
def serve(authority: trustme.CA) -> Iterator[Serve]:
    """Serve one connection that proves to be `name` and asks for the client's certificate."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def start(talk: Callable[[ssl.SSLSocket], None], name: str = "127.0.0.1") -> int:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(context)
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED

        def run() -> None:
            raw, _ = listener.accept()
            raw.settimeout(SECONDS)
            with raw:
                try:
                    with context.wrap_socket(raw, server_side=True) as peer:
                        talk(peer)
                except (ssl.SSLError, ConnectionError):
                    return  # what the client refuses

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        threads.append(thread)
        return int(listener.getsockname()[1])

    yield start
    for thread in threads:
        thread.join(SECONDS)
    listener.close()


def answer(peer: ssl.SSLSocket) -> None:
    peer.recv(65536)
    subject = dict(pair for part in peer.getpeercert()["subject"] for pair in part)  # type: ignore[index]
    assert subject
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n42")


def test_both_sides_prove_who_they_are(serve: Serve, tmp_path: Path) -> None:
    client = Client(parse_address(f"tcp://127.0.0.1:{serve(answer)}"), tls=files(tmp_path))
    assert client.get("/x") == 42
    client.close()


def test_a_server_of_another_name_is_refused(serve: Serve, tmp_path: Path) -> None:
    port = serve(answer, "other.example.org")
    with pytest.raises(ConnectError):
        Client(parse_address(f"tcp://127.0.0.1:{port}"), tls=files(tmp_path)).get("/x")


def test_without_verification_any_server_is_taken(serve: Serve, tmp_path: Path) -> None:
    port = serve(answer, "other.example.org")
    client = Client(parse_address(f"tcp://127.0.0.1:{port}"), tls=files(tmp_path, verify=False))
    assert client.get("/x") == 42
    client.close()


def test_a_client_without_a_certificate_is_refused(serve: Serve, tmp_path: Path) -> None:
    port = serve(answer)
    client = Client(parse_address(f"tcp://127.0.0.1:{port}"), tls=files(tmp_path, cert="none"))
    with pytest.raises(ClientError):
        client.get("/x")


def echo(peer: ssl.SSLSocket) -> None:
    """Upgrade, and send back what comes until the client's close_notify."""
    peer.recv(65536)
    peer.sendall(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\n\r\nearly ")
    total = bytearray()
    while data := peer.recv(65536):
        total += data
    peer.sendall(total + b" end")
    peer.unwrap()


def test_output_that_comes_while_input_ends_is_not_lost(serve: Serve, tmp_path: Path) -> None:
    """OpenSSL's shutdown, called twice, would take it for an error."""
    data, sent = os.urandom(30_000), threading.Event()

    def talk(peer: ssl.SSLSocket) -> None:
        peer.recv(65536)
        peer.sendall(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\n\r\n")
        peer.sendall(data)
        sent.set()
        assert peer.recv(65536) == b""
        peer.sendall(b" end")
        peer.unwrap()

    client = Client(parse_address(f"tcp://127.0.0.1:{serve(talk)}"), tls=files(tmp_path))
    response = client.receive_hijack(client.send_hijack("/attach"))
    assert sent.wait(SECONDS)
    source, target = os.memfd_create("in"), os.memfd_create("out")
    Relay(response.connection.duplex(), Verbatim(target), stdin=source).run()
    os.lseek(target, 0, os.SEEK_SET)
    assert os.read(target, 2 * len(data)) == data + b" end"
    response.close()
    os.close(source)
    os.close(target)


def test_input_ends_with_close_notify_and_output_goes_on(serve: Serve, tmp_path: Path) -> None:
    data = os.urandom(400_000)
    client = Client(parse_address(f"tcp://127.0.0.1:{serve(echo)}"), tls=files(tmp_path))
    response = client.receive_hijack(client.send_hijack("/attach"))
    source, target = os.memfd_create("in"), os.memfd_create("out")
    os.write(source, data)
    os.lseek(source, 0, os.SEEK_SET)
    Relay(response.connection.duplex(), Verbatim(target), stdin=source).run()
    os.lseek(target, 0, os.SEEK_SET)
    assert os.read(target, 2 * len(data)) == b"early " + data + b" end"
    response.close()
    os.close(source)
    os.close(target)
