"""A DNS client and a server for tests: messages built and read by hand, over sockets that the test
opens where it likes (another network namespace, say)."""

from __future__ import annotations

import contextlib
import ipaddress
import random
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from boxwood_ext.net import socket_in

A, CNAME, PTR, MX, TXT, AAAA, SRV, HTTPS = 1, 5, 12, 15, 16, 28, 33, 65
OK, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
RESOLVER = ("127.0.0.11", 53)


def name_bytes(name: str) -> bytes:
    """A name on the wire."""
    labels = [label.encode() for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def query(name: str, kind: int = A, *, number: int | None = None, edns: int = 0) -> bytes:
    """A question; ``edns``: the size of datagram that is taken."""
    number = random.randrange(1 << 16) if number is None else number
    head = struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 1 if edns else 0)
    opt = b"\0" + struct.pack(">HHIH", 41, edns, 0, 0) if edns else b""
    return head + name_bytes(name) + struct.pack(">HH", kind, 1) + opt


@dataclass
class Reply:
    """A reply, read."""

    number: int
    flags: int
    question: str = ""
    answers: list[tuple[str, int, int, str]] = field(default_factory=list)
    """name, type, seconds, and the address or name (or bytes in hexadecimal)."""
    size: int = 0
    edns: int = 0

    @property
    def rcode(self) -> int:
        return self.flags & 15

    @property
    def truncated(self) -> bool:
        return bool(self.flags & 0x200)

    @property
    def values(self) -> list[str]:
        return [value for _, _, _, value in self.answers]


def _name(message: bytes, at: int) -> tuple[str, int]:
    labels = []
    end = 0
    for _ in range(128):
        length = message[at]
        if length & 0xC0 == 0xC0:
            end = end or at + 2
            at = struct.unpack_from(">H", message, at)[0] & 0x3FFF
            continue
        at += 1
        if not length:
            return ".".join(labels), end or at
        labels.append(message[at : at + length].decode("latin-1"))
        at += length
    raise AssertionError("a name that does not end")


def read(message: bytes) -> Reply:
    """Read a reply, whole: a byte too many or too few is an error."""
    number, flags, questions, answers, authority, additional = struct.unpack_from(">6H", message)
    reply = Reply(number, flags, size=len(message))
    at = 12
    for _ in range(questions):
        reply.question, at = _name(message, at)
        at += 4
    for index in range(answers + authority + additional):
        name, at = _name(message, at)
        kind, klass, ttl, length = struct.unpack_from(">HHIH", message, at)
        at += 10
        data = message[at : at + length]
        assert len(data) == length
        if kind == 41:
            reply.edns = klass
        elif index < answers:
            if kind in (A, AAAA):
                value = str(ipaddress.ip_address(data))
            elif kind == PTR:
                value = _name(message, at)[0]
            else:
                value = data.hex()
            reply.answers.append((name, kind, ttl, value))
        at += length
    assert at == len(message), "bytes after the end"
    return reply


class Client:
    """Asks from inside a network namespace."""

    def __init__(self, netns: int, server: tuple[str, int] = RESOLVER, seconds: float = 20) -> None:
        self.netns = netns
        self.server = server
        self.seconds = seconds

    def socket(self, kind: int) -> socket.socket:
        made = socket.socket(
            socket.AF_INET,
            kind,
            0,
            socket_in(self.netns, socket.AF_INET, kind | socket.SOCK_CLOEXEC),
        )
        made.settimeout(self.seconds)
        made.connect(self.server)
        return made

    def raw(self, message: bytes) -> bytes:
        """Send a datagram, wait for one."""
        with self.socket(socket.SOCK_DGRAM) as made:
            made.send(message)
            return made.recv(1 << 16)

    def ask(self, name: str, kind: int = A, *, edns: int = 0) -> Reply:
        message = query(name, kind, edns=edns)
        reply = read(self.raw(message))
        assert reply.number == struct.unpack_from(">H", message)[0]
        return reply

    def ask_tcp(self, name: str, kind: int = A) -> Reply:
        with self.socket(socket.SOCK_STREAM) as made:
            send_tcp(made, query(name, kind))
            return read(recv_tcp(made))


