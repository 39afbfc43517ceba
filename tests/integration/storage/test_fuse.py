"""What is fuse-overlayfs's own: the process that serves a snapshot, and what it leaves behind."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import time
from pathlib import Path

import pytest

from boxwood.drivers import manager
from boxwood.drivers.storage import IdMap, SnapshotOptions, StorageDriver
from boxwood.errors import Conflict, InvalidArgument, Unavailable, Unsupported
from boxwood_plugins.storage import _fuse
from tests.integration.storage.served import layer, make, opened, run, servers, wait_for_no_servers
from tests.support.needs import until

OPAQUE = "trusted.overlay.opaque"


@pytest.fixture
def driver(tmp_path: Path) -> StorageDriver:
    return make("fuse-overlayfs", tmp_path / "root")


def fill(tree: Path) -> None:
    (tree / "file").write_text("file")
    (tree / "dir").mkdir()
    (tree / "dir/old").write_text("old")


def change(tree: Path) -> None:
    """Delete a file, make a directory again, touch what lies below."""
    (tree / "file").unlink()
    (tree / "dir/old").unlink()
    (tree / "dir").rmdir()
    (tree / "dir").mkdir()
    (tree / "dir/new").write_text("new")


def test_no_mount_table_shows_it(driver: StorageDriver, tmp_path: Path) -> None:
    layer(driver, "one", None, fill)
    run(driver.prepare("c", "one"))
    with opened(driver, "c") as tree:
        assert (tree / "dir/old").read_text() == "old"
        assert len(servers(tmp_path / "root")) == 1
        for table in ("self", "1"):
            assert str(tmp_path) not in Path(f"/proc/{table}/mountinfo").read_text()
    wait_for_no_servers(tmp_path / "root")


def test_the_server_has_little(driver: StorageDriver, tmp_path: Path) -> None:
    """A session of its own, few capabilities, no new ones, none of our descriptors."""
    layer(driver, "one", None, fill)
    run(driver.prepare("c", "one"))
    secret = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(secret, True)
    with opened(driver, "c"):
        [pid] = servers(tmp_path / "root")
        assert os.getsid(pid) not in (os.getsid(0), 0)
        status = Path(f"/proc/{pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status
        assert "CapBnd:\t000000008820001f" in status
        assert "/etc/passwd" not in [os.readlink(p) for p in Path(f"/proc/{pid}/fd").iterdir()]
    os.close(secret)
    wait_for_no_servers(tmp_path / "root")


def test_one_server_for_a_snapshot(
    driver: StorageDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two would write into one branch behind each other's back; reading it is possible."""
    monkeypatch.setattr(_fuse, "ENDING_SECONDS", 0.2)
    layer(driver, "one", None, fill)
    run(driver.prepare("c", "one"))

    async def read() -> str:
        async with driver.opened("c") as root:
            return Path(f"/proc/self/fd/{root}/file").read_text()

    with opened(driver, "c") as tree:
        (tree / "file").write_text("changed")
        with pytest.raises(Conflict, match="in use"):
            run(driver.open_root("c"))
        with pytest.raises(Conflict):
            run(driver.commit("c", "two"))
        assert run(read()) == "changed"
    wait_for_no_servers(tmp_path / "root")


def test_again_at_once(driver: StorageDriver, tmp_path: Path) -> None:
    """A restart does not trip over the last server, which is just ending."""
    layer(driver, "one", None, fill)
    run(driver.prepare("c", "one"))
    for number in range(10):
        with opened(driver, "c", volatile=True) as tree:
            (tree / f"n{number}").write_text("")
    with opened(driver, "c") as tree:
        assert len(list(tree.glob("n*"))) == 10
    wait_for_no_servers(tmp_path / "root")


