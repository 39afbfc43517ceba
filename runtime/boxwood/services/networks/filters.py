"""What ``network ls`` and ``network prune`` let through."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from boxwood.errors import InvalidArgument
from boxwood.model import times
from boxwood.model.moments import moment_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from boxwood.model.network import Network

    Test = Callable[[Network], bool]

_LIST = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})
_PRUNE = frozenset({"label", "label!", "until"})
_TRUE = frozenset({"1", "t", "true"})
_FALSE = frozenset({"0", "f", "false"})


def listed(filters: Mapping[str, Iterable[str]] | None, in_use: Callable[[Network], bool]) -> Test:
    """Return the test of ``network ls``; ``in_use`` says whether a network has endpoints.

    Values of a key are alternatives, but for labels, of which all must be there.

    Raises:
        InvalidArgument: an unknown key or an impossible value.
    """
    wanted = _checked(filters, _LIST)
    for value in wanted.get("dangling", ()):
        if value.lower() not in _TRUE | _FALSE:
            raise InvalidArgument(f"invalid filter 'dangling=[{value}]'")
    for value in wanted.get("type", ()):
        if value not in ("builtin", "custom"):
            raise InvalidArgument(f"invalid filter: 'type'='{value}'")

    def one(network: Network, key: str, value: str) -> bool:
        match key:
            case "name":
                return _search(value, network.name)
            case "id":
                return _search(value, network.id)
            case "driver":
                return network.driver == value
            case "scope":
                return network.scope == value
            case "type":
                return network.predefined == (value == "builtin")
            case "label":
                return has_label(network, value)
            case _:
                idle = not network.predefined and not in_use(network)
                return idle == (value.lower() in _TRUE)

    def test(network: Network) -> bool:
        return all(
            (all if key == "label" else any)(one(network, key, value) for value in values)
            for key, values in wanted.items()
            if values
        )

    return test


def pruned(filters: Mapping[str, Iterable[str]] | None) -> Test:
    """Return the test of ``network prune``: ``label``, ``label!``, ``until``.

    Raises:
        InvalidArgument: an unknown key or an impossible value.
    """
    wanted = _checked(filters, _PRUNE)
    until = wanted.get("until", ())
    if len(until) > 1:
        raise InvalidArgument("more than one until filter specified")
    limit = moment_of(until[0]) * times.SECOND if until else None

    def test(network: Network) -> bool:
        return (
            (limit is None or network.created < limit)
            and all(has_label(network, value) for value in wanted.get("label", ()))
            and not any(has_label(network, value) for value in wanted.get("label!", ()))
        )

    return test


def has_label(network: Network, wanted: str) -> bool:
    """Whether a network has the label ``NAME`` or ``NAME=VALUE``."""
    name, equals, value = wanted.partition("=")
    return name in network.labels and (not equals or network.labels[name] == value)


def _checked(
    filters: Mapping[str, Iterable[str]] | None, known: frozenset[str]
) -> dict[str, tuple[str, ...]]:
    wanted = {key: tuple(values) for key, values in (filters or {}).items()}
    for key in wanted:
        if key not in known:
            raise InvalidArgument(f"invalid filter '{key}'")
    return wanted


def _search(pattern: str, text: str) -> bool:
    """Whether a pattern, or the text that it is, is found: as Docker compares."""
    if pattern == text:
        return True
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return pattern in text
