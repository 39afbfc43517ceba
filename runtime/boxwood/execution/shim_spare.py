"""One unconfigured shim that is kept ready: a start then executes nothing (1 ms less)."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Final

from boxwood.errors import Unavailable
from boxwood.execution.shim_process import ShimProcess, spawn_process

log = logging.getLogger(__name__)

REPLACE_DELAY: Final = 0.05
"""Seconds until a used spare is replaced: after the start that it sped up."""


class Spare:
    """Holds at most one process; until :meth:`keep` none.

    Attributes:
        process: the one that is ready.
    """

    def __init__(self) -> None:
        self.process: ShimProcess | None = None
        self._keeps = False

    def keep(self) -> None:
        """Have one ready from now on; raises Unavailable."""
        self._keeps = True
        if self.process is None:
            self.process = spawn_process()

    def take(self) -> ShimProcess:
        """The spare, which is replaced soon, or a new process; raises Unavailable."""
        process, self.process = self.process or spawn_process(), None
        asyncio.get_running_loop().call_later(REPLACE_DELAY, self._replace)
        return process

    def _replace(self) -> None:
        if self._keeps and self.process is None:
            try:
                self.process = spawn_process()
            except Unavailable as error:
                log.warning("%s: the next start tries again", error)

    def drop(self) -> None:
        """Let it go; it exits when its connection closes."""
        self._keeps = False
        spare, self.process = self.process, None
        if spare is not None:
            spare.connection.close()
            os.close(spare.pidfd)
