"""The contract of storage drivers, its values, and a base that makes a driver small.

Terms
-----
snapshot
    A file tree with a name, its *key*. It is *active* (writable), a *view* (read-only) or
    *committed* (immutable). Only a committed snapshot can be a parent.
parent
    The committed snapshot that a new one starts from. None: it starts empty.
mount
    What has to be mounted to see a snapshot's tree. The driver only says it; the core mounts.
layer
    A committed snapshot that holds what a layer of an image adds to its parent.
trash
    Where a removed snapshot waits for its deletion; nothing in it has a key any more.

Life
----
``prepare(key, parent)`` makes an active snapshot. Something is written to it: through its mounts
(a container), or straight into the place that ``unpack_target`` names (the extraction of a
layer). Then either ``commit(key, name)`` freezes it under a new key (the old key is gone), or
``remove(key)`` throws it away. ``view(key, parent)`` makes a read-only one; it is never
committed. A snapshot that has children cannot be removed.

Example: an image of two layers and a container on it::

    await driver.prepare("unpack-1", None)
    await driver.apply("unpack-1", stream, ApplyRequest())  # the first layer's tar
    await driver.commit("unpack-1", "layer-a")
    await driver.prepare("unpack-2", "layer-a")             # ... the second ...
    await driver.commit("unpack-2", "layer-b")
    await driver.prepare("c0ffee", "layer-b", options=SnapshotOptions(volatile=True))
    root = await driver.open_root("c0ffee")     # the container runs on it, and exits
    await driver.diff("c0ffee", sink)           # what it has changed, as a layer's tar
    driver.remove("c0ffee")                     # at once: its tree is in the trash
    await driver.cleanup()                      # takes its time, in a worker

What must hold
--------------
* A key is visible with all of its snapshot or not at all: each change is published by one rename
  or by what is as atomic. After a crash at any moment every snapshot that ``walk`` shows is
  whole; what was half made is found and removed by ``cleanup``.
* ``remove`` is quick whatever the size of the tree.
* A driver owns its root alone; two engines never share one. Methods are called from one thread.
* Methods that are not coroutines do short, local work on metadata. What takes long (copying,
  deleting) is awaited and goes to a worker by :attr:`StorageDriver.offload`.
* Keys match ``[A-Za-z0-9][A-Za-z0-9_.-]*``, up to 200 characters.

Errors: NotFound (no such key), AlreadyExists (key taken), InvalidArgument (a key of other
characters, a parent that is not committed), Conflict (removal of a parent, commit of what is not
active), Unsupported (an option that :attr:`StorageDriver.capabilities` does not declare),
ResourceExhausted (disk or inodes full; nothing is left of what was being made), Unavailable (this
machine cannot do it, with one sentence that says what is missing).

Capabilities
------------
``mounts-only``      the driver says what to mount and keeps no mount or process of its own;
                     without it, :meth:`StorageDriver.mounts` may raise Unsupported, and
                     :meth:`StorageDriver.open_root` is the driver's own
``parallel-apply``   layers of one image may be unpacked side by side, parents need not be there
``volatile``         honours :attr:`SnapshotOptions.volatile`
``id-map``           honours :attr:`SnapshotOptions.id_map`
``quota``            honours :attr:`SnapshotOptions.size_limit`
``shared-parent``    a snapshot costs nothing for what it shares with its parent
"""

from __future__ import annotations

import abc
import enum
import errno
import os
import re
import secrets
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import msgspec

from boxwood.errors import (
    AlreadyExists,
    BoxwoodError,
    Conflict,
    DataLoss,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
    Unsupported,
)

MOUNTS_ONLY = "mounts-only"
PARALLEL_APPLY = "parallel-apply"
VOLATILE = "volatile"
ID_MAP = "id-map"
QUOTA = "quota"
SHARED_PARENT = "shared-parent"

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}", re.ASCII)

