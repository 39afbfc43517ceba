"""Inside a sandbox: its resolver's sockets at 127.0.0.11, and the rules that lead port 53 there.

The sockets have ports of the kernel's choice, so that the sandbox may use port 53 itself. The
rules rewrite the port on the way out and back, without connection tracking, whose modules and
table a namespace would otherwise get for this alone. They are sent as one nfnetlink batch
(nftables(7), ``linux/netfilter/nf_tables.h``), encoded here: a libnftables context costs more
than all of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from boxwood.errors import Internal, Unavailable
from boxwood_ext.net import socket_in

ADDRESS: Final = "127.0.0.11"
"""Of the resolver, Docker's."""
PORT: Final = 53
INSIDE_DATAGRAMS: Final = 16
"""Sockets of a family for asking a sandbox's own servers from its namespace, and as many questions
at once; others wait for one to be free."""
INSIDE_STREAMS: Final = 4
BACKLOG: Final = 64
RECEIVE: Final = 1 << 20
"""Bytes of questions that may wait, with what the kernel adds to each: some 1,300. The usual
buffer loses what 300 threads ask at once."""

NETLINK_NETFILTER: Final = 12
_TABLE: Final = b"boxwood-names\0"
_NFTABLES: Final = 10  # the subsystem
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEWTABLE, _DELTABLE, _NEWCHAIN, _NEWRULE = (_NFTABLES << 8 | code for code in (0, 2, 3, 6))
_REQUEST, _ACK, _EXCL, _CREATE, _APPEND = 1, 4, 0x200, 0x400, 0x800
_IPV4: Final = 2
_HOOK_IN, _HOOK_OUT = 1, 3
# Before anything that tracks connections looks at the way out, and after it on the way back, so
# that both show it the same ports.
_PRIORITY_OUT, _PRIORITY_IN = -300, 100
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_SOURCE, _DESTINATION = 12, 16  # of the addresses in the IPv4 header
_CHECKSUM_AT: Final = {socket.IPPROTO_UDP: 6, socket.IPPROTO_TCP: 16}
_META_PROTOCOL: Final = 16
_SO_RCVBUFFORCE: Final = 33


class Sockets(msgspec.Struct):
    """What :func:`prepare` made; :meth:`close` lets go of it."""

    sockets: list[socket.socket]
    """UDP, the TCP listener, then those for asking from inside: datagrams, streams."""
    inside: int
    """How many of those are datagram sockets."""

    def filenos(self) -> list[int]:
        """The descriptors, in order."""
        return [made.fileno() for made in self.sockets]

    def close(self) -> None:
        """Close them. Idempotent."""
        for made in self.sockets:
            made.close()


def prepare(netns: int, inside: Collection[int] = ()) -> Sockets:
    """Make the resolver's sockets in a network namespace, whose loopback is up, and its rules.

    Rules that stand there already are replaced (which takes 15 ms, else all of it takes 0.3).
    ``inside``: sockets of these families for asking from there too. May run on any thread.

    Raises:
        Unavailable: the kernel has no nftables, or no descriptor is free.
    """
    made = Sockets([], INSIDE_DATAGRAMS * len(inside))
    try:
        udp = _socket_in(netns, socket.AF_INET, socket.SOCK_DGRAM)
        tcp = _socket_in(netns, socket.AF_INET, socket.SOCK_STREAM)
        made.sockets += (udp, tcp)
        with contextlib.suppress(PermissionError):
            udp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE)
        udp.bind((ADDRESS, 0))
        tcp.bind((ADDRESS, 0))
        tcp.listen(BACKLOG)
        counts = {socket.SOCK_DGRAM: INSIDE_DATAGRAMS, socket.SOCK_STREAM: INSIDE_STREAMS}
        for kind, count in counts.items():
            made.sockets += [_socket_in(netns, one, kind) for one in inside for _ in range(count)]
        _lead(netns, udp.getsockname()[1], tcp.getsockname()[1])
    except OSError as error:
        made.close()
        raise Unavailable(f"resolver: make its sockets: {error.strerror}") from error
    except BaseException:
        made.close()
        raise
    return made


def _socket_in(netns: int, family: int, kind: int) -> socket.socket:
    flags = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    return socket.socket(family, kind, 0, socket_in(netns, family, kind | flags))


def _lead(netns: int, udp: int, tcp: int) -> None:
    """Set the rules up in the namespace."""
    with socket.socket(
        socket.AF_NETLINK,
        socket.SOCK_RAW,
        NETLINK_NETFILTER,
        socket_in(netns, socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER),
    ) as netlink:
        # In a fresh namespace there is nothing to remove, and removing costs most of it.
        failed = _send(netlink, _batch(udp, tcp, anew=False))
        if failed == errno.EEXIST:
            failed = _send(netlink, _batch(udp, tcp, anew=True))
    if failed:
        raise Unavailable(f"resolver: lead port {PORT} to it by nftables: {os.strerror(failed)}")


