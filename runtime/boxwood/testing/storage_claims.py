"""Laws of capabilities: what is declared is done, what is not declared is refused."""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path

import pytest

from boxwood.drivers import storage
from boxwood.drivers.storage import (
    ID_MAP,
    QUOTA,
    SHARED_PARENT,
    IdMap,
    SnapshotOptions,
    StorageDriver,
)
from boxwood.errors import NotFound, Unsupported
from boxwood.testing import faults
from boxwood.testing.storage_kit import StorageKit, run, shown

KNOWN = frozenset(
    {
        storage.MOUNTS_ONLY, storage.PARALLEL_APPLY, storage.VOLATILE, ID_MAP, QUOTA, SHARED_PARENT
    }
)  # fmt: skip
_BIG = 8 << 20
"""Bytes of a file that a parent shares, or that a limit refuses."""


class ClaimLaws(StorageKit):
    """Each capability, tried."""

    def test_capabilities_are_known_ones(self, driver: StorageDriver) -> None:
        """Nothing is declared that the contract does not know."""
        assert driver.capabilities <= KNOWN
        assert driver.name == self.driver_name or not self.driver_name

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

    def test_volatile(self, driver: StorageDriver) -> None:
        """A volatile snapshot can be opened again and again, and is committed like any."""
        options = SnapshotOptions(volatile=True)
        self.layer(driver, "one", None)
        run(driver.prepare("c", "one", options=options))
        for number in range(3):
            with shown(driver, "c") as tree:
                (tree / f"file-{number}").write_text("kept")
        assert driver.stat("c").options == options
        run(driver.commit("c", "two"))
        with shown(driver, "two") as tree:
            assert len(list(tree.glob("file-*"))) == 3

    def test_volatile_for_one_opening(self, driver: StorageDriver) -> None:
        """Each opening may be volatile or not."""
        self.layer(driver, "one", None)
        run(driver.prepare("c", "one"))
        for volatile in (True, False, True):
            fd = run(driver.open_root("c", volatile=volatile))
            try:
                assert sorted(os.listdir(f"/proc/self/fd/{fd}")) == ["one", "shared"]
            finally:
                os.close(fd)

    def test_quota(self, driver: StorageDriver) -> None:
        """A limit refuses what goes beyond it, in this snapshot alone, and survives a look."""
        if QUOTA not in driver.capabilities:
            return
        self.layer(driver, "one", None)
        options = SnapshotOptions(size_limit=_BIG // 2)
        run(driver.prepare("small", "one", options=options))
        run(driver.prepare("free", "one"))
        for _ in range(2):
            with shown(driver, "small") as tree:
                assert (tree / "shared").read_text() == "one"
                with pytest.raises(OSError, match=r"[Qq]uota|No space") as refused:
                    self._fill(tree / "big")
                assert refused.value.errno in (errno.ENOSPC, errno.EDQUOT)
                (tree / "big").unlink(missing_ok=True)
        with shown(driver, "free") as tree:
            self._fill(tree / "big")
        assert driver.stat("small").options == options

    def _fill(self, path: os.PathLike[str]) -> None:
        with open(path, "wb") as file:
            for _ in range(_BIG >> 16):
                file.write(os.urandom(1 << 16))
            file.flush()
            os.fsync(file.fileno())

    def test_id_map(self, driver: StorageDriver) -> None:
        """Files of the layers are shown as others'."""
        if ID_MAP not in driver.capabilities:
            return
        with self.change(driver, "one", None) as tree:
            (tree / "root").write_text("root's")
            (tree / "user").write_text("user's")
            os.chown(tree / "user", 1000, 1001)
        options = SnapshotOptions(id_map=(IdMap(0, 100_000, 65_536),))
        run(driver.prepare("c", "one", options=options))
        with shown(driver, "c") as tree:
            status = (tree / "root").stat()
            assert (status.st_uid, status.st_gid) == (100_000, 100_000)
            status = (tree / "user").stat()
            assert (status.st_uid, status.st_gid) == (101_000, 101_001)
            assert tree.stat().st_uid == 100_000
        with shown(driver, "one") as tree:
            assert (tree / "root").stat().st_uid == 0

    def test_shared_parent(self, driver: StorageDriver) -> None:
        """Who claims it: a snapshot of a big parent takes no room for what they share."""
        if SHARED_PARENT not in driver.capabilities:
            return
        with self.change(driver, "one", None) as tree:
            (tree / "big").write_bytes(os.urandom(_BIG))
        run(driver.prepare("c", "one"))
        assert run(driver.usage("c")).bytes < _BIG // 8

    def test_removal_is_quick(self, root: Path, driver: StorageDriver) -> None:
        """A tree of a thousand files goes by as few system calls as one of two: to the trash."""
        if not faults.supported():
            pytest.skip("calls are counted as root, on x86_64 or aarch64")
        with self.change(driver, "many", None) as tree:
            for number in range(1000):
                (tree / f"file-{number}").write_text("x")
        self.layer(driver, "few", None)

        def removed(key: str) -> str:
            self.make(root).remove(key)
            return "ok"

        outcomes = [faults.attempt(partial(removed, key)) for key in ("few", "many")]
        assert [outcome.words for outcome in outcomes] == ["ok", "ok"]
        few, many = (len(outcome.calls) for outcome in outcomes)
        assert many <= few + 10, f"{many} calls, {few} for two files"

    def test_describe(self, driver: StorageDriver) -> None:
        """What ``docker info`` shows are pairs of texts."""
        for key, value in driver.describe():
            assert isinstance(key, str)
            assert isinstance(value, str)
