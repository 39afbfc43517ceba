"""Go's package fmt, as far as values of templates need it: Sprint, Sprintln and Sprintf."""

from __future__ import annotations

from boxwood.cli.template._floats import format_float
from boxwood.cli.template._quote import quote
from boxwood.cli.template._values import MISSING, Byte, NilPointer, Struct, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


MAX_WIDTH = 1_000_000  # fmt's own bound on a width or precision


class _Spec:
    """The flags, width and precision of one verb.

    `+` and `#` with `v` are flags of their own: names of fields, Go syntax.
    """

    __slots__ = (
        *("minus", "names", "plus", "precision", "sharp", "space", "syntax", "width", "zero"),
    )

    def __init__(self) -> None:
        self.minus = self.plus = self.sharp = self.space = self.zero = False
        self.names = self.syntax = False
        self.width: int | None = None
        self.precision: int | None = None


_PLAIN = _Spec()


def sprint(args: Sequence[object]) -> str:
    """Sprint: a space between operands when neither is a string."""
    out = ""
    was_string = True
    for at, arg in enumerate(args):
        is_string = isinstance(arg, str)
        if at and not is_string and not was_string:
            out += " "
        out += show(arg)
        was_string = is_string
    return out


def sprintln(args: Sequence[object]) -> str:
    """Sprintln: spaces between all operands, and a newline."""
    return " ".join(map(show, args)) + "\n"


def show(value: object) -> str:
    """The value under `%v`."""
    return value if isinstance(value, str) else _verb(value, "v", _PLAIN, 0)


def sprintf(template: str, args: Sequence[object]) -> str:
    """Sprintf, with Go's words for operands that are wrong, missing or too many."""
    return _Printer(template, args).run()


class _Printer:
    """One Sprintf: where it is in the format and among the operands."""

    def __init__(self, template: str, args: Sequence[object]) -> None:
        self.text = template
        self.args = args
        self.at = 0
        self.arg = 0
        self.reordered = False
        self.good_index = True
        self.out: list[str] = []

    def run(self) -> str:
        """The whole format."""
        while True:
            percent = self.text.find("%", self.at)
            if percent < 0:
                self.out.append(self.text[self.at :])
                break
            self.out.append(self.text[self.at : percent])
            self.at = percent + 1
            self._directive()
        if not self.reordered and self.arg < len(self.args):
            self._extra()
        return "".join(self.out)

    def _extra(self) -> None:
        shown = [
            "<nil>" if arg is None or arg is MISSING else f"{type_name(arg)}={show(arg)}"
            for arg in self.args[self.arg :]
        ]
        self.out.append("%!(EXTRA " + ", ".join(shown) + ")")

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _directive(self) -> None:
        spec = self._flags()
        self.reordered = False
        self.good_index = True
        after_index = self._index()
        spec.width, after_index = self._size(after_index, "%!(BADWIDTH)")
        if spec.width is not None and spec.width < 0:
            spec.width, spec.minus, spec.zero = -spec.width, True, False
        if self._peek() == ".":
            self.at += 1
            if after_index:
                self.good_index = False
            after_index = self._index()
            spec.precision, after_index = self._size(after_index, "%!(BADPREC)")
            if spec.precision is None:
                spec.precision = 0
            elif spec.precision < 0:
                spec.precision = None
                self.out.append("%!(BADPREC)")
        if not after_index:
            self._index()
        self._finish(spec)

    def _flags(self) -> _Spec:
        spec = _Spec()
        while True:
            match self._peek():
                case "#":
                    spec.sharp = True
                case "0":
                    spec.zero = True
                case "+":
                    spec.plus = True
                case "-":
                    spec.minus = True
                case " ":
                    spec.space = True
                case _:
                    spec.zero = spec.zero and not spec.minus
                    return spec
            self.at += 1

    def _index(self) -> bool:
        """Reads an explicit operand number, `[2]`; true if one was there."""
        if self._peek() != "[":
            return False
        self.reordered = True
        end = self.text.find("]", self.at)
        digits = self.text[self.at + 1 : end] if end > 0 else ""
        self.at = self.at + 1 if end < 0 else end + 1
        if not digits.isdecimal() or not 1 <= int(digits[:8]) <= len(self.args):
            self.good_index = False
            return end > 0
        self.arg = int(digits) - 1
        return True

    def _size(self, after_index: bool, bad: str) -> tuple[int | None, bool]:
        """Reads a width or precision, which may be an operand (`*`)."""
        if self._peek() == "*":
            self.at += 1
            value = self.args[self.arg] if self.arg < len(self.args) else None
            self.arg += self.arg < len(self.args)
            if type(value) is int and -MAX_WIDTH <= value <= MAX_WIDTH:
                return value, False
            self.out.append(bad)
            return None, False
        start = self.at
        while self._peek() in _DIGITS and self._peek():
            self.at += 1
        digits = self.text[start : self.at]
        if digits and after_index:
            self.good_index = False
        if not digits or len(digits) > 7 or int(digits) > MAX_WIDTH:
            return None, after_index
        return int(digits), after_index

    def _finish(self, spec: _Spec) -> None:
        verb = self._peek()
        self.at += 1
        if verb == "v":
            spec.names, spec.plus = spec.plus, False
            spec.syntax, spec.sharp = spec.sharp, False
        if not verb:
            self.out.append("%!(NOVERB)")
        elif verb == "%":
            self.out.append("%")
        elif not self.good_index:
            self.out.append(f"%!{verb}(BADINDEX)")
        elif self.arg >= len(self.args):
            self.out.append(f"%!{verb}(MISSING)")
        else:
            self.out.append(_verb(self.args[self.arg], verb, spec, 0))
            self.arg += 1


