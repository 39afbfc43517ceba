"""Go's quoted strings and characters (strconv.Quote, strconv.Unquote)."""

from __future__ import annotations

_SHORT = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
}
_UNSHORT = {shown[1]: char for char, shown in _SHORT.items()}
_HEX_WIDTH = {"x": 2, "u": 4, "U": 8}


def quote(text: str, mark: str = '"', ascii_only: bool = False) -> str:
    """`text` as a Go literal between `mark`s; what is not printable is escaped."""
    plain = text.isascii() and text.isprintable() and "\\" not in text and mark not in text
    if plain:
        return f"{mark}{text}{mark}"
    return mark + "".join(_escape(char, mark, ascii_only) for char in text) + mark


def _escape(char: str, mark: str, ascii_only: bool) -> str:
    if char == mark:
        return "\\" + char
    if char in _SHORT:
        return _SHORT[char]
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8 (surrogateescape)
        return f"\\x{code - 0xDC00:02x}"
    if char == " " or (char.isprintable() and (code < 0x80 or not ascii_only)):
        return char
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def unquote(literal: str) -> str:
    """The text of a Go string literal, quotes included. Raises ValueError if it is not one."""
    if literal[:1] == "`":
        return literal[1:-1].replace("\r", "")
    return _unescape(literal[1:-1], literal[:1])


def unquote_char(literal: str) -> int:
    """The code point of a Go character literal. Raises ValueError if it is not one."""
    text = _unescape(literal[1:-1], "'")
    if len(text) != 1:
        raise ValueError(literal)
    code = ord(text)
    return code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code


def _unescape(body: str, mark: str) -> str:
    out = bytearray()
    at = 0
    while at < len(body):
        char = body[at]
        if char == mark or char == "\n":
            raise ValueError(body)
        if char == "\\":
            piece, at = _escape_at(body, at + 1, mark)
            out += piece
        else:
            out += char.encode("utf-8", "surrogateescape")
            at += 1
    return out.decode("utf-8", "surrogateescape")


def _escape_at(body: str, at: int, mark: str) -> tuple[bytes, int]:
    """The bytes of the escape whose letter is at `at`, and where it ends."""
    kind = body[at : at + 1]
    if kind in _UNSHORT and kind:
        return _UNSHORT[kind].encode(), at + 1
    if kind == mark:
        return mark.encode(), at + 1
    if kind in _HEX_WIDTH and kind:
        digits = body[at + 1 : at + 1 + _HEX_WIDTH[kind]]
        return _code(digits, 16, _HEX_WIDTH[kind], kind == "x"), at + 1 + _HEX_WIDTH[kind]
    return _code(body[at : at + 3], 8, 3, True), at + 3


def _code(digits: str, base: int, width: int, one_byte: bool) -> bytes:
    if len(digits) != width or not digits.isalnum() or not digits.isascii():
        raise ValueError(digits)
    code = int(digits, base)
    if one_byte:
        return bytes([code])  # over 255 (an octal escape): ValueError, as Go refuses it
    return chr(code).encode()  # surrogates: UnicodeEncodeError is a ValueError
