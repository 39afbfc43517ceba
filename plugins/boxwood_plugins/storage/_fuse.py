"""Branches that fuse-overlayfs stacks: a detached FUSE mount and the process that serves it.

We mount, not the program: a FUSE mount of our own on a descriptor of ``/dev/fuse`` that the program
is handed as ``/dev/fd/N``. So no mount table shows the mount, the program needs no privilege to
mount, and it ends by itself when the last reference to the mount goes, whether the daemon that
started it still lives or not.

One process serves an active snapshot, never two: it holds a lock on the file ``lock`` beside the
branch for as long as it lives. A file ``served`` says that the branch has the form that
fuse-overlayfs writes, overlay's; a commit gives it its final one.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from boxwood.drivers.storage import (
    Branch,
    IdMap,
    Kind,
    Mount,
    SnapshotInfo,
    as_boxwood_error,
    open_directory,
)
from boxwood.errors import Conflict, Unavailable, Unsupported
from boxwood_ext import mount
from boxwood_plugins.storage._branches import BranchDriver, in_user_namespace
from boxwood_plugins.storage._processes import ended

PROGRAM = "fuse-overlayfs"
READY_SECONDS = 20.0
"""In which the program must have read its directories; 500 branches take it 0.05."""
ENDING_SECONDS = 10.0
"""In which the process of a mount that has gone must have ended; it takes some milliseconds."""
_LOCK_INTERVAL = 0.005

_CAPABILITIES = (
    *("chown", "dac_override", "dac_read_search", "fowner", "fsetid"),
    *("mknod", "setfcap", "sys_admin"),  # the last one for attributes below ``trusted.``
)
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_UNKNOWN = "unknown argument ignored"


class Program:
    """The installed fuse-overlayfs, and how it is started."""

    def __init__(self) -> None:
        """Find it and ask its version; raises Unavailable with what to install."""
        found = shutil.which(PROGRAM)
        if found is None:
            raise Unavailable(
                f"{PROGRAM}: the program is missing; install it (Debian: apt install {PROGRAM})"
            )
        self.command = [*_confinement(), found]
        self.version = _version(found)


def _confinement() -> list[str]:
    """Return the command in front that takes away what the server needs not, if there is one."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return []
    kept = ",".join(f"+{name}" for name in _CAPABILITIES)
    command = [setpriv, "--no-new-privs", "--inh-caps=-all", f"--bounding-set=-all,{kept}"]
    # Not every setpriv knows a bounding set (busybox), nor may everybody shrink it.
    done = subprocess.run(
        [*command, "true"], capture_output=True, env=_ENVIRONMENT, check=False, timeout=10
    )
    return command if done.returncode == 0 else []


def _version(program: str) -> str:
    done = subprocess.run(
        [program, "--version"], capture_output=True, text=True, env=_ENVIRONMENT, timeout=10,
        check=False,
    )  # fmt: skip
    for line in done.stdout.splitlines():
        if line.startswith(f"{PROGRAM}: version "):
            return line.rpartition(" ")[2]
    raise Unavailable(f"{PROGRAM}: {program}: does not tell its version: {done.stderr[:200]}")


def open_device() -> int:
    """Open ``/dev/fuse``; raises Unavailable."""
    try:
        return os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise Unavailable(
            f"{PROGRAM}: /dev/fuse: {error.strerror}; load the kernel's module: modprobe fuse"
        ) from error


def mount_device(device: int, *, read_only: bool) -> int:
    """Mount what will be served on this descriptor, detached; the caller closes the result."""
    context = mount.fsopen("fuse")
    try:
        for key, value in (
            ("source", PROGRAM),
            ("subtype", PROGRAM),
            ("fd", str(device)),
            ("rootmode", "40000"),
            ("user_id", str(os.geteuid())),
            ("group_id", str(os.getegid())),
        ):
            mount.fsconfig_string(context, key, value)
        # The kernel checks permissions, as for any disk: the server sees to none.
        mount.fsconfig_flag(context, "default_permissions")
        mount.fsconfig_flag(context, "allow_other")
        mount.fsconfig_create(context)
        attributes = mount.MOUNT_ATTR_NOATIME | (mount.MOUNT_ATTR_RDONLY if read_only else 0)
        return mount.fsmount(context, attributes)
    finally:
        os.close(context)


