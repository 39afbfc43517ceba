"""Small texts that humans read in lists."""

from __future__ import annotations

from boxwood.model import times
from boxwood.model.container import (
    CREATED,
    DEAD,
    EXITED,
    PAUSED,
    REMOVING,
    RESTARTING,
    RUNNING,
    Container,
    State,
)

_MINUTE = 60
_HOUR = 3600
_DAY = 24
_WEEK = 7 * _DAY
_MONTH = 30 * _DAY
_YEAR = 365 * _DAY


def duration(nanoseconds: int) -> str:
    """Return a length of time in words: ``3 seconds``, ``About an hour``, ``2 weeks``."""
    seconds = max(nanoseconds, 0) // times.SECOND
    if seconds < 1:
        return "Less than a second"
    if seconds < _MINUTE:
        return "1 second" if seconds == 1 else f"{seconds} seconds"
    minutes = seconds // _MINUTE
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    return _long_duration(int(seconds / _HOUR + 0.5))


def _long_duration(hours: int) -> str:
    if hours == 1:
        return "About an hour"
    if hours < 2 * _DAY:
        return f"{hours} hours"
    if hours < 2 * _WEEK:
        return f"{hours // _DAY} days"
    if hours < 2 * _MONTH:
        return f"{hours // _WEEK} weeks"
    if hours < 2 * _YEAR:
        return f"{hours // _MONTH} months"
    return f"{hours // _YEAR} years"


def _ago(then: int, now: int) -> str:
    return f"{duration(now - then)} ago"


def status(container: Container, now: int) -> str:
    """Return the ``Status`` column of ``ps``; ``now`` in nanoseconds since the epoch."""
    state = container.state
    if state.status == RUNNING:
        return f"Up {duration(now - state.started_at)}{_health(state)}"
    if state.status == PAUSED:
        return f"Up {duration(now - state.started_at)} (Paused)"
    if state.status == RESTARTING:
        return f"Restarting ({state.exit_code}) {_ago(state.finished_at, now)}"
    if state.status == EXITED:
        return f"Exited ({state.exit_code}) {_ago(state.finished_at, now)}"
    return {CREATED: "Created", REMOVING: "Removal In Progress", DEAD: "Dead"}[state.status]


def _health(state: State) -> str:
    if state.health is None or state.health.status in ("", "none"):
        return ""
    if state.health.status == "starting":
        return " (health: starting)"
    return f" ({state.health.status})"


def command(container: Container) -> str:
    """Return path and arguments in one line; arguments with a space in quotes."""
    words = [f"'{word}'" if " " in word else word for word in container.args]
    return " ".join([container.path, *words])
