"""The worker processes: what they may not do, how they end, what they find in a container."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from boxwood.errors import (
    BoxwoodError,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    Unavailable,
)
from boxwood.execution import confine, worker_trees
from boxwood.execution.worker import WorkerPool
from tests.integration.tar.archives import listing
from tests.support.needs import need, need_root, until

UNPACK = {"whiteouts": "overlay", "max_bytes": 1 << 30, "max_entries": 1 << 20}


@pytest.fixture
async def pool() -> AsyncIterator[WorkerPool]:
    need_root()
    found = WorkerPool()
    yield found
    await found.close()


def children(pool: WorkerPool) -> list[str]:
    assert pool._keeper is not None
    pid = pool._keeper.pid
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


async def begun(pool: WorkerPool) -> None:
    """Wait until a child works."""
    while not children(pool):  # noqa: ASYNC110 - it is another process
        await asyncio.sleep(0.01)


@pytest.fixture
def directory(tmp_path: Path) -> Any:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


# Confinement

PROBE = """
import os, socket, sys
from boxwood.execution import confine, worker_trees
inside, weak = sys.argv[1], sys.argv[2] == "weak"
fd = os.open(inside, os.O_RDONLY)
if not weak:
    confine.begin({confine.DAC_OVERRIDE, confine.CHOWN})
    confine.only_beneath([fd])
def works(action):
    try:
        action()
    except OSError:
        return False
    return True
def run():
    if os.fork() == 0:
        try:
            os.execv("/bin/true", ["true"])
        except OSError:
            os._exit(9)
    if os.waitstatus_to_exitcode(os.wait()[1]):
        raise OSError
