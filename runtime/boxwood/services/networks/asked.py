"""What containers under an egress policy asked for, and what they were refused: kept beside each
container's other files, and so as long as it."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from boxwood.execution.egress_table import Refused

log = logging.getLogger(__name__)

MAX_NAMES: Final = 1000
"""Kept of one container; of destinations as many."""
MAX_CONTAINERS: Final = 200
"""In memory."""
DELAY: Final = 1.0
"""Seconds until what was heard is on disk: a daemon that is killed loses no more."""
_FILE: Final = "egress.json"


class Asked(msgspec.Struct):
    """A name that a container under a policy asked for, or a destination that it was refused
    (``ADDRESS:PORT/PROTOCOL``)."""

    name: str
    allowed: bool
    count: int = 0
    last: int = 0
    """Nanoseconds since the epoch."""


class _Kept(msgspec.Struct):
    """What is written of one container."""

    names: list[Asked] = []
    refused: list[Asked] = []


class _Entry:
    """One container's, in memory."""

    def __init__(self, kept: _Kept) -> None:
        self.names = OrderedDict((one.name, one) for one in kept.names)
        self.refused = kept.refused
        self.dirty = False

    def kept(self) -> _Kept:
        return _Kept(list(self.names.values()), self.refused)


class AskedNames:
    """What was asked for by whom, the latest of it."""

    def __init__(self, folder: Path | None = None) -> None:
        """``folder``: with one for each container, which others make and remove; None: not kept."""
        self._folder = folder
        self._of: OrderedDict[str, _Entry] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def note(self, container: str, name: str, allowed: bool) -> None:
        """Write one down."""
        entry = self._entry(container)
        asked = entry.names.setdefault(name, Asked(name, allowed))
        asked.allowed, asked.count, asked.last = allowed, asked.count + 1, time.time_ns()
        entry.names.move_to_end(name)
        if len(entry.names) > MAX_NAMES:
            entry.names.popitem(last=False)
        self._soon(entry)

    def note_refused(self, container: str, found: Iterable[Refused]) -> None:
        """Keep what a container was refused in the life that has ended."""
        entry = self._entry(container)
        entry.refused = merged(entry.refused, found)
        self._soon(entry)

    def of(self, container: str) -> list[Asked]:
        """Return a container's names, the latest last."""
        return list(self._entry(container).names.values())

    def refused(self, container: str, found: Iterable[Refused] = ()) -> list[Asked]:
        """Return the destinations it was refused, with those of its present life (``found``)."""
        return merged(self._entry(container).refused, found)

    def save(self) -> None:
        """Write what is not on disk yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for container, entry in self._of.items():
            self._write(container, entry)

    def _entry(self, container: str) -> _Entry:
        entry = self._of.get(container)
        if entry is None:
            entry = self._of[container] = _Entry(self._read(container))
            if len(self._of) > MAX_CONTAINERS:
                self._write(*self._of.popitem(last=False))
        self._of.move_to_end(container)
        return entry

    def _soon(self, entry: _Entry) -> None:
        entry.dirty = True
        if self._timer is None and self._folder is not None:
            self._timer = asyncio.get_running_loop().call_later(DELAY, self.save)

    def _read(self, container: str) -> _Kept:
        if self._folder is None:
            return _Kept()
        try:
            return msgspec.json.decode((self._folder / container / _FILE).read_bytes(), type=_Kept)
        except FileNotFoundError:
            return _Kept()
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("container %s: names it asked for: %s", container[:12], error)
            return _Kept()

    def _write(self, container: str, entry: _Entry) -> None:
        if not entry.dirty or self._folder is None:
            return
        entry.dirty = False
        file = self._folder / container / _FILE
        passing = file.with_suffix(".new")
        try:
            passing.write_bytes(msgspec.json.encode(entry.kept()))
            os.replace(passing, file)
        except FileNotFoundError:  # the container was removed
            return
        except OSError as error:
            log.warning("container %s: names it asked for: %s", container[:12], error.strerror)


def merged(kept: Iterable[Asked], found: Iterable[Refused]) -> list[Asked]:
    """Add what the packet filter noted to what was kept; the latest last."""
    now = time.time_ns()
    all_of = {one.name: one for one in kept}
    for one in found:
        address = f"[{one.address}]" if ":" in one.address else one.address
        name = f"{address}:{one.port}" if one.port else one.address
        name = f"{name}/{one.protocol}"
        before = all_of.get(name)
        count = one.count + (before.count if before else 0)
        all_of[name] = Asked(name, False, count, now - one.ago * 10**9)
    return sorted(all_of.values(), key=lambda one: one.last)[-MAX_NAMES:]
