"""Who a process runs as: looked up in the container's own files by a worker, remembered."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from boxwood.errors import InvalidArgument
from boxwood.execution.spec import ResolvedUser

if TYPE_CHECKING:
    from boxwood.execution.worker import WorkerPool
    from boxwood.model.container import Container

DEADLINE = 10.0
"""Seconds for reading two files of bounded size beneath a root."""
_CACHE_LIMIT = 1024

_DIGITS = re.compile(r"[0-9]+\Z")
MAX_ID = 2**31 - 1


class UserLookup:
    """Answers from the image while the container cannot have changed it, else from a worker."""

    def __init__(self, workers: WorkerPool) -> None:
        self._workers = workers
        self._cache: dict[tuple[str, str, tuple[str, ...]], ResolvedUser] = {}

    async def of(self, container: Container, root_fd: int) -> ResolvedUser:
        """Return the user of the container's own process.

        Raises:
            InvalidArgument: in Docker's words: no such user, a malformed one.
        """
        name = container.config.user
        groups = tuple(container.host_config.group_add or ())
        if container.state.has_started:
            return await self.lookup(root_fd, name, groups)
        key = (container.image_id, name, groups)
        found = self._cache.get(key)
        if found is None:
            found = await self.lookup(root_fd, name, groups)
            if len(self._cache) >= _CACHE_LIMIT:
                self._cache.clear()
            self._cache[key] = found
        return found

    async def lookup(self, root_fd: int, name: str, groups: tuple[str, ...]) -> ResolvedUser:
        """Ask a worker; ``root_fd`` stays the caller's."""
        _check(name)
        answer = await self._workers.call(
            "lookup_user", {"user": name, "group_add": list(groups)}, [root_fd], DEADLINE
        )
        return ResolvedUser(
            uid=answer["uid"],
            gid=answer["gid"],
            groups=tuple(answer["groups"]),
            home=answer["home"] or "/",
        )


def _check(name: str) -> None:
    """Refuse numbers that the kernel or a careless parser would take for another."""
    for part in name.split(":", 1):
        if _DIGITS.match(part) and int(part) > MAX_ID:
            raise InvalidArgument(f"uids and gids must be in range 0-{MAX_ID}")