print(*[name for name, action in {
    "read outside": lambda: os.open("/etc/passwd", os.O_RDONLY),
    "write outside": lambda: os.open(inside + ".out", os.O_WRONLY | os.O_CREAT),
    "climb": lambda: os.open("../" + os.path.basename(inside) + ".here", os.O_RDONLY, dir_fd=fd),
    "socket": lambda: socket.socket(),
    "kill": lambda: os.kill(os.getppid(), 0),
    "execute": run,
    "device": lambda: os.mknod(inside + "/null", 0o20666, os.makedev(1, 3)),
    "inside": lambda: os.open("made", os.O_WRONLY | os.O_CREAT, dir_fd=fd),
    "chown inside": lambda: os.chown("made", 5, 5, dir_fd=fd),
}.items() if works(action)], sep=",")
"""


@pytest.mark.parametrize("how", ["confined", "weak"])
def test_what_a_worker_may_do(how: str, tmp_path: Path) -> None:
    """The same attempts succeed without the confinement: they are no empty threats."""
    need_root()
    need(confine.landlock_version() > 0, "Landlock in the kernel")
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "inside.here").touch()
    done = subprocess.run(
        [sys.executable, "-c", PROBE, inside, how], capture_output=True, text=True, check=True
    )
    did = done.stdout.strip().split(",")
    if how == "weak":
        assert len(did) == 9
    else:
        assert did == ["inside", "chown inside"]


async def test_the_posture_of_the_keeper(pool: WorkerPool) -> None:
    await pool.warm()
    assert pool._keeper is not None
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{pool._keeper.pid}/status").read_text().splitlines()
    )
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert status["CapInh"] == status["CapAmb"] == "0" * 16
    allowed = int(status["CapEff"], 16)
    assert allowed == int(status["CapBnd"], 16) & allowed
    # No raw network, no ptrace, no setuid, no module loading, no boot, no chroot.
    for capability in (5, 6, 7, 8, 12, 13, 16, 18, 19, 22):
        assert not allowed & 1 << capability
    opened = os.listdir(f"/proc/{pool._keeper.pid}/fd")
    assert len(opened) <= 5
    assert os.getsid(pool._keeper.pid) == pool._keeper.pid


# Life


async def test_side_by_side(pool: WorkerPool) -> None:
    answers = await asyncio.gather(*(pool.call("ping", {}) for _ in range(50)))
    assert len({answer["pid"] for answer in answers}) == 50
    until(lambda: not children(pool), "no child left")


async def test_a_deadline_kills(pool: WorkerPool, directory: int) -> None:
    read_end, write_end = os.pipe()
    with pytest.raises(DeadlineExceeded):
        await pool.call("unpack_layer", UNPACK, [read_end, directory], deadline=0.3)
    until(lambda: not children(pool), "the child is gone")
    assert (await pool.call("ping", {}))["pid"]
    os.close(read_end)
    os.close(write_end)


async def test_nobody_waits_any_longer(pool: WorkerPool, directory: int) -> None:
    await pool.warm()
    until(lambda: not children(pool), "the first child is gone")
    read_end, write_end = os.pipe()
    waiting = asyncio.create_task(pool.call("unpack_layer", UNPACK, [read_end, directory]))
    await begun(pool)
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    until(lambda: not children(pool), "the child is gone")
    os.close(read_end)
    os.close(write_end)


async def test_a_killed_worker_is_an_error_and_a_killed_keeper_comes_back(
    pool: WorkerPool, directory: int
) -> None:
    await pool.warm()
    until(lambda: not children(pool), "the first child is gone")
    read_end, write_end = os.pipe()
    waiting = asyncio.create_task(pool.call("unpack_layer", UNPACK, [read_end, directory]))
    await begun(pool)
    os.kill(int(children(pool)[0]), signal.SIGKILL)
    with pytest.raises(Unavailable):
        await waiting
    assert pool._keeper is not None
    pool._keeper.kill()
    assert (await pool.call("ping", {}))["pid"]
    os.close(read_end)
    os.close(write_end)


async def test_no_descriptor_leaks(pool: WorkerPool, directory: int) -> None:
    await pool.warm()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        await pool.call("tree_usage", {}, [directory])
        with pytest.raises(BoxwoodError):
            await pool.call("remove_tree", {"name": "a/b"}, [directory])
    assert len(os.listdir("/proc/self/fd")) == before
    assert pool._keeper is not None
    assert len(os.listdir(f"/proc/{pool._keeper.pid}/fd")) <= 5


async def test_unknown_jobs_and_large_requests(pool: WorkerPool) -> None:
    with pytest.raises(Internal):
        await pool.call("no such job", {})
    with pytest.raises(Internal):
        await pool.call("ping", {"x": "y" * 200_000})


async def test_the_keeper_ends_with_the_daemon() -> None:
    need_root()
    pool = WorkerPool()
    await pool.warm()
    assert pool._keeper is not None
    assert pool._control is not None
    pool._control.shutdown(socket.SHUT_RDWR)
    pool._control.close()
    assert pool._keeper.wait(timeout=5) == 0


# Users

PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1001::/home/user:\nbad:x:99999999999:0::/:\n"
    "5:x:7:7::/five:\n#c:x:1:1::/:\nshort:x\n"
)
GROUP = "root:x:0:\ngroup:x:1001:\nextra:x:2000:user,other\nmore:x:2001:user\nnone:x:-1:user\n"

USERS: dict[str, tuple[int, int, list[int], str]] = {
    "": (0, 0, [], "/root"),
    "root": (0, 0, [], "/root"),
    "user": (1000, 1001, [2000, 2001], "/home/user"),
    "1000": (1000, 1001, [2000, 2001], "/home/user"),
    "user:extra": (1000, 2000, [], "/home/user"),
    "1000:5000": (1000, 5000, [], "/home/user"),
    "4242": (4242, 0, [], "/"),
    "4242:group": (4242, 1001, [], "/"),
    "2147483647": (2147483647, 0, [], "/"),
    "5": (7, 7, [], "/five"),
    ":group": (0, 1001, [], "/root"),
}


@pytest.fixture
def root(tmp_path: Path) -> Any:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    fd = os.open(tmp_path, os.O_PATH)
    yield fd
    os.close(fd)


async def look(pool: WorkerPool, root: int, user: str, *groups: str) -> tuple[Any, ...]:
    found = await pool.call("lookup_user", {"user": user, "group_add": list(groups)}, [root], 5)
    return found["uid"], found["gid"], found["groups"], found["home"]


@pytest.mark.parametrize("user", USERS)
async def test_users(user: str, pool: WorkerPool, root: int) -> None:
    assert await look(pool, root, user) == USERS[user]


@pytest.mark.parametrize(
    "user",
    ["nobody", "1000x", "-1", "+1", "2147483648", "4294967296", "4294967295", "1000:", ":",
     "user:", "user:nope", "user:-1", "a:b:c", "bad", " ", "0x0", "1 ", "root\n",
     "../etc", "\u0661"],
)  # fmt: skip
async def test_no_users(user: str, pool: WorkerPool, root: int) -> None:
    """Nothing malformed ever becomes root (CVE-2024-40635, CVE-2026-30892)."""
    with pytest.raises(InvalidArgument):
        await look(pool, root, user)


async def test_words_of_docker(pool: WorkerPool, root: int) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await look(pool, root, "nobody")
    assert str(caught.value) == "unable to find user nobody: no matching entries in passwd file"


async def test_added_groups(pool: WorkerPool, root: int) -> None:
    assert await look(pool, root, "user", "more", "77", "77", "group") == (
        1000, 1001, [2000, 2001, 77], "/home/user",
    )  # fmt: skip
    for group in ("nope", "-1", "4294967296"):
        with pytest.raises(InvalidArgument):
            await look(pool, root, "user", group)


async def test_hostile_user_files(pool: WorkerPool, tmp_path: Path) -> None:
    """Pipes, devices, huge files and links out of the root (CVE-2024-9676)."""
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "host").write_text("evil:x:0:0::/:\n")
    passwd = tmp_path / "root/etc/passwd"
    fd = os.open(tmp_path / "root", os.O_PATH)
    os.mkfifo(passwd)
    with pytest.raises(InvalidArgument):
        await look(pool, fd, "evil")
    passwd.unlink()
    os.mknod(passwd, 0o20666, os.makedev(1, 5))
    with pytest.raises(InvalidArgument):
        await look(pool, fd, "evil")
    passwd.unlink()
    passwd.write_text("x" * (1 << 20) + "\nevil:x:0:0::/:\n")
    with pytest.raises(InvalidArgument):
        await look(pool, fd, "evil")
    for target in (str(tmp_path / "host"), "../../host", "/proc/self/root/etc/passwd"):
        passwd.unlink()
        passwd.symlink_to(target)
        with pytest.raises(InvalidArgument):
            await look(pool, fd, "evil")
    passwd.unlink()
    assert await look(pool, fd, "0") == (0, 0, [], "/")
    os.close(fd)


# Trees


async def test_seeding(pool: WorkerPool, tmp_path: Path) -> None:
    root, volume = tmp_path / "root", tmp_path / "volume"
    (root / "data/sub").mkdir(parents=True)
    (root / "data").chmod(0o751)
    os.chown(root / "data", 5, 6)
    (root / "data/sub/file").write_text("x")
    (root / "link").symlink_to("/data")
    (root / "out").symlink_to(tmp_path)
    volume.mkdir()
    fds = [os.open(root, os.O_PATH), os.open(volume, os.O_RDONLY)]
    for path, seeded in (
        ("/none", False),
        ("/data/sub/file", False),
        ("/link", True),
        ("/data", False),
    ):
        assert await pool.call("seed_volume", {"path": path}, fds) == {"seeded": seeded}
    status = volume.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (5, 6, 0o751)
    assert (volume / "sub/file").read_text() == "x"
    (volume / "sub/file").unlink()
    (volume / "sub").rmdir()
    assert await pool.call("seed_volume", {"path": "/out"}, fds) == {"seeded": False}
    for fd in fds:
        os.close(fd)


LEVELS = 1_000
NAME = "directory"


def below(root: Path, levels: int) -> int:
    """Open the directory so many levels down, which is made if it is not there."""
    fd = os.open(root, os.O_RDONLY)
    for _ in range(levels):
        with contextlib.suppress(FileExistsError):
            os.mkdir(NAME, dir_fd=fd)
        deeper = os.open(NAME, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    return fd


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A tree that no path reaches the end of, and an empty directory."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    yield source, target
    subprocess.run(["rm", "-r", source, target], check=True)  # shutil recurses


async def test_deep_trees(pool: WorkerPool, deep: tuple[Path, Path]) -> None:
    """By descriptors: a path would be longer than any system call takes, links included."""
    source, target = deep
    end = below(source, LEVELS)
    middle = below(source, LEVELS // 2)
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o640, dir_fd=end))
    os.link("file", "link", src_dir_fd=end, dst_dir_fd=middle)
    os.link("file", "beside", src_dir_fd=end, dst_dir_fd=end)
    os.utime(".", ns=(1, 2), dir_fd=end)
    fds = [os.open(path, os.O_RDONLY) for path in deep]
    assert (await pool.call("copy_tree", {}, fds))["entries"] == LEVELS + 3
    copied = below(target, LEVELS)
    assert sorted(os.listdir(copied)) == ["beside", "file"]
    assert os.fstat(copied).st_mtime_ns == 2
    status = os.stat("file", dir_fd=copied)
    assert (status.st_mode, status.st_nlink) == (0o100640, 3)
    assert (await pool.call("tree_usage", {}, fds[1:]))["inodes"] == LEVELS + 1
    for fd in (*fds, end, middle, copied):
        os.close(fd)


async def test_too_deep_a_tree(pool: WorkerPool, deep: tuple[Path, Path]) -> None:
    """It has an end: one sentence says where."""
    os.close(below(deep[0], worker_trees.DEPTH_LIMIT))
    fds = [os.open(path, os.O_RDONLY) for path in deep]
    for job in ("copy_tree", "tree_usage"):
        with pytest.raises(InvalidArgument, match="over 2100 levels"):
            await pool.call(job, {}, fds)
    for fd in fds:
        os.close(fd)


async def test_copies_are_whole(pool: WorkerPool, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "dir").mkdir(parents=True)
    target.mkdir()
    with (source / "sparse").open("wb") as file:
        file.truncate(8 << 20)
        file.seek(4 << 20)
        file.write(b"data")
    sizes = (0, 1, 4096, 128 << 10, (128 << 10) + 1)
    for number, size in enumerate(sizes):
        (source / f"{size}").write_bytes(os.urandom(size))
        (source / f"{size}").chmod((0o644, 0o755, 0, 0o4755, 0o1666)[number])
    with (source / "hole").open("wb") as file:
        file.write(b"1")
        file.truncate(100_000)
    (source / "file").write_bytes(os.urandom(5000))
    os.setxattr(source / "file", "user.x", b"y")
    os.setxattr(source / "file", "trusted.x", b"z")
    os.link(source / "file", source / "dir/hard")
    (source / "soft").symlink_to("/x")
    os.mkfifo(source / "pipe", 0o600)
    os.mknod(source / "dev", 0o20640, os.makedev(1, 3))
    os.chown(source / "file", 7, 8)
    (source / "file").chmod(0o6755)
    os.utime(source / "dir", ns=(1, 1_234_567_890_000_000_001))
    fds = [os.open(path, os.O_RDONLY) for path in (source, target)]
    assert (await pool.call("copy_tree", {}, fds))["entries"] == 8 + len(sizes)
    assert listing(target) == listing(source)
    for name in (*map(str, sizes), "hole", "sparse", "file"):
        assert (target / name).read_bytes() == (source / name).read_bytes()
    assert (target / "hole").stat().st_blocks <= (source / "hole").stat().st_blocks
    assert (target / "sparse").stat().st_blocks * 512 < 1 << 20
    for fd in fds:
        os.close(fd)
