"""Numeric constants as Go's strconv reads them (ParseInt base 0, ParseFloat)."""

from __future__ import annotations

from boxwood.cli.template._quote import quote

_LIMIT = 1 << 63
_UNSIGNED = 1 << 64


def number(text: str) -> int | float | complex:
    """The value of a numeric constant. Raises ValueError with the parser's words."""
    if text.endswith("i"):
        return _imaginary(text)
    value = _integer(text)
    if value is None:
        return _floating(text)
    if not -_LIMIT <= value < _UNSIGNED:
        raise ValueError(f"integer overflow: {quote(text)}")
    return value


def _integer(text: str) -> int | None:
    """The integer that `text` is, or None; a leading zero means octal, as in Go."""
    sign, digits = (-1, text[1:]) if text[:1] == "-" else (1, text.removeprefix("+"))
    if digits[:1] in ("", "_") or digits[:1] in "+-":
        return None
    if len(digits) > 1 and digits[0] == "0" and (digits[1].isdigit() or digits[1] == "_"):
        digits = "0o" + digits[1:].removeprefix("_")
    try:
        return sign * int(digits, 0)
    except ValueError:
        return None


def _floating(text: str) -> float:
    value = _parse_float(text)
    if not any(char in text for char in ".eEpP"):
        raise ValueError(f"integer overflow: {quote(text)}")
    return value


def _parse_float(text: str) -> float:
    lowered = text.lower()
    try:
        if "0x" in lowered:
            if "p" not in lowered:
                raise ValueError(text)
            return float.fromhex(text.replace("_", ""))
        if "_" in text and lowered.lstrip("+-")[:2] != "0x":
            raise ValueError(text)  # ParseFloat takes underscores in base-prefixed numbers only
        return float(text)
    except (ValueError, OverflowError):
        raise ValueError(f"bad number syntax: {quote(text)}") from None


def _imaginary(text: str) -> complex:
    try:
        return complex(text[:-1] + "j")
    except ValueError:
        raise ValueError(f"bad number syntax: {quote(text)}") from None