async def serve(
    program: Program, options: Sequence[str], directory: Path, *, lock: int = -1
) -> int:
    """Mount, start the server, wait until it is ready; return the mount's O_PATH descriptor.

    Args:
        program: the server.
        options: its ``-o`` options; paths in them are relative to ``directory``.
        directory: where it resolves paths.
        lock: a descriptor that it keeps open as long as it lives, -1: none.

    Raises:
        Unavailable: no FUSE here, or the server refuses; it says why.
        ResourceExhausted: descriptors, processes or memory ran out.
    """
    device = open_device()
    try:
        root = mount_device(device, read_only=not any(o.startswith("upperdir=") for o in options))
        try:
            await _start(program, options, directory, device, lock)
        except BaseException:
            os.close(root)
            raise
        return root
    except OSError as error:
        raise as_boxwood_error("mount root", PROGRAM, error) from error
    finally:
        os.close(device)


async def _start(
    program: Program, options: Sequence[str], directory: Path, device: int, lock: int
) -> None:
    """Start the server; it makes itself a daemon once it serves, which ends what we started."""
    process = subprocess.Popen(  # noqa: ASYNC220 - returns when the program is executed: 1 ms
        [*program.command, "-o", ",".join(options), f"/dev/fd/{device}"],
        cwd=directory,
        env=_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=[device] if lock < 0 else [device, lock],
        start_new_session=True,
    )
    try:
        await asyncio.wait_for(ended(process.pid), READY_SECONDS)
    except TimeoutError:
        raise Unavailable(f"{PROGRAM}: not ready after {READY_SECONDS:.0f} s") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        assert process.stderr is not None
        os.set_blocking(process.stderr.fileno(), False)
        said = process.stderr.read(4096) or b""
        process.stderr.close()
    if process.returncode:
        lines = [line for line in said.decode(errors="replace").splitlines() if line]
        words = "; ".join(line for line in lines if not line.startswith(_UNKNOWN))
        raise Unavailable(f"{PROGRAM}: {words or f'ended with status {process.returncode}'}")


