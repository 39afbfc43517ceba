"""One end of a transfer between two engines, by hand: for what no engine of ours would say."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import zstandard


class Peer:
    """The client's end of a taken-over connection, as the other engine would use it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._held = b""

    def send(self, kind: bytes, data: bytes = b"") -> None:
        """Send one frame; an engine that has gone is no error: what it said is read next."""
        try:
            self.raw(kind + len(data).to_bytes(4, "big") + data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def raw(self, data: bytes) -> None:
        """Send bytes that need be no frame."""
        self._sock.sendall(data)

    def take(self, size: int) -> bytes:
        """Read exactly so many bytes; raises EOFError."""
        while len(self._held) < size:
            data = self._sock.recv(1 << 20)
            if not data:
                raise EOFError
            self._held += data
        found, self._held = self._held[:size], self._held[size:]
        return found

    def receive(self) -> tuple[bytes, bytes]:
        """Return the next frame that is no message of progress."""
        while True:
            head = self.take(5)
            kind, data = head[:1], self.take(int.from_bytes(head[1:], "big"))
            if kind != b"S":
                return kind, data

    def asked(self) -> dict[str, Any]:
        """Return the next question."""
        kind, data = self.receive()
        assert kind == b"A", (kind, data)
        found: dict[str, Any] = msgspec.msgpack.decode(data)
        return found

    def failure(self) -> str:
        """Return what the engine says before it ends, whatever else it says until then."""
        while True:
            kind, data = self.receive()
            if kind == b"F":
                return data.decode()

    def stream(self) -> bytes:
        """Return a stream, whole."""
        parts = []
        while (frame := self.receive())[0] == b"D":
            parts.append(frame[1])
        assert frame[0] == b"E", frame
        return b"".join(parts)


@contextmanager
def talking(path: Path, what: str) -> Iterator[Peer]:
    """Ask the engine at that socket for ``send?image=...`` or ``receive?name=...``."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(str(path))
        sock.sendall(
            f"POST /boxwood/store/{what} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
            "Upgrade: tcp\r\nContent-Length: 0\r\n\r\n".encode()
        )
        peer = Peer(sock)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += peer.take(1)
        assert b" 101 " in head.split(b"\r\n")[0], head
        yield peer


def config_of(*tars: bytes) -> bytes:
    """Return an image's config over layers of these tars."""
    diff_ids = [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars]
    return json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
    ).encode()


def offer_of(*tars: bytes, **other: Any) -> bytes:
    """Return an offer of an image of these layers; ``other`` replaces its fields."""
    fields = {"config": config_of(*tars), "sizes": [len(tar) for tar in tars]}
    return msgspec.msgpack.encode(fields | other)


def frame_of(data: bytes) -> bytes:
    """Return a zstd frame of this."""
    return zstandard.ZstdCompressor(level=1).compress(data)
