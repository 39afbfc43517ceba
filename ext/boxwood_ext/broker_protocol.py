"""What is said to the egress broker, by the daemon (which policy a sandbox has) and by the helper
(which addresses a name has). Messages as those of :mod:`boxwood_ext.helper_protocol`.

Terms:
    policy: what one sandbox may reach by name. rule: a name or ``*.`` and a domain, with protocol
    and port. source: an address of the sandbox, by which its packets are known.
"""

from __future__ import annotations

from typing import Final

from boxwood_ext.wire import Messages, c_messages, operation

VERSION: Final = 1
MAX_MESSAGE: Final = 48 << 10
MAX_ID: Final = 80
MAX_SOURCES: Final = 32
MAX_RULES: Final = 256
MAX_ADDRESSES: Final = 64
"""Of one answer."""
TTL_MIN: Final = 30
TTL_MAX: Final = 86400
GRACE: Final = 60
"""Seconds that an address stays open beyond its lifetime: who was told it may use it late."""

TABLE: Final = (
    operation(1, "policy", "request:u64 sandbox:str sources:bytes rules:bytes",
              "Replaces the sandbox's. A source: u8 length, address. A rule: u8 protocol (0: any), "
              "u16 port in network order (0: any), u8 length, pattern."),
    operation(2, "close", "request:u64 sandbox:str", "A sandbox is gone."),
    operation(3, "helper", "request:u64", "One descriptor: the connection of a (new) helper."),
    operation(4, "open", "request:u64 sandbox:str name:str addresses:bytes",
              "The only one that a helper may send. An address: u8 length, address, u32 seconds in "
              "network order. Opened for as long, for the rules that the name fits."),
    operation(5, "keep", "request:u64 sandboxes:list", "All others are gone."),
    operation(32, "reply", "request:u64 error:i64", "error: 0 or an errno; EPERM: no rule fits."),
    operation(33, "ready", "build:str", "To a daemon that connects."),
)  # fmt: skip

_MESSAGES: Final = Messages(TABLE, VERSION, MAX_MESSAGE)
encode = _MESSAGES.encode
decode = _MESSAGES.decode


def c_header() -> str:
    """The table as a C header: ``ext/c/generated/broker_messages.h``."""
    words = ("VERSION", "MAX_", "TTL_", "GRACE")
    return c_messages("broker_protocol", "BXE", globals(), words, TABLE)
