"""The first-party storage drivers pass the kit that strangers' pass."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from boxwood.testing.storage import StorageSuite
from tests.support.loops import loop_fs
from tests.support.needs import need_program, need_root
from tests.support.storage import place_for

PLUGIN = "boxwood.testing.plugin"


@pytest.fixture(autouse=True)
def _root() -> None:
    need_root()


class TestOverlay(StorageSuite):
    driver_name = "overlay"

    @pytest.fixture
    def root(self, real_path: Path) -> Path:
        return real_path / "root"


class TestVfs(StorageSuite):
    driver_name = "vfs"


class TestFuseOverlayfs(StorageSuite):
    driver_name = "fuse-overlayfs"

    @pytest.fixture(autouse=True)
    def _program(self) -> None:
        need_program("fuse-overlayfs")


class TestAufs(StorageSuite):
    driver_name = "aufs"

    @pytest.fixture(autouse=True)
    def _program(self) -> None:
        need_program("fuse-overlayfs")


class TestErofs(StorageSuite):
    driver_name = "erofs"

    @pytest.fixture(autouse=True)
    def _kernel(self) -> Iterator[None]:
        with place_for("erofs"):
            yield


class TestBtrfs(StorageSuite):
    driver_name = "btrfs"

    @pytest.fixture
    def root(self, tmp_path: Path) -> Iterator[Path]:
        with loop_fs("btrfs", tmp_path, size=200 << 20) as place:
            yield place / "root"


@pytest.fixture
def real_path(tmp_path: Path) -> Path:
    """A place where overlay can have its upper directory."""
    return tmp_path


def test_the_command_of_the_docs(tmp_path: Path) -> None:
    """The kit runs from the command line against a driver by name."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    if not any(point.value == PLUGIN for point in entry_points(group="pytest11")):
        command += ["-p", PLUGIN]  # an installation from before the entry point
    command += [
        "--boxwood-storage=vfs",
        "--pyargs",
        "boxwood.testing.storage",
        "-k",
        "removal or wrong_keys",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 passed" in done.stdout
