"""JSON bodies into model structs, with the rules of Go's decoder that clients rely on.

``null`` is a field's zero value, keys match without regard to case when they do not match
exactly, unknown keys are ignored, a string is good where a list of words (StrSlice) is. What is
of a wrong type is refused by the field's name.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import inspect as shape

from boxwood.errors import InvalidArgument

_INT64 = range(-(2**63), 2**63)
WORDS = frozenset({"Cmd", "Entrypoint", "CapAdd", "CapDrop"})
"""Fields that take a string for a list of one word (Docker's StrSlice)."""

_NAMES = {str: "string", int: "number", float: "number", bool: "boolean", dict: "object"}

T = TypeVar("T", bound=msgspec.Struct)
Cleaner = Callable[[Any], Any]


class _Wrong(Exception):
    """A value of a wrong type; grows its path on the way out."""

    def __init__(self, want: str, value: object) -> None:
        super().__init__()
        self.want = want
        self.got = _NAMES.get(type(value), "array" if isinstance(value, list) else "null")
        self.path: list[str] = []


def parse(content: bytes) -> Any:
    """Return any JSON value. Raises InvalidArgument in Docker's words."""
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        if "trailing characters" in str(error):
            raise InvalidArgument("unexpected content after JSON") from error
        raise InvalidArgument(f"invalid JSON: {error}") from error
    except (RecursionError, UnicodeDecodeError) as error:
        raise InvalidArgument("invalid JSON: nested too deeply or not UTF-8") from error


def convert(value: Any, into: type[T], where: str = "") -> T:
    """Return ``value`` as the struct ``into``.

    Args:
        value: what :func:`parse` returned; None is an empty object.
        where: name of the field that holds it, for the error's text.

    Raises:
        InvalidArgument: a field is of the wrong type; names the field.
    """
    try:
        cleaned = _struct(into)({} if value is None else value)
        return msgspec.convert(cleaned, into, strict=True)
    except _Wrong as error:
        path = ".".join([where, *reversed(error.path)] if where else error.path[::-1])
        raise InvalidArgument(
            f"invalid JSON: {path or 'body'}: cannot take {error.got}, want {error.want}"
        ) from None
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"invalid JSON: {where}: {error}") from error


@cache
def _struct(into: type[msgspec.Struct]) -> Cleaner:
    info = shape.type_info(into)
    assert isinstance(info, shape.StructType)
    cleaners = {
        field.encode_name: _cleaner(field.type, field.encode_name in WORDS) for field in info.fields
    }
    folded = {name.casefold(): name for name in cleaners}

    def clean(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _Wrong("object", value)
        result = {}
        for key, item in value.items():
            name = key if key in cleaners else folded.get(key.casefold())
            if name is None or item is None:
                continue
            try:
                result[name] = cleaners[name](item)
            except _Wrong as error:
                error.path.append(name)
                raise
        return result

    return clean


def _cleaner(kind: shape.Type, words: bool = False) -> Cleaner:
    if isinstance(kind, shape.UnionType):
        kind = next(part for part in kind.types if not isinstance(part, shape.NoneType))
    if isinstance(kind, shape.StructType):
        return _struct(kind.cls)
    if isinstance(kind, shape.DictType):
        return _map(_cleaner(kind.value_type), _zero(kind.value_type))
    if isinstance(kind, shape.VarTupleType | shape.ListType):
        return _list(_cleaner(kind.item_type), _zero(kind.item_type), words)
    if isinstance(kind, shape.TupleType):
        return _fixed(len(kind.item_types), _cleaner(kind.item_types[0]))
    if isinstance(kind, shape.BoolType):
        return _boolean
    if isinstance(kind, shape.IntType):
        return _integer
    if isinstance(kind, shape.StrType):
        return _string
    return _anything


def _zero(kind: shape.Type) -> Any:
    """What Go makes of a null inside a list or map of this type."""
    if isinstance(kind, shape.UnionType):
        return None
    if isinstance(kind, shape.StrType):
        return ""
    if isinstance(kind, shape.IntType):
        return 0
    if isinstance(kind, shape.VarTupleType | shape.ListType):
        return []
    return {}


def _map(clean: Cleaner, zero: Any) -> Cleaner:
    def cleaner(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _Wrong("object", value)
        result = {}
        for key, item in value.items():
            try:
                result[key] = zero if item is None else clean(item)
            except _Wrong as error:
                error.path.append(key)
                raise
        return result

    return cleaner


def _list(clean: Cleaner, zero: Any, words: bool) -> Cleaner:
    def cleaner(value: Any) -> list[Any]:
        if words and isinstance(value, str):
            return [value]
        if not isinstance(value, list):
            raise _Wrong("array", value)
        result = []
        for index, item in enumerate(value):
            try:
                result.append(zero if item is None else clean(item))
            except _Wrong as error:
                error.path.append(str(index))
                raise
        return result

    return cleaner


def _fixed(length: int, clean: Cleaner) -> Cleaner:
    """A Go array: what is missing is zero, what is too much is dropped."""

    def cleaner(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise _Wrong("array", value)
        items = [0 if item is None else clean(item) for item in value[:length]]
        return items + [0] * (length - len(items))

    return cleaner


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Wrong("boolean", value)
    return value


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Wrong("whole number", value)
    if value not in _INT64:
        raise _Wrong("number of 64 bits", value)
    return value


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong("string", value)
    return value


def _anything(value: Any) -> Any:
    return value
