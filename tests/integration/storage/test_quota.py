"""A size for a container on overlay: project quotas of xfs, where the kernel has them.

This machine's kernel may not; then it is tested that it is refused, and the second machine runs
the rest (``test_second_machine.py``).
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxwood.drivers.storage import QUOTA, SnapshotOptions, StorageDriver
from boxwood.errors import Unsupported
from boxwood_plugins.storage import _project_quota as quota
from tests.integration.storage.served import layer, make, opened, run
from tests.support.loops import unmount
from tests.support.needs import need_program, need_root

MB = 1 << 20


@pytest.fixture
def xfs(tmp_path: Path) -> Iterator[Path]:
    """A fresh xfs with project quotas."""
    need_root()
    disk, place = tmp_path / "disk", tmp_path / "xfs"
    with disk.open("wb") as file:
        file.truncate(320 * MB)
    subprocess.run([need_program("mkfs.xfs"), "-q", disk], check=True)
    place.mkdir()
    command: list[str | Path] = ["mount", "-o", "loop,prjquota", disk, place]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this kernel's xfs has no quotas: {done.stderr.strip()}")
    yield place
    unmount(place)


@pytest.fixture
def driver(xfs: Path) -> StorageDriver:
    return make("overlay", xfs / "root")


def nothing(tree: Path) -> None:
    """An empty layer."""


def big(tree: Path) -> None:
    (tree / "big").write_bytes(b"y" * 8 * MB)


def filled(path: Path, size: int) -> int:
    """Write until there is no more room; return the bytes that went in."""
    done = 0
    with path.open("wb", buffering=0) as file:
        while done < size:
            try:
                done += file.write(b"x" * MB)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                break
    return done


def in_use(driver: StorageDriver, key: str, size: int) -> int:
    with opened(driver, key) as tree:
        return filled(tree / "file", size)


def test_a_size(driver: StorageDriver) -> None:
    """It holds for what is written, copied up too, and for nobody else."""
    assert QUOTA in driver.capabilities
    layer(driver, "one", None, big)
    run(driver.prepare("c", "one", options=SnapshotOptions(size_limit=10 * MB)))
    run(driver.prepare("d", "one"))
    with opened(driver, "c") as tree:
        assert 8 * MB <= filled(tree / "file", 20 * MB) <= 10 * MB
        with pytest.raises(OSError, match=r"No space|quota"):
            (tree / "big").open("ab").close()
        status = os.statvfs(tree)
        assert status.f_blocks * status.f_frsize == 10 * MB, "df shows the limit"
        (tree / "file").unlink()
        (tree / "big").chmod(0o600)
        (tree / "dir").mkdir()
        (tree / "big").rename(tree / "dir/big")
    assert in_use(driver, "d", 20 * MB) == 20 * MB


def test_each_its_own(driver: StorageDriver) -> None:
    """Two containers have two limits, also those of another start of the engine."""
    layer(driver, "one", None, nothing)
    run(driver.prepare("a", "one", options=SnapshotOptions(size_limit=4 * MB)))
    again = make("overlay", driver.root)  # type: ignore[attr-defined]
    run(again.prepare("b", "one", options=SnapshotOptions(size_limit=8 * MB)))
    assert in_use(again, "a", 20 * MB) <= 4 * MB
    assert 6 * MB <= in_use(again, "b", 20 * MB) <= 8 * MB


def test_a_committed_one_has_no_limit(driver: StorageDriver) -> None:
    layer(driver, "one", None, nothing)
    run(driver.prepare("a", "one", options=SnapshotOptions(size_limit=4 * MB)))
    assert in_use(driver, "a", 20 * MB) <= 4 * MB
    run(driver.commit("a", "two"))
    run(driver.prepare("b", "two"))
    assert in_use(driver, "b", 20 * MB) == 20 * MB


def test_a_removed_one_leaves_no_limit(driver: StorageDriver, xfs: Path) -> None:
    layer(driver, "one", None, nothing)
    run(driver.prepare("a", "one", options=SnapshotOptions(size_limit=4 * MB)))
    project = quota.project_of(xfs / "root/active/a/fs")
    assert project > quota.FIRST_PROJECT
    driver.remove("a")
    run(driver.cleanup())
    said = subprocess.run(
        [need_program("xfs_quota"), "-x", "-c", "report -p -n -N", xfs],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert not [line for line in said.splitlines() if line.split()[:1] == [f"#{project}"]]


def test_elsewhere_it_is_refused(tmp_path: Path) -> None:
    """In one sentence, and nothing is made."""
    need_root()
    for name in ("overlay", "fuse-overlayfs", "aufs"):
        driver = make(name, tmp_path / name)
        if QUOTA in driver.capabilities:
            continue
        with pytest.raises(Unsupported, match=f"storage driver {name}: quota: not supported"):
            run(driver.prepare("c", None, options=SnapshotOptions(size_limit=MB)))
        assert list(driver.walk()) == []
