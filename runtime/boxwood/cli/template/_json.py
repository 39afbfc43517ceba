"""JSON as Go's encoder writes it, without HTML escaping (the `json` function)."""

from __future__ import annotations

import json

from boxwood.cli.template._floats import format_float
from boxwood.cli.template._values import MISSING, List, Map, NilPointer, Struct, Time

_LINES = {"\u2028": "\\u2028", "\u2029": "\\u2029"}


def encode(value: object) -> str:
    """`value` in one line: the keys of maps sorted, those of structs in their order."""
    if value is None or value is MISSING or isinstance(value, NilPointer):
        return "null"
    if isinstance(value, Map | List) and value.nil:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, str):
        return encode_string(value.json if isinstance(value, Time) else value)
    if isinstance(value, list):
        return "[" + ",".join(map(encode, value)) + "]"
    if isinstance(value, Struct):
        if value.as_map:
            return _escaped(_members(value, sort=True))
        return _members(value if value.json is None else value.json, sort=False)
    return _members(value, sort=True)


def _members(value: object, sort: bool) -> str:
    if not isinstance(value, dict):
        return encode(value)
    keys = sorted(value) if sort else list(value)
    return "{" + ",".join(f"{encode_string(key)}:{encode(value[key])}" for key in keys) + "}"


def _escaped(text: str) -> str:
    """JSON with the characters escaped that HTML gives a meaning."""
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def encode_string(text: str) -> str:
    """A JSON string: only quotes, backslashes, controls and U+2028/9 are escaped."""
    shown = json.dumps(text, ensure_ascii=False)
    for char, escape in _LINES.items():
        shown = shown.replace(char, escape)
    return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in shown)


def _float(value: float) -> str:
    """A number as encoding/json has it: an exponent below 1e-6 and from 1e21 on."""
    size = abs(value)
    if size and (size < 1e-6 or size >= 1e21):
        text = format_float(value, "g", None)
        return text.replace("e-0", "e-")
    return _plain(value)


def _plain(value: float) -> str:
    from decimal import Decimal

    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
