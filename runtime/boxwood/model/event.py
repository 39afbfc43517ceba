"""Something that happened to an object of the engine (Engine API ``EventMessage``)."""

from __future__ import annotations

import msgspec

from boxwood.model.wire import Wire


class Actor(Wire, kw_only=True):
    """The object it happened to, and what is worth knowing of it."""

    id: str = msgspec.field(name="ID")
    attributes: dict[str, str] = msgspec.field(name="Attributes")


class Event(Wire, kw_only=True):
    """One event.

    Attributes:
        type: ``container``, ``image``, ``volume``, ``network``, ``daemon``.
        action: ``start``, ``die``, ``exec_create: sh``, ...
        time: seconds since the epoch.
        time_nano: nanoseconds since the epoch.
    """

    type: str = msgspec.field(name="Type")
    action: str = msgspec.field(name="Action")
    actor: Actor = msgspec.field(name="Actor")
    scope: str = "local"
    time: int
    time_nano: int = msgspec.field(name="timeNano")
