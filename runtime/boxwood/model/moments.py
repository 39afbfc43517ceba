"""Moments as people and images write them, in seconds since the epoch."""

from __future__ import annotations

import datetime as dt
import re

from boxwood.errors import InvalidArgument

_LONGEST = 1 << 63
"""Nanoseconds: what Go's durations cannot hold any more."""
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9}


def seconds_of(text: str) -> float:
    """Return the seconds since the epoch of an RFC 3339 time; 0 for none or a broken one."""
    try:
        # Nanoseconds are more than datetime reads.
        short = re.sub(r"(\.[0-9]{6})[0-9]+", r"\1", text)
        moment = dt.datetime.fromisoformat(short)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return max(moment.timestamp(), 0.0)


def moment_of(text: str) -> float:
    """Return seconds since the epoch for a Unix time, an RFC 3339 time or a duration ago."""
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text, re.ASCII):
        return float(text)
    try:
        length = nanoseconds(text)
    except InvalidArgument:
        moment = seconds_of(text)
    else:
        return dt.datetime.now(dt.UTC).timestamp() - length / 1e9
    if not moment:
        raise InvalidArgument(f'failed to parse value as time or duration: "{text[:100]}"')
    return moment


def nanoseconds(text: str) -> int:
    """Return a duration as Go writes it (``1m30s``) in nanoseconds.

    Raises:
        InvalidArgument: it is none.
    """
    sign = -1 if text.startswith("-") else 1
    rest = text.lstrip("+-") if text[:2] not in ("--", "++", "+-", "-+") else ""
    total, at = 0.0, 0
    while found := _DURATION_PART.match(rest, at):
        total += float(found[1]) * _UNITS[found[2]]
        at = found.end()
    if rest != "0" and (not rest or at != len(rest) or total >= _LONGEST):
        unit = "missing unit in" if rest.isdecimal() else "invalid"
        raise InvalidArgument(f'time: {unit} duration "{text[:100]}"')
    return sign * int(total)
