"""Values that go into a request's query: filters, signals, points in time."""

from __future__ import annotations

import time

from boxwood.cli.opts._errors import OptError
from boxwood.cli.opts._scalars import NANOS, parse_duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def parse_filters(filters: Iterable[str]) -> dict[str, list[str]]:
    """`KEY=VALUE` filters by key, each with its values once, in order. Raises OptError."""
    found: dict[str, list[str]] = {}
    for text in filters:
        key, equals, value = text.partition("=")
        if not equals:
            raise OptError(f"invalid filter '{text}'" if text else "invalid empty filter")
        values = found.setdefault(key.strip().lower(), [])
        if value.strip() not in values:
            values.append(value.strip())
    return found


def parse_signal(text: str) -> str:
    """A signal's name or number as the daemon takes it: names in capitals, with `SIG`.

    Numbers stay numbers. Names are not looked up: the daemon knows what its kernel has.
    Raises OptError when it cannot be either.
    """
    if text.isascii() and text.isdigit():
        return text
    name = text.upper()
    if not name.isascii() or not name.replace("+", "").replace("-", "").isalnum():
        raise OptError(f"invalid signal: {text}")
    return name if name.startswith("SIG") else f"SIG{name}"


def parse_time(text: str, now: float | None = None) -> str:
    """A moment as `SECONDS.NANOSECONDS` since the epoch.

    `text` is a Unix time (with a fraction or not: kept as it is), a duration before `now`, or
    a date of RFC 3339, of whose clock the parts from the right may be left away; without a zone
    it is local time. Raises OptError.
    """
    try:
        ago = parse_duration(text)
    except OptError:
        pass
    else:
        moment = int((time.time() if now is None else now) * NANOS) - ago
        return _stamp(moment) if text != "0" else "0"
    if _is_unix(text):
        return text
    return _date(text)


def _stamp(nanos: int) -> str:
    return f"{nanos // NANOS}.{nanos % NANOS:09d}"


def _is_unix(text: str) -> bool:
    whole, dot, fraction = text.partition(".")
    if not (whole.isascii() and whole.isdigit()):
        return False
    return not dot or (fraction.isascii() and fraction.isdigit())


def _date(text: str) -> str:
    """An RFC 3339 date, as far as it goes."""
    bad = OptError(f'failed to parse value as time or duration: "{text}"')
    date, _, clock = text.partition("T")
    if not clock and date.endswith("Z"):
        date, clock = date[:-1], "Z"
    clock, shift = _zone(clock, bad)
    fields = date.split("-")
    clock, _, fraction = clock.partition(".")
    parts = [*fields, *(clock.split(":") if clock else ())]
    widths = (4, 2, 2, 2, 2, 2)
    good = len(fields) == 3 and len(parts) <= len(widths)
    good = good and all(len(p) == w and p.isdigit() for p, w in zip(parts, widths, strict=False))
    good = good and (not fraction or (fraction.isdigit() and len(parts) == len(widths)))
    if not good:
        raise bad
    numbers = [int(part) for part in parts] + [1, 1, 0, 0, 0][len(parts) - 1 :]
    year, month, day, hour, minute, second = numbers
    if not (1 <= month <= 12 and hour < 24 and minute < 60 and second < 60):
        raise bad
    start, following = _utc(year, month, day), _utc(year + month // 12, month % 12 + 1, 1)
    if day < 1 or start >= following:
        raise bad
    if shift is None:  # the zone's offset of today, whatever the date, as Docker has it
        shift = time.localtime().tm_gmtoff or 0
    seconds = start + hour * 3600 + minute * 60 + second - shift
    return f"{seconds}.{fraction[:9].ljust(9, '0')}"


def _zone(clock: str, bad: OptError) -> tuple[str, int | None]:
    """The clock without its zone, and the zone's offset in seconds; None without a zone."""
    if clock.endswith("Z"):
        return clock[:-1], 0
    for sign in "+-":
        at = clock.find(sign)
        if at >= 0:
            zone = clock[at + 1 :]
            if len(zone) != 5 or zone[2] != ":" or not (zone[:2] + zone[3:]).isdigit():
                raise bad
            shift = int(zone[:2]) * 3600 + int(zone[3:]) * 60
            return clock[:at], shift if sign == "+" else -shift
    return clock, None


def _utc(year: int, month: int, day: int) -> int:
    """The seconds from the epoch to a day's start (civil days, proleptic Gregorian)."""
    year -= month <= 2
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    days = era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
    return days * 86400
