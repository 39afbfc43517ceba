"""Hand-built roots and launch programs: the default container's posture without an engine."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from boxwood_ext import mount
from boxwood_ext import program as bxp

Item = tuple[bxp.Value, ...]

BUSYBOX = "/bin/busybox"
DEFAULT_CAPS = 0xA80425FB
MASKED = ("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi",
          "/sys/firmware")  # fmt: skip
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
DEVICES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9),
           ("tty", 5, 0))  # fmt: skip
NAMESPACES = (
    bxp.CLONE_NEWNS | bxp.CLONE_NEWPID | bxp.CLONE_NEWIPC | bxp.CLONE_NEWUTS | bxp.CLONE_NEWNET
)
ENVIRONMENT = ["PATH=/usr/bin:/bin", "HOME=/"]
SAFE = bxp.ATTR_NOSUID | bxp.ATTR_NODEV | bxp.ATTR_NOEXEC


def make_tree(path: Path) -> Path:
    """A root with busybox and its applets as links."""
    for name in ("bin", "etc", "tmp", "proc", "sys", "dev"):
        (path / name).mkdir(parents=True)
    (path / "tmp").chmod(0o1777)
    shutil.copy(BUSYBOX, path / "bin/busybox")
    for applet in ("sh", "cat", "true", "false", "sleep", "echo", "ls", "id", "head", "stty",
                   "dd", "yes", "kill", "mount", "readlink", "test", "touch", "grep", "md5sum",
                   "wc", "stat", "ip", "seq", "printf", "tty"):  # fmt: skip
        (path / "bin" / applet).symlink_to("busybox")
    return path


def detach(path: Path) -> int:
    """The tree as a detached mount: what the daemon hands over as the root."""
    flags = mount.OPEN_TREE_CLONE
    return mount.open_tree(mount.AT_FDCWD, path, flags)


@contextmanager
def detached(path: Path) -> Iterator[int]:
    fd = detach(path)
    try:
        yield fd
    finally:
        os.close(fd)


def file_systems() -> list[Item]:
    private = bxp.MS_PRIVATE
    items: list[Item] = [
        ("mount", "proc", "proc", "/proc", 0, SAFE, private, []),
        ("mount", "tmpfs", "tmpfs", "/dev", 0, bxp.ATTR_NOSUID | bxp.ATTR_STRICTATIME, private,
         ["mode=755", "size=65536k"]),
        ("mount", "devpts", "devpts", "/dev/pts", 0, bxp.ATTR_NOSUID | bxp.ATTR_NOEXEC, private,
         ["newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        ("mount", "sysfs", "sysfs", "/sys", 0, SAFE | bxp.ATTR_RDONLY, private, []),
        ("mount", "mqueue", "mqueue", "/dev/mqueue", 0, SAFE, private, []),
        ("mount", "tmpfs", "shm", "/dev/shm", 0, SAFE, private, ["mode=1777", "size=65536k"]),
    ]  # fmt: skip
    items += [
        ("mknod", f"/dev/{name}", 0o20666, major, minor, 0, 0) for name, major, minor in DEVICES
    ]
    links = (("/proc/self/fd", "fd"), ("pts/ptmx", "ptmx"), ("/proc/self/fd/0", "stdin"),
             ("/proc/self/fd/1", "stdout"), ("/proc/self/fd/2", "stderr"))  # fmt: skip
    items += [("symlink", target, f"/dev/{name}") for target, name in links]
    return items


def identity(uid: int, gid: int, caps: int) -> list[Item]:
    return [
        ("groups", struct.pack("<I", gid)),
        ("gid", gid),
        ("bounding", caps),
        ("uid", uid, 1),
        ("capabilities", caps if not uid else 0, caps if not uid else 0, 0, 0),
    ]


def container(
    argv: Sequence[str],
    *,
    env: Sequence[str] = ENVIRONMENT,
    tty: bool = False,
    uid: int = 0,
    caps: int = DEFAULT_CAPS,
    cwd: str = "/",
    extra: Sequence[Item] = (),
    early: Sequence[Item] = (),
    pid_namespace: bool = True,
) -> bytes:
    """Docker's default container on slot 0, as the isolation driver compiles it.

    ``extra`` comes before the root is pivoted, ``early`` before it is attached.
    """
    flags = NAMESPACES if pid_namespace else NAMESPACES & ~bxp.CLONE_NEWPID
    items: list[Item] = [
        ("namespaces", flags),
        ("setsid",),
        ("propagation", bxp.MS_REC | bxp.MS_SLAVE),
        *early,
        ("root", 0),
        *file_systems(),
        *extra,
        ("console", uid, 0, 0, bxp.F_CONSOLE_BIND) if tty else ("stdio", uid),
        ("sysctl", "net.ipv4.ip_unprivileged_port_start", "0"),
        ("hostname", "boxwood-test"),
        ("loopback",),
        *[("mask", path) for path in MASKED],
        *[("readonly", path) for path in READONLY],
        ("pivot",),
        ("oom_score_adj", 0),
        ("cwd", cwd, 1, 0, 0),
        *identity(uid, uid, caps),
        ("env", list(env)),
        ("command", list(argv)),
        ("exec",),
    ]
    return bxp.encode(items)


def joining(argv: Sequence[str], *, tty: bool = False, uid: int = 0, cwd: str = "/") -> bytes:
    """An exec into the container whose pidfd is slot 0."""
    return bxp.encode([
        ("join", 0, NAMESPACES),
        ("setsid",),
        ("console", uid, 0, 0, 0) if tty else ("stdio", uid),
        ("cwd", cwd, 0, 0, 0),
        *identity(uid, uid, DEFAULT_CAPS),
        ("env", ENVIRONMENT),
        ("command", list(argv)),
        ("exec",),
    ])  # fmt: skip
