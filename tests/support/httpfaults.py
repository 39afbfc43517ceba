"""What may happen to an HTTP request and its answer, and just enough HTTP to do it."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.support.relay import end

PIECE = 64 << 10
HEAD_LIMIT = 64 << 10
BLOCK = 4096
"""Bytes that are repeated, left out or put elsewhere at most."""
SILENCE, HALF = -1, -2
"""For statuses: no answer at all, and nothing but the beginning of one."""
SLOW = 0.4
"""Seconds by which a slow body is held up, all in all."""

Pieces = Iterator[bytes | None]
"""Of a body. None: from here on nothing comes, and the connection stays."""


@dataclass
class Head:
    """The first line and the header fields of a message."""

    line: str
    fields: list[tuple[str, str]] = field(default_factory=list)

    def get(self, name: str) -> str:
        """Return a field's value; empty: it is not there."""
        return next((value for key, value in self.fields if key.lower() == name.lower()), "")

    def put(self, name: str, value: str) -> None:
        """Set a field, or remove it (an empty value)."""
        self.fields = [one for one in self.fields if one[0].lower() != name.lower()]
        if value:
            self.fields.append((name, value))

    @property
    def status(self) -> int:
        """Of an answer."""
        return int(self.line.split(" ")[1])

    @property
    def size(self) -> int | None:
        """The announced bytes of the body; None: it ends with the connection or with a chunk."""
        text = self.get("Content-Length")
        return int(text) if text.isdecimal() else None

    @property
    def chunked(self) -> bool:
        """Does its body come in chunks?"""
        return self.get("Transfer-Encoding").lower() == "chunked"

    def bytes(self) -> bytes:
        """Return it as it goes over the wire."""
        lines = [self.line, *(f"{name}: {value}" for name, value in self.fields)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Wire:
    """One end of a connection, read through a buffer."""

    def __init__(self, one: socket.socket) -> None:
        self.socket = one
        self.send = one.sendall
        self._file = one.makefile("rb")

    def close(self, *, reset: bool = False) -> None:
        """End the connection; ``reset``: as one whose peer has crashed (RST)."""
        if reset:
            linger = struct.pack("ii", 1, 0)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        else:
            end(self.socket)
        self._file.close()
        self.socket.close()

    def head(self) -> Head | None:
        """Read a message's head; None: the connection has ended, or speaks TLS."""
        if self._file.peek(1)[:1] in (b"", b"\x16"):
            return None
        lines = []
        while (line := self._file.readline(HEAD_LIMIT)) not in (b"", b"\r\n"):
            lines.append(line.decode("latin-1").rstrip("\r\n"))
        if not lines or not line:
            return None
        pairs = (one.partition(":")[::2] for one in lines[1:])
        return Head(lines[0], [(name, value.strip()) for name, value in pairs])

    def body(self, head: Head, asked: Head | None = None) -> Pieces:
        """Yield a message's body as it came, chunks and all; ``asked``: it answers that."""
        if asked is not None and (
            asked.line.startswith("HEAD ") or head.status in (204, 304) or head.status < 200
        ):
            return
        if head.chunked:
            yield from self._chunks()
        elif head.size is not None:
            yield from self._counted(head.size)
        elif asked is not None:
            while piece := self._file.read1(PIECE):
                yield piece

    def _counted(self, size: int) -> Pieces:
        while size:
            piece = self._file.read1(min(size, PIECE))
            if not piece:
                raise EOFError
            size -= len(piece)
            yield piece

    def _chunks(self) -> Pieces:
        while True:
            line = self._file.readline(100)
            if not line:
                raise EOFError
            yield line
            if size := int(line.partition(b";")[0], 16):
                yield from self._counted(size + 2)
                continue
            while True:
                line = self._file.readline(HEAD_LIMIT)
                yield line
                if line in (b"\r\n", b""):
                    return


class Fault:
    """One fault. What it does not change stays as it is."""

    of_request = False
    """Does it harm what the client sends?"""
    ends = False
    """Does the connection end with it?"""
    instead = 0
    """The status of an answer that comes instead of the registry's, SILENCE or HALF."""

    def __init__(self, name: str, dice: random.Random) -> None:
        self.name, self.dice = name, dice
        self.told = ""
        """Where it struck, for the log."""

    def head(self, head: Head) -> Head:
        """Change an answer's head."""
        return head

    def body(self, pieces: Pieces, size: int) -> Pieces:
        """Change a body, of ``size`` announced bytes."""
        return pieces

    def page(self) -> bytes:
        """Return the answer that comes instead."""
        return b""


class Body(Fault):
    """At a random byte of a body something happens to it."""

    def __init__(self, name: str, dice: random.Random, of_request: bool) -> None:
        super().__init__(name, dice)
        self.of_request = of_request
        self.ends = True

    def body(self, pieces: Pieces, size: int) -> Pieces:
        where = self.dice.randrange(size + 1)
        self.told = f" at {where} of {size}"
        begin, rest = b"", pieces
        position = 0
        for piece in rest:
            assert piece is not None
            if position + len(piece) > where:
                begin = piece[where - position :]
                yield piece[: where - position]
                break
            position += len(piece)
            yield piece
        yield from getattr(self, f"_{self.name}")(begin, rest)

    def _cut(self, begin: bytes, rest: Pieces) -> Pieces:
        """The connection ends; nobody says why."""
        del begin, rest
        yield from _raising(EOFError)

    def _reset(self, begin: bytes, rest: Pieces) -> Pieces:
        del begin, rest
        yield from _raising(ConnectionResetError)

    def _stall(self, begin: bytes, rest: Pieces) -> Pieces:
        del begin, rest
        yield None

    def _slow(self, begin: bytes, rest: Pieces) -> Pieces:
        self.ends = False
        for number in range(4):
            time.sleep(SLOW / 4)
            yield begin[number : number + 1]
        yield begin[4:]
        yield from rest

    def _corrupt(self, begin: bytes, rest: Pieces) -> Pieces:
        self.ends = False
        if begin:
            yield bytes([begin[0] ^ (1 << self.dice.randrange(8))]) + begin[1:]
        yield from rest

    def _repeat(self, begin: bytes, rest: Pieces) -> Pieces:
        """Some bytes come twice: all in all more than was announced."""
        yield begin[:BLOCK]
        yield begin
        yield from rest

    def _reorder(self, begin: bytes, rest: Pieces) -> Pieces:
        self.ends = False
        some = self.dice.randint(1, BLOCK)
        yield begin[some : 2 * some] + begin[:some] + begin[2 * some :]
        yield from rest

    def _drop(self, begin: bytes, rest: Pieces) -> Pieces:
        """Some bytes are missing, and so the end comes too early."""
        yield begin[self.dice.randint(1, BLOCK) :]
        yield from rest
        yield from _raising(EOFError)

    def _zero(self, begin: bytes, rest: Pieces) -> Pieces:
        """As many bytes, but others: what a broken cache has."""
        self.ends = False
        yield bytes(len(begin))
        yield from rest


def _raising(error: type[Exception]) -> Pieces:
    """Raise it where the next piece would come."""
    raise error
    yield b""  # type: ignore[unreachable]


class Status(Fault):
    """The registry has done what was asked; the answer says something else, or does not come."""

    def __init__(self, status: int, dice: random.Random, of_head: bool) -> None:
        super().__init__("status", dice)
        self.instead, self.of_head = status, of_head
        self.told = f" {status}"

    def page(self) -> bytes:
        if self.instead == SILENCE:
            return b""
        if self.instead == HALF:
            return b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nDo"[: self.dice.randrange(40)]
        text = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"a fault of the tests"}]}'
        fields = [("Content-Length", str(len(text))), ("Content-Type", "application/json")]
        if self.instead == 429 and self.dice.random() < 0.7:
            fields.append(("Retry-After", self.dice.choice(("0", "1", "soon", "-5", "0.1"))))
        body = b"" if self.of_head else text
        return Head(f"HTTP/1.1 {self.instead} Fault", fields).bytes() + body


