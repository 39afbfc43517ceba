"""Filters of the event stream (Engine API ``SystemEvents``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boxwood.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from boxwood.model.event import Event

_PREFIXES = ("exec_create", "exec_start", "health_status")
_BY_ACTOR = {
    "container": "container", "volume": "volume", "network": "network", "daemon": "daemon",
    "plugin": "plugin", "service": "service", "node": "node", "secret": "secret",
    "config": "config",
}  # fmt: skip
KNOWN = frozenset({"type", "event", "label", "image", "scope", *_BY_ACTOR})


def compile_filters(filters: Mapping[str, Iterable[str]]) -> Callable[[Event], bool]:
    """Return a predicate: values of one key are alternatives, all keys must hold.

    Raises:
        InvalidArgument: an unknown key.
    """
    wanted = {key: frozenset(values) for key, values in filters.items() if values}
    for key in wanted:
        if key not in KNOWN:
            raise InvalidArgument(f"invalid filter '{key}'")

    def matches(event: Event) -> bool:
        return all(_match(event, key, values) for key, values in wanted.items())

    return matches


def _match(event: Event, key: str, values: frozenset[str]) -> bool:
    if key == "type":
        return event.type in values
    if key == "scope":
        return event.scope in values
    if key == "event":
        return event.action in values or any(
            event.action.startswith(prefix + ":") and prefix in values for prefix in _PREFIXES
        )
    if key == "label":
        return all(_has_label(event, value) for value in values)
    if key == "image":
        return _is_image(event, values)
    return event.type == _BY_ACTOR[key] and _is_actor(event, values)


def _has_label(event: Event, wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    found = event.actor.attributes.get(name)
    return found is not None and (not equals or found == value)


def _is_actor(event: Event, values: frozenset[str]) -> bool:
    name = event.actor.attributes.get("name", "")
    return any(
        name.startswith(value.lstrip("/")) or event.actor.id.startswith(value)
        for value in values
        if value
    )


def _is_image(event: Event, values: frozenset[str]) -> bool:
    if event.type == "image":
        names = {event.actor.id, event.actor.attributes.get("name", "")}
    else:
        names = {event.actor.attributes.get("image", "")}
    names |= {_without_tag(name) for name in names}
    return not names.isdisjoint(values)


def _without_tag(name: str) -> str:
    head, colon, tail = name.rpartition(":")
    return head if colon and "/" not in tail else name