_DIGITS = "0123456789"


def _pad(text: str, spec: _Spec) -> str:
    """`text` at the verb's width; zeros only to the left."""
    if spec.width is None or len(text) >= spec.width:
        return text
    if spec.minus:
        return text.ljust(spec.width)
    return text.rjust(spec.width, "0" if spec.zero else " ")


def _bad(value: object, verb: str, spec: _Spec) -> str:
    """What fmt prints for a verb that the operand's type does not take."""
    if value is None or value is MISSING:
        return f"%!{verb}(<nil>)"
    return f"%!{verb}({type_name(value)}={_verb(value, 'v', spec, 0)})"


def _verb(value: object, verb: str, spec: _Spec, depth: int) -> str:
    """One operand under one verb; `depth` is how deep in a value it stands."""
    if verb == "T" and not depth:
        return _pad(_cut(type_name(value), spec), spec)
    if value is None or value is MISSING:
        if depth:
            return "interface {}(nil)" if spec.syntax and verb == "v" else "<nil>"
        return _pad("<nil>", spec) if verb == "v" else _bad(value, verb, spec)
    if isinstance(value, bool):
        return _bool(value, verb, spec)
    if isinstance(value, int):
        return _int(value, verb, spec)
    if isinstance(value, float):
        return _float(value, verb, spec)
    if isinstance(value, str):
        return _string(value, verb, spec)
    return _compound(value, verb, spec, depth)


def _compound(value: object, verb: str, spec: _Spec, depth: int) -> str:
    if isinstance(value, Struct):
        return _struct(value, verb, spec, depth)
    if isinstance(value, dict):
        return _map(value, verb, spec, depth)
    if isinstance(value, list):
        return _list(value, verb, spec, depth)
    if isinstance(value, NilPointer):
        if verb in "bodxX":
            return _int(0, verb, spec)
        return _pad("<nil>", spec) if verb == "v" else _bad_pointer(value, verb, spec)
    if isinstance(value, complex):
        parts = [format_float(part, "g", None) for part in (value.real, value.imag)]
        return f"({parts[0]}{parts[1] if parts[1][0] in '+-' else '+' + parts[1]}i)"
    return str(value)


def _bad_pointer(value: NilPointer, verb: str, spec: _Spec) -> str:
    return f"%!{verb}({type_name(value)}={_pad('<nil>', spec)})"


def _struct(value: Struct, verb: str, spec: _Spec, depth: int) -> str:
    if value.pointer and depth:
        return "0x0"  # an address, which no two runs share
    names = spec.names or spec.syntax
    parts = [
        (f"{name}:" if names else "") + _verb(field, verb, spec, depth + 1)
        for name, field in value.items()
    ]
    mark = "&" if value.pointer else ""
    if spec.syntax and verb == "v":
        return f"{mark}{value.go_name}{{{', '.join(parts)}}}"
    return f"{mark}{{{' '.join(parts)}}}"


