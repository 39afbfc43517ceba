"""Signals by name and number."""

from __future__ import annotations

import re
import signal

from boxwood.errors import InvalidArgument

SIGKILL = int(signal.SIGKILL)
SIGTERM = int(signal.SIGTERM)

_NAMES = {entry.name.removeprefix("SIG"): int(entry) for entry in signal.Signals}
_NAMES |= {f"RTMIN+{n}": signal.SIGRTMIN + n for n in range(1, 16)}
_NAMES |= {f"RTMAX-{n}": signal.SIGRTMAX - n for n in range(1, 15)}
_NAMES |= {"IOT": int(signal.SIGABRT), "CLD": int(signal.SIGCHLD), "POLL": int(signal.SIGIO)}
LAST = int(signal.SIGRTMAX)
_NUMBER = re.compile(r"\+?0*([0-9]{1,2})", re.ASCII)


def parse_signal(text: str) -> int:
    """Return the number of ``KILL``, ``SIGKILL``, ``sigkill`` or ``9``.

    The names are Docker's, beside dockerd; a number that no signal has is refused at once (Docker
    takes it, and fails when it is to be sent).

    Raises:
        InvalidArgument: in Docker's words.
    """
    if number := _NUMBER.fullmatch(text):
        found = int(number[1]) if 1 <= int(number[1]) <= LAST else None
    else:
        found = _NAMES.get(text.upper().removeprefix("SIG"))
    if found is None:
        raise InvalidArgument(f"invalid signal: {text[:100]}")
    return found
