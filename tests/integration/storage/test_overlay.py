"""What is overlay's own: places that cannot hold it, long paths, older kernels' way to mount."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from boxwood.drivers import manager
from boxwood.drivers.storage import (
    ID_MAP,
    ApplyRequest,
    IdMap,
    Mount,
    SnapshotOptions,
    StorageDriver,
)
from boxwood.errors import InvalidArgument, Unavailable, Unsupported
from boxwood.execution import mounting
from boxwood.testing.storage import mounted
from tests.integration.tar.archives import archive, folder
from tests.support.needs import need, need_root
from tests.support.storage import make_driver


@pytest.fixture(autouse=True)
def _root() -> None:
    need_root()


def overlay(root: Path, **options: str) -> StorageDriver:
    driver = manager.select("storage", "overlay", root=root, options=options)
    assert isinstance(driver, StorageDriver)
    return driver


def chain(driver: StorageDriver, length: int) -> str:
    """Commit layers that each hold a file, and return the key of the topmost."""
    parent = None
    for number in range(length):
        asyncio.run(driver.prepare("new", parent))
        target = driver.unpack_target("new")
        assert target is not None
        (target.path / f"f{number}").write_text(str(number))
        parent = f"layer-{number}"
        asyncio.run(driver.commit("new", parent))
    assert parent is not None
    return parent


def names(fd: int) -> set[str]:
    inside = os.open(".", os.O_RDONLY, dir_fd=fd)
    try:
        return set(os.listdir(inside))
    finally:
        os.close(inside)
        os.close(fd)


def test_a_place_that_cannot_hold_it(tmp_path: Path) -> None:
    """Overlay upon overlay: one sentence at start, with the way out."""
    outer = overlay(tmp_path / "outer")
    chain(outer, 1)
    with (
        mounted(asyncio.run(outer.prepare("c", "layer-0")), tmp_path / "mnt") as place,
        pytest.raises(Unavailable, match="use --storage-driver vfs"),
    ):
        overlay(place / "inner")


def test_unknown_options(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="nonsense"):
        overlay(tmp_path / "root", nonsense="1")


def test_the_root_looks_like_its_parents(tmp_path: Path) -> None:
    driver = overlay(tmp_path / "root")
    asyncio.run(driver.prepare("new", None))
    target = driver.unpack_target("new")
    assert target is not None
    target.path.chmod(0o711)
    os.chown(target.path, 5, 6)
    os.setxattr(target.path, "user.colour", b"red")
    os.setxattr(target.path, "user.overlay.mark", b"overlay's own")
    os.utime(target.path, ns=(0, 123_456_789))
    asyncio.run(driver.commit("new", "one"))
    with mounted(asyncio.run(driver.prepare("c", "one")), tmp_path / "mnt") as tree:
        status = tree.stat()
        assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o711, 5, 6)
        assert status.st_mtime_ns == 123_456_789
        assert os.listxattr(tree) == ["user.colour"]


def test_a_root_that_a_layer_names_has_what_the_layer_says(tmp_path: Path) -> None:
    """Nothing of its parent's is left of it."""
    driver = make_driver("overlay", tmp_path / "root")
    asyncio.run(driver.prepare("new", None))
    target = driver.unpack_target("new")
    assert target is not None
    os.setxattr(target.path, "user.colour", b"red")
    asyncio.run(driver.commit("new", "one"))
    asyncio.run(driver.prepare("c", "one"))
    layer = os.memfd_create("layer")
    try:
        os.write(layer, archive(folder(".", mode=0o700)))
        os.lseek(layer, 0, os.SEEK_SET)
        asyncio.run(driver.apply("c", layer, ApplyRequest()))
    finally:
        os.close(layer)
    branch = driver.branch("c")
    assert branch is not None
    assert branch.path.stat().st_mode & 0o7777 == 0o700
    assert os.listxattr(branch.path) == []


