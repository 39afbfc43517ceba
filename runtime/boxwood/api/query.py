"""Parts of a query string, read as Docker's daemon reads them."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import msgspec

from boxwood.errors import InvalidArgument

MAX_FIELDS = 1000
"""Fields of one query; a build has some dozens."""
_FALSE = frozenset({"", "0", "no", "false", "none"})

Filters = dict[str, tuple[str, ...]]


def parse(text: str) -> dict[str, list[str]]:
    """Return the fields of a query string. Raises InvalidArgument."""
    if not text:
        return {}
    try:
        return parse_qs(text, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except (ValueError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"invalid query string: {error}") from error


def flag(text: str) -> bool:
    """Return whether a boolean field is true: everything is but ``0 no false none`` and empty."""
    return text.strip().lower() not in _FALSE


def number(name: str, text: str, low: int, high: int) -> int:
    """Return a whole number between ``low`` and ``high``. Raises InvalidArgument."""
    try:
        value = int(text) if text.isascii() and "_" not in text else None
    except ValueError:
        value = None
    if value is None:
        raise InvalidArgument(f'invalid value "{text}" for {name}: not a whole number')
    if not low <= value <= high:
        raise InvalidArgument(f'invalid value "{text}" for {name}: value out of range')
    return value


def filters(text: str) -> Filters:
    """Return ``filters``, from ``{"label":["a"]}`` or ``{"label":{"a":true}}``.

    Which keys there may be is for the service to say, that they are applied to.

    Raises:
        InvalidArgument: no such JSON.
    """
    if not text:
        return {}
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidArgument("invalid filter") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidArgument("invalid filter")
    found = {key: _values(entry) for key, entry in value.items()}
    return {key: values for key, values in found.items() if values}


def _values(entry: Any) -> tuple[str, ...]:
    if isinstance(entry, dict):
        if not all(isinstance(on, bool) for on in entry.values()):
            raise InvalidArgument("invalid filter")
        return tuple(key for key, on in entry.items() if on)
    if isinstance(entry, list) and all(isinstance(item, str) for item in entry):
        return tuple(entry)
    raise InvalidArgument("invalid filter")
