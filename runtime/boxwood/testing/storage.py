"""The conformance kit of storage drivers: what :mod:`boxwood.drivers.storage` promises, as tests.

Run it against any installed driver, as root::

    pytest --boxwood-storage=NAME --pyargs boxwood.testing.storage

or make a class of your own from :class:`StorageSuite`. Tests ask a driver's capabilities, never
its name. The kit mounts what the driver says, in directories of its own, and unmounts it.
"""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from boxwood.drivers import manager
from boxwood.drivers.storage import (
    ID_MAP,
    QUOTA,
    IdMap,
    Kind,
    Mount,
    SnapshotOptions,
    StorageDriver,
)
from boxwood.errors import AlreadyExists, Conflict, InvalidArgument, NotFound, Unsupported
from boxwood_ext import mount, tar

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of the driver to its end."""
    return asyncio.run(work)


async def plain_offload(
    job: str, arguments: Mapping[str, Any], fds: Sequence[int]
) -> dict[str, Any]:
    """Do the jobs that a driver may ask for in the slowest and plainest way."""
    if job == "remove_tree":
        return {"removed": tar.remove_tree(fds[0], arguments["name"])}
    if job == "tree_usage":
        files = [Path(at, name) for at, _, names in os.walk(_path(fds[0])) for name in names]
        return {"bytes": sum(file.lstat().st_size for file in files), "inodes": len(files)}
    if job == "copy_tree":
        command = ["cp", "-a", "--reflink=auto", f"{_path(fds[0])}/.", f"{_path(fds[1])}/"]
        subprocess.run(command, check=True)  # noqa: ASYNC221 - a kit may wait
        return {"entries": 0}
    raise NotImplementedError(job)


def _path(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


@contextmanager
def mounted(mounts: Sequence[Mount], place: Path) -> Iterator[Path]:
    """Mount what a driver said at ``place`` and unmount it in the end."""
    place.mkdir(exist_ok=True)
    wanted = mounts[0]
    read_only = "ro" in wanted.options
    if wanted.type == "bind":
        fd = mount.open_tree(mount.AT_FDCWD, wanted.source, mount.OPEN_TREE_CLONE)
        if read_only:
            mount.mount_setattr(fd, "", mount.AT_EMPTY_PATH, attr_set=mount.MOUNT_ATTR_RDONLY)
    else:
        fd = _file_system(wanted, read_only)
    try:
        mount.move_mount(fd, "", mount.AT_FDCWD, place, mount.MOVE_MOUNT_F_EMPTY_PATH)
    finally:
        os.close(fd)
    try:
        yield place
    finally:
        mount.umount2(place)


def _file_system(wanted: Mount, read_only: bool) -> int:
    context = mount.fsopen(wanted.type)
    try:
        mount.fsconfig_string(context, "source", wanted.source)
        for option in wanted.options:
            key, equals, value = option.partition("=")
            if equals:
                mount.fsconfig_string(context, key, value)
            elif option not in ("ro", "rw"):
                mount.fsconfig_flag(context, key)
        mount.fsconfig_create(context)
        return mount.fsmount(context, mount.MOUNT_ATTR_RDONLY if read_only else 0)
    finally:
        os.close(context)


class StorageSuite:
    """What every storage driver does. A subclass names the driver."""

    driver_name: ClassVar[str] = ""
    driver_options: ClassVar[Mapping[str, str]] = {}

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        """The driver's root; override it to use a file system of yours."""
        return tmp_path / "root"

    def make(self, root: Path) -> StorageDriver:
        """Make the driver, as the engine would after a start."""
        driver = manager.select(
            "storage", self.driver_name, root=root, options=dict(self.driver_options)
        )
        assert isinstance(driver, StorageDriver)
        driver.offload = plain_offload
        return driver

    @pytest.fixture
    def driver(self, root: Path) -> StorageDriver:
        """A fresh driver."""
        return self.make(root)

    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        """Where the kit mounts."""
        return tmp_path / "mnt"

    def layer(self, driver: StorageDriver, place: Path, name: str, parent: str | None) -> None:
        """Commit a snapshot ``name`` that holds a file of that name and a shared one."""
        with mounted(run(driver.prepare(f"{name}-new", parent)), place) as tree:
            (tree / name).write_text(name)
            (tree / "shared").write_text(name)
        run(driver.commit(f"{name}-new", name))

    # Life

    def test_empty_snapshot_is_writable(self, driver: StorageDriver, place: Path) -> None:
        """An active snapshot without a parent starts empty and keeps what is written."""
        with mounted(run(driver.prepare("a", None)), place) as tree:
            assert list(tree.iterdir()) == []
            (tree / "file").write_text("kept")
        with mounted(driver.mounts("a"), place) as tree:
            assert (tree / "file").read_text() == "kept"

    def test_children_see_and_cover_their_parents(self, driver: StorageDriver, place: Path) -> None:
        """Files of all parents are there; the nearest wins."""
        self.layer(driver, place, "one", None)
        self.layer(driver, place, "two", "one")
        with mounted(run(driver.prepare("c", "two")), place) as tree:
            assert sorted(entry.name for entry in tree.iterdir()) == ["one", "shared", "two"]
            assert (tree / "shared").read_text() == "two"

    def test_parents_do_not_change(self, driver: StorageDriver, place: Path) -> None:
        """Writing, deleting and changing modes in a child leaves its parent as it was."""
        self.layer(driver, place, "one", None)
        with mounted(run(driver.prepare("a", "one")), place) as tree:
            (tree / "one").unlink()
            (tree / "shared").write_text("changed")
            (tree / "shared").chmod(0o600)
        with mounted(run(driver.prepare("b", "one")), place) as tree:
            assert (tree / "one").read_text() == "one"
            assert (tree / "shared").read_text() == "one"
            assert stat.S_IMODE((tree / "shared").stat().st_mode) == 0o644

    def test_deletions_are_committed(self, driver: StorageDriver, place: Path) -> None:
        """What a layer deletes is gone for its children, also when it comes back as another."""
        with mounted(run(driver.prepare("n", None)), place) as tree:
            (tree / "dir").mkdir()
            (tree / "dir/old").write_text("old")
            (tree / "file").write_text("file")
        run(driver.commit("n", "one"))
        with mounted(run(driver.prepare("n", "one")), place) as tree:
            (tree / "dir/old").unlink()
            (tree / "dir").rmdir()
            (tree / "dir").mkdir()
            (tree / "file").unlink()
            (tree / "file").mkdir()
        run(driver.commit("n", "two"))
        with mounted(run(driver.prepare("c", "two")), place) as tree:
            assert list((tree / "dir").iterdir()) == []
            assert (tree / "file").is_dir()

    def test_metadata_is_kept(self, driver: StorageDriver, place: Path) -> None:
        """Owners, modes, times, links, pipes, sparse files and hard links survive a commit."""
        with mounted(run(driver.prepare("n", None)), place) as tree:
            file = tree / "file"
            file.write_text("x")
            os.chown(file, 12345, 54321)
            file.chmod(0o4751)
            os.utime(file, ns=(1_000_000_001, 1_234_567_890_123_456_789))
            os.link(file, tree / "hard")
            (tree / "soft").symlink_to("/nowhere")
            os.mkfifo(tree / "pipe", 0o640)
            (tree / "dir").mkdir(mode=0o1700)
        run(driver.commit("n", "one"))
        with mounted(run(driver.prepare("c", "one")), place) as tree:
            status = (tree / "file").stat()
            assert (status.st_uid, status.st_gid) == (12345, 54321)
            assert stat.S_IMODE(status.st_mode) == 0o4751
            assert status.st_mtime_ns == 1_234_567_890_123_456_789
            assert (tree / "hard").stat().st_ino == status.st_ino
            assert os.readlink(tree / "soft") == "/nowhere"
            assert stat.S_ISFIFO((tree / "pipe").stat().st_mode)
            assert stat.S_IMODE((tree / "dir").stat().st_mode) == 0o1700

    def test_a_view_is_read_only(self, driver: StorageDriver, place: Path) -> None:
        """A view shows its parent and takes no writes."""
        self.layer(driver, place, "one", None)
        self.layer(driver, place, "two", "one")
        for parent in ("one", "two"):
            with mounted(run(driver.view(f"v-{parent}", parent)), place) as tree:
                assert (tree / "shared").read_text() == parent
                with pytest.raises(OSError, match="Read-only"):
                    (tree / "new").write_text("no")

    def test_many_parents(self, driver: StorageDriver, place: Path) -> None:
        """A chain of twenty layers works as one of two."""
        parent: str | None = None
        for number in range(20):
            self.layer(driver, place, f"layer-{number}", parent)
            parent = f"layer-{number}"
        with mounted(run(driver.prepare("c", parent)), place) as tree:
            assert (tree / "layer-0").read_text() == "layer-0"
            assert (tree / "shared").read_text() == "layer-19"

    def test_unpack_target(self, driver: StorageDriver, place: Path) -> None:
        """What is put where the driver says is what a mount shows."""
        run(driver.prepare("n", None))
        target = driver.unpack_target("n")
        if target is None:
            pytest.skip("layers are unpacked by a mount")
        (target.path / "put").write_text("put")
        run(driver.commit("n", "one"))
        with mounted(run(driver.prepare("c", "one")), place) as tree:
            assert (tree / "put").read_text() == "put"

    # Keys and errors

    def test_stat_and_walk(self, driver: StorageDriver, place: Path) -> None:
        """Kinds, parents and labels are told."""
        self.layer(driver, place, "one", None)
        run(driver.prepare("c", "one", labels={"a": "b"}))
        run(driver.view("v", "one"))
        info = driver.stat("c")
        assert (info.kind, info.parent, info.labels) == (Kind.ACTIVE, "one", {"a": "b"})
        assert info.created > 0
        kinds = {entry.key: entry.kind for entry in driver.walk()}
        assert kinds == {"one": Kind.COMMITTED, "c": Kind.ACTIVE, "v": Kind.VIEW}

    def test_unknown_keys(self, driver: StorageDriver) -> None:
        """Nobody finds what is not there."""
        for call in (driver.stat, driver.remove, driver.mounts):
            with pytest.raises(NotFound):
                call("nothing")
        with pytest.raises(NotFound):
            run(driver.commit("nothing", "name"))
        with pytest.raises(NotFound):
            run(driver.usage("nothing"))
        with pytest.raises(NotFound):
            run(driver.prepare("a", "nothing"))
        assert list(driver.walk()) == []

    @pytest.mark.parametrize("key", ["", "../up", "a/b", ".hidden", "a:b", "a\n", "x" * 201])
    def test_wrong_keys(self, driver: StorageDriver, key: str) -> None:
        """A key that could be a path is refused."""
        with pytest.raises(InvalidArgument):
            run(driver.prepare(key, None))

    def test_keys_are_unique(self, driver: StorageDriver, place: Path) -> None:
        """A key is taken once, whatever the kind."""
        self.layer(driver, place, "one", None)
        run(driver.prepare("c", None))
        for key in ("one", "c"):
            with pytest.raises(AlreadyExists):
                run(driver.prepare(key, None))
            with pytest.raises(AlreadyExists):
                run(driver.view(key, "one"))
        with pytest.raises(AlreadyExists):
            run(driver.commit("c", "one"))
        assert driver.stat("c").kind is Kind.ACTIVE

    def test_only_committed_ones_are_parents(self, driver: StorageDriver) -> None:
        """An active snapshot cannot be built on."""
        run(driver.prepare("c", None))
        with pytest.raises(InvalidArgument):
            run(driver.prepare("d", "c"))

    def test_states(self, driver: StorageDriver, place: Path) -> None:
        """A committed snapshot is neither mounted nor committed again; a view never."""
        self.layer(driver, place, "one", None)
        run(driver.view("v", "one"))
        with pytest.raises(Conflict):
            driver.mounts("one")
        for key in ("one", "v"):
            with pytest.raises(Conflict):
                run(driver.commit(key, "other"))

    def test_removal(self, driver: StorageDriver, place: Path) -> None:
        """Children keep their parents; a removed key is free again and its files are gone."""
        self.layer(driver, place, "one", None)
        self.layer(driver, place, "two", "one")
        with pytest.raises(Conflict):
            driver.remove("one")
        driver.remove("two")
        driver.remove("one")
        assert list(driver.walk()) == []
        assert run(driver.cleanup()) >= 0
        with mounted(run(driver.prepare("one", None)), place) as tree:
            assert list(tree.iterdir()) == []

    def test_options_that_are_not_declared_are_refused(self, driver: StorageDriver) -> None:
        """Nothing that was asked for is silently left out."""
        asked = {
            QUOTA: SnapshotOptions(size_limit=1 << 20),
            ID_MAP: SnapshotOptions(id_map=(IdMap(0, 100000, 65536),)),
        }
        for capability, options in asked.items():
            if capability in driver.capabilities:
                continue
            with pytest.raises(Unsupported):
                run(driver.prepare("c", None, options=options))
            with pytest.raises(NotFound):
                driver.stat("c")

    def test_volatile(self, driver: StorageDriver, place: Path) -> None:
        """A volatile snapshot can be mounted again and again."""
        options = SnapshotOptions(volatile=True)
        self.layer(driver, place, "one", None)
        with mounted(run(driver.prepare("c", "one", options=options)), place) as tree:
            (tree / "file").write_text("kept")
        for _ in range(2):
            with mounted(driver.mounts("c"), place) as tree:
                assert (tree / "file").read_text() == "kept"

    def test_usage(self, driver: StorageDriver, place: Path) -> None:
        """What was written is counted."""
        with mounted(run(driver.prepare("c", None)), place) as tree:
            (tree / "file").write_bytes(b"x" * 100_000)
        usage = run(driver.usage("c"))
        assert usage.bytes >= 100_000
        assert usage.inodes >= 1

    # Crashes

    def test_a_restart_finds_all(self, root: Path, driver: StorageDriver, place: Path) -> None:
        """Another instance on the same root knows the same snapshots, and their content."""
        self.layer(driver, place, "one", None)
        run(driver.prepare("c", "one", labels={"a": "b"}))
        before = sorted(driver.walk(), key=lambda info: info.key)
        again = self.make(root)
        assert sorted(again.walk(), key=lambda info: info.key) == before
        with pytest.raises(Conflict):
            again.remove("one")
        with mounted(again.mounts("c"), place) as tree:
            assert (tree / "one").read_text() == "one"

    def test_a_failure_leaves_nothing(self, driver: StorageDriver) -> None:
        """What could not be made is not there, its key is free, its parent can be removed."""

        async def broken(job: str, *_: Any) -> dict[str, Any]:
            raise InvalidArgument(job)

        run(driver.prepare("n", None))
        run(driver.commit("n", "one"))
        driver.offload = broken
        try:
            run(driver.prepare("c", "one"))
        except InvalidArgument:
            with pytest.raises(NotFound):
                driver.stat("c")
        else:
            driver.remove("c")
        driver.offload = plain_offload
        driver.remove("one")
        run(driver.cleanup())
        assert list(driver.walk()) == []


class TestStorage(StorageSuite):
    """The driver that ``--boxwood-storage`` names."""

    @pytest.fixture(autouse=True)
    def _named(self, request: pytest.FixtureRequest) -> None:
        name = request.config.getoption("--boxwood-storage", default="")
        if not name:
            pytest.skip("no --boxwood-storage=NAME given")
        options = request.config.getoption("--boxwood-storage-opt")
        type(self).driver_name = name
        type(self).driver_options = dict(option.partition("=")[::2] for option in options)
