"""Sizes, durations, CPU counts and integers as Go's libraries read them."""

from __future__ import annotations

from boxwood.cli.opts._errors import OptError, quoted

_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_DIGITS = "0123456789"
_MAX = (1 << 63) - 1
NANOS = 1_000_000_000

_DURATION_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": NANOS,
    "m": 60 * NANOS,
    "h": 3600 * NANOS,
}


def parse_bytes(text: str) -> int:
    """A size in bytes: a number and a binary unit (b k m g t p, with `b` or `ib` after it).

    Raises OptError in the words of go-units.
    """
    cut = max(text.rfind(char) for char in _DIGITS + ". ")
    if cut < 0:
        raise OptError(f"invalid size: '{text}'")
    number = text[:cut] if text[cut] == " " else text[: cut + 1]
    suffix = text[cut + 1 :]
    size = _float(number)
    if size < 0:
        raise OptError(f"invalid size: '{text}'")
    scaled = size * _multiplier(suffix)
    if not scaled <= _MAX:
        raise OptError(f"invalid size: '{text}'")
    return int(scaled)


def _float(text: str) -> float:
    try:
        if not text or text != text.strip() or "_" in text or text[-1].isalpha():
            raise ValueError(text)
        return float(text)
    except ValueError:
        raise OptError(f"strconv.ParseFloat: parsing {quoted(text)}: invalid syntax") from None


def _multiplier(suffix: str) -> int:
    if not suffix:
        return 1
    lowered = suffix.lower()
    if lowered == "b":
        return 1
    if lowered[0] in _UNITS and lowered[1:] in ("", "b", "ib"):
        return _UNITS[lowered[0]]
    raise OptError(f"invalid suffix: '{suffix if len(suffix) > 3 else lowered}'")


def parse_int(text: str, *, bits: int = 64, unsigned: bool = False) -> int:
    """A decimal integer. Raises OptError in strconv's words."""
    name = "ParseUint" if unsigned else "ParseInt"
    digits = text if unsigned or text[:1] not in ("+", "-") else text[1:]
    if not (digits.isascii() and digits.isdigit()):
        raise OptError(f"strconv.{name}: parsing {quoted(text)}: invalid syntax")
    value = int(text)
    low, high = (0, (1 << bits) - 1) if unsigned else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    if not low <= value <= high:
        raise OptError(f"strconv.{name}: parsing {quoted(text)}: value out of range")
    return value


def parse_duration(text: str) -> int:
    """A Go duration (`1h30m`, `-1.5s`, `0`) in nanoseconds. Raises OptError in Go's words."""
    sign = -1 if text[:1] == "-" else 1
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    if not rest:
        raise OptError(f"time: invalid duration {quoted(text)}")
    total = 0
    while rest:
        nanos, rest = _duration_part(rest, text)
        total += nanos
        if total > _MAX:
            raise OptError(f"time: invalid duration {quoted(text)}")
    return sign * total


def _span(text: str, allowed: str) -> int:
    return len(text) - len(text.lstrip(allowed))


def _duration_part(rest: str, whole: str) -> tuple[int, str]:
    """The first number and unit of `rest` in nanoseconds, and what follows."""
    digits = rest[: _span(rest, _DIGITS)]
    rest = rest[len(digits) :]
    fraction = ""
    if rest[:1] == ".":
        fraction = rest[1 : 1 + _span(rest[1:], _DIGITS)]
        rest = rest[1 + len(fraction) :]
    if not digits and not fraction:
        raise OptError(f"time: invalid duration {quoted(whole)}")
    end = 0
    while end < len(rest) and rest[end] not in _DIGITS + ".":
        end += 1
    unit, rest = rest[:end], rest[end:]
    if not unit:
        raise OptError(f"time: missing unit in duration {quoted(whole)}")
    if unit not in _DURATION_UNITS:
        raise OptError(f"time: unknown unit {quoted(unit)} in duration {quoted(whole)}")
    scale = _DURATION_UNITS[unit]
    exact = int(digits or "0") * scale
    return exact + (int(fraction) * scale // 10 ** len(fraction) if fraction else 0), rest


def parse_cpus(text: str) -> int:
    """A number of CPUs (`1.5`, `3/2`, `1e1`) in billionths. Raises OptError."""
    top, slash, bottom = text.partition("/")
    numerator, scale = _decimal(top, text)
    divisor = 1
    if slash:
        divisor, exponent = _decimal(bottom, text)
        if exponent or divisor <= 0:
            raise OptError(f"failed to parse {text} as a rational number")
    nanos: int = numerator * NANOS * 10 ** max(scale, 0)
    divisor *= 10 ** max(-scale, 0)
    nanos, rest = divmod(nanos, divisor)
    if rest:
        raise OptError("value is too precise")
    return nanos


def _decimal(text: str, whole: str) -> tuple[int, int]:
    """A decimal number as an integer and the power of ten that it is to be multiplied by."""
    mantissa, _, exponent = text.lower().partition("e")
    before, _, after = mantissa.partition(".")
    sign = before[:1] if before[:1] in ("+", "-") else ""
    digits = before[len(sign) :] + after
    power = exponent[1:] if exponent[:1] in ("+", "-") else exponent
    good = digits.isascii() and digits.isdigit() and len(digits) <= 40
    good = good and (not exponent or (power.isascii() and power.isdigit() and len(power) <= 2))
    if not good or (text.lower().endswith("e")):
        raise OptError(f"failed to parse {whole} as a rational number")
    return int(sign + digits), int(exponent or "0") - len(after)
