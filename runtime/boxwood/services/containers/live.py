"""What there is of a container beyond its record, while the daemon runs."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from boxwood.drivers.isolation import TaskHandle
    from boxwood.execution.shim import Client, Shim
    from boxwood.model.request import ExecConfig, WaitResult

NOT_RUNNING = "not-running"
NEXT_EXIT = "next-exit"
REMOVED = "removed"


class Exec(msgspec.Struct, kw_only=True):
    """One exec: what was asked for and what became of it. Kept a while after its end."""

    id: str
    container: str
    config: ExecConfig
    running: bool = False
    started: bool = False
    exit_code: int | None = None
    pid: int = 0
    ended_at: float = 0.0
    """Monotonic seconds, 0: it has not ended."""
    launched: asyncio.Event = msgspec.field(default_factory=asyncio.Event)
    """Its pid is known, or it came to an end before."""
    done: asyncio.Event = msgspec.field(default_factory=asyncio.Event)


class Live:
    """Lock, shim, waiters and timers of one container.

    The lock is held for changes of state, never while a client or a container is waited for.
    """

    __slots__ = (
        "back_off", "ended", "execs", "exit_task", "filling", "freed", "handle", "health", "id",
        "last", "lock", "pending", "removing", "restart", "shim", "start_task", "tree", "waiters",
    )  # fmt: skip

    def __init__(self, key: str) -> None:
        self.id = key
        self.lock = asyncio.Lock()
        self.tree = asyncio.Lock()
        """Taken before the other by whatever mounts the tree of a container that does not run for
        writing, a start until it runs included: two such mounts at once damage each other. Held
        while a client that writes is waited for, as Docker does; never for one that reads."""
        self.shim: Shim | None = None
        self.handle: TaskHandle | None = None
        self.ended = asyncio.Event()
        """Set while nothing writes to the log: never started, or it has ended."""
        self.ended.set()
        self.pending: list[Client] = []
        """Clients that attached before the start."""
        self.waiters: list[tuple[str, asyncio.Future[WaitResult]]] = []
        self.execs: dict[str, Exec] = {}
        self.health: asyncio.Task[None] | None = None
        self.restart: asyncio.Task[None] | None = None
        self.start_task: asyncio.Task[None] | None = None
        self.exit_task: asyncio.Task[None] | None = None
        self.filling: asyncio.Future[None] | None = None
        """The filling of its volumes by a start: may be cancelled, the file systems may hang."""
        self.back_off = 0.0
        """Seconds of the last delay before a restart."""
        self.removing = False
        self.last: WaitResult | None = None
        """How it ended the last time, for waiters that come to see its removal."""
        self.freed = asyncio.Event()
        """Set when the exit of the present run has been dealt with."""
        self.freed.set()

    def wait(self, condition: str) -> asyncio.Future[WaitResult]:
        """Register a waiter and return its future."""
        future: asyncio.Future[WaitResult] = asyncio.get_running_loop().create_future()
        # Those of clients that went away are not kept until the container ends.
        self.waiters = [waiter for waiter in self.waiters if not waiter[1].done()]
        self.waiters.append((condition, future))
        return future

    def resolve(self, result: WaitResult, *conditions: str) -> None:
        """Tell the waiters for these conditions; the others go on waiting."""
        left = []
        for condition, future in self.waiters:
            if condition not in conditions:
                left.append((condition, future))
            elif not future.done():
                future.set_result(result)
        self.waiters = left

    def drop_pending(self) -> None:
        """Close the connections of clients that waited for a start that does not come."""
        for client in self.pending:
            os.close(client.fd)
        self.pending = []

    def cancel_timers(self) -> None:
        """Stop the health checks and a restart that is due."""
        for task in (self.health, self.restart):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        self.health = self.restart = None
