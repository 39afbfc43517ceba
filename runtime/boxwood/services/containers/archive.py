"""Copying between clients and containers: what ``docker cp`` stands on, and ``docker export``."""

from __future__ import annotations

import posixpath
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec

from boxwood.errors import BoxwoodError, InvalidArgument, NotFound, PermissionDenied
from boxwood.execution.spool import fed
from boxwood.execution.worker_wire import READ_ONLY
from boxwood.services.containers.trees import Trees
from boxwood.store.piping import piped

if TYPE_CHECKING:
    from boxwood.model.container import Container
    from boxwood.services.containers.context import Context
    from boxwood.services.containers.users import UserLookup


class PathStat(msgspec.Struct, frozen=True):
    """What is at a path of a container. ``mode`` as the kernel says it, ``mtime`` nanoseconds."""

    name: str
    size: int
    mode: int
    mtime: int
    target: str
    """Where a symbolic link leads in the end, absolute; empty for everything else."""


class Archiver:
    """Looks at, packs and unpacks what lies in containers, running or not."""

    def __init__(self, context: Context, users: UserLookup) -> None:
        self._context = context
        self._users = users
        self.trees = Trees(context)

    async def stat(self, container: Container, path: str, ref: str) -> PathStat:
        """Look at a path. Links on the way are followed inside the container, the last is not.

        Raises:
            NotFound: nothing has this path; ``ref`` is what the container is called then.
        """
        async with self.trees.seen(container) as root:
            return await self._look(root, path, ref)

    async def _look(self, root: int, path: str, ref: str) -> PathStat:
        whole = absolute(path)
        try:
            found = await self._context.workers.offload("look_path", {"path": whole}, [root])
        except NotFound as error:
            raise _missing(path, ref) from error
        return PathStat(base(whole), found["size"], found["mode"], found["mtime"], found["target"])

    async def get(
        self, container: Container, path: str, ref: str
    ) -> AsyncGenerator[PathStat | bytes, None]:
        """Yield the stat of a path, then the pieces of a tar of it and of all below it.

        Its entries are called after the path's last component. Errors as :meth:`stat`.
        """
        whole = absolute(path)
        # Of the root itself only what is the container's: the kernel's files have no end.
        own = posixpath.normpath(whole) == "/"
        async with self.trees.seen(container, own=own) as root:
            yield await self._look(root, path, ref)
            self._context.publish(container, "archive-path")
            arguments = {"path": whole, "name": base(whole), "follow": False}
            async with aclosing(self._packed(root, arguments)) as pieces:
                async for piece in pieces:
                    yield piece

    async def export(self, container: Container) -> AsyncGenerator[bytes, None]:
        """Yield the pieces of a tar of all of the container's own tree, without volumes."""
        async with self.trees.bare(container) as root:
            arguments = {"path": "/", "name": "", "follow": False}
            async with aclosing(self._packed(root, arguments)) as pieces:
                async for piece in pieces:
                    yield piece

    async def _packed(self, root: int, arguments: dict[str, object]) -> AsyncGenerator[bytes, None]:
        pieces = piped(
            lambda sink: self._context.workers.offload("tar_tree", arguments, [sink, root])
        )
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece

    async def put(
        self,
        container: Container,
        path: str,
        ref: str,
        stream: AsyncIterator[bytes],
        *,
        keep_kinds: bool,
        chown: bool,
    ) -> None:
        """Unpack a tar, compressed or not, into a directory of the container.

        Args:
            keep_kinds: a directory never takes the place of something else, nor the reverse.
            chown: all belongs to the container's user, not to whom the archive says.

        Raises:
            NotFound: no such directory.
            InvalidArgument: it is none, it is read-only; a hostile or broken archive.
        """
        async with self.trees.writable(container) as root:
            owner = None
            if chown and container.config.user:
                user = await self._users.lookup(root, container.config.user, ())
                owner = (user.uid, user.gid)
            arguments = {
                "path": absolute(path),
                "no_overwrite_dir_non_dir": keep_kinds,
                "copy_uid_gid": owner,
            }
            try:
                await self._unpack(root, arguments, stream)
            except NotFound as error:
                if not str(error).startswith("copy: "):
                    raise  # of what is inside, not of the place itself
                raise _missing(path, ref) from error
            except PermissionDenied as error:
                if str(error) != READ_ONLY:
                    raise
                raise InvalidArgument(_whose(container, path)) from error
        self._context.publish(container, "extract-to-dir")

    async def _unpack(
        self, root: int, arguments: dict[str, object], stream: AsyncIterator[bytes]
    ) -> None:
        offload = self._context.workers.offload
        await fed(stream, lambda source: offload("untar_tree", arguments, [source, root]))


def absolute(path: str) -> str:
    """Return the path from the root on, cleaned; a final slash or ``/.`` means something, stays."""
    whole = posixpath.normpath("/" + path.lstrip("/"))
    if path.rpartition("/")[2] == ".":
        return whole.rstrip("/") + "/."
    if path.endswith("/") and whole != "/":
        return whole + "/"
    return whole


def base(path: str) -> str:
    """Return the last component, ``/`` for the root."""
    return path.rstrip("/").rpartition("/")[2] or "/"


def _missing(path: str, ref: str) -> BoxwoodError:
    return NotFound(f"Could not find the file {path} in container {ref}")


def _whose(container: Container, path: str) -> str:
    """Say what is read-only in Docker's words, by where the path lies as it is written."""
    whole = absolute(path).rstrip("/.") + "/"
    inside = [p for p in container.mounts if whole.startswith(p.destination.rstrip("/") + "/")]
    if inside or not container.host_config.readonly_rootfs:
        return "mounted volume is marked read-only"
    return "container rootfs is marked read-only"
