"""Device rules in the order they were given, brought to what they come to.

The first controller (cgroup v1, ``devices``) keeps a default and a set of exceptions, and applies
rules one by one; the second has no files at all but an eBPF program. Both are fed from the same
model of the first one's behaviour, so a container is allowed the same on both.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import msgspec

from boxwood.drivers.isolation import Document

WILD = -1

# What the driver's own nodes need, whatever the document says (runtime-spec, default devices; as
# runc): any node may be made (opening it is another thing), terminals, /dev/full.
REQUIRED: tuple[Document, ...] = (
    {"allow": True, "type": "c", "access": "m"},
    {"allow": True, "type": "b", "access": "m"},
    *(
        {"allow": True, "type": "c", "major": 1, "minor": minor, "access": "rwm"}
        for minor in (3, 5, 7, 8, 9)
    ),
    {"allow": True, "type": "c", "major": 5, "minor": 0, "access": "rwm"},
    {"allow": True, "type": "c", "major": 5, "minor": 2, "access": "rwm"},
    {"allow": True, "type": "c", "major": 136, "access": "rwm"},
)


class Key(NamedTuple):
    """``c`` or ``b``, and two numbers (``WILD``: any)."""

    kind: str
    major: int
    minor: int


class Devices(NamedTuple):
    """What is allowed: everything but the exceptions, or nothing but them."""

    allow: bool
    exceptions: dict[Key, frozenset[str]]


def settle(rules: Iterable[Document]) -> Devices:
    """Apply rules in order, then the required ones. The answer is shared: do not change it."""
    return _settle(msgspec.json.encode(rules))


@lru_cache(maxsize=64)
def _settle(encoded: bytes) -> Devices:
    """Nearly every container has the same rules."""
    state = Devices(allow=True, exceptions={})
    for rule in (*msgspec.json.decode(encoded), *REQUIRED):
        state = _apply(state, rule)
    return state


def _apply(state: Devices, rule: Document) -> Devices:
    kind = rule.get("type") or "a"
    access = frozenset(rule.get("access") or "rwm")
    key = Key(kind, _number(rule, "major"), _number(rule, "minor"))
    allow = bool(rule["allow"])
    if kind == "a":
        if key.major != WILD or key.minor != WILD or access != frozenset("rwm"):
            # both kinds, one after the other: the kernel would take it for "everything"
            for each in ("b", "c"):
                state = _apply(state, {**rule, "type": each})
            return state
        return Devices(allow=allow, exceptions={})
    exceptions = dict(state.exceptions)
    old = exceptions.get(key, frozenset())
    new = old - access if allow == state.allow else old | access
    if new:
        exceptions[key] = new
    else:
        exceptions.pop(key, None)
    return Devices(state.allow, exceptions)


def _number(rule: Document, name: str) -> int:
    value = rule.get(name)
    return WILD if value is None or value < 0 else int(value)


def lines(devices: Devices) -> list[tuple[str, bytes]]:
    """Return (file, line) to write to a v1 group, in order."""
    first, other = ("devices.allow", "devices.deny")
    if not devices.allow:
        first, other = other, first
    written = [(first, b"a")]
    for key, access in devices.exceptions.items():
        major = "*" if key.major == WILD else key.major
        minor = "*" if key.minor == WILD else key.minor
        ordered = "".join(letter for letter in "rwm" if letter in access)
        written.append((other, f"{key.kind} {major}:{minor} {ordered}".encode()))
    return written