Offload: TypeAlias = Callable[[str, Mapping[str, Any], Sequence[int]], Awaitable[dict[str, Any]]]
"""``await offload(job, arguments, descriptors)`` runs a job of the engine's workers.

The descriptors stay the caller's. Jobs open to drivers: ``copy_tree`` (descriptors: source
directory, target directory), ``remove_tree`` (a directory; argument ``name`` below it),
``tree_usage`` (a directory; answers ``bytes`` and ``inodes``), and what :meth:`StorageDriver.apply`
and :meth:`StorageDriver.diff` use: ``unpack_layer``, ``diff_layer`` and ``sync`` (directories whose
file systems are written out; none: all).
"""

Mounter: TypeAlias = Callable[..., int]
"""``mounter(mounts, volatile=False)`` mounts what a driver said, detached, and returns an O_PATH
descriptor of it, which the caller closes. Raises Unavailable, Unsupported, ResourceExhausted."""


class IdMap(msgspec.Struct, frozen=True):
    """A range of ids of users and groups alike.

    ``size`` ids from ``inside`` on, as the layers have them on disk, are ``outside`` and following
    in the mounted tree.
    """

    inside: int
    outside: int
    size: int


class Mount(msgspec.Struct, frozen=True):
    """One mount to make: file system type, source, options as in fstab(5).

    ``bind`` as type is a bind mount of ``source``. Options of an overlay may repeat
    ``lowerdir+=``, topmost first; who mounts falls back to ``lowerdir=`` where the kernel needs
    it.
    """

    type: str
    source: str
    options: tuple[str, ...] = ()
    id_map: tuple[IdMap, ...] = ()
    """How ids of a bind's source, or of an overlay's lower directories, are shown."""


class Kind(enum.StrEnum):
    """What a snapshot is."""

    ACTIVE = "active"
    VIEW = "view"
    COMMITTED = "committed"


class SnapshotOptions(msgspec.Struct, frozen=True):
    """What is asked of a snapshot beyond its parent."""

    volatile: bool = False
    """What is written need not survive a crash of the machine: no sync when it is unmounted."""
    size_limit: int = 0
    """Bytes the snapshot may take beyond its parent, 0: no limit."""
    id_map: tuple[IdMap, ...] = ()
    """Whose files the layers' files are; empty: as they are on disk."""


class SnapshotInfo(msgspec.Struct, frozen=True):
    """What is known of a snapshot. ``created`` is nanoseconds since the epoch."""

    key: str
    kind: Kind
    parent: str | None = None
    labels: dict[str, str] = {}
    created: int = 0
    options: SnapshotOptions = SnapshotOptions()


class Usage(msgspec.Struct, frozen=True):
    """Bytes on disk and inodes that a snapshot takes beyond its parent."""

    bytes: int = 0
    inodes: int = 0


class UnpackTarget(msgspec.Struct, frozen=True):
    """A directory into which a layer may be unpacked without mounting anything.

    ``whiteouts`` says what becomes of a layer's whiteouts there: ``overlay`` writes them in the
    form of the kernel's overlay (``user_xattr``: its marks below ``user.overlay.``), ``aufs``
    keeps them as the files ``.wh.NAME`` and ``.wh..wh..opq`` that a layer's tar has, ``delete``
    removes what they name.
    """

    path: Path
    whiteouts: Literal["overlay", "aufs", "delete"]
    user_xattr: bool = False


class Branch(msgspec.Struct, frozen=True):
    """A directory that holds what one snapshot adds to its parent, and nothing else.

    ``form`` says how it marks what is gone: ``overlay`` by character devices 0:0 and the attribute
    ``trusted.overlay.opaque`` (``user_xattr``: ``user.overlay.opaque``), ``aufs`` by files
    ``.wh.NAME`` and ``.wh..wh..opq``.
    """

    path: Path
    form: Literal["overlay", "aufs"]
    user_xattr: bool = False


class ApplyRequest(msgspec.Struct, frozen=True):
    """How a layer's stream is to be unpacked. Digests are verified where they are given."""

    diff_id: str = ""
    digest: str = ""
    max_bytes: int = 1 << 40
    """Bytes of the tar, uncompressed."""
    max_entries: int = 2_000_000
    max_ratio: int = 0
    """Bytes out for a byte in, 0: what the compression itself can do at most."""
    max_name: int = 4095
    """Bytes of an entry's name, and of a link's target."""
    recipe: int = -1
    """A descriptor of an empty file: gets what the tar's very bytes can be made of again, beside
    the files themselves (see ``docs/layers.md``); -1: not wanted."""


