"""The requests to a shim that wait for their reply."""

from __future__ import annotations

import asyncio

from boxwood.errors import BoxwoodError, Unavailable


class Requests:
    """Futures of replies, by request number. A number is used once."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self._last = 0

    def number(self) -> int:
        """The next request's number."""
        self._last += 1
        return self._last

    def add(self, number: int, future: asyncio.Future[int]) -> None:
        """Wait for the reply to a request."""
        self._waiting[number] = future

    def settle(self, number: int, value: int, error: BoxwoodError | None) -> None:
        """The reply came: the future gets the value, or the error. Who gave up gets nothing."""
        future = self._waiting.pop(number, None)
        if future is None or future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)

    def fail_all(self, cause: str) -> None:
        """No reply will come any more: Unavailable for all that wait."""
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(Unavailable(cause))
                # Not every sender waits for its reply.
                future.exception()