class FuseBranchDriver(BranchDriver):
    """A driver whose branches fuse-overlayfs stacks; a subclass says in which form they stay."""

    form: str = "overlay"
    """Of committed branches: ``overlay`` or ``aufs``."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.user_xattr = in_user_namespace()
        self._find_server()

    def _find_server(self) -> None:
        self.program = Program()
        os.close(open_device())

    def mounts_of(
        self, directory: Path, parents: Sequence[Path], info: SnapshotInfo
    ) -> list[Mount]:
        """There is nothing that anybody else could mount."""
        del directory, parents, info
        return []

    def mounts(self, key: str) -> list[Mount]:
        """Refuse: a process has to serve the mount; raises Unsupported (NotFound, Conflict)."""
        super().mounts(key)
        raise Unsupported(f"mount snapshot: {key}: the driver {self.name} mounts by itself")

    async def open_root(self, key: str, *, volatile: bool = False) -> int:
        """Mount and serve; see the contract. Conflict also: it is served already."""
        BranchDriver.mounts(self, key)  # the same errors as everywhere
        info = self.stat(key)
        if info.parent is None:
            flags = ("ro",) if info.kind is Kind.VIEW else ()
            return self.mounter([Mount("bind", str(self._directory(info) / "fs"), flags)])
        if info.kind is Kind.VIEW:
            return await serve(self.program, self._lower(info), self.root)
        options = [*self._lower(info), *self._upper(info)]
        if volatile or info.options.volatile:
            options.append("volatile")
        async with self._locked(info) as lock:
            await self._open_up(info)
            return await serve(self.program, options, self.root, lock=lock)

    @asynccontextmanager
    async def opened(self, key: str) -> AsyncIterator[int]:
        """The tree of any snapshot, to read it; of one in use as it is on disk."""
        info = self.stat(key)
        if info.kind is not Kind.ACTIVE or info.parent is None:
            async with super().opened(key) as root:
                yield root
            return
        below = self._lower(info)[0].removeprefix("lowerdir=")
        both = f"lowerdir={self._branch_of(info)}:{below}"
        root = await serve(self.program, [both, *_mapping(info.options.id_map)], self.root)
        try:
            yield root
        finally:
            os.close(root)

    async def commit(self, key: str, name: str) -> None:
        """Give the branch its final form, then freeze it; see the contract.

        A crash before the end leaves an active snapshot that shows the same tree as before.
        """
        info = self.stat(key)
        if info.kind is Kind.ACTIVE and self._mark(info).exists():
            self._check_free(name)
            await self._convert(info)
        await super().commit(key, name)

    def branch(self, key: str) -> Branch | None:
        """Every snapshot's directory holds just its own changes."""
        info = self.stat(key)
        path = self._directory(info) / "fs"
        if self.form == "aufs" and (info.kind is not Kind.ACTIVE or not self._mark(info).exists()):
            return Branch(path, "aufs")
        return Branch(path, "overlay", self.user_xattr)

    # Inside

    async def _convert(self, info: SnapshotInfo) -> None:
        """Give an active branch the form of the committed ones, once nobody serves it."""
        async with self._locked(info):
            await self._reform(info, self.form)
            try:
                self._mark(info).unlink(missing_ok=True)
            except OSError as error:
                raise as_boxwood_error("commit snapshot", info.key, error) from error

    async def _open_up(self, info: SnapshotInfo) -> None:
        """Let the branch be written by fuse-overlayfs: what a layer's tar put there first too.

        Else the branch would hold marks of two forms, and no reader knew which are meant.
        """
        if self._mark(info).exists():
            return
        try:
            if self.form != "overlay" and os.listdir(self._directory(info) / "fs"):
                await self._reform(info, "overlay")
            self._mark(info).touch(mode=0o600)
        except OSError as error:
            raise as_boxwood_error("open snapshot", info.key, error) from error

    async def _reform(self, info: SnapshotInfo, form: str) -> None:
        with open_directory(self._directory(info) / "fs") as branch:
            await self.offload("convert_whiteouts", {"form": form}, [branch])

    def _mark(self, info: SnapshotInfo) -> Path:
        return self._directory(info) / "served"

    def _branch_of(self, info: SnapshotInfo) -> str:
        # Relative to the root, and of a key's characters only: nothing that needs to be escaped.
        return f"{info.kind.value}/{info.key}/fs"

    def _lower(self, info: SnapshotInfo) -> list[str]:
        branches = [str(path.relative_to(self.root) / "fs") for path in self._parents(info.parent)]
        return [f"lowerdir={':'.join(branches)}", *_mapping(info.options.id_map)]

    def _upper(self, info: SnapshotInfo) -> list[str]:
        here = f"{info.kind.value}/{info.key}"
        return [f"upperdir={here}/fs", f"workdir={here}/work"]

    @asynccontextmanager
    async def _locked(self, info: SnapshotInfo) -> AsyncIterator[int]:
        """Hold the lock of an active snapshot, once the process that served it has ended."""
        path = self._directory(info) / "lock"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise as_boxwood_error("open snapshot", info.key, error) from error
        try:
            await _lock(fd, info.key)
            yield fd
        finally:
            os.close(fd)


async def _lock(fd: int, key: str) -> None:
    deadline = asyncio.get_running_loop().time() + ENDING_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno != errno.EWOULDBLOCK:
                raise as_boxwood_error("lock snapshot", key, error) from error
        if asyncio.get_running_loop().time() > deadline:
            raise Conflict(f"open snapshot: {key}: it is in use")
        await asyncio.sleep(_LOCK_INTERVAL)


def _mapping(id_map: Sequence[IdMap]) -> list[str]:
    if not id_map:
        return []
    ranges = ":".join(f"{part.inside}:{part.outside}:{part.size}" for part in id_map)
    return [f"uidmapping={ranges}", f"gidmapping={ranges}"]
