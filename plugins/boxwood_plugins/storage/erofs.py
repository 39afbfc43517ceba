"""Snapshots as EROFS images under the kernel's overlay file system: one file for each layer.

A layer's tar is written as an image while it streams by, so a layer of many small files is one
file on disk, read-only whoever asks. A snapshot's directory holds::

    layer.erofs   what is committed, or was applied
    fs, work      of an active one: overlay's upper and work directory, over the images

``fs`` of a committed snapshot is empty, and looks as the layer's root: owner, mode, attributes,
time. What was written through a mount becomes an image when it is committed: its changes are taken
as a layer's tar, and that is applied.

The images are mounted from the files themselves (Linux 6.12 and later), detached. A mount is kept
while the layer is in use here, so that containers on one layer share the page cache.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import ClassVar

import msgspec

from boxwood.drivers.hookspecs import hookimpl
from boxwood.drivers.storage import (
    SHARED_PARENT,
    VOLATILE,
    Applied,
    ApplyRequest,
    Branch,
    DirectoryDriver,
    Kind,
    Mount,
    SnapshotInfo,
    StorageDriver,
    Usage,
    as_boxwood_error,
    full_disk,
)
from boxwood.errors import Conflict, InvalidArgument, Unavailable, Unsupported
from boxwood_ext import mount, tar
from boxwood_plugins.storage._branches import file_system_of, look_like

_IMAGE = "layer.erofs"
_LAYER_LIMIT = 500
"""Lower directories that the kernel stacks (fs/overlayfs/super.c, OVL_MAX_STACK)."""
_KEPT_MOUNTS = 256
_PLAIN = ("index=off", "metacopy=off", "redirect_dir=off")


class ErofsDriver(DirectoryDriver):
    """See the module; the life of a snapshot is :class:`DirectoryDriver`'s."""

    name: ClassVar[str] = "erofs"
    capabilities: ClassVar[frozenset[str]] = frozenset({VOLATILE, SHARED_PARENT})

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._images: dict[str, _Held] = {}
        self._check()

    # What is made

    async def fill(self, directory: Path, parents: Sequence[Path], info: SnapshotInfo) -> None:
        """Make the upper directory; its root looks like its parent's, which it covers."""
        if len(parents) >= _LAYER_LIMIT:
            raise Unsupported(
                f"erofs: {info.key}: {len(parents)} layers, at most {_LAYER_LIMIT - 1}"
            )
        _make_root(directory / "fs", parents[0] / "fs" if parents else None)
        if info.kind is Kind.ACTIVE:
            (directory / "work").mkdir(mode=0o700)

    def mounts_of(
        self, directory: Path, parents: Sequence[Path], info: SnapshotInfo
    ) -> list[Mount]:
        """None can be said: see :meth:`open_root`."""
        del directory, parents, info
        return []

    def mounts(self, key: str) -> list[Mount]:
        """Refuse: images are mounted by the driver itself."""
        super().mounts(key)
        raise Unsupported(f"mount snapshot: {key}: erofs mounts by itself")

    async def apply(self, key: str, stream: int, request: ApplyRequest) -> Applied:
        """Write the layer as an image; the base's word on arguments and errors holds."""
        info = self.stat(key)
        directory = self._directory(info)
        if info.kind is not Kind.ACTIVE or (directory / _IMAGE).exists():
            raise Conflict(f"apply layer: {key}: is not fresh")
        return await self._write(info, stream, request)

    async def commit(self, key: str, name: str) -> None:
        """Make an image of what was written through mounts, then one rename."""
        info = self.stat(key)
        if info.kind is not Kind.ACTIVE:
            raise Conflict(f"commit snapshot: {key}: is {info.kind}, not active")
        self._check_free(name)
        directory = self._directory(info)
        try:
            if not (directory / _IMAGE).exists() or os.listdir(directory / "fs"):
                await self._freeze(info)
            self._clear_upper(directory, key)
        except OSError as error:
            raise as_boxwood_error("commit snapshot", key, error) from error
        await super().commit(key, name)
        self._drop_work(name)

    # What is shown

    async def open_root(self, key: str, *, volatile: bool = False) -> int:
        """Stack the images; see the contract."""
        info = self.stat(key)
        super().mounts(key)
        directory = self._directory(info)
        try:
            self._mend(directory)
        except OSError as error:
            raise as_boxwood_error("open snapshot", key, error) from error
        with ExitStack() as stack:
            lowers = self._lowers(info, stack)
            if info.kind is Kind.VIEW:
                return self._open_view(directory, info, lowers)
            if not lowers:
                return self.mounter([Mount("bind", str(directory / "fs"))])
            # The mark that a volatile mount leaves: the kernel refuses the next one until it goes.
            shutil.rmtree(directory / "work/work/incompat", ignore_errors=True)
            options = [f"lowerdir+=/proc/self/fd/{fd}" for fd in lowers]
            options += [f"upperdir={directory / 'fs'}", f"workdir={directory / 'work'}", *_PLAIN]
            return self.mounter(
                [Mount("overlay", "overlay", tuple(options))],
                volatile=volatile or info.options.volatile,
            )

    @asynccontextmanager
    async def opened(self, key: str) -> AsyncIterator[int]:
        """The tree of any snapshot, to read it; an active one may be mounted meanwhile.

        Its upper directory is shown as the topmost of read-only ones, as `overlay` does.
        """
        info = self.stat(key)
        with ExitStack() as stack:
            lowers = self._lowers(info, stack) if info.kind is Kind.ACTIVE else []
            if not 0 < len(lowers) < _LAYER_LIMIT:
                async with super().opened(key) as root:
                    yield root
                return
            upper = self._directory(info) / "fs"
            options = [f"lowerdir+={upper}", *(f"lowerdir+=/proc/self/fd/{fd}" for fd in lowers)]
            root = self.mounter([Mount("overlay", "overlay", (*options, *_PLAIN, "ro"))])
        with _closing(root):
            yield root

    def branch(self, key: str) -> Branch | None:
        """The upper directory, where it is all that an active snapshot has changed."""
        info = self.stat(key)
        directory = self._directory(info)
        if info.kind is not Kind.ACTIVE or (directory / _IMAGE).exists():
            return None
        return Branch(directory / "fs", "overlay")

    async def usage(self, key: str) -> Usage:
        """Count the image, and what an active one has above it."""
        info = self.stat(key)
        own = await super().usage(key)
        try:
            image = (self._directory(info) / _IMAGE).stat()
        except FileNotFoundError:
            return own
        except OSError as error:
            raise as_boxwood_error("measure snapshot", key, error) from error
        if info.kind is not Kind.ACTIVE:
            return Usage(bytes=image.st_blocks * 512, inodes=1)
        return Usage(own.bytes + image.st_blocks * 512, own.inodes + 1)

    def measured(self, directory: Path) -> Path:
        """Count the upper directory."""
        return directory / "fs"

    def remove(self, key: str) -> None:
        """As everywhere; the mount kept goes too."""
        super().remove(key)
        self._let_go(key)

    def close(self) -> None:
        """Let go of the mounts that are kept."""
        self._images.clear()

    def describe(self) -> list[tuple[str, str]]:
        """Say what it lies on and how it mounts."""
        return [
            ("Backing Filesystem", file_system_of(self.root)),
            ("Image mounts", "from files"),
            ("Quota per container", "false"),
        ]

    # Inside

    @asynccontextmanager
    async def _below(self, info: SnapshotInfo) -> AsyncIterator[list[int]]:
        if info.parent is None:
            yield []
            return
        async with self.opened(info.parent) as root:
            yield [root]

    async def _write(self, info: SnapshotInfo, stream: int, request: ApplyRequest) -> Applied:
        """Write a tar as the snapshot's image, visible when it is whole."""
        directory = self._directory(info)
        fresh = directory / f"{_IMAGE}.new"
        async with self._below(info) as below:
            arguments = {
                **msgspec.to_builtins(request),
                "recipe": False,
                "parent": bool(below),
                "devices": True,
            }
            try:
                fresh.unlink(missing_ok=True)
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                image = os.open(fresh, flags, 0o600)
            except OSError as error:
                raise as_boxwood_error("write image", info.key, error) from error
            try:
                found = await self.offload("erofs_layer", arguments, [stream, image, *below])
                self._copy_root(image, directory / "fs")
                fresh.rename(directory / _IMAGE)
            except OSError as error:
                raise as_boxwood_error("write image", info.key, error) from error
            finally:
                os.close(image)
        return msgspec.convert(found, Applied)

    async def _freeze(self, info: SnapshotInfo) -> None:
        """Make an image of all that an active snapshot has changed."""
        directory = self._directory(info)
        changes = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            await self.diff(info.key, changes)
            os.lseek(changes, 0, os.SEEK_SET)
            await self._write(info, changes, ApplyRequest())
        finally:
            os.close(changes)

    def _clear_upper(self, directory: Path, key: str) -> None:
        """Leave of the upper directory what its root looks like: all else is in the image."""
        upper, fresh = directory / "fs", directory / "fs.new"
        self._mend(directory)
        if not os.listdir(upper):
            return
        if fresh.exists():
            fresh.rmdir()
        _make_root(fresh, upper)
        upper.rename(self.root / "trash" / f"{key[:180]}.{secrets.token_hex(4)}")
        fresh.rename(upper)

    def _drop_work(self, name: str) -> None:
        """What overlay worked in is of no use to a committed snapshot."""
        work = self._directory(self.stat(name)) / "work"
        try:
            work.rename(self.root / "trash" / f"{name[:170]}.work.{secrets.token_hex(4)}")
        except OSError:
            return  # it goes with the snapshot; the commit itself is done

    def _mend(self, directory: Path) -> None:
        """Finish what a crash or an error between the two renames above has left."""
        if not (directory / "fs").exists():
            (directory / "fs.new").rename(directory / "fs")

    def _lowers(self, info: SnapshotInfo, stack: ExitStack) -> list[int]:
        """Return mounts of the images below an active snapshot or a view, topmost first."""
        own = self._directory(info) / _IMAGE
        lowers = []
        if own.exists():
            lowers.append(stack.enter_context(_closing(self._mount_image(own))))
        key = info.parent
        while key is not None:
            below = self.stat(key)
            lowers.append(stack.enter_context(_closing(self._image_of(below))))
            key = below.parent
        return lowers

    def _open_view(self, directory: Path, info: SnapshotInfo, lowers: Sequence[int]) -> int:
        if not lowers:
            return self.mounter([Mount("bind", str(directory / "fs"), ("ro",))])
        if len(lowers) == 1 and info.parent is not None:
            # Not the one that is kept: what becomes of this one is the caller's.
            return self._mount_image(self._directory(self.stat(info.parent)) / _IMAGE)
        options = [f"lowerdir+=/proc/self/fd/{fd}" for fd in lowers]
        return self.mounter([Mount("overlay", "overlay", (*options, *_PLAIN, "ro"))])

    def _image_of(self, info: SnapshotInfo) -> int:
        """Return a descriptor of a committed snapshot's mount, which the caller closes."""
        if info.key not in self._images:
            fresh = self._mount_image(self._directory(info) / _IMAGE)
            while len(self._images) >= _KEPT_MOUNTS:
                self._let_go(next(iter(self._images)))
            self._images[info.key] = _Held(fresh)
        return os.dup(self._images[info.key].fd)

    def _mount_image(self, path: Path) -> int:
        try:
            # Named by its descriptor: a name that fsconfig(2) takes is short.
            image = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise as_boxwood_error("mount image", path, error) from error
        with _closing(image):
            return self.mounter([Mount("erofs", f"/proc/self/fd/{image}", ("ro",))])

    def _let_go(self, key: str) -> None:
        self._images.pop(key, None)

    def _copy_root(self, image: int, upper: Path) -> None:
        """Let the upper directory look as the image's root."""
        with _closing(self.mounter([Mount("erofs", f"/proc/self/fd/{image}", ("ro",))])) as root:
            look_like(upper, Path(f"/proc/self/fd/{root}"))

    def _check(self) -> None:
        """Mount a tiny image and an overlay on it, so that a kernel that cannot says so."""
        trial = self.root / "new" / f"check.{secrets.token_hex(4)}"
        try:
            for part in ("up", "work"):
                (trial / part).mkdir(parents=True)
            _try_mounts(trial)
        except OSError as error:
            if full_disk(error):
                return  # says nothing of its kind, and is no reason not to serve
            raise Unavailable(
                f"storage driver erofs: {self.root}: cannot mount images from files "
                f"({error.strerror or error}); it takes Linux 6.12 with "
                "CONFIG_EROFS_FS_BACKED_BY_FILE; use --storage-driver overlay"
            ) from error
        finally:
            shutil.rmtree(trial, ignore_errors=True)


