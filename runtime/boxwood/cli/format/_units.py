"""Sizes, durations, ids and times as Docker's command line writes them."""

from __future__ import annotations

import time

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")
ID_LENGTH = 12  # hexadecimal digits of a short id
COMMAND_LENGTH = 20  # runes of the COMMAND column


def human_size(size: float, precision: int = 3) -> str:
    """`size` bytes in decimal units with `precision` significant digits: `1.21kB`."""
    return _scaled(size, 1000, _DECIMAL, precision)


def human_size_binary(size: float, precision: int = 4) -> str:
    """`size` bytes in binary units with `precision` significant digits: `1.953MiB`."""
    return _scaled(size, 1024, _BINARY, precision)


def _scaled(size: float, base: int, units: tuple[str, ...], precision: int) -> str:
    value = float(size)
    step = 0
    while value >= base and step < len(units) - 1:
        value /= base
        step += 1
    return f"{value:.{precision}g}{units[step]}"


def human_duration(seconds: float) -> str:
    """An approximate length of time: `Less than a second`, `About a minute`, `3 hours`."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return "1 second" if whole == 1 else f"{whole} seconds"
    minutes = int(seconds / 60)
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    return _hours(int(seconds / 3600 + 0.5), int(seconds / 3600))


def _hours(rounded: int, whole: int) -> str:
    if rounded == 1:
        return "About an hour"
    if rounded < 48:
        return f"{rounded} hours"
    if rounded < 24 * 7 * 2:
        return f"{rounded // 24} days"
    if rounded < 24 * 30 * 2:
        return f"{rounded // 24 // 7} weeks"
    if rounded < 24 * 365 * 2:
        return f"{rounded // 24 // 30} months"
    return f"{whole // 24 // 365} years"


def short_id(ident: str) -> str:
    """The first 12 digits of an id, its algorithm (`sha256:`) left away."""
    return ident.rpartition(":")[2][:ID_LENGTH]


def ellipsis(text: str, length: int) -> str:
    """`text`, cut to at most `length` runes of which the last is an ellipsis."""
    if len(text) <= length:
        return text
    return text[: length - 1] + "…" if length > 1 else text[:length]


def command_column(command: str, *, no_trunc: bool = False) -> str:
    """A container's command, cut to 20 runes unless `no_trunc`, and quoted."""
    from boxwood.cli.template._quote import quote

    return quote(command if no_trunc else ellipsis(command, COMMAND_LENGTH))


def offset(seconds: float) -> tuple[time.struct_time, int]:
    """The local calendar time of a moment, and its offset from UTC in seconds."""
    local = time.localtime(seconds)
    return local, local.tm_gmtoff or 0


def go_time(seconds: int) -> str:
    """A moment as Go's Time.String has it: `2024-05-01 10:00:00 +0000 UTC`."""
    local, shift = offset(seconds)
    sign = "-" if shift < 0 else "+"
    zone = f"{sign}{abs(shift) // 3600:02d}{abs(shift) % 3600 // 60:02d}"
    return time.strftime("%Y-%m-%d %H:%M:%S ", local) + f"{zone} {local.tm_zone or 'UTC'}"


def rfc3339(seconds: int, fraction: str = "") -> str:
    """A moment in RFC 3339, local time; `fraction` is put after the seconds."""
    local, shift = offset(seconds)
    zone = "Z"
    if shift:
        sign = "-" if shift < 0 else "+"
        zone = f"{sign}{abs(shift) // 3600:02d}:{abs(shift) % 3600 // 60:02d}"
    return time.strftime("%Y-%m-%dT%H:%M:%S", local) + fraction + zone