def test_long_paths(tmp_path: Path) -> None:
    """A data root with a name longer than fsconfig(2) takes."""
    driver = overlay(tmp_path / ("x" * 200) / ("y" * 100))
    top = chain(driver, 3)
    asyncio.run(driver.prepare("c", top))
    assert names(mounting.open_root(driver.mounts("c"))) == {"f0", "f1", "f2"}


def own_mounts(tmp_path: Path) -> list[str]:
    """Return what this process sees mounted of the test's own; others mount things meanwhile."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if str(tmp_path) in line]


@pytest.mark.parametrize("length", [2, 60, 300, 500])
def test_as_older_kernels_mount(length: int, tmp_path: Path) -> None:
    """All lower directories in one string, with what must be escaped, or by descriptors."""
    driver = overlay(tmp_path / "a:b,c")
    top = chain(driver, length)
    [wanted] = asyncio.run(driver.prepare("c", top, options=SnapshotOptions(volatile=True)))
    before = own_mounts(tmp_path)
    here = Path.cwd()
    with ExitStack() as stack:
        fd = mounting._overlay_joined(wanted.options, False, stack)
    assert names(fd) == {f"f{number}" for number in range(length)}
    assert own_mounts(tmp_path) == before
    assert Path.cwd() == here


def test_an_upper_directory_is_mounted_once(tmp_path: Path) -> None:
    """Who only reads an active snapshot gets a tree that cannot be written."""
    driver = overlay(tmp_path / "root")
    driver.mounter = mounting.open_root
    for key, parent in (("alone", None), ("above", chain(driver, 2))):
        asyncio.run(driver.prepare(key, parent))
        root = asyncio.run(driver.open_root(key))
        asyncio.run(_cannot_be_written(driver, key))
        os.close(os.open("new", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=root))
        os.close(root)


async def _cannot_be_written(driver: StorageDriver, key: str) -> None:
    async with driver.opened(key) as seen:
        with pytest.raises(OSError, match="Read-only"):
            os.open("new", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=seen)


def test_no_host_mount_is_seen(tmp_path: Path) -> None:
    driver = overlay(tmp_path / "root")
    asyncio.run(driver.prepare("c", chain(driver, 2)))
    before = own_mounts(tmp_path)
    fd = mounting.open_root(driver.mounts("c"))
    assert own_mounts(tmp_path) == before
    os.close(fd)
    with pytest.raises(Unsupported):
        mounting.open_root([])


def test_read_only(tmp_path: Path) -> None:
    driver = overlay(tmp_path / "root")
    asyncio.run(driver.prepare("c", chain(driver, 1)))
    fd = mounting.open_root(driver.mounts("c"), read_only=True)
    with pytest.raises(OSError, match="Read-only"):
        os.mkdir("x", dir_fd=fd)
    os.close(fd)


def test_500_layers(tmp_path: Path) -> None:
    """As many as the kernel stacks, by the new calls where it has them; one more is refused."""
    driver = overlay(tmp_path / "root")
    top = chain(driver, 500)
    asyncio.run(driver.prepare("c", top))
    assert len(names(mounting.open_root(driver.mounts("c")))) == 500
    asyncio.run(driver.commit("c", "above"))
    with pytest.raises(Unsupported, match="501 layers, at most 500"):
        asyncio.run(driver.prepare("d", "above"))


def test_too_much_for_one_string(tmp_path: Path) -> None:
    """What no trick fits into the page is refused in a sentence."""
    options = [f"lowerdir+={tmp_path}"] * 1500
    with ExitStack() as stack, pytest.raises(Unavailable, match="1500 layers"):
        mounting._overlay_joined(options, True, stack)


def test_a_volatile_mount_can_follow_a_volatile_one(tmp_path: Path) -> None:
    """The kernel refuses the second until its own mark in the work directory is gone."""
    driver = overlay(tmp_path / "root")
    asyncio.run(driver.prepare("c", chain(driver, 1), options=SnapshotOptions(volatile=True)))
    [first] = driver.mounts("c")
    os.close(mounting.open_root([first]))
    with pytest.raises(Unavailable):
        mounting.open_root([first])
    os.close(mounting.open_root(driver.mounts("c")))


# Mapped ids


MAP = (IdMap(0, 100000, 1000), IdMap(1000, 300000, 64536))


def owned(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid


def test_mapped_ids(tmp_path: Path) -> None:
    """Files of the image are others' without a chown; what is written is on disk as it is shown."""
    driver = overlay(tmp_path / "root")
    need(ID_MAP in driver.capabilities, "id-mapped mounts")
    top = chain(driver, 3)
    for number, ids in ((0, (33, 34)), (1, (1001, 1002)), (2, (70000, 0))):
        os.chown(tmp_path / f"root/committed/layer-{number}/fs/f{number}", *ids)
    mapped = SnapshotOptions(id_map=MAP)
    asyncio.run(driver.prepare("c", top, options=mapped))
    fd = mounting.open_root(driver.mounts("c"))
    tree = Path(f"/proc/self/fd/{fd}")
    assert owned(tree) == (100000, 100000)
    assert owned(tree / "f0") == (100033, 100034)
    assert owned(tree / "f1") == (300001, 300002)
    assert owned(tree / "f2") == (65534, 100000), "what has no place in the map is nobody's"
    (tree / "f0").chmod(0o600)
    upper = tmp_path / "root/active/c/fs"
    assert owned(upper / "f0") == (100033, 100034)
    (tree / "new").write_text("")
    os.chown(tree / "new", 100005, 100006)
    assert owned(upper / "new") == (100005, 100006)
    assert owned(tmp_path / "root/committed/layer-0/fs/f0") == (33, 34)
    os.close(fd)
    with pytest.raises(Unsupported, match="mapped ids"):
        asyncio.run(driver.commit("c", "other"))