def _send(netlink: socket.socket, batch: bytes) -> int:
    """Send a batch whose last change asks for its acknowledgement; the first errno, 0: it is done.

    The kernel works it off within the call, so the answer is there when it returns.
    """
    netlink.send(batch)
    while True:
        answer = netlink.recv(1 << 16, socket.MSG_DONTWAIT)
        while len(answer) >= 20:
            length, kind = struct.unpack_from("=IH", answer)
            if kind != 2 or length < 20:
                raise Internal(f"nfnetlink: answer {kind} of {length} bytes to a batch")
            (error,) = struct.unpack_from("=i", answer, 16)
            return -int(error)


# ---- nfnetlink


def _attribute(kind: int, value: bytes, *, nested: bool = False) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind | nested << 15) + value + b"\0" * (-length % 4)


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack(">i", value))


def _message(kind: int, flags: int, body: bytes, *, family: int = _IPV4, res: int = 0) -> bytes:
    head = struct.pack("=IHHII", 20 + len(body), kind, flags | _REQUEST, 1, 0)
    return head + struct.pack("=BB", family, 0) + struct.pack(">H", res) + body


def _expression(name: str, *attributes: bytes) -> bytes:
    data = _attribute(1, name.encode() + b"\0") + _attribute(2, b"".join(attributes), nested=True)
    return _attribute(1, data, nested=True)


def _load(base: int, offset: int, size: int) -> bytes:
    """Put a piece of the packet in register 1."""
    return _expression(
        "payload", _number(1, 1), _number(2, base), _number(3, offset), _number(4, size)
    )


def _equals(value: bytes) -> bytes:
    """Go on if register 1 is this."""
    data = _attribute(3, _attribute(1, value), nested=True)
    return _expression("cmp", _number(1, 1), _number(2, 0), data)


def _store(protocol: int, offset: int, port: int) -> bytes:
    """Write a port into the transport header, checksum included."""
    value = _attribute(2, _attribute(1, struct.pack(">H", port)), nested=True)
    return _expression("immediate", _number(1, 1), value) + _expression(
        "payload",
        _number(5, 1),
        _number(2, _TRANSPORT_HEADER),
        _number(3, offset),
        _number(4, 2),
        _number(6, 1),
        _number(7, _CHECKSUM_AT[protocol]),
        _number(8, 0),
    )


def _rule(chain: bytes, protocol: int, address_at: int, port_at: int, old: int, new: int) -> bytes:
    """ip saddr|daddr 127.0.0.11 PROTOCOL sport|dport OLD: set it to NEW."""
    expressions: Sequence[bytes] = (
        _load(_NETWORK_HEADER, address_at, 4),
        _equals(socket.inet_aton(ADDRESS)),
        _expression("meta", _number(1, 1), _number(2, _META_PROTOCOL)),
        _equals(bytes([protocol])),
        _load(_TRANSPORT_HEADER, port_at, 2),
        _equals(struct.pack(">H", old)),
        _store(protocol, port_at, new),
    )
    body = _attribute(1, _TABLE) + _attribute(2, chain)
    return body + _attribute(4, b"".join(expressions), nested=True)


def _chain(name: bytes, hook: int, priority: int) -> bytes:
    place = _attribute(4, _number(1, hook) + _number(2, priority), nested=True)
    accept = _number(5, 1)
    return _attribute(1, _TABLE) + _attribute(3, name) + place + accept + _attribute(7, b"filter\0")


def _batch(udp: int, tcp: int, *, anew: bool) -> bytes:
    """The whole table; ``anew``: in the place of the one that is there."""
    table = _attribute(1, _TABLE)
    out, back = b"out\0", b"back\0"
    rules = []
    for protocol, port in ((socket.IPPROTO_UDP, udp), (socket.IPPROTO_TCP, tcp)):
        rules.append(_rule(out, protocol, _DESTINATION, 2, PORT, port))
        rules.append(_rule(back, protocol, _SOURCE, 0, port, PORT))
    messages = [_message(_BATCH_BEGIN, 0, b"", family=0, res=_NFTABLES)]
    if anew:
        messages.append(_message(_DELTABLE, 0, table))
    messages.append(_message(_NEWTABLE, _CREATE | _EXCL, table))
    messages.append(_message(_NEWCHAIN, _CREATE, _chain(out, _HOOK_OUT, _PRIORITY_OUT)))
    messages.append(_message(_NEWCHAIN, _CREATE, _chain(back, _HOOK_IN, _PRIORITY_IN)))
    for rule in rules:
        last = _ACK if rule is rules[-1] else 0
        messages.append(_message(_NEWRULE, _CREATE | _APPEND | last, rule))
    messages.append(_message(_BATCH_END, 0, b"", family=0, res=_NFTABLES))
    return b"".join(messages)
