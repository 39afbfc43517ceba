"""The functions of templates: Go's built-ins, and those that Docker's client adds.

A function raises CallError (the text after `error calling NAME: `) for values it cannot take.
"""

from __future__ import annotations

from boxwood.cli.template import _gofmt as gofmt
from boxwood.cli.template._values import MISSING, Byte, Map, NilPointer, Struct, truth, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class CallError(Exception):
    """What a function says of arguments that it cannot work on."""


class NotAFunction(CallError):
    """`call` of what is no function; the evaluator knows how it was written."""


class Function:
    """A function and the Go types of its parameters.

    `params` are the fixed ones; `rest` is the type of further ones, None when there are none.
    Types: "any", "value" (any, nil refused by the evaluator), "string", "int", "strings".
    """

    __slots__ = ("call", "params", "rest")

    def __init__(
        self, call: Callable[..., object], params: tuple[str, ...] = (), rest: str | None = None
    ) -> None:
        self.call = call
        self.params = params
        self.rest = rest


# -- comparison


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float"
    if isinstance(value, complex):
        return "complex"
    if isinstance(value, str):
        return "string"
    return "invalid" if value is None or value is MISSING else "other"


def _eq(first: object, *others: object) -> bool:
    if not others:
        raise CallError("missing argument for comparison")
    return any(_equal(first, other) for other in others)


def _equal(first: object, other: object) -> bool:
    one, two = _kind(first), _kind(other)
    if "invalid" in (one, two):
        return one == two or isinstance(first, NilPointer) or isinstance(other, NilPointer)
    if one != two:
        raise CallError("incompatible types for comparison")
    if one != "other":
        return first == other
    return _equal_containers(first, other)


def _shape(value: object) -> str:
    """The kind of what is no scalar."""
    if isinstance(value, NilPointer) or (isinstance(value, Struct) and value.pointer):
        return "pointer"
    if isinstance(value, Struct):
        return "struct"
    return "map" if isinstance(value, dict) else "list"


def _equal_containers(first: object, other: object) -> bool:
    shape = _shape(first)
    if shape != _shape(other):
        shown, name = gofmt.sprintf("%s", [first]), type_name(first)
        raise CallError(
            f"non-comparable types {shown}: {name}, {type_name(other)}: {gofmt.show(other)}"
        )
    if _is_nil(first) or _is_nil(other):
        return _is_nil(first) == _is_nil(other)
    if shape == "pointer":
        return first is other
    if shape != "struct" or _holds_containers(other):
        raise CallError(f"non-comparable type {gofmt.sprintf('%s', [other])}: {type_name(other)}")
    return first == other


def _is_nil(value: object) -> bool:
    return isinstance(value, NilPointer) or bool(getattr(value, "nil", False))


def _holds_containers(value: object) -> bool:
    """Whether a struct has a map or slice in it, which makes it incomparable."""
    if isinstance(value, Struct) and not value.pointer:
        return any(map(_holds_containers, value.values()))
    return isinstance(value, dict | list) and not isinstance(value, Struct)


def _ne(first: object, other: object) -> bool:
    return not _equal(first, other)


def _lt(first: object, other: object) -> bool:
    one, two = _kind(first), _kind(other)
    if one in ("other", "invalid") or two in ("other", "invalid"):
        raise CallError("invalid type for comparison")
    if one != two:
        raise CallError("incompatible types for comparison")
    if one in ("bool", "complex"):
        raise CallError("invalid type for comparison")
    return first < other  # type: ignore[operator,no-any-return]


def _le(first: object, other: object) -> bool:
    return _lt(first, other) or _equal(first, other)


def _gt(first: object, other: object) -> bool:
    return not _le(first, other)


def _ge(first: object, other: object) -> bool:
    return not _lt(first, other)


# -- containers


def _len(item: object) -> int:
    if isinstance(item, str):
        return len(item.encode("utf-8", "surrogateescape"))
    if isinstance(item, list) or (isinstance(item, dict) and not isinstance(item, Struct)):
        return len(item)
    if item is MISSING:
        raise CallError("reflect: call of reflect.Value.Type on zero Value")
    if item is None or isinstance(item, NilPointer):
        raise CallError("len of nil pointer")
    raise CallError(f"len of type {type_name(item)}")


def _index(item: object, *keys: object) -> object:
    if item is None or item is MISSING:
        raise CallError("index of untyped nil")
    for key in keys:
        item = _index_one(item, key)
    return item


def _index_one(item: object, key: object) -> object:
    if isinstance(item, NilPointer):
        raise CallError("index of nil pointer")
    if isinstance(item, list):
        return item[_position(key, len(item))]
    if isinstance(item, str):
        raw = item.encode("utf-8", "surrogateescape")
        return Byte(raw[_position(key, len(raw))])
    if isinstance(item, dict) and not isinstance(item, Struct):
        if key is None or key is MISSING:
            raise CallError("value is nil; should be of type string")
        if not isinstance(key, str):
            raise CallError(f"value has type {type_name(key)}; should be string")
        return item.get(key, item.zero if isinstance(item, Map) else None)
    if item is None or item is MISSING:
        raise CallError("index of nil pointer")
    raise CallError(f"can't index item of type {type_name(item)}")


def _position(key: object, length: int, inclusive: bool = False) -> int:
    if key is None or key is MISSING:
        raise CallError("cannot index slice/array with nil")
    if not isinstance(key, int) or isinstance(key, bool):
        raise CallError(f"cannot index slice/array with type {type_name(key)}")
    if key < 0 or key > length or (key == length and not inclusive):
        raise CallError(f"index out of range: {key}")
    return key


