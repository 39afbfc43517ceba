"""The values that templates work on, and their Go types.

Data decoded from JSON stands for itself: None is a nil interface, dict is
`map[string]interface {}`, list is `[]interface {}`. The classes here carry what Go knows and
JSON does not: the order and zero values of a struct's fields, a map's element type, nil pointers.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Missing:
    """The type of MISSING: Go's invalid reflect.Value, a key that a map does not have."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False


MISSING = Missing()


class NilPointer:
    """A nil pointer to the named struct type; `fields` are the struct's, where they are known."""

    __slots__ = ("fields", "go_name")

    def __init__(self, go_name: str, fields: frozenset[str] | None = None) -> None:
        self.go_name = go_name
        self.fields = fields

    def __bool__(self) -> bool:
        return False


class Byte(int):
    """A uint8: what `index` of a string gives."""


class Time(str):
    """A point in time: its text is Go's, `json` the one of RFC 3339."""

    __slots__ = ("json",)
    json: str


class Struct(dict[str, object]):
    """A Go struct: its fields in order, by Go name.

    `go_name` is the type's name. `pointer` says that the value is a pointer to the struct.
    `json` is what the `json` function prints of it (itself when None). `as_map` says that it
    makes its own JSON, as rows of lists do: keys sorted, `<`, `>` and `&` escaped.
    """

    go_name = "struct"
    pointer = False
    as_map = False
    json: object = None

    def method(self, _name: str) -> Callable[..., object] | None:
        """The method of that name, taking the template's arguments; None if there is none."""
        return None


class Map(dict[str, object]):
    """A Go map whose elements have a type: `zero` is what `index` gives for an absent key."""

    go_name = "map[string]string"
    nil = False
    zero: object = ""


class List(list[object]):
    """A Go slice whose elements have a type."""

    go_name = "[]string"
    nil = False


_NAMES: tuple[tuple[type, str], ...] = (
    (bool, "bool"),
    (Byte, "uint8"),
    (int, "int"),
    (float, "float64"),
    (complex, "complex128"),
    (Time, "time.Time"),
    (str, "string"),
    (list, "[]interface {}"),
    (dict, "map[string]interface {}"),
)


def type_name(value: object) -> str:
    """The name of the value's Go type."""
    if value is None or value is MISSING:
        return "<nil>"
    if isinstance(value, Struct | NilPointer):
        pointer = not isinstance(value, Struct) or value.pointer
        return ("*" if pointer else "") + value.go_name
    if isinstance(value, Map | List):
        return value.go_name
    for kind, name in _NAMES:
        if isinstance(value, kind):
            return name
    return type(value).__name__


def truth(value: object) -> bool:
    """Whether a template takes the value as true: non-zero, non-empty, non-nil."""
    return isinstance(value, Struct) or bool(value)
