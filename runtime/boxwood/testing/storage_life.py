"""Laws of a snapshot's life, of keys and of what a tree keeps."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from boxwood.drivers.storage import MOUNTS_ONLY, Kind, StorageDriver
from boxwood.errors import (
    AlreadyExists,
    Conflict,
    InvalidArgument,
    NotFound,
    Unsupported,
)
from boxwood.testing.storage_kit import StorageKit, mounted, plain_offload, run, shown

_DEEPEST = 600
"""Layers that are stacked at most, by `--boxwood-thorough`: overlay takes 500."""
_SHALLOWEST = 100
"""Layers that every driver takes: images have up to some 125."""


class LifeLaws(StorageKit):
    """Life, parents, views and commits."""

    def test_empty_snapshot_is_writable(self, driver: StorageDriver) -> None:
        """An active snapshot without a parent starts empty and keeps what is written."""
        run(driver.prepare("a", None))
        with shown(driver, "a") as tree:
            assert list(tree.iterdir()) == []
            assert stat.S_IMODE(tree.stat().st_mode) == 0o755
            (tree / "file").write_text("kept")
        with shown(driver, "a") as tree:
            assert (tree / "file").read_text() == "kept"

    def test_children_see_and_cover_their_parents(self, driver: StorageDriver) -> None:
        """Files of all parents are there; the nearest wins."""
        self.layer(driver, "one", None)
        self.layer(driver, "two", "one")
        run(driver.prepare("c", "two"))
        with shown(driver, "c") as tree:
            assert sorted(entry.name for entry in tree.iterdir()) == ["one", "shared", "two"]
            assert (tree / "shared").read_text() == "two"

    def test_parents_do_not_change(self, driver: StorageDriver) -> None:
        """Whatever a child writes, deletes or changes leaves its parent as it was."""
        self.layer(driver, "one", None)
        run(driver.prepare("a", "one"))
        with shown(driver, "a") as tree:
            (tree / "one").unlink()
            # In place: a copy that shares the parent's file would show it here.
            with (tree / "shared").open("r+") as file:
                file.write("XYZ")
            (tree / "shared").chmod(0o600)
            os.chown(tree / "shared", 77, 77)
        run(driver.prepare("b", "one"))
        for key in ("one", "b"):
            with shown(driver, key) as tree:
                assert (tree / "one").read_text() == "one"
                assert (tree / "shared").read_text() == "one"
                status = (tree / "shared").stat()
                assert stat.S_IMODE(status.st_mode) == 0o644
                assert status.st_uid == 0

    def test_siblings_are_apart(self, driver: StorageDriver) -> None:
        """Two snapshots of one parent do not see what the other writes."""
        self.layer(driver, "one", None)
        run(driver.prepare("a", "one"))
        run(driver.prepare("b", "one"))
        with shown(driver, "a") as first, shown(driver, "b") as second:
            (first / "shared").write_text("first")
            (first / "own").write_text("first")
            (second / "shared").write_text("second")
            assert (first / "shared").read_text() == "first"
            assert not (second / "own").exists()

    def test_a_view_is_read_only(self, driver: StorageDriver) -> None:
        """A view shows its parent and takes no writes."""
        self.layer(driver, "one", None)
        self.layer(driver, "two", "one")
        for parent in ("one", "two"):
            run(driver.view(f"v-{parent}", parent))
            with shown(driver, f"v-{parent}") as tree:
                assert (tree / "shared").read_text() == parent
                with pytest.raises(OSError, match="Read-only"):
                    (tree / "new").write_text("no")
                with pytest.raises(OSError, match="Read-only"):
                    (tree / "shared").chmod(0o600)

    def test_an_empty_view(self, driver: StorageDriver) -> None:
        """A view of nothing is an empty tree."""
        run(driver.view("v", None))
        with shown(driver, "v") as tree:
            assert list(tree.iterdir()) == []
            with pytest.raises(OSError, match="Read-only"):
                (tree / "new").write_text("no")

    def test_many_parents(self, driver: StorageDriver, thorough: bool) -> None:
        """A chain of twenty layers works as one of two; of as many as the driver takes, too."""
        layers: list[str] = []
        for number in range(_DEEPEST if thorough else 20):
            try:
                self.layer(driver, f"layer-{number}", layers[-1] if layers else None)
            except Unsupported:
                break  # it says so when the snapshot is made, and not by a mount that fails
            layers.append(f"layer-{number}")
        try:
            run(driver.prepare("c", layers[-1]))
        except Unsupported:
            layers.pop()
            run(driver.prepare("c", layers[-1]))
        assert len(layers) >= (_SHALLOWEST if thorough else 20)
        with shown(driver, "c") as tree:
            assert (tree / "layer-0").read_text() == "layer-0"
            assert (tree / "shared").read_text() == layers[-1]
            assert len(list(tree.iterdir())) == len(layers) + 1

    def test_a_tree_outlives_its_mount(self, driver: StorageDriver) -> None:
        """Each opening is by itself, and what is written through one is there in the next."""
        self.layer(driver, "one", None)
        run(driver.prepare("c", "one"))
        for number in range(3):
            with shown(driver, "c") as tree:
                (tree / f"file-{number}").write_text("kept")
                assert len(list(tree.glob("file-*"))) == number + 1

    def test_committed_trees_are_opened_by_views(self, driver: StorageDriver) -> None:
        """``opened`` shows any snapshot and leaves none behind."""
        self.layer(driver, "one", None)
        run(driver.prepare("c", "one"))

        async def names(key: str) -> list[str]:
            async with driver.opened(key) as fd:
                return sorted(os.listdir(f"/proc/self/fd/{fd}"))

        for key in ("one", "c"):
            assert run(names(key)) == ["one", "shared"]
        assert sorted(info.key for info in driver.walk()) == ["c", "one"]

    def test_the_trash_is_emptied_by_many(self, driver: StorageDriver) -> None:
        """Removals go on while it is emptied, and so may other emptyings."""
        self.layer(driver, "one", None)

        async def one(number: int) -> None:
            key = f"c-{number}"
            await driver.prepare(key, "one")
            driver.remove(key)
            await driver.cleanup()

        async def many() -> None:
            await asyncio.gather(*(one(number) for number in range(16)))
            await driver.cleanup()

        run(many())
        assert [info.key for info in driver.walk()] == ["one"]

    def test_it_is_read_while_it_is_mounted(self, driver: StorageDriver) -> None:
        """``opened`` of a snapshot that somebody has mounted and changed shows the changes."""
        with self.change(driver, "one", None) as tree:
            (tree / "folder").mkdir()
            (tree / "folder/below").touch()
            (tree / "gone").touch()
        run(driver.prepare("c", "one"))

        async def look() -> tuple[list[str], list[str]]:
            async with driver.opened("c") as fd:
                root = Path(f"/proc/self/fd/{fd}")
                return sorted(os.listdir(root)), sorted(os.listdir(root / "folder"))

        with shown(driver, "c") as tree:
            (tree / "gone").unlink()
            (tree / "folder/below").unlink()
            (tree / "folder").rmdir()
            (tree / "folder").mkdir()
            (tree / "folder/above").touch()
            assert run(look()) == (["folder"], ["above"])
            (tree / "later").touch()
            assert run(look()) == (["folder", "later"], ["above"])
        assert run(look()) == (["folder", "later"], ["above"])

    def test_what_is_mounted_is_what_is_opened(self, driver: StorageDriver, place: Path) -> None:
        """A driver that only says what to mount says the same each time."""
        self.layer(driver, "one", None)
        said = run(driver.prepare("c", "one"))
        if MOUNTS_ONLY not in driver.capabilities:
            return
        with mounted(said, place) as tree:
            (tree / "file").write_text("kept")
        with mounted(driver.mounts("c"), place) as tree:
            assert (tree / "file").read_text() == "kept"
        with shown(driver, "c") as tree:
            assert (tree / "file").read_text() == "kept"

    def test_usage(self, driver: StorageDriver) -> None:
        """What was written is counted, and what is not written is not."""
        with self.change(driver, "one", None) as tree:
            (tree / "big").write_bytes(os.urandom(400_000))
        run(driver.prepare("c", "one"))
        before = run(driver.usage("c"))
        with shown(driver, "c") as tree:
            for number in range(5):
                (tree / f"file-{number}").write_bytes(os.urandom(20_000))
            os.sync()
        after = run(driver.usage("c"))
        assert after.bytes >= before.bytes + 100_000
        assert after.inodes >= before.inodes + 5
        assert run(driver.usage("one")).bytes >= 400_000


class KeyLaws(StorageKit):
    """Keys, states, errors and restarts."""

    def test_stat_and_walk(self, driver: StorageDriver) -> None:
        """Kinds, parents and labels are told."""
        self.layer(driver, "one", None)
        run(driver.prepare("c", "one", labels={"a": "b"}))
        run(driver.view("v", "one", labels={"c": "d"}))
        info = driver.stat("c")
        assert (info.kind, info.parent, info.labels) == (Kind.ACTIVE, "one", {"a": "b"})
        assert info.created > 0
        assert driver.stat("v").labels == {"c": "d"}
        kinds = {entry.key: entry.kind for entry in driver.walk()}
        assert kinds == {"one": Kind.COMMITTED, "c": Kind.ACTIVE, "v": Kind.VIEW}

    def test_walk_is_safe_against_changes(self, driver: StorageDriver) -> None:
        """Snapshots may come and go while somebody walks."""
        for key in ("a", "b", "c"):
            run(driver.prepare(key, None))
        walked = driver.walk()
        next(walked)
        for key in ("a", "b", "c"):
            driver.remove(key)
        run(driver.prepare("d", None))
        assert len(list(walked)) <= 3

    def test_commit_keeps_labels_and_parent(self, driver: StorageDriver) -> None:
        """What is known of a snapshot stays known when it is committed; its old key is gone."""
        self.layer(driver, "one", None)
        run(driver.prepare("c", "one", labels={"a": "b"}))
        run(driver.commit("c", "two"))
        info = driver.stat("two")
        assert (info.kind, info.parent, info.labels) == (Kind.COMMITTED, "one", {"a": "b"})
        with pytest.raises(NotFound):
            driver.stat("c")
        run(driver.prepare("c", "two"))
        with pytest.raises(Conflict):
            driver.remove("one")

    def test_unknown_keys(self, driver: StorageDriver) -> None:
        """Nobody finds what is not there."""
        for call in (driver.stat, driver.remove, driver.mounts, driver.branch):
            with pytest.raises(NotFound):
                call("nothing")
        with pytest.raises(NotFound):
            run(driver.commit("nothing", "name"))
        for ask in (driver.usage, driver.open_root):
            with pytest.raises(NotFound):
                run(ask("nothing"))
        for make in (driver.prepare, driver.view):
            with pytest.raises(NotFound):
                run(make("a", "nothing"))
        assert list(driver.walk()) == []

    @pytest.mark.parametrize("key", ["", "../up", "a/b", ".hidden", "a:b", "a\n", "x" * 201])
    def test_wrong_keys(self, driver: StorageDriver, key: str) -> None:
        """A key that could be a path is refused, a name to commit as too."""
        with pytest.raises(InvalidArgument):
            run(driver.prepare(key, None))
        with pytest.raises(InvalidArgument):
            run(driver.view(key, None))
        run(driver.prepare("c", None))
        with pytest.raises(InvalidArgument):
            run(driver.commit("c", key))
        assert driver.stat("c").kind is Kind.ACTIVE

    def test_long_keys(self, driver: StorageDriver) -> None:
        """Keys of two hundred characters are as good as short ones."""
        first, second = "a" * 200, "Z_.-9" * 40
        run(driver.prepare(first, None))
        run(driver.commit(first, second))
        run(driver.prepare(first, second))
        driver.remove(first)
        driver.remove(second)
        run(driver.cleanup())

    def test_keys_are_unique(self, driver: StorageDriver) -> None:
        """A key is taken once, whatever the kind."""
        self.layer(driver, "one", None)
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
        """Neither an active snapshot nor a view can be built on."""
        run(driver.prepare("c", None))
        run(driver.view("v", None))
        for parent in ("c", "v"):
            for make in (driver.prepare, driver.view):
                with pytest.raises(InvalidArgument):
                    run(make("d", parent))

    def test_states(self, driver: StorageDriver) -> None:
        """A committed snapshot is neither mounted nor committed again; a view never."""
        self.layer(driver, "one", None)
        run(driver.view("v", "one"))
        with pytest.raises(Conflict):
            driver.mounts("one")
        with pytest.raises(Conflict):
            run(driver.open_root("one"))
        for key in ("one", "v"):
            with pytest.raises(Conflict):
                run(driver.commit(key, "other"))

    def test_removal(self, driver: StorageDriver) -> None:
        """Children keep their parents; a removed key is free again and its files are gone."""
        self.layer(driver, "one", None)
        self.layer(driver, "two", "one")
        run(driver.view("v", "two"))
        for parent in ("one", "two"):
            with pytest.raises(Conflict):
                driver.remove(parent)
        with shown(driver, "v") as tree:
            assert (tree / "one").read_text() == "one"
        for key in ("v", "two", "one"):
            driver.remove(key)
            with pytest.raises(NotFound):
                driver.remove(key)
        assert list(driver.walk()) == []
        assert run(driver.cleanup()) >= 0
        run(driver.prepare("one", None))
        with shown(driver, "one") as tree:
            assert list(tree.iterdir()) == []

    def test_cleanup_takes_the_trash_alone(self, root: Path, driver: StorageDriver) -> None:
        """Room comes back; what has a key stays; a second time there is nothing to do."""
        self.layer(driver, "one", None)
        run(driver.prepare("c", "one"))
        with shown(driver, "c") as tree:
            (tree / "kept").write_text("kept")
        run(driver.prepare("gone", "one"))
        with shown(driver, "gone") as tree:
            (tree / "needle-in-the-trash").write_text("x")
        driver.remove("gone")
        run(driver.cleanup())
        assert run(driver.cleanup()) == 0
        assert not list(root.rglob("needle-in-the-trash"))
        with shown(driver, "c") as tree:
            assert (tree / "kept").read_text() == "kept"
            assert (tree / "one").read_text() == "one"

    def test_removal_of_a_parent_that_is_being_used(self, driver: StorageDriver) -> None:
        """A snapshot that is just being made has its parent already."""
        self.layer(driver, "one", None)

        async def both() -> None:
            making = asyncio.create_task(driver.prepare("c", "one"))
            for _ in range(3):
                await asyncio.sleep(0)
                if not making.done():
                    with pytest.raises(Conflict):
                        driver.remove("one")
            await making

        run(both())
        with shown(driver, "c") as tree:
            assert (tree / "one").read_text() == "one"

    def test_many_at_once(self, driver: StorageDriver) -> None:
        """Snapshots are made side by side, each whole, and of one key one only."""
        self.layer(driver, "one", None)

        async def all_of_them() -> list[Any]:
            keys = [*(f"c-{number}" for number in range(12)), "same", "same", "same"]
            making = [driver.prepare(key, "one") for key in keys]
            return await asyncio.gather(*making, return_exceptions=True)

        failed = [found for found in run(all_of_them()) if isinstance(found, BaseException)]
        assert [type(error) for error in failed] == [AlreadyExists] * 2
        assert len(list(driver.walk())) == 14
        for info in tuple(driver.walk()):
            with shown(driver, info.key) as tree:
                assert (tree / "shared").read_text() == "one", info.key

    def test_a_restart_finds_all(self, root: Path, driver: StorageDriver) -> None:
        """Another instance on the same root knows the same snapshots, and their content."""
        self.layer(driver, "one", None)
        run(driver.prepare("c", "one", labels={"a": "b"}))
        run(driver.view("v", "one"))
        before = sorted(driver.walk(), key=lambda info: info.key)
        again = self.make(root)
        assert sorted(again.walk(), key=lambda info: info.key) == before
        with pytest.raises(Conflict):
            again.remove("one")
        with shown(again, "c") as tree:
            assert (tree / "one").read_text() == "one"

    def test_a_failure_leaves_nothing(self, driver: StorageDriver) -> None:
        """What could not be made is not there, its key is free, its parent can be removed."""

        async def broken(job: str, *_: Any) -> dict[str, Any]:
            raise InvalidArgument(job)

        self.layer(driver, "one", None)
        driver.offload = broken
        try:
            run(driver.prepare("c", "one"))
        except InvalidArgument:
            with pytest.raises(NotFound):
                driver.stat("c")
        else:
            driver.remove("c")
        driver.offload = plain_offload
        run(driver.prepare("c", "one"))
        driver.remove("c")
        driver.remove("one")
        run(driver.cleanup())
        assert list(driver.walk()) == []

    def test_a_driver_without_mounts_says_so(self, driver: StorageDriver) -> None:
        """``mounts`` gives what is to be mounted, or is not there at all."""
        run(driver.prepare("c", None))
        if MOUNTS_ONLY in driver.capabilities:
            assert driver.mounts("c")
            return
        try:
            assert driver.mounts("c")
        except Unsupported:
            return