def _slice(item: object, *keys: object) -> object:
    if item is None or item is MISSING:
        raise CallError("slice of untyped nil")
    if len(keys) > 3:
        raise CallError(f"too many slice indexes: {len(keys)}")
    if not isinstance(item, list | str):
        raise CallError(f"can't slice item of type {type_name(item)}")
    if len(keys) == 3 and isinstance(item, str):
        raise CallError("cannot 3-index slice a string")
    whole = item.encode("utf-8", "surrogateescape") if isinstance(item, str) else item
    bounds = [_position(key, len(whole), True) for key in keys]
    start = bounds[0] if bounds else 0
    stop = bounds[1] if len(bounds) > 1 else len(whole)
    if start > stop:
        raise CallError(f"invalid slice index: {start} > {stop}")
    if len(bounds) == 3 and stop > bounds[2]:
        raise CallError(f"invalid slice index: {stop} > {bounds[2]}")
    part = whole[start:stop]
    return part.decode("utf-8", "surrogateescape") if isinstance(part, bytes) else part


def _not(value: object) -> bool:
    return not truth(value)


def _call(function: object = None, *_args: object) -> object:
    if function is None or function is MISSING:
        raise CallError("call of nil")
    raise NotAFunction(f"of type {type_name(function)}")


# -- text


def _text(args: tuple[object, ...]) -> str:
    """The operands as one string, as the escaping functions take them."""
    if len(args) == 1 and isinstance(args[0], str):
        return args[0]
    return gofmt.sprint(["<no value>" if arg is None or arg is MISSING else arg for arg in args])


_HTML = str.maketrans(
    {"&": "&amp;", "'": "&#39;", '"': "&#34;", "<": "&lt;", ">": "&gt;", "\0": "\ufffd"}
)
_JS = {"\\": "\\\\", "'": "\\'", '"': '\\"'}


def _html(*args: object) -> str:
    return _text(args).translate(_HTML)


def _js(*args: object) -> str:
    return "".join(map(_js_char, _text(args)))


def _js_char(char: str) -> str:
    if char in _JS:
        return _JS[char]
    if char in "<>&=" or char < " " or not (char.isprintable() or char == " "):
        return f"\\u{ord(char):04X}"
    return char


def _urlquery(*args: object) -> str:
    from urllib.parse import quote_plus

    return quote_plus(_text(args), safe="~", errors="surrogateescape")


def _printf(template: str, *args: object) -> str:
    return gofmt.sprintf(template, args)


def _print(*args: object) -> str:
    return gofmt.sprint(args)


def _println(*args: object) -> str:
    return gofmt.sprintln(args)


# -- Docker's


def _json(value: object) -> str:
    from boxwood.cli.template._json import encode

    return encode(value)


def _split(text: str, separator: str) -> object:
    from boxwood.cli.template._values import List

    return List(text.split(separator) if separator else text)


def _join(parts: list[str], separator: str) -> str:
    return separator.join(parts)


def _title(text: str) -> str:
    """Upper-cases the first letter of each word, and leaves the others as they are."""
    out = []
    inside = False
    for char in text:
        out.append(char if inside else char.upper() if len(char.upper()) == 1 else char)
        inside = char in "_'" or char.isalnum() if char.isascii() else not char.isspace()
        if char == "'":
            inside = False
    return "".join(out)


def _pad(text: str, before: int, after: int) -> str:
    if min(before, after) < 0:
        raise CallError("strings: negative Repeat count")
    return " " * before + text + " " * after if text else text


def _truncate(text: str, length: int) -> str:
    raw = text.encode("utf-8", "surrogateescape")
    if length < 0:
        raise CallError(f"runtime error: slice bounds out of range [:{length}]")
    return raw[:length].decode("utf-8", "surrogateescape")


BUILTINS: dict[str, Function] = {
    "and": Function(_not, ("any",), "any"),
    "or": Function(_not, ("any",), "any"),
    "not": Function(_not, ("any",)),
    "call": Function(_call, ("any",), "any"),
    "html": Function(_html, (), "any"),
    "index": Function(_index, ("any",), "any"),
    "slice": Function(_slice, ("any",), "any"),
    "js": Function(_js, (), "any"),
    "len": Function(_len, ("any",)),
    "print": Function(_print, (), "any"),
    "printf": Function(_printf, ("string",), "any"),
    "println": Function(_println, (), "any"),
    "urlquery": Function(_urlquery, (), "any"),
    "eq": Function(_eq, ("any",), "any"),
    "ge": Function(_ge, ("any", "any")),
    "gt": Function(_gt, ("any", "any")),
    "le": Function(_le, ("any", "any")),
    "lt": Function(_lt, ("any", "any")),
    "ne": Function(_ne, ("any", "any")),
    "json": Function(_json, ("any",)),
    "split": Function(_split, ("string", "string")),
    "join": Function(_join, ("strings", "string")),
    "title": Function(_title, ("string",)),
    "lower": Function(str.lower, ("string",)),
    "upper": Function(str.upper, ("string",)),
    "pad": Function(_pad, ("string", "int", "int")),
    "truncate": Function(_truncate, ("string", "int")),
}


def _same(text: str, *_: object) -> str:
    return text


# In a table's header a column's name stays as it is, whatever is done to the column.
HEADER_FUNCTIONS: dict[str, Function] = BUILTINS | {
    "json": Function(_same, ("string",)),
    "split": Function(_same, ("string", "string")),
    "join": Function(_same, ("string", "string")),
    "title": Function(_same, ("string",)),
    "lower": Function(_same, ("string",)),
    "upper": Function(_same, ("string",)),
    "truncate": Function(_same, ("string", "int")),
}
