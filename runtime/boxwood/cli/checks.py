"""What `doctor` looks at. Every check looks only: nothing is made, mounted or changed."""

from __future__ import annotations

import ctypes.util
import os
import shutil
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from boxwood.cli.context import Context

# The oldest kernel with all that the engine builds on: mount_setattr and openat2 (5.12).
OLDEST_KERNEL = (5, 12)


class Result(NamedTuple):
    """One check: `state` is ok, warn (something is less good) or fail (no containers)."""

    name: str
    state: str
    detail: str
    advice: str = ""


def all_checks(ctx: Context) -> list[Result]:
    """Every check, in the order in which they matter."""
    plain: list[Callable[[], Result]] = [
        kernel,
        root,
        namespaces,
        cgroups,
        overlay,
        seccomp,
        libseccomp,
        nft,
        subids,
        fuse,
    ]
    found = {result.name: result for result in (check() for check in plain)}
    for result in engine(ctx):  # the engine knows better: what it says of the same counts
        found[result.name] = result
    return list(found.values())


def kernel() -> Result:
    """The kernel is new enough."""
    release = os.uname().release
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    if numbers < OLDEST_KERNEL:
        wanted = ".".join(map(str, OLDEST_KERNEL))
        return Result("kernel", "fail", release, f"a kernel of {wanted} or newer is needed")
    return Result("kernel", "ok", release)


def root() -> Result:
    """We are root, or know that we are not."""
    if os.geteuid() == 0:
        return Result("user", "ok", "root")
    return Result("user", "warn", f"uid {os.geteuid()}",
                  "the engine runs as root: use sudo, or be in the socket's group")  # fmt: skip


def namespaces() -> Result:
    """The kernel has the namespaces that containers live in."""
    have = set(os.listdir("/proc/self/ns"))
    missing = [name for name in ("cgroup", "ipc", "mnt", "net", "pid", "uts") if name not in have]
    if missing:
        return Result("namespaces", "fail", f"without {', '.join(missing)}",
                      "the kernel was built without them")  # fmt: skip
    optional = [name for name in ("user", "time") if name not in have]
    note = f"without {', '.join(optional)}" if optional else "all"
    return Result("namespaces", "warn" if optional else "ok", note)


def cgroups() -> Result:
    """cgroup controllers are there, in version 1 or 2."""
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        with open("/sys/fs/cgroup/cgroup.controllers") as file:
            return _controllers("version 2", set(file.read().split()), ("cpu", "memory", "pids"))
    mounted = set()
    with open("/proc/self/mounts") as file:
        for line in file:
            fields = line.split()
            if fields[2] == "cgroup":
                mounted |= set(fields[3].split(","))
    wanted = ("cpu", "devices", "freezer", "memory", "pids")
    return _controllers("version 1", mounted, wanted)


def _controllers(version: str, have: set[str], wanted: tuple[str, ...]) -> Result:
    missing = [name for name in wanted if name not in have]
    if missing:
        return Result("cgroups", "warn", f"{version}, without {', '.join(missing)}",
                      "limits of these cannot be set: mount or enable the controllers")  # fmt: skip
    return Result("cgroups", "ok", version)


def overlay() -> Result:
    """The kernel has overlayfs."""
    with open("/proc/filesystems") as file:
        known = {line.split()[-1] for line in file if line.strip()}
    if "overlay" in known:
        return Result("overlay", "ok", "in the kernel")
    return Result("overlay", "warn", "not in the kernel, or not loaded yet",
                  "modprobe overlay, or run the engine with --storage-driver vfs")  # fmt: skip


def seccomp() -> Result:
    """The kernel filters system calls."""
    if os.path.exists("/proc/sys/kernel/seccomp/actions_avail"):
        return Result("seccomp", "ok", "in the kernel")
    return Result("seccomp", "fail", "not in the kernel",
                  "a kernel with CONFIG_SECCOMP_FILTER is needed")  # fmt: skip


def libseccomp() -> Result:
    """The library that compiles profiles is there."""
    name = ctypes.util.find_library("seccomp")
    if name is None:
        return Result("libseccomp", "fail", "not found", "install libseccomp2")
    try:
        ctypes.CDLL(name)  # the linker's cache may name what is not there, or is broken
    except OSError as error:
        return Result("libseccomp", "fail", str(error), "install libseccomp2 (again)")
    return Result("libseccomp", "ok", "found")


def nft() -> Result:
    """The library that sets packet filters is there."""
    if ctypes.util.find_library("nftables"):
        return Result("nftables", "ok", "found")
    return Result("nftables", "fail", "libnftables.so.1 is not there",
                  "install libnftables1: networks and published ports need it")  # fmt: skip


def subids() -> Result:
    """What user namespaces with several ids need."""
    missing = [name for name in ("newuidmap", "newgidmap") if not shutil.which(name)]
    if missing:
        return Result("subordinate ids", "warn", f"without {', '.join(missing)}",
                      "install uidmap to run without root or with --userns-remap")  # fmt: skip
    return Result("subordinate ids", "ok", "found")


def fuse() -> Result:
    """/dev/fuse, for storage that lives in user space."""
    if os.path.exists("/dev/fuse"):
        return Result("fuse", "ok", "/dev/fuse")
    return Result("fuse", "warn", "no /dev/fuse", "modprobe fuse for drivers that need it")


def engine(ctx: Context) -> list[Result]:
    """An engine answers, and what it has found out itself. None is started for the question."""
    from boxwood.cli.main import describe_connect
    from boxwood.client.errors import ApiError, ClientError, ConnectError

    client = ctx.new_client()
    try:
        return [Result(**result) for result in client.get("/boxwood/doctor")]
    except ConnectError as error:
        return [Result("engine", "warn", describe_connect(ctx, error))]
    except ApiError:  # another engine than ours: it has no such route
        info = client.get("/info")
        return [Result("engine", "ok", f"version {info.get('ServerVersion')}, not Boxwood")]
    except ClientError as error:
        return [Result("engine", "fail", str(error))]
    finally:
        client.close()