class Applied(msgspec.Struct, frozen=True):
    """What unpacking found out; sizes are bytes."""

    diff_id: str
    digest: str
    """Of the bytes as they came."""
    size: int
    """Of the files' contents."""
    stored: int
    """Of the bytes as they came."""
    tar_size: int
    """Of the tar, uncompressed."""
    entries: int
    compression: str = ""
    """``gzip``, ``zstd``, ``xz``, ``bzip2``; empty: none."""
    compressor: str = ""
    """What makes the very same compressed bytes of the tar; empty: nothing known does."""
    recipe: bool = False
    """Is what was written to :attr:`ApplyRequest.recipe` complete?"""


class Diffed(msgspec.Struct, frozen=True):
    """What :meth:`StorageDriver.diff` wrote."""

    entries: int
    size: int
    """Bytes written."""


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
        }
        extra = [request.recipe] if request.recipe >= 0 else []
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


def check_key(key: str) -> str:
    """Return ``key`` when it may name a snapshot; raises InvalidArgument."""
    if _KEY.fullmatch(key) is None:
        raise InvalidArgument(f"snapshot: {key[:220]!r}: not a key")
    return key


def full_disk(error: OSError) -> bool:
    """Does this error say that space, inodes or quota ran out?"""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)


def as_boxwood_error(operation: str, target: object, error: OSError) -> BoxwoodError:
    """Return the error class for a failed system call, worded ``operation: object: cause``."""
    message = f"{operation}: {target}: {error.strerror or error}"
    return ResourceExhausted(message) if full_disk(error) else Internal(message)