def send_tcp(connection: socket.socket, message: bytes) -> None:
    connection.sendall(struct.pack(">H", len(message)) + message)


def recv_tcp(connection: socket.socket) -> bytes:
    """The next message; empty at the end."""
    head = _exactly(connection, 2)
    return _exactly(connection, struct.unpack(">H", head)[0]) if head else b""


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            return b""
        data += piece
    return data


def answer(message: bytes, *addresses: str, rcode: int = OK, flags: int = 0) -> bytes:
    """A server's answer to a question."""
    end = 12
    while message[end]:
        end += 1 + message[end]
    end += 5
    head = message[:2] + struct.pack(">HHHHH", 0x8180 | rcode | flags, 1, len(addresses), 0, 0)
    records = b""
    for address in addresses:
        packed = ipaddress.ip_address(address).packed
        kind = A if len(packed) == 4 else AAAA
        records += b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(packed)) + packed
    return head + message[12:end] + records


def aliased(message: bytes, *names: str) -> bytes:
    """An answer through aliases, the last of which is an address; the records in reverse order."""
    *aliases, address = names
    question = answer(message)
    owners = [read(question).question, *aliases]
    records = []
    for owner, target in zip(owners, [*aliases, address], strict=True):
        last = target == address
        data = ipaddress.ip_address(target).packed if last else name_bytes(target)
        head = struct.pack(">HHIH", A if last else CNAME, 1, 60, len(data))
        records.append(name_bytes(owner) + head + data)
    count = struct.pack(">H", len(records))
    return question[:6] + count + question[8:] + b"".join(reversed(records))


Respond = Callable[[bytes], "bytes | list[bytes] | None"]


class Server:
    """Answers on one address, over UDP and TCP, in a thread of its own.

    ``respond`` gets a question and returns the reply, several (all are sent), or None: silence.
    """

    def __init__(
        self, respond: Respond, address: str = "127.0.0.1", netns: int = -1, port: int = 0
    ) -> None:
        self.respond = respond
        self.asked: list[bytes] = []
        self.sources: set[tuple[str, int]] = set()
        self._stop = threading.Event()
        self.udp, self.tcp = self._sockets(address, netns, port)
        self.address = address
        self.port = self.udp.getsockname()[1]
        self._threads = [threading.Thread(target=run) for run in (self._serve_udp, self._serve_tcp)]

    @staticmethod
    def _sockets(address: str, netns: int, port: int) -> tuple[socket.socket, socket.socket]:
        for _ in range(100):
            made = []
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                flags = kind | socket.SOCK_CLOEXEC
                fd = socket_in(netns, socket.AF_INET, flags) if netns >= 0 else None
                made.append(socket.socket(socket.AF_INET, kind, 0, fd))
                made[-1].settimeout(0.05)
            udp, tcp = made
            udp.bind((address, port))
            try:
                tcp.bind((address, udp.getsockname()[1]))
            except OSError:
                udp.close()
                tcp.close()
                continue
            tcp.listen()
            return udp, tcp
        raise AssertionError("no port is free for both")

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.udp.close()
        self.tcp.close()

    def _replies(self, message: bytes) -> list[bytes]:
        self.asked.append(message)
        said = self.respond(message)
        return [] if said is None else said if isinstance(said, list) else [said]

    def _serve_udp(self) -> None:
        while not self._stop.is_set():
            try:
                message, source = self.udp.recvfrom(1 << 16)
            except TimeoutError:
                continue
            self.sources.add(source)
            for reply in self._replies(message):
                self.udp.sendto(reply, source)

    def _serve_tcp(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self.tcp.accept()
            except TimeoutError:
                continue
            # Who has its answer may hang up with a reset.
            with connection, contextlib.suppress(ConnectionError):
                connection.settimeout(5)
                while message := recv_tcp(connection):
                    for reply in self._replies(message):
                        send_tcp(connection, reply)
