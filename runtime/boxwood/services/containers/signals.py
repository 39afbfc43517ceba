"""Signals by name and number."""

from __future__ import annotations

import signal

from boxwood.errors import InvalidArgument

SIGKILL = int(signal.SIGKILL)
SIGTERM = int(signal.SIGTERM)

_NAMES = {entry.name.removeprefix("SIG"): int(entry) for entry in signal.Signals}
_NAMES |= {f"RTMIN+{n}": signal.SIGRTMIN + n for n in range(1, 16)}
_NAMES |= {f"RTMAX-{n}": signal.SIGRTMAX - n for n in range(1, 15)}
_NAMES |= {"IOT": int(signal.SIGABRT), "CLD": int(signal.SIGCHLD), "POLL": int(signal.SIGIO)}
LAST = int(signal.SIGRTMAX)


def parse_signal(text: str) -> int:
    """Return the number of ``KILL``, ``SIGKILL``, ``sigkill`` or ``9``.

    Raises:
        InvalidArgument: in Docker's words.
    """
    if text.isdecimal():
        number = int(text)
        if not 1 <= number <= LAST:
            raise InvalidArgument(f"invalid signal: {text}")
        return number
    found = _NAMES.get(text.upper().removeprefix("SIG"))
    if found is None:
        raise InvalidArgument(f"invalid signal: {text}")
    return found
