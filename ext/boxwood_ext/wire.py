"""Typed items in a bounded binary form: the ground that launch programs and the messages of the
shim stand on. The twin in C is ``ext/c/decode.c``; both refuse what the other refuses.

An item is a row's code and its values, each with its kind and length, aligned to 8 bytes::

    u16 code  u16 arguments  u32 bytes that follow
    u32 kind  u32 length     value, padding     (for each argument)
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

Value = int | str | bytes | Sequence[str]

MAX_ARGS: Final = 16
MAX_STRING: Final = 131071
"""Bytes of one string: what execve takes (MAX_ARG_STRLEN less the NUL)."""
MAX_LIST: Final = 4096
"""Strings in one list."""
MAX_SLOTS: Final = 253
"""Descriptors: what one SCM_RIGHTS message carries (SCM_MAX_FD)."""

U64, I64, STR, BYTES, LIST, SLOT = "u64", "i64", "str", "bytes", "list", "slot"
KINDS: Final = {U64: 1, I64: 2, STR: 3, BYTES: 4, LIST: 5, SLOT: 6}


class Operation(NamedTuple):
    """One row of a table; of a launch program ``parent`` says who runs it."""

    name: str
    code: int
    args: tuple[tuple[str, str], ...]
    """(name, kind) of each argument."""
    doc: str
    parent: bool = False


def operation(code: int, name: str, args: str, doc: str, *, parent: bool = False) -> Operation:
    """A row; ``args`` is ``name:kind`` of each argument, separated by blanks."""
    pairs = [tuple(item.split(":")) for item in args.split()]
    return Operation(name, code, tuple((arg, kind) for arg, kind in pairs), doc, parent)


ITEM = struct.Struct("<HHI")  # code, arguments, bytes of the arguments
_ARG = struct.Struct("<II")  # kind, bytes of the value without padding
_ALIGN = 8
_U64_MAX = (1 << 64) - 1
_I64_MIN, _I64_MAX = -(1 << 63), (1 << 63) - 1


class ProgramError(ValueError):
    """A program that cannot be encoded, or bytes that are none. The message says where."""


class Op(NamedTuple):
    """One operation with its values, in the order of the table."""

    name: str
    values: tuple[Value, ...] = ()


def _pad(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % _ALIGN)


def _string(text: object, where: str) -> bytes:
    if not isinstance(text, str):
        raise ProgramError(f"{where}: a str is needed, not {type(text).__name__}")
    data = text.encode("utf-8", "surrogateescape")
    if b"\0" in data:
        raise ProgramError(f"{where}: has a NUL")
    if len(data) > MAX_STRING:
        raise ProgramError(f"{where}: longer than {MAX_STRING} bytes")
    return data


def _integer(value: object, low: int, high: int, where: str) -> int:
    if not isinstance(value, int) or not low <= value <= high:
        raise ProgramError(f"{where}: {value!r} is not between {low} and {high}")
    return int(value)


def _list(values: object, where: str) -> bytes:
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        raise ProgramError(f"{where}: a list of str is needed")
    if len(values) > MAX_LIST:
        raise ProgramError(f"{where}: more than {MAX_LIST} strings")
    parts = [_ARG.pack(len(values), 0)]
    for item in values:
        data = _string(item, where)
        parts += (_ARG.pack(len(data), 0), _pad(data + b"\0"))
    return b"".join(parts)


def _encode_value(kind: str, value: object, where: str) -> bytes:
    if kind == STR:
        data = _string(value, where)
        return _ARG.pack(KINDS[kind], len(data)) + _pad(data + b"\0")
    if kind == U64:
        data = struct.pack("<Q", _integer(value, 0, _U64_MAX, where))
    elif kind == I64:
        data = struct.pack("<q", _integer(value, _I64_MIN, _I64_MAX, where))
    elif kind == SLOT:
        data = struct.pack("<Q", _integer(value, 0, MAX_SLOTS - 1, where))
    elif kind == LIST:
        data = _list(value, where)
    elif isinstance(value, bytes):
        data = value
    else:
        raise ProgramError(f"{where}: bytes are needed, not {type(value).__name__}")
    return _ARG.pack(KINDS[kind], len(data)) + _pad(data)


def encode_item(table: Mapping[str, Operation], item: Sequence[Value], where: str = "") -> bytes:
    """Encode ``(name, value, ...)`` by the row of that name.

    Raises:
        ProgramError: unknown name, wrong number or type of values, or a bound is passed.
    """
    op = table.get(str(item[0])) if item else None
    if op is None:
        raise ProgramError(f"{where}{item[:1]!r} is unknown")
    values = item[1:]
    if len(values) != len(op.args):
        raise ProgramError(f"{where}{op.name} takes {len(op.args)} arguments, not {len(values)}")
    body = b"".join(
        _encode_value(kind, value, f"{where}{op.name}: {name}")
        for (name, kind), value in zip(op.args, values, strict=True)
    )
    return ITEM.pack(op.code, len(values), len(body)) + body


class Reader:
    """Takes values off the front of a program; every step is checked against its end."""

    __slots__ = ("data", "position")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def unpack(self, form: struct.Struct) -> tuple[int, ...]:
        return form.unpack(self.take(form.size))

    def take(self, count: int) -> bytes:
        """Exactly ``count`` bytes."""
        end = self.position + count
        if end > len(self.data):
            raise ProgramError(f"byte {self.position}: {count} bytes are needed, the end comes")
        piece = self.data[self.position : end]
        self.position = end
        return piece

    def padded(self, length: int, tail: int = 0) -> bytes:
        """``length`` bytes; then at least ``tail`` zeros, up to the alignment."""
        whole = self.take(length + tail + -(length + tail) % _ALIGN)
        if whole[length:].strip(b"\0"):
            raise ProgramError(f"byte {self.position}: the padding is not zero")
        return whole[:length]

    def string(self, length: int) -> str:
        if length > MAX_STRING:
            raise ProgramError(f"byte {self.position}: longer than {MAX_STRING} bytes")
        data = self.padded(length, 1)
        if b"\0" in data:
            raise ProgramError(f"byte {self.position}: a NUL in a string")
        return data.decode("utf-8", "surrogateescape")


def _decode_list(data: bytes) -> tuple[str, ...]:
    reader = Reader(data)
    count, reserved = reader.unpack(_ARG)
    if count > MAX_LIST or reserved:
        raise ProgramError(f"a list of {count} strings")
    items = []
    for _ in range(count):
        length, reserved = reader.unpack(_ARG)
        if reserved:
            raise ProgramError("a string of a list: reserved bytes are set")
        items.append(reader.string(length))
    if reader.position != len(data):
        raise ProgramError("a list: bytes after its end")
    return tuple(items)


def _decode_value(reader: Reader, kind: str) -> Value:
    code, length = reader.unpack(_ARG)
    if code != KINDS[kind]:
        raise ProgramError(f"byte {reader.position}: kind {code}, not {kind}")
    if kind == STR:
        return reader.string(length)
    if kind in (BYTES, LIST):
        data = reader.padded(length)
        return data if kind == BYTES else _decode_list(data)
    if length != 8:
        raise ProgramError(f"byte {reader.position}: a number of {length} bytes")
    number = int.from_bytes(reader.take(8), "little", signed=kind == I64)
    if kind == SLOT and number >= MAX_SLOTS:
        raise ProgramError(f"byte {reader.position}: slot {number}")
    return number


def decode_item(table: Mapping[int, Operation], reader: Reader) -> Op:
    """Take one item off; the twin of :func:`encode_item`.

    Raises:
        ProgramError: the bytes are no item of this table.
    """
    code, arguments, length = reader.unpack(ITEM)
    op = table.get(code)
    if op is None or arguments != len(op.args):
        raise ProgramError(f"byte {reader.position}: item {code} with {arguments} arguments")
    end = reader.position + length
    values = tuple(_decode_value(reader, kind) for _, kind in op.args)
    if reader.position != end:
        raise ProgramError(f"byte {reader.position}: {op.name} does not end where it says")
    return Op(op.name, values)


_HEADER = struct.Struct("<HHI")  # version, reserved, bytes of the whole message


class Messages:
    """A table whose items travel one to a packet: a header (version, size), then the item.

    Each program of ours that speaks in packets (shim, helper, broker) has one.
    """

    def __init__(self, table: Iterable[Operation], version: int, limit: int) -> None:
        self.table = tuple(table)
        self.by_name = {op.name: op for op in self.table}
        self.by_code = {op.code: op for op in self.table}
        self.version = version
        self.limit = limit
        """Bytes of one message."""

    def encode(self, name: str, *values: Value) -> bytes:
        """Encode one message.

        Raises:
            ProgramError: unknown name, wrong values, or too long.
        """
        body = encode_item(self.by_name, (name, *values))
        size = _HEADER.size + len(body)
        if size > self.limit:
            raise ProgramError(f"{name!r}: {size} bytes: too long for a message")
        return _HEADER.pack(self.version, 0, size) + body

    def decode(self, message: bytes) -> Op:
        """Read one message.

        Raises:
            ProgramError: it is none, or of another version.
        """
        reader = Reader(message)
        version, reserved, size = reader.unpack(_HEADER)
        sizes = size == len(message) and size <= self.limit
        if (version, reserved) != (self.version, 0) or not sizes:
            raise ProgramError("not a message of this version")
        op = decode_item(self.by_code, reader)
        if reader.position != size:
            raise ProgramError("bytes after the message")
        return op


def c_messages(
    module: str, prefix: str, constants: Mapping[str, object], words: tuple[str, ...],
    table: Iterable[Operation],
) -> str:  # fmt: skip
    """A table and the constants of its module whose names begin with ``words``, as a C header."""
    lines = [f"/* Generated from boxwood_ext/{module}.py; do not edit. */", "#pragma once", ""]
    lines += [
        f"#define {prefix}_{name} {value:#x}u"
        for name, value in constants.items()
        if name.startswith(words) and isinstance(value, int)
    ]
    return "\n".join([*lines, "", c_table(prefix, table)])


def c_table(prefix: str, table: Iterable[Operation]) -> str:
    """An enum of the codes, and an X-macro ``PREFIX_TABLE`` of the rows, in C."""
    rows = list(table)
    lines = [f"enum {prefix.lower()}_code {{"]
    lines += [f"    {prefix}_{op.name.upper()} = {op.code}," for op in rows]
    lines += [f"    {prefix}_LIMIT = {max(op.code for op in rows) + 1},", "};", ""]
    lines += ["/* X(code, name, arguments, parent, kinds...) */", f"#define {prefix}_TABLE(X) \\"]
    for op in rows:
        kinds = ", ".join(f"BXP_KIND_{kind.upper()}" for _, kind in op.args) or "0"
        row = f'{prefix}_{op.name.upper()}, "{op.name}", {len(op.args)}, {int(op.parent)}, {kinds}'
        lines.append(f"    X({row}) \\")
    return "\n".join([*lines, "    /* end */", ""])
