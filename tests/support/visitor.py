"""Somebody who visits a web server on the loopback all the time, and remembers what went wrong."""

from __future__ import annotations

import threading
import urllib.request


def visit(port: int, path: str = "/", seconds: float = 20) -> str:
    """Return a page without white space around it; raises OSError."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=seconds) as page:
        text: str = page.read().decode().strip()
    return text


class Visitor(threading.Thread):
    """Visits on a connection of its own each time, from ``start`` to ``stop``."""

    def __init__(
        self, port: int, path: str = "/", *, seconds: float = 20, pause: float = 0
    ) -> None:
        super().__init__()
        self._where = (port, path, seconds)
        self._pause = pause
        self._enough = threading.Event()
        self.seen: list[str] = []
        self.failures: list[str] = []

    def run(self) -> None:
        """Visit until it is enough."""
        while not self._enough.wait(self._pause):
            try:
                self.seen.append(visit(*self._where))
            except OSError as error:
                self.failures.append(str(error))

    def stop(self) -> None:
        """It is enough."""
        self._enough.set()
        self.join()