class DirectoryDriver(StorageDriver):
    """A driver that keeps each snapshot in a directory of its own: the usual base.

    A subclass gives :attr:`name`, :attr:`capabilities`, :meth:`fill` (make the content of a new
    snapshot) and :meth:`mounts_of`. All of the life above is here.

    On disk::

        <root>/active/<key>/     info.json, and whatever the subclass makes
        <root>/view/<key>/       likewise
        <root>/committed/<key>/  likewise
        <root>/new/              being made; renamed into place when whole
        <root>/trash/            to be deleted

    The kind of a snapshot is the directory that it lies in, so that a commit is one rename.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[str, SnapshotInfo] = {}
        self._children: dict[str, int] = {}
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for part in (*Kind, "new", "trash"):
                (root / part).mkdir(mode=0o700, exist_ok=True)
            self._load()
        except OSError as error:
            raise Unavailable(f"storage {self.name}: {root}: {error.strerror}") from error

    # What a subclass says

    async def fill(self, directory: Path, parents: Sequence[Path], info: SnapshotInfo) -> None:
        """Make the content of a new snapshot in ``directory``.

        ``parents`` are the directories of the committed snapshots below it, nearest first. What
        is made here is not visible yet, and thrown away when an error is raised.
        """
        raise NotImplementedError

    def mounts_of(
        self, directory: Path, parents: Sequence[Path], info: SnapshotInfo
    ) -> list[Mount]:
        """Return the mounts of the snapshot that :meth:`fill` made in ``directory``."""
        raise NotImplementedError

    def measured(self, directory: Path) -> Path:
        """Return the directory below which :meth:`usage` counts."""
        return directory

    # The life

    async def prepare(
        self,
        key: str,
        parent: str | None,
        *,
        labels: Mapping[str, str] | None = None,
        options: SnapshotOptions = SnapshotOptions(),  # noqa: B008 - immutable
    ) -> list[Mount]:
        """Make an active snapshot; see the contract."""
        self._check_options(options)
        return await self._make(key, Kind.ACTIVE, parent, labels, options)

    async def view(
        self, key: str, parent: str | None, *, labels: Mapping[str, str] | None = None
    ) -> list[Mount]:
        """Make a read-only snapshot; see the contract."""
        return await self._make(key, Kind.VIEW, parent, labels, SnapshotOptions())

    async def commit(self, key: str, name: str) -> None:
        """Freeze an active snapshot: one rename; see the contract."""
        info = self.stat(key)
        if info.kind is not Kind.ACTIVE:
            raise Conflict(f"commit snapshot: {key}: is {info.kind}, not active")
        self._check_free(name)
        self._rename(self._directory(info), self._place(Kind.COMMITTED, name), "commit snapshot")
        self._forget(info)
        self._remember(msgspec.structs.replace(info, key=name, kind=Kind.COMMITTED))

    def remove(self, key: str) -> None:
        """Move a snapshot to the trash: one rename; see the contract."""
        info = self.stat(key)
        if self._children.get(key, 0):
            raise Conflict(f"remove snapshot: {key}: other snapshots stand on it")
        trash = self.root / "trash" / f"{key[:180]}.{secrets.token_hex(4)}"
        if not self._directory(info).exists():
            # Somebody took it away behind our back: what has it must still be removable.
            self._forget(info)
            raise NotFound(f"remove snapshot: {key}: its files are gone")
        self._rename(self._directory(info), trash, "remove snapshot")
        self._forget(info)

    def mounts(self, key: str) -> list[Mount]:
        """Say what to mount; see the contract."""
        info = self.stat(key)
        if info.kind is Kind.COMMITTED:
            raise Conflict(f"mount snapshot: {key}: is committed; make a view of it")
        return self.mounts_of(self._directory(info), self._parents(info.parent), info)

    def stat(self, key: str) -> SnapshotInfo:
        """Look a snapshot up; see the contract."""
        info = self._known.get(key)
        if info is None:
            raise NotFound(f"snapshot: {key[:220]}: no such snapshot")
        return info

    def walk(self) -> Iterator[SnapshotInfo]:
        """Yield all snapshots; see the contract."""
        yield from tuple(self._known.values())

    def survey(self) -> dict[str, SnapshotInfo]:
        """Read the directories; see the contract."""
        decoder = msgspec.json.Decoder(SnapshotInfo)
        found = {}
        for kind in Kind:
            for name in os.listdir(self.root / kind.value):
                try:
                    found[name] = self._read(decoder, self._place(kind, name), kind)
                except DataLoss:
                    continue  # fsck says what is missing of it
        return found

    def resync(self, keys: Collection[str]) -> None:
        """Take over what is on disk; see the contract."""
        present = self.survey()
        for key in keys:
            if (known := self._known.get(key)) is not None:
                self._forget(known)
            if key in present:
                self._remember(present[key])

    async def sync(self) -> None:
        """Write out the file system of the root (syncfs(2)); see the contract."""
        with open_directory(self.root) as fd:
            await self.offload("sync", {}, [fd])

    async def usage(self, key: str) -> Usage:
        """Measure in a worker; see the contract."""
        path = self.measured(self._directory(self.stat(key)))
        with open_directory(path) as fd:
            answer = await self.offload("tree_usage", {}, [fd])
        return Usage(bytes=answer["bytes"], inodes=answer["inodes"])

    async def cleanup(self) -> int:
        """Delete ``trash`` in a worker; see the contract."""
        with open_directory(self.root / "trash") as fd:
            try:
                names = os.listdir(fd)
                batch = gather(fd, names) if names else []
            except OSError as error:
                raise as_boxwood_error("empty the trash", self.root, error) from error
            for name in batch:
                await self.offload("remove_tree", {"name": name}, [fd])
        return len(names)

    # Inside

    def _check_options(self, options: SnapshotOptions) -> None:
        asked = {
            QUOTA: options.size_limit != 0,
            ID_MAP: bool(options.id_map),
        }
        # A volatile snapshot only promises less: a driver that cannot is no worse for it.
        for capability, wanted in asked.items():
            if wanted and capability not in self.capabilities:
                raise Unsupported(f"storage driver {self.name}: {capability}: not supported")

    def _check_free(self, key: str) -> None:
        if check_key(key) in self._known:
            raise AlreadyExists(f"snapshot: {key}: exists already")

    async def _make(
        self,
        key: str,
        kind: Kind,
        parent: str | None,
        labels: Mapping[str, str] | None,
        options: SnapshotOptions,
    ) -> list[Mount]:
        self._check_free(key)
        parents = self._parents(parent)
        info = SnapshotInfo(key, kind, parent, dict(labels or {}), time.time_ns(), options)
        fresh = self.root / "new" / f"{key[:180]}.{secrets.token_hex(4)}"
        if parent is not None:
            # Held while it is being made, so that nobody removes the parent meanwhile.
            self._children[parent] = self._children.get(parent, 0) + 1
        try:
            fresh.mkdir(mode=0o700)
            (fresh / "info.json").write_bytes(msgspec.json.encode(info))
            await self.fill(fresh, parents, info)
            self._check_free(key)
            self._rename(fresh, self._place(kind, key), "prepare snapshot")
        except OSError as error:
            self._discard(fresh)
            raise as_boxwood_error("prepare snapshot", key, error) from error
        except BaseException:
            self._discard(fresh)
            raise
        else:
            self._remember(info)
        finally:
            self._release(parent)
        return self.mounts_of(self._place(kind, key), parents, info)

    def _release(self, parent: str | None) -> None:
        if parent is not None:
            self._children[parent] -= 1
            if not self._children[parent]:
                del self._children[parent]

    def _discard(self, fresh: Path) -> None:
        try:
            fresh.rename(self.root / "trash" / fresh.name)
        except OSError:
            # It stays in ``new`` until the next start; the first error is what matters.
            return

    def _parents(self, parent: str | None) -> list[Path]:
        chain: list[Path] = []
        while parent is not None:
            info = self.stat(parent)
            if info.kind is not Kind.COMMITTED:
                raise InvalidArgument(f"snapshot: {parent}: not committed, cannot be a parent")
            chain.append(self._directory(info))
            parent = info.parent
        return chain

    def _place(self, kind: Kind, key: str) -> Path:
        return self.root / kind.value / key

    def _directory(self, info: SnapshotInfo) -> Path:
        return self._place(info.kind, info.key)

    def _rename(self, source: Path, target: Path, operation: str) -> None:
        try:
            source.rename(target)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                raise AlreadyExists(f"{operation}: {target.name}: exists already") from error
            raise as_boxwood_error(operation, target.name, error) from error

    def _remember(self, info: SnapshotInfo) -> None:
        self._known[info.key] = info
        if info.parent is not None:
            self._children[info.parent] = self._children.get(info.parent, 0) + 1

    def _forget(self, info: SnapshotInfo) -> None:
        del self._known[info.key]
        self._release(info.parent)

    def _load(self) -> None:
        decoder = msgspec.json.Decoder(SnapshotInfo)
        for kind in Kind:
            for entry in os.scandir(self.root / kind.value):
                self._remember(self._read(decoder, Path(entry.path), kind))
        for entry in os.scandir(self.root / "new"):
            os.rename(entry.path, self.root / "trash" / entry.name)

    def _read(
        self, decoder: msgspec.json.Decoder[SnapshotInfo], directory: Path, kind: Kind
    ) -> SnapshotInfo:
        try:
            info = decoder.decode((directory / "info.json").read_bytes())
        except (OSError, msgspec.MsgspecError) as error:
            raise DataLoss(f"storage {self.name}: {directory}: {error}") from error
        # The directory decides: a commit renames it and leaves the file alone.
        return msgspec.structs.replace(info, key=directory.name, kind=kind)


def gather(folder: int, names: Sequence[str]) -> Sequence[str]:
    """Move entries of a trash folder into one directory, and return what is to be deleted.

    A worker costs more than the deletion of what one container has written. A full disk has no
    room for the directory; then it is each by itself, for room is what is wanted.
    """
    batch = f"batch-{secrets.token_hex(4)}"
    try:
        os.mkdir(batch, 0o700, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return names
        raise
    for name in names:
        os.rename(name, f"{batch}/{name}", src_dir_fd=folder, dst_dir_fd=folder)
    return [batch]


class open_directory:  # noqa: N801 - used as a function
    """``with open_directory(path) as fd``: a descriptor of a directory of the driver's own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> int:
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise as_boxwood_error("open", self._path, error) from error
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