class _Held:
    """A descriptor that is closed when nobody holds this any more."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)


class _closing:  # noqa: N801 - used as a function
    """``with _closing(fd)``: a descriptor that is closed at the end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _make_root(path: Path, like: Path | None) -> None:
    path.mkdir()
    path.chmod(0o755)
    if like is not None:
        look_like(path, like)


def _try_mounts(trial: Path) -> None:
    empty = os.memfd_create("boxwood-empty", os.MFD_CLOEXEC)
    with _closing(empty), (trial / _IMAGE).open("xb") as image:
        os.write(empty, bytes(1024))
        os.lseek(empty, 0, os.SEEK_SET)
        tar.write_erofs(empty, image.fileno())
    with (trial / _IMAGE).open("rb") as image:
        source = [("source", f"/proc/self/fd/{image.fileno()}")]
        lower = _mounted("erofs", source)
    with _closing(lower), ExitStack() as stack:
        options = [("lowerdir+", f"/proc/self/fd/{lower}")]
        for key, part in (("upperdir", "up"), ("workdir", "work")):
            fd = os.open(trial / part, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            options.append((key, f"/proc/self/fd/{fd}"))
        os.close(_mounted("overlay", options))


def _mounted(kind: str, options: Sequence[tuple[str, str]]) -> int:
    context = mount.fsopen(kind)
    with _closing(context):
        for key, value in options:
            mount.fsconfig_string(context, key, value)
        mount.fsconfig_create(context)
        return mount.fsmount(context)


@hookimpl
def storage_driver(name: str, root: Path, options: Mapping[str, str]) -> StorageDriver | None:
    """Hand the driver over when it is asked for."""
    if name != ErofsDriver.name:
        return None
    for option in options:
        raise InvalidArgument(f"storage driver erofs: {option}: unknown option")
    return ErofsDriver(root)


@hookimpl
def storage_rank(name: str) -> int | None:
    """Say how much it is to be preferred when nobody has chosen."""
    return 60 if name == ErofsDriver.name else None