def _map(value: dict[str, object], verb: str, spec: _Spec, depth: int) -> str:
    parts = [
        _verb(key, verb, spec, depth + 1) + ":" + _verb(value[key], verb, spec, depth + 1)
        for key in sorted(value)
    ]
    if spec.syntax and verb == "v":
        return f"{type_name(value)}{{{', '.join(parts)}}}"
    return f"map[{' '.join(parts)}]"


def _list(value: list[object], verb: str, spec: _Spec, depth: int) -> str:
    parts = [_verb(item, verb, spec, depth + 1) for item in value]
    if spec.syntax and verb == "v":
        return f"{type_name(value)}{{{', '.join(parts)}}}"
    return f"[{' '.join(parts)}]"


def _bool(value: bool, verb: str, spec: _Spec) -> str:
    return _pad("true" if value else "false", spec) if verb in "tv" else _bad(value, verb, spec)


def _cut(text: str, spec: _Spec) -> str:
    return text if spec.precision is None else text[: spec.precision]


def _string(value: str, verb: str, spec: _Spec) -> str:
    if verb == "s" or (verb == "v" and not spec.syntax):
        return _pad(_cut(value, spec), spec)
    if verb == "q" or verb == "v":
        cut = _cut(value, spec)
        if verb == "q" and spec.sharp and "`" not in cut and cut.replace("\t", " ").isprintable():
            return _pad(f"`{cut}`", spec)
        return _pad(quote(cut, ascii_only=spec.plus and verb == "q"), spec)
    if verb in "xX":
        return _pad(_hex(value, verb, spec), spec)
    return _bad(value, verb, spec)


def _hex(value: str, verb: str, spec: _Spec) -> str:
    raw = value.encode("utf-8", "surrogateescape")
    if spec.precision is not None:
        raw = raw[: spec.precision]
    prefix = "0x" if spec.sharp else ""
    text = raw.hex(" ").replace(" ", " " + prefix) if spec.space and raw else raw.hex()
    text = prefix + text if raw else ""
    return text.upper() if verb == "X" else text


def _int(value: int, verb: str, spec: _Spec) -> str:
    match verb:
        case "v" if spec.syntax and isinstance(value, Byte):
            return _pad(f"0x{value:x}", spec)
        case "v" | "d" | "b" | "o" | "x" | "X" | "O":
            return _pad_int(value, "d" if verb == "v" else verb, spec)
        case "c":
            return _pad(_char(value), spec)
        case "q":
            return _pad(quote(_char(value), "'", spec.plus), spec)
        case "U":
            shown = f"U+{value:0{max(4, spec.precision or 0)}X}"
            if spec.sharp and value <= 0x10FFFF and chr(value).isprintable():
                shown += f" '{chr(value)}'"
            return _pad(shown, spec)
    return _bad(value, verb, spec)


def _char(value: int) -> str:
    return chr(value) if 0 <= value <= 0x10FFFF and not 0xD800 <= value < 0xE000 else "\ufffd"


_PREFIXES = {"b": "0b", "o": "0", "x": "0x", "X": "0X", "O": "0o"}


def _pad_int(value: int, verb: str, spec: _Spec) -> str:
    """An integer in its base: precision is a number of digits, zero fills up to the width."""
    if spec.precision == 0 and value == 0:
        return " " * (spec.width or 0)
    sign = "-" if value < 0 else "+" if spec.plus else " " if spec.space else ""
    digits = format(abs(value), "o" if verb == "O" else verb)
    if spec.precision is not None:
        digits = digits.rjust(spec.precision, "0")
    elif spec.zero and spec.width is not None:
        digits = digits.rjust(spec.width - len(sign), "0")
    prefix = _PREFIXES.get(verb, "") if spec.sharp or verb == "O" else ""
    if verb == "o" and digits.startswith("0"):
        prefix = ""
    text = sign + prefix + digits
    if spec.width is None:
        return text
    return text.ljust(spec.width) if spec.minus else text.rjust(spec.width)


def _float(value: float, verb: str, spec: _Spec) -> str:
    if verb not in "veEfFgGxX":
        return _bad(value, verb, spec)
    text = format_float(value, verb, spec.precision)
    sign = ""
    if text[0] in "+-":
        sign, text = text[0].replace("+", ""), text[1:]
    if not sign:
        sign = "+" if spec.plus else " " if spec.space else ""
    if spec.width is None:
        return sign + text
    if spec.minus:
        return (sign + text).ljust(spec.width)
    if spec.zero and text[0].isdigit():
        return sign + text.rjust(spec.width - len(sign), "0")
    return (sign + text).rjust(spec.width)
