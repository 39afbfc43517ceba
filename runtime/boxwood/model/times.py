"""Times as the Engine API writes them: RFC 3339 with nanoseconds, in UTC.

Inside, a time is an integer of nanoseconds since the epoch; 0 means that it never happened.
"""

from __future__ import annotations

import re
import time
from calendar import timegm

from boxwood.errors import InvalidArgument

NEVER = "0001-01-01T00:00:00Z"
SECOND = 1_000_000_000

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:[Zz]|([+-])(\d\d):(\d\d))"
)
_UNIX = re.compile(r"(-?\d+)(?:\.(\d{1,9})\d*)?\Z")


def now() -> int:
    """Return the time of the wall clock."""
    return time.time_ns()


def rfc3339(nanoseconds: int) -> str:
    """Return the time without trailing zeros in its fraction; 0 is :data:`NEVER`."""
    if nanoseconds <= 0:
        return NEVER
    seconds, fraction = divmod(nanoseconds, SECOND)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    if fraction:
        text += "." + f"{fraction:09d}".rstrip("0")
    return text + "Z"


def rfc3339_fixed(nanoseconds: int) -> str:
    """Return the time with all nine digits of its fraction, as log lines have it."""
    seconds, fraction = divmod(nanoseconds, SECOND)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{text}.{fraction:09d}Z"


def parse_rfc3339(text: str) -> int:
    """Return the time that ``text`` says; raises InvalidArgument if it is not RFC 3339."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise InvalidArgument(f"parse time: {text[:64]!r}: not an RFC 3339 time")
    year, month, day, hour, minute, second = (int(part) for part in match.group(1, 2, 3, 4, 5, 6))
    seconds = timegm((year, month, day, hour, minute, second))
    if match[8]:
        offset = int(match[9]) * 3600 + int(match[10]) * 60
        seconds -= offset if match[8] == "+" else -offset
    return seconds * SECOND + int((match[7] or "0").ljust(9, "0"))


def parse_timestamp(text: str) -> int:
    """Return the time of a ``since`` or ``until``: seconds with a fraction, or RFC 3339.

    Empty and ``0`` are 0. Raises InvalidArgument for anything else.
    """
    if not text:
        return 0
    match = _UNIX.match(text)
    if match is None:
        return parse_rfc3339(text)
    fraction = int((match[2] or "0").ljust(9, "0"))
    seconds = int(match[1])
    return seconds * SECOND + (fraction if seconds >= 0 else -fraction)
