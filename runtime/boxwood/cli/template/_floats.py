"""Floating-point numbers as Go prints them (strconv.FormatFloat, fmt's %v)."""

from __future__ import annotations

_LARGE = 6  # decimal exponent from which the shortest form is written with an exponent


def format_float(value: float, verb: str, precision: int | None) -> str:
    """`value` under `verb` (v e E f F g G x X); no precision means the verb's own."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    if verb in "fF":
        return f"{value:.{6 if precision is None else precision}f}"
    if verb in "eE":
        return f"{value:.{6 if precision is None else precision}{verb}}"
    if verb in "xX":
        return _hexadecimal(value, verb)
    if precision is not None:
        return _general(value, precision, "g" if verb == "v" else verb)
    return _shortest(value, verb)


def _general(value: float, precision: int, verb: str) -> str:
    """%g with a precision: as C's, without its trailing zeros."""
    return f"{value:.{max(precision, 1)}{verb}}"


def _shortest(value: float, verb: str) -> str:
    """The fewest digits that read back as `value`."""
    sign = "-" if str(value).startswith("-") else ""
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return sign + "0"
    point = len(whole) + int(exponent or "0") - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    power = point - 1
    if power < -4 or power >= _LARGE:
        tail = "." + digits[1:] if len(digits) > 1 else ""
        mark = "E" if verb == "G" else "e"
        return f"{sign}{digits[0]}{tail}{mark}{'-' if power < 0 else '+'}{abs(power):02d}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    whole = digits[:point].ljust(point, "0")
    return sign + whole + ("." + digits[point:] if digits[point:] else "")


def _hexadecimal(value: float, verb: str) -> str:
    """%x: a hexadecimal mantissa without trailing zeros, a two-digit exponent."""
    sign, text = ("-", value.hex()[1:]) if value.hex()[0] == "-" else ("", value.hex())
    mantissa, _, exponent = text.partition("p")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    shown = f"{sign}{mantissa}p{exponent[0]}{int(exponent[1:]):02d}"
    return shown.upper() if verb == "X" else shown
