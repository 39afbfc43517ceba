"""Good drivers with a fault in each: what the storage kit must catch.

Not collected by itself: test_mutants.py runs the whole kit on each of these.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from boxwood.drivers.storage import (
    ID_MAP,
    PARALLEL_APPLY,
    QUOTA,
    SHARED_PARENT,
    Applied,
    ApplyRequest,
    Branch,
    Diffed,
    Kind,
    Mount,
    SnapshotInfo,
    SnapshotOptions,
    StorageDriver,
    UnpackTarget,
    Usage,
    open_directory,
)
from boxwood.errors import BoxwoodError
from boxwood.testing.remains import Remains
from boxwood.testing.storage import StorageSuite, engine_mounter, plain_offload
from boxwood_ext import mount
from boxwood_plugins.storage.overlay import OverlayDriver
from boxwood_plugins.storage.vfs import VfsDriver

MUTANTS: dict[str, tuple[type[StorageDriver], str]] = {}
"""By name: the driver, and a part of the name of the law that should catch it (tried first)."""


def planted(law: str) -> Callable[[type[Any]], type[Any]]:
    """Register a mutant."""

    def register(driver: type[Any]) -> type[Any]:
        MUTANTS[driver.__name__] = (driver, law)
        return driver

    return register


class Copying(VfsDriver):
    """A vfs that copies by cp(1)."""

    flags: ClassVar[Sequence[str]] = ("-a",)

    async def fill(self, directory: Path, parents: Sequence[Path], info: SnapshotInfo) -> None:
        tree = directory / "fs"
        tree.mkdir()
        tree.chmod(0o755)
        if parents and info.kind is Kind.ACTIVE:
            command = ["cp", *self.flags, f"{parents[0]}/fs/.", f"{tree}/"]
            subprocess.run(command, check=True)  # noqa: ASYNC221


@planted("metadata")
class HardLinksBroken(Copying):
    flags = ("-a", "--no-preserve=links")


@planted("metadata")
class TimesLost(Copying):
    flags = ("-a", "--no-preserve=timestamps")


@planted("metadata")
class OwnersLost(Copying):
    flags = ("-a", "--no-preserve=ownership")


@planted("metadata")
class ModesMasked(Copying):
    flags = ("-a", "--no-preserve=mode")


@planted("attributes")
class AttributesLost(Copying):
    flags = ("-a", "--no-preserve=xattr")


@planted("holes")
class HolesFilled(Copying):
    flags = ("-a", "--sparse=never", "--reflink=never")


@planted("parents_do_not")
class ParentsAliased(Copying):
    flags = ("-al",)


@planted("siblings")
class ParentsShared(VfsDriver):
    def mounts_of(
        self, directory: Path, parents: Sequence[Path], info: SnapshotInfo
    ) -> list[Mount]:
        options = ("ro",) if info.kind is Kind.VIEW else ()
        return [Mount("bind", str((parents[0] if parents else directory) / "fs"), options)]


@planted("children_see")
class ParentsForgotten(OverlayDriver):
    """Only the nearest parent is there."""

    def mounts_of(
        self, directory: Path, parents: Sequence[Path], info: SnapshotInfo
    ) -> list[Mount]:
        return super().mounts_of(directory, parents[:1], info)


@planted("read_only")
class ViewsWritable(VfsDriver):
    def mounts_of(
        self, directory: Path, parents: Sequence[Path], info: SnapshotInfo
    ) -> list[Mount]:
        return [msgspec.structs.replace(super().mounts_of(directory, parents, info)[0], options=())]


@planted("any_call[commit]")
class CommitInSteps(VfsDriver):
    async def commit(self, key: str, name: str) -> None:
        info = self.stat(key)
        self._check_commit(info, name)
        source, target = self._directory(info), self._place(Kind.COMMITTED, name)
        target.mkdir()
        for part in ("fs", "info.json"):
            (source / part).rename(target / part)
        source.rmdir()
        self._forget(info)
        self._remember(msgspec.structs.replace(info, key=name, kind=Kind.COMMITTED))

    def _check_commit(self, info: SnapshotInfo, name: str) -> None:
        from boxwood.errors import Conflict

        if info.kind is not Kind.ACTIVE:
            raise Conflict("not active")
        self._check_free(name)


@planted("commit_keeps")
class CommitLeavesTheOldKey(VfsDriver):
    async def commit(self, key: str, name: str) -> None:
        info = self.stat(key)
        await super().commit(key, name)
        shutil.copytree(self._directory(self.stat(name)), self._directory(info), symlinks=True)
        self._remember(info)


@planted("unique")
class CommitOverwrites(VfsDriver):
    async def commit(self, key: str, name: str) -> None:
        if name in self._known and name != key:
            shutil.rmtree(self._directory(self._known[name]))
            del self._known[name]
        await super().commit(key, name)


@planted("states")
class CommitsViews(VfsDriver):
    async def commit(self, key: str, name: str) -> None:
        info = self.stat(key)
        if info.kind is Kind.VIEW:
            self._check_free(name)
            self._rename(self._directory(info), self._place(Kind.COMMITTED, name), "commit")
            self._forget(info)
            self._remember(msgspec.structs.replace(info, key=name, kind=Kind.COMMITTED))
        else:
            await super().commit(key, name)


@planted("removal")
class RemovesParents(OverlayDriver):
    def remove(self, key: str) -> None:
        children = self._children.pop(key, 0)
        super().remove(key)
        if children:
            self._children[key] = children


@planted("unknown_keys")
class RemovesNothing(VfsDriver):
    def remove(self, key: str) -> None:
        if key in self._known:
            super().remove(key)


@planted("removal_is_quick")
class RemovesSlowly(VfsDriver):
    def remove(self, key: str) -> None:
        info = self.stat(key)
        super().remove(key)
        for entry in os.scandir(self.root / "trash"):
            if entry.name.startswith(info.key):
                shutil.rmtree(entry.path)


@planted("trash_alone")
class CleanupDeletesTheLiving(VfsDriver):
    async def cleanup(self) -> int:
        for info in self.walk():
            if info.kind is Kind.ACTIVE:
                shutil.rmtree(self._directory(info) / "fs")
                (self._directory(info) / "fs").mkdir()
        return await super().cleanup()


@planted("trash_alone")
class CleanupDoesNothing(VfsDriver):
    async def cleanup(self) -> int:
        return 0


@planted("any_call[prepare]")
class HalfMadeIsSeen(VfsDriver):
    """Published first, filled then."""

    async def fill(self, directory: Path, parents: Sequence[Path], info: SnapshotInfo) -> None:
        place = self._place(info.kind, info.key)
        directory.rename(place)
        await super().fill(place, parents, info)
        place.rename(directory)


@planted("any_call[prepare]")
class LeftoversStay(VfsDriver):
    def _load(self) -> None:
        shutil.move(self.root / "new", self.root / "aside")
        (self.root / "new").mkdir()
        super()._load()
        for entry in os.scandir(self.root / "aside"):
            os.rename(entry.path, self.root / "new" / entry.name)
        (self.root / "aside").rmdir()


@planted("stat_and_walk")
class LabelsLost(VfsDriver):
    async def prepare(
        self,
        key: str,
        parent: str | None,
        *,
        labels: Mapping[str, str] | None = None,
        options: SnapshotOptions = SnapshotOptions(),  # noqa: B008
    ) -> list[Mount]:
        return await super().prepare(key, parent, options=options)


@planted("restart")
class LabelsLostByARestart(VfsDriver):
    def _read(self, decoder: Any, directory: Path, kind: Kind) -> SnapshotInfo:
        return msgspec.structs.replace(super()._read(decoder, directory, kind), labels={})


@planted("restart")
class ChildrenLostByARestart(VfsDriver):
    def _load(self) -> None:
        super()._load()
        self._children.clear()

    def _release(self, parent: str | None) -> None:
        if parent in self._children:
            super()._release(parent)


@planted("wrong_keys")
class KeysUnchecked(VfsDriver):
    def _check_free(self, key: str) -> None:
        if key in self._known:
            super()._check_free(key)


@planted("only_committed")
class AnyParent(VfsDriver):
    def _parents(self, parent: str | None) -> list[Path]:
        chain = []
        while parent is not None:
            info = self.stat(parent)
            chain.append(self._directory(info))
            parent = info.parent
        return chain


@planted("walk_is_safe")
class WalkUnsafe(VfsDriver):
    def walk(self) -> Iterator[SnapshotInfo]:
        yield from self._known.values()


@planted("usage")
class UsageZero(VfsDriver):
    async def usage(self, key: str) -> Usage:
        self.stat(key)
        return Usage()


@planted("shared_parent")
class SharingLied(VfsDriver):
    capabilities = VfsDriver.capabilities | {SHARED_PARENT}


@planted("quota")
class QuotaLied(VfsDriver):
    capabilities = VfsDriver.capabilities | {QUOTA}


@planted("id_map")
class MappingLied(OverlayDriver):
    capabilities = OverlayDriver.capabilities | {ID_MAP}

    def mounts_of(
        self, directory: Path, parents: Sequence[Path], info: SnapshotInfo
    ) -> list[Mount]:
        (said,) = super().mounts_of(directory, parents, info)
        return [msgspec.structs.replace(said, id_map=())]


@planted("parallel_apply")
class ParallelLied(VfsDriver):
    capabilities = VfsDriver.capabilities | {PARALLEL_APPLY}


@planted("not_declared")
class OptionsIgnored(VfsDriver):
    def _check_options(self, options: SnapshotOptions) -> None:
        return


@planted("volatile")
class VolatileOnce(OverlayDriver):
    """The mark of a volatile mount stays, and the kernel refuses the next one."""

    def mounts_of(
        self, directory: Path, parents: Sequence[Path], info: SnapshotInfo
    ) -> list[Mount]:
        mark = directory / "work/work/incompat/volatile"
        there = mark.exists()
        said = super().mounts_of(directory, parents, info)
        if there:
            mark.mkdir(parents=True)
        return said


@planted("writable")
class LeaksDescriptors(VfsDriver):
    async def open_root(self, key: str, *, volatile: bool = False) -> int:
        os.open(self.root, os.O_PATH)
        return await super().open_root(key, volatile=volatile)


@planted("opened_by_views")
class LeaksViews(VfsDriver):
    @asynccontextmanager
    async def opened(self, key: str) -> AsyncIterator[int]:
        async with super().opened(key) as root:
            yield root
        if self.stat(key).kind is Kind.COMMITTED:
            await self.view(f"look-{os.urandom(4).hex()}", key)


@planted("writable")
class LeaksMounts(VfsDriver):
    async def open_root(self, key: str, *, volatile: bool = False) -> int:
        fd = await super().open_root(key, volatile=volatile)
        place = self.root / "trash" / "seen"
        if not place.exists():
            place.mkdir()
            copy = mount.open_tree(fd, "", mount.OPEN_TREE_CLONE | mount.AT_EMPTY_PATH)
            mount.move_mount(copy, "", mount.AT_FDCWD, place, mount.MOVE_MOUNT_F_EMPTY_PATH)
            os.close(copy)
        return fd


@planted("writable")
class LeaksProcesses(VfsDriver):
    async def open_root(self, key: str, *, volatile: bool = False) -> int:
        with (self.root / "held").open("w") as file:
            held = subprocess.Popen(["sleep", "2"], stdin=file)  # noqa: ASYNC220
            held.returncode = 0
        return await super().open_root(key, volatile=volatile)


@planted("whiteouts")
class WhiteoutsIgnored(OverlayDriver):
    def unpack_target(self, key: str) -> UnpackTarget | None:
        target = super().unpack_target(key)
        assert target is not None
        return msgspec.structs.replace(target, whiteouts="aufs")


@planted("opaque")
class OpaqueLost(OverlayDriver):
    async def apply(self, key: str, stream: int, request: ApplyRequest) -> Applied:
        applied = await super().apply(key, stream, request)
        branch = self._directory(self.stat(key)) / "fs"
        for at, _, _ in os.walk(branch):
            if "trusted.overlay.opaque" in os.listxattr(at):
                os.removexattr(at, "trusted.overlay.opaque")
        return applied


@planted("digests")
class DigestsUnchecked(VfsDriver):
    async def apply(self, key: str, stream: int, request: ApplyRequest) -> Applied:
        free = msgspec.structs.replace(request, digest="", diff_id="")
        return await super().apply(key, stream, free)


@planted("broken_archives")
class LimitsIgnored(VfsDriver):
    async def apply(self, key: str, stream: int, request: ApplyRequest) -> Applied:
        return await super().apply(key, stream, msgspec.structs.replace(request, max_bytes=1 << 40))


@planted("broken_archives")
class ErrorsOfApplySwallowed(VfsDriver):
    async def apply(self, key: str, stream: int, request: ApplyRequest) -> Applied:
        try:
            return await super().apply(key, stream, request)
        except BoxwoodError:
            return Applied("", "", 0, 0, 0, 0)


@planted("layer_has_whiteouts")
class DiffOmitsDeletions(OverlayDriver):
    def branch(self, key: str) -> Branch | None:
        found = super().branch(key)
        assert found is not None
        return msgspec.structs.replace(found, form="aufs")


@planted("listing")
class DiffOfTheWholeTree(VfsDriver):
    async def diff(self, key: str, sink: int, *, listing: bool = False) -> Diffed:
        arguments = {"form": "tree", "user_xattr": False, "listing": listing}
        async with self.opened(key) as root:
            found = await self.offload("diff_layer", arguments, [sink, root])
        return msgspec.convert(found, Diffed)


@planted("at_once")
class OneAtATime(VfsDriver):
    """What two are being made of is mixed up."""

    async def fill(self, directory: Path, parents: Sequence[Path], info: SnapshotInfo) -> None:
        self._where = directory / "fs"
        (directory / "fs").mkdir()
        await asyncio.sleep(0)
        if parents and info.kind is Kind.ACTIVE:
            with open_directory(parents[0] / "fs") as source, open_directory(self._where) as target:
                await self.offload("copy_tree", {}, [source, target])


@planted("failure_leaves")
class FailuresTakeTheKey(VfsDriver):
    async def fill(self, directory: Path, parents: Sequence[Path], info: SnapshotInfo) -> None:
        try:
            await super().fill(directory, parents, info)
        except BoxwoodError:
            self._remember(info)
            raise


@planted("an_error_at_any_call[remove]")
class PlainErrors(VfsDriver):
    def _rename(self, source: Path, target: Path, operation: str) -> None:
        source.rename(target)


class _Mutated(StorageSuite):
    """The kit on one of them."""

    __test__ = False
    mutant: ClassVar[type[Any]]
    law: ClassVar[str]

    def make(self, root: Path) -> StorageDriver:
        driver: StorageDriver = self.mutant(root)
        driver.offload = plain_offload
        driver.mounter = engine_mounter
        return driver

    @pytest.fixture
    def thorough(self) -> bool:
        return "any_call" in self.law

    @pytest.fixture(autouse=True)
    def _unmounted(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setattr(Remains, "settle_seconds", 0.5)
        yield
        place = root / "trash" / "seen"
        while os.path.ismount(place):
            mount.umount2(place, mount.MNT_DETACH)
        for name in os.listdir("/proc/self/fd"):
            link = Path("/proc/self/fd", name)
            if link.is_symlink() and os.readlink(link) == str(root):
                os.close(int(name))


for _name, (_driver, _law) in MUTANTS.items():
    globals()[f"Test{_name}"] = type(
        f"Test{_name}", (_Mutated,), {"__test__": True, "mutant": _driver, "law": _law}
    )