def test_it_outlives_who_started_it(driver: StorageDriver, tmp_path: Path) -> None:
    """The daemon is killed; the container keeps its root. The last reference ends the server."""
    layer(driver, "one", None, fill)
    run(driver.prepare("c", "one"))
    ready, tell = os.pipe()
    daemon = os.fork()
    if daemon == 0:
        try:
            root = asyncio.run(driver.open_root("c"))
            # The container: a process that stands in the root.
            if os.fork() == 0:
                os.setsid()
                os.fchdir(root)
                os.closerange(3, root + 1)
                time.sleep(60)
            os.write(tell, b"x")
            time.sleep(60)
        finally:
            os._exit(0)
    os.read(ready, 1)
    [child] = [int(x) for x in Path(f"/proc/{daemon}/task/{daemon}/children").read_text().split()]
    until(lambda: os.readlink(f"/proc/{child}/cwd") == "/", "the container stands in its root")
    os.kill(daemon, signal.SIGKILL)
    os.waitpid(daemon, 0)
    (Path(f"/proc/{child}/cwd") / "written").write_text("after")
    assert len(servers(tmp_path / "root")) == 1
    os.kill(child, signal.SIGKILL)
    wait_for_no_servers(tmp_path / "root")
    with opened(driver, "c") as tree:
        assert (tree / "written").read_text() == "after"
    for fd in (ready, tell):
        os.close(fd)
    wait_for_no_servers(tmp_path / "root")


def test_a_committed_branch_is_overlay_s(driver: StorageDriver, tmp_path: Path) -> None:
    """None of the program's own marks stay, and the times of directories do."""
    layer(driver, "one", None, fill)
    layer(driver, "two", "one", change)
    branch = tmp_path / "root/committed/two/fs"
    assert stat.S_ISCHR((branch / "file").lstat().st_mode)
    assert os.getxattr(branch / "dir", OPAQUE) == b"y"
    assert [path.name for path in (branch / "dir").iterdir()] == ["new"]
    run(driver.view("v", "two"))
    with opened(driver, "v") as tree:
        assert not (tree / "file").exists()
        assert [path.name for path in (tree / "dir").iterdir()] == ["new"]
    # The kernel's overlay reads the same branches.
    overlay = make("overlay", tmp_path / "root")
    with opened(overlay, "v") as tree:
        assert not (tree / "file").exists()
        assert [path.name for path in (tree / "dir").iterdir()] == ["new"]


def test_times_of_directories_survive_a_commit(driver: StorageDriver, tmp_path: Path) -> None:
    layer(driver, "one", None, fill)

    def delete(tree: Path) -> None:
        change(tree)
        os.utime(tree / "dir", ns=(5, 10**18 + 7))

    layer(driver, "two", "one", delete)
    assert (tmp_path / "root/committed/two/fs/dir").stat().st_mtime_ns == 10**18 + 7


def test_mapped_ids(driver: StorageDriver) -> None:
    """The image's files are another's in the tree; on disk they are what they were."""

    def owned(tree: Path) -> None:
        fill(tree)
        os.chown(tree / "file", 33, 44)

    layer(driver, "one", None, owned)
    ids = (IdMap(0, 100000, 65536),)
    run(driver.prepare("c", "one", options=SnapshotOptions(id_map=ids)))
    with opened(driver, "c") as tree:
        status = (tree / "file").stat()
        assert (status.st_uid, status.st_gid) == (100033, 100044)
        (tree / "mine").write_text("")
        os.chown(tree / "mine", 100001, 100002)
    branch = driver.branch("c")
    assert branch is not None
    status = (branch.path / "mine").stat()
    assert (status.st_uid, status.st_gid) == (1, 2)


def test_many_layers(driver: StorageDriver) -> None:
    """As many as the kernel's overlay stacks."""
    parent = None
    for number in range(500):
        run(driver.prepare("n", parent))
        target = driver.unpack_target("n")
        assert target is not None
        (target.path / f"f{number}").write_text("")
        parent = f"l{number}"
        run(driver.commit("n", parent))
    run(driver.prepare("c", parent))
    with opened(driver, "c") as tree:
        assert len(list(tree.iterdir())) == 500
    run(driver.commit("c", "above"))
    with pytest.raises(Unsupported, match="at most 500"):
        run(driver.prepare("d", "above"))


def test_errors(driver: StorageDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each says what is missing."""
    with pytest.raises(InvalidArgument, match="nonsense"):
        make("fuse-overlayfs", tmp_path / "root", nonsense="1")
    layer(driver, "one", None, fill)
    run(driver.prepare("c", "one"))
    with pytest.raises(Unsupported, match="mounts by itself"):
        driver.mounts("c")
    (tmp_path / "root/active/c/work").rmdir()
    with pytest.raises(Unavailable, match="ended with status 1"):
        run(driver.open_root("c"))
    shutil.rmtree(tmp_path / "root/committed/one/fs")
    with pytest.raises(Unavailable, match="committed/one/fs"):
        run(driver.open_root("c"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="apt install fuse-overlayfs"):
        manager.select("storage", "fuse-overlayfs", root=tmp_path / "other", options={})
