"""What the daemon and the network helper say to each other over a SOCK_SEQPACKET socket.

One message is one packet, as in :mod:`boxwood_ext.protocol`; descriptors travel beside it
(SCM_RIGHTS). The C side (``ext/c/helper/control.c``) is generated from the same table.

Terms:
    zone: the names of one network. view: what one sandbox is told: zones in the order in which
    they are asked, names of its own, servers for everything else. port: a socket that is held on
    a port of the host for an *owner*, and *served* when the helper leads its traffic itself.
    request: a number of the daemon's choice; exactly one ``reply`` carries it.

Life: who connects is told what is there (``present`` for each thing, then ``ready``), and what it
then sends replaces that. The helper goes on without a daemon; it ends when it holds nothing and
nobody is connected.
"""

from __future__ import annotations

from typing import Final

from boxwood_ext.wire import Messages, c_messages, operation

VERSION: Final = 1
MAX_MESSAGE: Final = 48 << 10
"""Bytes of one packet; a zone comes in as many as it needs."""
MAX_ZONE: Final = 4 << 20
"""Bytes of the records of one zone."""
MAX_ID: Final = 80
"""Bytes of an id or of a port's key, with the NUL."""
MAX_ZONES: Final = 64
"""Zones of one view."""
MAX_UPSTREAMS: Final = 3
MAX_INSIDE: Final = 48
"""Descriptors of sockets with which a sandbox's own servers are asked."""

# Flags of `view`.
VIEW_FORWARD: Final = 1
"""Names that are not known here are asked for elsewhere; otherwise they are refused."""
VIEW_NDOTS: Final = 2
"""``ndots`` was set: names of one label that are not known here are answered with nothing."""
VIEW_EGRESS: Final = 4
"""Only names that fit a pattern are asked for elsewhere, and the broker hears of each answer before
the sandbox does."""
VIEW_LEARN: Final = 8
"""Every name that is asked for elsewhere is told (`asked`)."""

# What is there, of `present`.
KIND_ZONE: Final = 1
KIND_SANDBOX: Final = 2
KIND_PORT: Final = 3

COUNTERS: Final = (
    "queries", "queries_tcp", "local", "forwarded", "answered", "failed", "refused", "malformed",
    "timeouts", "mismatched", "truncated", "latency_us", "in_flight", "connections",
    "connections_now", "connections_failed", "datagrams", "flows_now", "sandboxes", "zones",
    "ports", "served",
)  # fmt: skip
"""Of ``counters``, in order. latency_us: the sum over what was answered from elsewhere."""
BUCKETS: Final = 14
"""Then as many numbers of answers from elsewhere that took less than 2^n ms, the last: all else."""
MAX_COUNTERS: Final = len(COUNTERS)

TABLE: Final = (
    operation(1, "zone", "request:u64 zone:str domain:str last:u64 records:bytes",
              "Names of a network. Parts with last=0 are kept; that with last=1 replaces the zone. "
              "A record: u8 length, name in lower case, u8 number of addresses, and for each u8 "
              "length (4 or 16) and its bytes. Each name is also known with .domain behind it."),
    operation(2, "forget", "request:u64 zone:str", "A zone is no more."),
    operation(3, "view", "request:u64 sandbox:str zones:list names:bytes upstreams:bytes flags:u64 "
              "inside:u64 patterns:list",
              "names: records as a zone's. An upstream: u8 inside, u8 length of the address, "
              "u16 port (both in network order). Descriptors: none (what is there is kept), or "
              "the UDP socket, the TCP listener, `inside` UDP sockets for asking from there, and "
              "the rest TCP sockets likewise."),
    operation(4, "close", "request:u64 sandbox:str", "A sandbox is gone."),
    operation(5, "hold", "request:u64 owner:str keys:list", "One descriptor for each key: "
              "'tcp/…' a listener, else a datagram socket, with a filter that drops all, which is "
              "taken off when the port is first served."),
    operation(6, "serve", "request:u64 owner:str key:str target:bytes",
              "Lead a port's traffic to u16 port, 4 or 16 bytes of address; empty: refuse it."),
    operation(7, "release", "request:u64 owner:str keys:list", "Close held sockets; no keys: all."),
    operation(8, "count", "request:u64", "Answered by `counters` before the reply."),
    operation(9, "give", "request:u64", "Hand everything over: `present` again, with the "
              "descriptors (as in view and hold); the helper ends when what it has begun is done."),
    operation(10, "broker", "request:u64", "One descriptor: the connection to the broker."),
    operation(11, "move", "request:u64 owner:str keys:list to:str",
              "Held sockets are another owner's from now on, and served as they were."),
    operation(32, "reply", "request:u64 error:i64 operation:str object:str",
              "error: 0 or a positive errno."),
    operation(33, "present", "kind:u64 owner:str key:str inside:u64", "A thing that is there."),
    operation(34, "ready", "build:str", "All is told. build: what it was started with."),
    operation(35, "counters", "values:bytes", "u64 each: COUNTERS, then BUCKETS."),
    operation(36, "asked", "sandbox:str name:str allowed:u64", "A name was asked for elsewhere, or "
              "refused, under a policy. Lost when no daemon is there."),
)  # fmt: skip

_MESSAGES: Final = Messages(TABLE, VERSION, MAX_MESSAGE)
BY_NAME: Final = _MESSAGES.by_name
encode = _MESSAGES.encode
decode = _MESSAGES.decode


def c_header() -> str:
    """The table as a C header: ``ext/c/generated/helper_messages.h``."""
    words = ("VERSION", "MAX_", "VIEW_", "KIND_", "BUCKETS")
    text = c_messages("helper_protocol", "BXH", globals(), words, TABLE)
    names = ", ".join(f"COUNT_{name.upper()}" for name in COUNTERS)
    return f"{text}\nenum {{ {names}, COUNT_BUCKETS }};\n"
