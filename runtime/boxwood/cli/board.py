"""Live progress on a terminal: a line for each layer, with a bar, figures, rate and time left.

Drawn by rich, whose import (some 35 ms) is paid here alone: on a terminal, while the engine is at
work already. What has no id (``Digest: ...``) is a line of its own below those drawn before it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from boxwood.cli.progress import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

PER_SECOND = 8
"""Drawings a second, at most: the engine tells ten times a second how far a layer is."""


BAR = 20
"""Columns of a bar: with names, figures, rate and time left a line has at most 80."""


class Board:
    """Lines on a terminal, one per id, each redrawn where it stands."""

    def __init__(self, fd: int, clock: Callable[[], float] | None = None) -> None:
        """``clock`` returns seconds that only grow; for tests."""
        self._fd = fd
        self._clock = clock
        self._progress: Progress | None = None
        self._rows: dict[str, tuple[TaskID, str]] = {}
        """By id: the line, and its last status."""

    def draw(self, message: dict[str, Any]) -> None:
        """Show one message that has an id."""
        progress = self._progress or self._begin()
        detail = message.get("progressDetail") or {}
        current, total = detail.get("current"), detail.get("total")
        name, status = printable(str(message["id"])), printable(str(message.get("status", "")))
        row, before = self._rows.get(name) or (progress.add_task(name, status="", moving=False), "")
        self._rows[name] = row, status
        if not current:
            progress.update(row, status=status, moving=False)
            return
        if before != status:  # another work on it, with a rate of its own
            progress.reset(row, total=total, status=status, moving=True)
        progress.update(row, completed=current, total=total)

    def refresh(self) -> None:
        """Draw now what is known."""
        if self._progress is not None:
            self._progress.refresh()

    def end(self) -> None:
        """Leave the lines as they are; the next ones begin below them."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
            self._rows.clear()

    def _begin(self) -> Progress:
        file = os.fdopen(self._fd, "w", encoding="utf-8", closefd=False)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[status]}", markup=False),
            _Moving(BarColumn(bar_width=BAR)),
            _Moving(DownloadColumn()),
            _Moving(TransferSpeedColumn()),
            _Moving(TimeRemainingColumn(compact=True)),
            console=_Console(file=file, highlight=False),
            refresh_per_second=PER_SECOND,
            redirect_stdout=False,
            redirect_stderr=False,
            get_time=self._clock,
        )
        self._progress.start()
        return self._progress


class _Console(Console):
    """One that never hides the cursor: an interrupt ends us before it could be shown again."""

    def show_cursor(self, show: bool = True) -> bool:
        del show
        return False


class _Moving(ProgressColumn):
    """Another column, for layers that are on their way."""

    def __init__(self, column: ProgressColumn) -> None:
        super().__init__(column.get_table_column())
        self._column = column

    def render(self, task: Task) -> RenderableType:
        return self._column.render(task) if task.fields["moving"] else Text()
