"""What is aufs's own: its form on disk under either way to stack it, and the kernel's mount calls.

No kernel here has aufs: what would be asked of it is tested to the byte.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from boxwood.drivers import manager
from boxwood.drivers.storage import Kind, StorageDriver
from boxwood.errors import InvalidArgument, Unavailable, Unsupported
from boxwood.execution.worker_whiteouts import convert_whiteouts
from boxwood_plugins.storage import _aufs_mount as calls
from boxwood_plugins.storage import aufs
from tests.integration.storage.served import layer, make, opened, run, wait_for_no_servers
from tests.support.needs import need_program, need_root


@pytest.fixture(autouse=True)
def _root() -> None:
    need_root()


@pytest.fixture
def driver(tmp_path: Path) -> StorageDriver:
    return make("aufs", tmp_path / "root", **{"stacked-by": "fuse-overlayfs"})


def fill(tree: Path) -> None:
    (tree / "file").write_text("file")
    (tree / "kept").write_text("kept")
    (tree / "dir").mkdir()
    (tree / "dir/old").write_text("old")


def change(tree: Path) -> None:
    """Delete a file, make a directory again, change a file's mode."""
    (tree / "file").unlink()
    (tree / "kept").chmod(0o600)
    (tree / "dir/old").unlink()
    (tree / "dir").rmdir()
    (tree / "dir").mkdir()
    (tree / "dir/new").write_text("new")


def everything(branch: Path) -> dict[str, tuple[Any, ...]]:
    """Name what a branch holds: kind, times of directories, attributes."""
    found: dict[str, tuple[Any, ...]] = {}
    for at, directories, files in os.walk(branch):
        for name in (*directories, *files):
            path = Path(at, name)
            status = path.lstat()
            when = status.st_mtime_ns if stat.S_ISDIR(status.st_mode) else 0
            kind = stat.S_IFMT(status.st_mode)
            found[str(path.relative_to(branch))] = (kind, when, tuple(os.listxattr(path)))
    return found


# The form on disk


def test_a_committed_branch_is_aufs_s(driver: StorageDriver, tmp_path: Path) -> None:
    layer(driver, "one", None, fill)
    run(driver.prepare("c", "one"))
    fresh = driver.branch("c")
    assert fresh is not None
    assert fresh.form == "aufs"
    with opened(driver, "c") as tree:
        change(tree)
        in_use = driver.branch("c")
        assert in_use is not None
        assert in_use.form == "overlay"
        when = (tree / "dir").stat().st_mtime_ns
    run(driver.commit("c", "two"))
    branch = driver.branch("two")
    assert branch is not None
    assert branch.form == "aufs"
    found = everything(branch.path)
    assert found == {
        ".wh.file": (stat.S_IFREG, 0, ()),
        "kept": (stat.S_IFREG, 0, ()),
        "dir": (stat.S_IFDIR, when, ()),
        "dir/new": (stat.S_IFREG, 0, ()),
        "dir/.wh..wh..opq": (stat.S_IFREG, 0, ()),
    }
    run(driver.view("v", "two"))
    with opened(driver, "v") as tree:
        assert sorted(path.name for path in tree.rglob("*")) == ["dir", "kept", "new"]
    wait_for_no_servers(tmp_path / "root")


def test_unpacked_in_aufs_s_form(driver: StorageDriver) -> None:
    """What a layer's tar has is on disk as it is, and is understood."""
    layer(driver, "one", None, fill)
    run(driver.prepare("n", "one"))
    target = driver.unpack_target("n")
    assert target is not None
    assert target.whiteouts == "aufs"
    (target.path / ".wh.file").write_text("")
    (target.path / "dir").mkdir()
    (target.path / "dir/.wh..wh..opq").write_text("")
    run(driver.commit("n", "two"))
    run(driver.prepare("c", "two"))
    with opened(driver, "c") as tree:
        assert sorted(path.name for path in tree.iterdir()) == ["dir", "kept"]
        assert list((tree / "dir").iterdir()) == []


def test_unpacked_and_then_served(driver: StorageDriver) -> None:
    """A branch has one form at a time: what was unpacked is converted before it is written to."""
    layer(driver, "one", None, fill)
    run(driver.prepare("n", "one"))
    target = driver.unpack_target("n")
    assert target is not None
    (target.path / ".wh.file").write_text("")
    (target.path / "dir").mkdir()
    (target.path / "dir/.wh..wh..opq").write_text("")
    with opened(driver, "n") as tree:
        assert not (tree / "file").exists()
        (tree / "kept").unlink()
    branch = driver.branch("n")
    assert branch is not None
    assert branch.form == "overlay"
    assert stat.S_ISCHR((branch.path / "file").lstat().st_mode)
    assert os.getxattr(branch.path / "dir", "trusted.overlay.opaque") == b"y"
    run(driver.commit("n", "two"))
    committed = driver.branch("two")
    assert committed is not None
    assert set(everything(committed.path)) == {".wh.file", ".wh.kept", "dir", "dir/.wh..wh..opq"}


