"""Moments as people and images write them, in seconds since the epoch."""

from __future__ import annotations

import datetime as dt
import re

from boxwood.errors import InvalidArgument

_DURATION = re.compile(r"(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?", re.ASCII)


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
    found = _DURATION.fullmatch(text)
    if text and found:
        hours, minutes, seconds = (int(part or 0) for part in found.groups())
        now = dt.datetime.now(dt.UTC).timestamp()
        return now - hours * 3600 - minutes * 60 - seconds
    moment = seconds_of(text)
    if not moment:
        raise InvalidArgument(f"invalid filter 'until={text}'")
    return moment
