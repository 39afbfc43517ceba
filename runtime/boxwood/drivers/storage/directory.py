"""The usual base of a storage driver: each snapshot is a directory of its own."""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import (
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import suppress
from pathlib import Path

import msgspec

from boxwood.drivers.storage.contract import StorageDriver
from boxwood.drivers.storage.values import (
    ID_MAP,
    PARALLEL_APPLY,
    QUOTA,
    Kind,
    Mount,
    SnapshotInfo,
    SnapshotOptions,
    Usage,
    as_boxwood_error,
    check_key,
    open_directory,
)
from boxwood.errors import (
    AlreadyExists,
    Conflict,
    DataLoss,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unsupported,
)


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
        self._deleting: set[str] = set()
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

    def stack(self, directory: Path, parents: Sequence[Path], info: SnapshotInfo) -> None:
        """Put what :meth:`fill` made without parents on these: for ``parallel-apply``.

        Raises:
            Conflict: it would have been made differently.
        """
        raise NotImplementedError

    def measured(self, directory: Path) -> Path:
        """Return the directory below which :meth:`usage` counts."""
        return directory

    async def dispose(self, directory: Path) -> None:
        """Take apart what deleting files does not; before each ``directory`` of the trash goes."""

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

    async def rebase(self, key: str, parent: str) -> None:
        """Write another description, which takes the first one's place; see the contract."""
        if PARALLEL_APPLY not in self.capabilities:
            await super().rebase(key, parent)
        info = self.stat(key)
        if info.kind is not Kind.ACTIVE or info.parent is not None:
            raise Conflict(f"rebase snapshot: {key}: not active, or on a parent already")
        parents = self._parents(parent)
        changed = msgspec.structs.replace(info, parent=parent)
        directory = self._directory(info)
        self.stack(directory, parents, changed)
        fresh = directory / "info.json.new"
        try:
            fresh.write_bytes(msgspec.json.encode(changed))
            fresh.rename(directory / "info.json")
        except OSError as error:
            raise as_boxwood_error("rebase snapshot", key, error) from error
        self._forget(info)
        self._remember(changed)

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
        """Delete ``trash`` in a worker; see the contract.

        What comes into the trash meanwhile is the next call's, and so is nothing that an earlier
        one still deletes.
        """
        with open_directory(self.root / "trash") as fd:
            mine: set[str] = set()
            try:
                names = [name for name in os.listdir(fd) if name not in self._deleting]
                mine.update(names)
                self._deleting |= mine
                for name in names:
                    await self.dispose(self.root / "trash" / name)
                batch = gather(fd, names) if names else []
                mine.update(batch)
                self._deleting.update(batch)
                for name in batch:
                    await self.offload("remove_tree", {"name": name}, [fd])
            except OSError as error:
                raise as_boxwood_error("empty the trash", self.root, error) from error
            finally:
                self._deleting -= mine
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
                try:
                    self._remember(self._read(decoder, Path(entry.path), kind))
                except DataLoss as error:
                    gone = isinstance(error.__cause__, (FileNotFoundError, NotADirectoryError))
                    if not gone and not isinstance(error.__cause__, msgspec.MsgspecError):
                        raise
                    self._set_aside(Path(entry.path), keep=gone or kind is Kind.ACTIVE)
        for entry in os.scandir(self.root / "new"):
            os.rename(entry.path, self.root / "trash" / entry.name)

    def _set_aside(self, path: Path, *, keep: bool) -> None:
        """Take a snapshot whose file a power cut has left empty out of the way.

        A committed one was not behind a barrier, or its file would be whole: nothing has it. What
        a container has written is kept, in ``broken``, for a person to look at; so is what has no
        such file at all, which no crash leaves: a hand was there.
        """
        place = self.root / ("broken" if keep else "trash")
        place.mkdir(mode=0o700, exist_ok=True)
        path.rename(place / f"{path.name[:180]}.{secrets.token_hex(4)}")

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
        # What an earlier call still deletes may go meanwhile.
        with suppress(FileNotFoundError):
            os.rename(name, f"{batch}/{name}", src_dir_fd=folder, dst_dir_fd=folder)
    return [batch]