def test_a_bind_with_mapped_ids(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fd = mounting.open_root([Mount("bind", str(tmp_path), (), MAP)])
    assert owned(Path(f"/proc/self/fd/{fd}/file")) == (100000, 100000)
    os.close(fd)
    with pytest.raises(Unavailable, match="mount root: bind"):
        mounting.open_root([Mount("bind", str(tmp_path), (), (IdMap(5, 5, 0),))])


# Inside a user namespace


IN_NAMESPACE = """
import asyncio, os, sys
from pathlib import Path
from boxwood.drivers import manager
from boxwood.execution import mounting
root = Path(sys.argv[1])
driver = manager.select("storage", "overlay", root=root, options={})
run = asyncio.run
run(driver.prepare("n", None))
target = driver.unpack_target("n")
assert target.user_xattr
(target.path / "dir").mkdir()
(target.path / "dir/old").write_text("old")
(target.path / "file").write_text("file")
run(driver.commit("n", "one"))
run(driver.prepare("c", "one"))
assert "userxattr" in driver.mounts("c")[0].options
fd = mounting.open_root(driver.mounts("c"))
tree = Path(f"/proc/self/fd/{fd}")
(tree / "file").unlink()
(tree / "dir/old").unlink()
(tree / "dir").rmdir()
(tree / "dir").mkdir()
os.close(fd)
branch = driver.branch("c")
assert branch.user_xattr
assert os.getxattr(branch.path / "dir", "user.overlay.opaque") == b"y"
run(driver.commit("c", "two"))
run(driver.prepare("d", "two"))
fd = mounting.open_root(driver.mounts("d"))
tree = Path(f"/proc/self/fd/{fd}")
print(os.listdir(tree), os.listdir(tree / "dir"), dict(driver.describe())["userxattr"])
"""


def test_in_a_user_namespace(tmp_path: Path) -> None:
    """Rootless: marks below ``user.overlay.``, mounted by who is root there only."""
    done = subprocess.run(
        ["unshare", "-Urm", sys.executable, "-c", IN_NAMESPACE, tmp_path / "root"],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['dir'] [] true\n"
