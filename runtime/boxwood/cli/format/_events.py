"""The default line of `docker events`."""

from __future__ import annotations

from boxwood.cli.format._units import rfc3339

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


_NANOS = 1_000_000_000


def event_line(event: Mapping[str, Any]) -> str:
    """`TIME TYPE ACTION ID (key=value, ...)`, without its newline; `event` as the API sends it."""
    nanos = event.get("timeNano") or (event.get("time") or 0) * _NANOS
    stamp = f"{rfc3339(nanos // _NANOS, f'.{nanos % _NANOS:09d}')} " if nanos else ""
    actor = event.get("Actor") or {}
    line = f"{stamp}{event.get('Type', '')} {event.get('Action', '')} {actor.get('ID', '')}"
    attributes = actor.get("Attributes") or {}
    if attributes:
        line += " (" + ", ".join(f"{key}={attributes[key]}" for key in sorted(attributes)) + ")"
    return line