class Lie(Fault):
    """The head of an answer does not say what is so."""

    def __init__(self, name: str, dice: random.Random, of_head: bool) -> None:
        super().__init__(name, dice)
        self.ends = True
        self.of_head = of_head
        """Is it the answer to a HEAD?"""

    def head(self, head: Head) -> Head:
        value = self.dice.choice(_LIES[self.name])(head, self.dice)
        self.told = f" {value!r}"
        if self.name == "Status":
            # No client can tell a refusal that is called a success.
            if head.status < 400 or value >= "3" or self.of_head:
                head.line = f"HTTP/1.1 {value} Lie"
        else:
            head.put(self.name, value)
        return head


Lying = Callable[[Head, random.Random], str]


def _says(*values: str) -> list[Lying]:
    return [lambda _head, _dice, value=value: value for value in values]  # type: ignore[misc]


def _other_length(head: Head, dice: random.Random) -> str:
    size = head.size or 0
    return str(dice.choice((0, size // 2, max(size - 1, 0), size + 1, 2 * size + 10, 1 << 62)))


def _other_range(head: Head, dice: random.Random) -> str:
    start, size = dice.randrange(1 << 20), head.size or 1
    return f"bytes {start}-{start + size - 1}/{start + size}"


_LIES: dict[str, list[Lying]] = {
    "Content-Length": [_other_length, *_says("", "-1", "many")],
    "Content-Range": [_other_range, *_says("", "bytes 0-0/1", "bytes */10", "lines 1-2/3")],
    "Range": [_other_range, *_says("", "0-0", "5-1", "0-99999999999")],
    "Docker-Content-Digest": _says("", "sha256:" + "0" * 64, "sha256:xyz", "../../etc", "md5:00"),
    "Content-Type": _says("", "text/html", "application/vnd.oci.image.index.v1+json", "a/b/c", ";"),
    "Location": _says("", "http://127.0.0.1:1/elsewhere", "file:///etc/passwd", "::", "/v2/"),
    "Status": _says("200", "206", "202", "204", "304", "404", "416", "302"),
    "Content-Encoding": _says("gzip", "br"),
}
_BODIES = ("cut", "cut", "reset", "stall", "slow", "corrupt", "repeat", "reorder", "drop", "zero")
_STATUSES = (500, 502, 503, 429, 429, SILENCE, HALF, HALF)


def chosen(dice: random.Random, asked: Head, start: int, only: str = "") -> Fault:
    """Return the fault that meets a request; ``only``: this one, at its body or its answer's."""
    if only:
        return Body(only, dice, of_request=bool(asked.size))
    kind = dice.random()
    of_head = asked.line.startswith("HEAD ")
    if kind < 0.25 or (of_head and kind > 0.6):
        return Status(dice.choice(_STATUSES), dice, of_head)
    if kind < 0.45 or of_head:
        names = [name for name in _LIES if name != "Content-Range" or start]
        return Lie(dice.choice(names), dice, of_head)
    sends = bool(asked.size) or asked.chunked
    return Body(dice.choice(_BODIES), dice, of_request=sends and dice.random() < 0.8)
