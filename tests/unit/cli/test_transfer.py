"""The client between two engines, of which one is hostile."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from boxwood.cli import transfer
from boxwood.cli.errors import CliError
from boxwood.client import Client, ProtocolError, parse_address
from boxwood.services.images.peers.channel import TYPE

UPGRADED = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
ANSWER = UPGRADED + f"Content-Type: {TYPE}\r\n\r\n".encode()


def frame(kind: bytes, data: bytes = b"") -> bytes:
    return kind + len(data).to_bytes(4, "big") + data


@contextmanager
def engine(path: Path, talk: Callable[[socket.socket], None]) -> Iterator[Client]:
    """A client of an engine that answers one request and then talks."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(20)
                sock.recv(1 << 16)
                talk(sock)

        thread = threading.Thread(target=serve)
        thread.start()
        yield Client(parse_address(f"unix://{path}"))
        thread.join()


def says(*pieces: bytes) -> Callable[[socket.socket], None]:
    """An engine that says this, and then waits for the end."""

    def talk(sock: socket.socket) -> None:
        sock.sendall(ANSWER + b"".join(pieces))
        try:
            while sock.recv(1 << 16):
                pass
        except ConnectionResetError:
            return

    return talk


def ends(*pieces: bytes) -> Callable[[socket.socket], None]:
    """One that says this and goes."""
    return lambda sock: sock.sendall(ANSWER + b"".join(pieces))


DONE = frame(b"Z", json.dumps({"id": "i", "name": "n", "layers": 1, "size": 5}).encode())


@pytest.mark.parametrize("far", ["source", "target"])
@pytest.mark.parametrize(
    ("talk", "kind", "words"),
    [
        (says(frame(b"F", b"no room")), CliError, "no room"),
        (says(b"D\xff\xff\xff\xff"), ProtocolError, "a frame of 4294967300 bytes"),
        (says(frame(b"S", b"{")), ProtocolError, "not JSON"),
        (ends(), ProtocolError, "has gone"),
        (ends(frame(b"D", b"x")), ProtocolError, "has gone"),
        (ends(frame(b"D", b"x")[:3]), ProtocolError, "has gone"),
    ],
)
def test_an_engine_that_fails(
    tmp_path: Path,
    far: str,
    talk: Callable[[socket.socket], None],
    kind: type[Exception],
    words: str,
) -> None:
    other = "target" if far == "source" else "source"
    with engine(tmp_path / far, talk) as bad, engine(tmp_path / other, says()) as good:
        pair = (bad, good) if far == "source" else (good, bad)
        with pytest.raises(kind, match=words):
            transfer.bring(*pair, "image", quiet=True)


@pytest.mark.parametrize("far", ["source", "target"])
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (UPGRADED + b"Content-Type: application/vnd.boxwood.store.v2\r\n\r\n", "version 2 of the"),
        (UPGRADED + b"Content-Type: application/vnd.boxwood.store.v0\r\n\r\n", "version 0 of the"),
        (UPGRADED + b"Content-Type: application/vnd.boxwood.store.v1x\r\n\r\n", "no Boxwood"),
        (UPGRADED + b"\r\n", "no Boxwood"),
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 29\r\n"
            b'\r\n{"message":"page not found"}\n',
            "no Boxwood",
        ),
    ],
)
def test_an_engine_of_another_version(tmp_path: Path, far: str, answer: bytes, words: str) -> None:
    """One sentence, with its address, whichever end it is."""

    def talk(sock: socket.socket) -> None:
        sock.sendall(answer)
        while sock.recv(1 << 16):
            pass

    with engine(tmp_path / "bad", talk) as bad:
        if far == "source":
            with pytest.raises(CliError, match=words) as caught:
                transfer.bring(bad, bad, "image", quiet=True)
        else:
            with engine(tmp_path / "good", says()) as good, pytest.raises(CliError) as caught:
                transfer.bring(good, bad, "image", quiet=True)
        assert words in caught.value.text
        assert f"{tmp_path}/bad" in caught.value.text
        bad.close()


def test_all_that_is_said_is_carried(tmp_path: Path) -> None:
    """Both ways at once, more than the sockets hold, and progress only to the user."""
    heard: dict[str, bytes] = {}
    much = frame(b"D", bytes(1 << 20)) * 4

    def source(sock: socket.socket) -> None:
        sock.sendall(ANSWER)
        _both(sock, much, len(much) + len(DONE), "source")

    def target(sock: socket.socket) -> None:
        sock.sendall(ANSWER)
        _both(sock, frame(b"S", b'{"status":"x"}') + much, len(much), "target")
        sock.sendall(DONE)  # as the protocol has it: when all is here

    def _both(sock: socket.socket, out: bytes, expected: int, who: str) -> None:
        writer = threading.Thread(target=sock.sendall, args=(out,))
        writer.start()
        got = bytearray()
        while len(got) < expected and (data := sock.recv(1 << 20)):
            got += data
        writer.join()
        heard[who] = bytes(got)

    with engine(tmp_path / "s", source) as one, engine(tmp_path / "t", target) as two:
        done = transfer.bring(one, two, "image", quiet=True)
    assert done["name"] == "n"
    assert heard == {"source": much + DONE, "target": much}


def test_arguments() -> None:
    assert transfer.split(["a"]) is None
    assert transfer.split(["ssh://h", "a"]) == ("ssh://h", "a")
    assert transfer.split(["a", "unix:///x"]) == ("unix:///x", "a")
    for wrong in (["ssh://h"], ["ssh://h", "tcp://x"], ["ssh://h", "a", "b"]):
        with pytest.raises(CliError):
            transfer.split(wrong)


@pytest.mark.parametrize(
    ("text", "is_id"),
    [("abcdef012345", True), ("sha256:" + "0" * 64, True), ("beef", False), ("a" * 65, False)],
)
def test_what_is_an_id(text: str, is_id: bool) -> None:
    assert transfer._is_id(text) == is_id


def test_frames_that_waited_for_room_are_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small frames in one piece, more than may wait: the last ones go although no more comes."""
    monkeypatch.setattr(transfer, "ROOM", 4000)
    small = frame(b"D", bytes(1000)) * 100
    heard = bytearray()

    def source(sock: socket.socket) -> None:
        sock.sendall(ANSWER + small)
        while sock.recv(1 << 16):
            pass

    def target(sock: socket.socket) -> None:
        sock.sendall(ANSWER)
        while len(heard) < len(small):
            heard.extend(sock.recv(1 << 20))
        sock.sendall(DONE)

    with engine(tmp_path / "s", source) as one, engine(tmp_path / "t", target) as two:
        assert transfer.bring(one, two, "image", quiet=True)["name"] == "n"
    assert heard == small