def test_info_says_who_stacks(driver: StorageDriver) -> None:
    [said] = [value for name, value in driver.describe() if name == "Stacked by"]
    assert said.startswith("fuse-overlayfs 1.")


def test_options(tmp_path: Path) -> None:
    for options, error in (
        ({"nonsense": "1"}, InvalidArgument),
        ({"stacked-by": "magic"}, InvalidArgument),
        ({"stacked-by": "kernel"}, Unavailable),
    ):
        if error is Unavailable and aufs.kernel_has_aufs():
            continue
        with pytest.raises(error):
            manager.select("storage", "aufs", root=tmp_path / "root", options=options)


# The conversion


def marked(room: Path) -> Path:
    """Make a branch as fuse-overlayfs leaves it."""
    branch = room / "branch"
    (branch / "dir/deep").mkdir(parents=True)
    os.mknod(branch / "gone", stat.S_IFCHR, 0)
    os.mknod(branch / "dir/.wh..opq", stat.S_IFCHR, 0)
    os.mknod(branch / "dir/gone", stat.S_IFCHR, 0)
    os.mknod(branch / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (branch / "dir/.wh..wh..opq").write_text("")
    os.setxattr(branch / "dir", "trusted.overlay.opaque", b"y")
    os.setxattr(branch / "dir/deep", "trusted.overlay.opaque", b"y")
    (branch / "dir/file").write_text("x")
    os.setxattr(branch / "dir/file", "user.fuseoverlayfs.origin", b"dir/file")
    os.setxattr(branch / "dir/file", "user.mine", b"1")
    (branch / "link").symlink_to("/etc/passwd")
    os.mkfifo(branch / "fifo")
    for path in (branch / "dir/deep", branch / "dir"):
        os.utime(path, ns=(1, 10**18 + 3))
    return branch


def convert(branch: Path, form: str) -> int:
    fd = os.open(branch, os.O_RDONLY)
    try:
        return int(convert_whiteouts({"form": form}, [fd])["converted"])
    finally:
        os.close(fd)


AUFS = {".wh.gone", "dir/.wh.gone", "dir/.wh..wh..opq", "dir/deep/.wh..wh..opq"}
PLAIN = {"dir", "dir/deep", "dir/file", "link", "fifo", "null"}


def test_conversion_and_back(tmp_path: Path) -> None:
    branch = marked(tmp_path)
    before = everything(branch)
    assert convert(branch, "aufs") == 3
    found = everything(branch)
    assert set(found) == AUFS | PLAIN
    assert found["dir"][1] == found["dir/deep"][1] == 10**18 + 3
    assert {path: facts[2] for path, facts in found.items() if facts[2]} == {
        "dir/file": ("user.mine",)
    }
    assert convert(branch, "aufs") == 0
    assert everything(branch) == found
    assert convert(branch, "overlay") == 4
    again = everything(branch)
    assert set(again) == PLAIN | {"gone", "dir/gone"}
    assert again["gone"] == before["gone"]
    assert again["dir"] == before["dir"]
    assert again["dir/deep"] == before["dir/deep"]
    assert convert(branch, "overlay") == 0


@pytest.mark.parametrize("form", ["aufs", "overlay"])
def test_a_conversion_may_be_cut_off_anywhere(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At no moment is anything unmarked that was marked, and doing it again ends it."""
    whole = marked(tmp_path / "whole")
    convert(whole, form)
    stop, whole_way = 0, False
    while not whole_way:
        branch = marked(tmp_path / str(stop))
        counter = [stop]
        with monkeypatch.context() as patch:
            for name in ("unlink", "open", "mknod", "setxattr", "removexattr"):
                patch.setattr(os, name, cut_off(getattr(os, name), counter))
            try:
                convert(branch, form)
                whole_way = True
            except InterruptedError:
                stop += 1
        for place in ("", "dir/"):
            device, file = branch / f"{place}gone", branch / f"{place}.wh.gone"
            assert os.path.lexists(device) or os.path.lexists(file), stop
        for directory in ("dir", "dir/deep"):
            attribute = "trusted.overlay.opaque" in os.listxattr(branch / directory)
            assert attribute or (branch / directory / ".wh..wh..opq").exists(), stop
        convert(branch, form)
        assert {path: (kind, names) for path, (kind, _, names) in everything(branch).items()} == {
            path: (kind, names) for path, (kind, _, names) in everything(whole).items()
        }
    assert stop > 7


def cut_off(real: Callable[..., Any], counter: list[int]) -> Callable[..., Any]:
    """Let a call through until the count is used up, then fail for good."""

    def call(*args: Any, **more: Any) -> Any:
        if not counter[0]:
            raise InterruptedError(errno.EINTR, "cut off")
        counter[0] -= 1
        return real(*args, **more)

    return call


def test_a_name_too_long_to_be_marked(tmp_path: Path) -> None:
    os.mknod(tmp_path / ("x" * 255), stat.S_IFCHR, 0)
    with pytest.raises(Unsupported, match="so long"):
        convert(tmp_path, "aufs")


def test_a_deep_tree(tmp_path: Path) -> None:
    """Deeper than Python's own calls can go."""
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.mknod("gone", stat.S_IFCHR, 0, dir_fd=fd)
    assert convert(tmp_path, "aufs") == 1
    assert os.listdir(fd) == [".wh.gone"]
    os.close(fd)
    # pytest removes its rooms by recursion.
    from boxwood_ext import tar

    room = os.open(tmp_path, os.O_RDONLY)
    tar.remove_tree(room, "d")
    os.close(room)


# What would be asked of the kernel


XINO = "/dev/shm/boxwood-0123456789abcdef.xino"


def test_a_mount(tmp_path: Path) -> None:
    assert calls.mount_steps("/r/mnt/c", "/r/active/c/fs", ["/r/b/fs", "/r/a/fs"], XINO) == [
        calls.MountCall(
            "none", "/r/mnt/c", "aufs", 0,
            "br:/r/active/c/fs=rw:/r/b/fs=ro+wh:/r/a/fs=ro+wh"
            ",dio,xino=/dev/shm/boxwood-0123456789abcdef.xino,dirperm1",
        )
    ]  # fmt: skip


def test_a_view() -> None:
    assert calls.mount_steps("/r/mnt/v", None, ["/r/a/fs"], XINO) == [
        calls.MountCall("none", "/r/mnt/v", "aufs", 1, f"br:/r/a/fs=ro+wh,dio,xino={XINO},dirperm1")
    ]


@pytest.mark.parametrize("length", [1, 40, 200, 1500])
def test_branches_beyond_the_page_are_appended(length: int) -> None:
    """To the byte: one more would not have fitted, and what did not is appended in order."""
    lowers = [f"/{str(number).rjust(length, 'x')}" for number in range(126)]
    first, *rest = calls.mount_steps("/m", "/u", lowers, XINO)
    assert isinstance(first, calls.MountCall)
    assert len(first.data) < 4096
    head, _, tail = first.data.partition(",")
    assert tail == f"dio,xino={XINO},dirperm1"
    shown = head.removeprefix("br:").split(":")
    appended = []
    for step in rest:
        assert isinstance(step, calls.MountCall)
        assert (step.source, step.target, step.type, step.flags) == ("none", "/m", "aufs", 32)
        appended.append(step.data.removeprefix("append:"))
        assert step.data.startswith("append:")
    assert [*shown, *appended] == ["/u=rw", *(f"{path}=ro+wh" for path in lowers)]
    if appended:
        assert len(first.data) + 1 + len(appended[0]) >= 4096
    else:
        assert length == 1


def test_limits_and_paths() -> None:
    lowers = [f"/{number}" for number in range(127)]
    with pytest.raises(Unsupported, match="128 branches, at most 127"):
        calls.mount_steps("/m", "/u", lowers, XINO)
    assert calls.mount_steps("/m", None, lowers, XINO)
    for path in ("/a:b", "/a,b", "/a=b", "/a\\b"):
        with pytest.raises(InvalidArgument):
            calls.mount_steps("/m", path, [], XINO)
    with pytest.raises(InvalidArgument, match="longer"):
        calls.mount_steps("/m", "/" + "x" * 4090, [], XINO)


def test_an_unmount() -> None:
    assert calls.unmount_steps("/m") == [calls.Flush("/m"), calls.UnmountCall("/m", 0)]
    assert calls.detach("/m") == calls.UnmountCall("/m", 2)


def test_the_steps_of_a_snapshot(tmp_path: Path) -> None:
    """Branches of committed snapshots, nearest first, below the one that is written to."""
    driver = aufs.KernelAufsDriver(tmp_path / "root")
    for name, parent in (("a", None), ("b", "a")):
        run(driver.prepare("n", parent))
        run(driver.commit("n", name))
    run(driver.prepare("c", "b"))
    assert driver.stat("c").kind is Kind.ACTIVE
    root = tmp_path / "root"
    [step] = driver._steps(driver.stat("c"), root / "mnt/c")
    assert isinstance(step, calls.MountCall)
    assert step.target == f"{root}/mnt/c"
    assert step.data.startswith(
        f"br:{root}/active/c/fs=rw:{root}/committed/b/fs=ro+wh:{root}/committed/a/fs=ro+wh,dio,"
        "xino=/dev/shm/boxwood-"
    )
    if not aufs.kernel_has_aufs():
        # The mount fails here, and leaves nothing.
        with pytest.raises(Exception, match="mount root: c: mount"):
            run(driver.open_root("c"))
    driver.remove("c")
    assert list((root / "mnt").iterdir()) == []
    with pytest.raises(InvalidArgument, match="data root"):
        aufs.KernelAufsDriver(tmp_path / "a:b")


def test_pseudo_links_are_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By aufs's own program, before the unmount; one that hangs is given up."""
    program = tmp_path / "auplink"
    program.write_text(f'#!/bin/sh\nexec > {tmp_path}/said\nmountpoint -q "$1" && echo "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    place = tmp_path / "place"
    place.mkdir()
    call = calls.MountCall("none", str(place), "tmpfs", 0, "size=64k")
    run(calls.carry_out([call, *calls.unmount_steps(str(place))]))
    assert (tmp_path / "said").read_text() == f"{place} flush\n"
    assert not aufs._is_mounted(place)
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(calls, "_FLUSH_SECONDS", 0.1)
    with pytest.raises(Unavailable, match="auplink"):
        run(calls.carry_out(calls.unmount_steps(str(place))))


SENT = """
import asyncio, sys
from boxwood_plugins.storage import _aufs_mount as calls
lowers = [f"/{number:0>1200}" for number in range(5)]
mounted = calls.mount_steps("/m", "/u", lowers, "/dev/shm/x.xino")
view = calls.mount_steps("/v", None, ["/a", "/b"], "/dev/shm/y.xino")
for steps in (mounted, calls.unmount_steps("/m"), view, [calls.detach("/v")]):
    asyncio.run(calls.carry_out(steps))
"""


def test_what_reaches_the_kernel(tmp_path: Path) -> None:
    """The system calls themselves, seen by strace, which answers them in the kernel's place."""
    strace = need_program("strace")
    seen = tmp_path / "seen"
    words = ["-f", "-qq", "-s", "8192", "-o", seen, "-e", "signal=none"]
    words += ["-e", "trace=mount,umount2", "-e", "inject=mount,umount2:retval=0"]
    subprocess.run([strace, *words, sys.executable, "-c", SENT], check=True)
    # Of a remount the kernel reads no type, and strace shows none.
    shown = re.sub(r", 0x[0-9a-f]+, ", ', "aufs", ', seen.read_text())
    found = [" ".join(line.split()[1:]) for line in shown.splitlines()]
    lowers = [f"/{number:0>1200}=ro+wh" for number in range(5)]
    options = ":".join(["/u=rw", *lowers[:3]])
    wanted = [
        f'mount("none", "/m", "aufs", 0, "br:{options},dio,xino=/dev/shm/x.xino,dirperm1")',
        *(f'mount("none", "/m", "aufs", MS_REMOUNT, "append:{branch}")' for branch in lowers[3:]),
        'umount2("/m", 0)',
        'mount("none", "/v", "aufs", MS_RDONLY, "br:/a=ro+wh:/b=ro+wh,dio,xino=/dev/shm/y.xino,'
        'dirperm1")',
        'umount2("/v", MNT_DETACH)',
    ]
    assert found == [f"{call} = 0 (INJECTED)" for call in wanted]


def test_carrying_out(tmp_path: Path) -> None:
    """The executor, on a file system that this kernel has."""
    place = tmp_path / "place"
    place.mkdir()
    steps = [
        calls.MountCall("none", str(place), "tmpfs", 0, "size=64k"),
        calls.MountCall("none", str(place), "tmpfs", calls.MS_REMOUNT, "size=128k"),
    ]
    run(calls.carry_out(steps))
    assert aufs._is_mounted(place)
    status = os.statvfs(place)
    assert status.f_blocks * status.f_frsize == 128 << 10
    run(calls.carry_out(calls.unmount_steps(str(place))))
    assert not aufs._is_mounted(place)
    with pytest.raises(OSError, match="place"):
        run(calls.carry_out([steps[0], msgspec.structs.replace(steps[1], data="size=x")]))
    assert not aufs._is_mounted(place)
