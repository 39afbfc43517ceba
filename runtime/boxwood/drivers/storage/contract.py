"""What a storage driver is; the package's text tells its life."""

from __future__ import annotations

import abc
import os
import secrets
from collections.abc import (
    AsyncIterator,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from boxwood.drivers.storage.values import (
    Applied,
    ApplyRequest,
    Branch,
    Diffed,
    Kind,
    Mount,
    Mounter,
    Offload,
    SnapshotInfo,
    SnapshotOptions,
    UnpackTarget,
    Usage,
    open_directory,
)
from boxwood.errors import Conflict, Internal, Unsupported


async def _no_offload(job: str, arguments: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    del arguments, fds
    raise Internal(f"storage driver: {job}: no workers were given to the driver")


def _no_mounter(mounts: Sequence[Mount], *, volatile: bool = False) -> int:
    del mounts, volatile
    raise Internal("storage driver: mount: the driver was given nothing that mounts")


class StorageDriver(abc.ABC):
    """A place for file trees. The module's text is the contract."""

    name: ClassVar[str] = ""
    capabilities: ClassVar[frozenset[str]] = frozenset()
    offload: Offload = staticmethod(_no_offload)
    """Set by the core before the first call."""
    mounter: Mounter = staticmethod(_no_mounter)
    """Set by the core before the first call."""

    @abc.abstractmethod
    async def prepare(
        self,
        key: str,
        parent: str | None,
        *,
        labels: Mapping[str, str] | None = None,
        options: SnapshotOptions = SnapshotOptions(),  # noqa: B008 - immutable
    ) -> list[Mount]:
        """Make the active snapshot ``key`` on ``parent`` and return its mounts.

        Raises:
            AlreadyExists, NotFound, InvalidArgument, Unsupported, ResourceExhausted
        """

    @abc.abstractmethod
    async def view(
        self, key: str, parent: str | None, *, labels: Mapping[str, str] | None = None
    ) -> list[Mount]:
        """Make the read-only snapshot ``key`` of ``parent``; errors as :meth:`prepare`."""

    @abc.abstractmethod
    async def commit(self, key: str, name: str) -> None:
        """Freeze the active ``key`` as ``name``, atomically. No mount of it may be in use.

        Raises:
            NotFound, AlreadyExists (``name``), Conflict (not active)
        """

    async def rebase(self, key: str, parent: str) -> None:
        """Put the active ``key``, which was prepared without a parent, on ``parent``.

        Afterwards all is as if it had been prepared on it. For layers that are unpacked before it
        is known what they stand on: a driver that declares ``parallel-apply`` does this.

        Raises:
            NotFound, InvalidArgument (``parent`` is not committed), Unsupported
            Conflict: ``key`` is not active or has a parent, or what is in it would be something
                else had it been made on this parent: the caller makes it again.
        """
        raise Unsupported(f"rebase snapshot: {key}: {self.name} needs to know the parent before")

    @abc.abstractmethod
    def remove(self, key: str) -> None:
        """Take ``key`` away at once; its bytes go with the next :meth:`cleanup`.

        Raises:
            NotFound, Conflict (it has children)
        """

    @abc.abstractmethod
    def mounts(self, key: str) -> list[Mount]:
        """Return what to mount for an active snapshot or a view; may be asked again and again.

        Raises:
            NotFound, Conflict (committed), Unsupported (without the capability ``mounts-only``)
        """

    @abc.abstractmethod
    def stat(self, key: str) -> SnapshotInfo:
        """Return what is known of ``key``; raises NotFound."""

    @abc.abstractmethod
    def walk(self) -> Iterator[SnapshotInfo]:
        """Yield all snapshots, in no order; safe against changes while it runs."""

    def survey(self) -> dict[str, SnapshotInfo]:
        """Return what is on disk now, by key; what cannot be read is left out.

        For ``system fsck``: a driver that answers :meth:`walk` from memory looks here.
        """
        return {info.key: info for info in self.walk()}

    def resync(self, keys: Collection[str]) -> None:
        """Take over what :meth:`survey` finds of these keys, where :meth:`walk` differs."""

    @abc.abstractmethod
    async def usage(self, key: str) -> Usage:
        """Measure what ``key`` takes beyond its parent; raises NotFound."""

    @abc.abstractmethod
    async def cleanup(self) -> int:
        """Delete the trash and what crashes left half made; returns how many trees went."""

    async def open_root(self, key: str, *, volatile: bool = False) -> int:
        """Mount an active snapshot or a view; return an O_PATH descriptor of its root.

        The mount is detached: no mount table shows it, and it goes when its last descriptor is
        closed and nothing made of it is attached anywhere. A driver whose file system is served
        by a process starts it here, out of the daemon's session; the process ends with the mount,
        and outlives the daemon. ``volatile`` as :attr:`SnapshotOptions.volatile`, for this mount.

        Raises:
            NotFound, Conflict (committed), Unavailable, ResourceExhausted
        """
        return self.mounter(self.mounts(key), volatile=volatile)

    @asynccontextmanager
    async def opened(self, key: str) -> AsyncIterator[int]:
        """``async with driver.opened(key) as root``: the tree of any snapshot, to read it.

        A committed one is shown by a view that goes again. Errors as :meth:`open_root`.
        """
        passing = ""
        if self.stat(key).kind is Kind.COMMITTED:
            passing = f"look-{secrets.token_hex(8)}"
            await self.view(passing, key)
        try:
            root = await self.open_root(passing or key)
            try:
                yield root
            finally:
                os.close(root)
        finally:
            if passing:
                self.remove(passing)

    async def sync(self) -> None:
        """Make durable what the snapshots committed so far hold: one barrier for all of them.

        What is committed need not survive a power cut before this returns. The base writes out
        every file system; a driver that knows its own does less.

        Raises:
            DeadlineExceeded, Unavailable
        """
        await self.offload("sync", {}, [])

    def unpack_target(self, key: str) -> UnpackTarget | None:
        """Where a layer may be unpacked straight into the active ``key``; None: mount it."""
        self.stat(key)
        return None

    def branch(self, key: str) -> Branch | None:
        """Where the changes of ``key`` against its parent lie by themselves; None: nowhere.

        May be asked of any snapshot, and read while it is mounted and in use.
        """
        self.stat(key)
        return None

    def copy_record(self, key: str) -> Path | None:
        """Where the job ``copy_tree`` has recorded the copy that ``key`` began as; None: nowhere.

        The parent must be as it was copied. The file may be missing.
        """
        self.stat(key)
        return None

    async def apply(self, key: str, stream: int, request: ApplyRequest) -> Applied:
        """Unpack a layer's tar, compressed or not, into the active ``key``.

        Args:
            key: a fresh snapshot on the layer below. After an error it is half made: the caller
                removes it.
            stream: descriptor that is read from where it stands to its end; a pipe will do.

        Whiteouts and opaque directories hide what the parent has. Another diff ID or digest than
        the request's is an error.

        Raises:
            NotFound, InvalidArgument (a hostile or broken archive, another digest), TooLarge,
            ResourceExhausted, DeadlineExceeded, Unavailable
        """
        target = self.unpack_target(key)
        arguments = {
            "whiteouts": target.whiteouts if target else "delete",
            "user_xattr": target.user_xattr if target else False,
            "devices": True,
            **msgspec.to_builtins(request),
            "recipe": request.recipe >= 0,
            "growing": request.growing >= 0,
        }
        extra = [fd for fd in (request.recipe, request.growing) if fd >= 0]
        async with AsyncExitStack() as stack:
            if target is None:
                root = await stack.enter_async_context(self.opened(key))
            else:
                root = stack.enter_context(open_directory(target.path))
            parent = self.stat(key).parent
            if target is not None and target.whiteouts != "delete" and parent is not None:
                # A branch by itself does not show what a layer may build on.
                arguments["parent"] = True
                extra.append(await stack.enter_async_context(self.opened(parent)))
            found = await self.offload("unpack_layer", arguments, [stream, root, *extra])
        return msgspec.convert(found, Applied)

    async def adopt(self, key: str, implied: Sequence[bytes]) -> None:
        """Give directories of the active ``key`` the looks that they have in its parent.

        For a layer that was applied without it: ``implied`` is what :class:`Applied` said; after
        :meth:`rebase`, before :meth:`commit`. Then all is as if it had been applied on its parent.
        After an error it is half made, as after one of :meth:`apply`. Idempotent.

        Raises:
            NotFound, ResourceExhausted, DeadlineExceeded, Unavailable
            Conflict: what is in one of them would have inherited from it: the caller applies the
                layer again.
        """
        target, parent = self.unpack_target(key), self.stat(key).parent
        if target is None or parent is None:
            raise Conflict(f"adopt: {key}: no parent, or no branch")
        with open_directory(target.path) as root:
            async with self.opened(parent) as below:
                found = await self.offload(
                    "adopt_directories", {"paths": list(implied)}, [root, below]
                )
        if not found["adopted"]:
            raise Conflict(f"adopt: {key}: what it holds would have inherited from its parent")

    async def diff(self, key: str, sink: int, *, listing: bool = False) -> Diffed:
        """Write what ``key`` changes against its parent to the descriptor ``sink``.

        As a layer's tar, uncompressed, the same bytes for the same tree on every driver; or, with
        ``listing``, as records ``K/path`` that end in NUL, K being A (added), C (changed) or D
        (deleted), in the order of the walk. Of any snapshot, while it is in use too.

        Raises:
            NotFound, ResourceExhausted, DeadlineExceeded, Unavailable
        """
        info = self.stat(key)
        branch = self.branch(key)
        arguments = {
            "form": branch.form if branch else "tree",
            "user_xattr": branch.user_xattr if branch else False,
            "listing": listing,
        }
        async with AsyncExitStack() as stack:
            old: list[int] = []
            if info.parent is not None:
                old = [await stack.enter_async_context(self.opened(info.parent))]
            if branch is not None:
                new = stack.enter_context(open_directory(branch.path))
            else:
                new = await stack.enter_async_context(self.opened(key))
            record = self.copy_record(key) if old and branch is None else None
            if record is not None:
                with suppress(FileNotFoundError):
                    old.append(os.open(record, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
                    stack.callback(os.close, old[-1])
            found = await self.offload("diff_layer", arguments, [sink, new, *old])
        return msgspec.convert(found, Diffed)

    def describe(self) -> list[tuple[str, str]]:
        """Return pairs for ``docker info`` (its ``DriverStatus``)."""
        return []

    def close(self) -> None:
        """Let go of what the driver keeps open for itself; it may be used again all the same.

        What :meth:`open_root` has given out is not concerned.
        """
        return
