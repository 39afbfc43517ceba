"""Log ``none``: nothing is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boxwood.drivers.hookspecs import hookimpl
from boxwood.drivers.log import LogDriver, LogSource, Spool

if TYPE_CHECKING:
    from collections.abc import Mapping


class NoLog(LogDriver):
    """Output goes to attached clients and nowhere else."""

    name = "none"

    def validate(self, options: Mapping[str, str]) -> None:
        """Accept anything, as Docker does: it has no effect."""

    def spool(self, source: LogSource, options: Mapping[str, str]) -> Spool | None:  # noqa: ARG002
        """Return None: the shim writes nothing."""
        return None


@hookimpl
def log_driver(name: str, options: Mapping[str, str]) -> LogDriver | None:  # noqa: ARG001
    """Hand over the driver."""
    return NoLog() if name == NoLog.name else None
