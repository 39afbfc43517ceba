"""The system calls that mount and unmount kernel aufs, as values first, then done.

aufs(5): ``br:`` names the branches, topmost first; ``rw`` is the branch that is written to,
``ro+wh`` one that is only read and may hold whiteouts. What does not fit into the page of options
that mount(2) takes is appended by remounts, a branch each. ``dio`` allows direct I/O, ``dirperm1``
lets a directory's mode in the upper branch decide alone, ``xino`` is the file that keeps inode
numbers: on a tmpfs, as it is written all the time and is unlinked as soon as it is open.

Pseudo-links, hard links to files of lower branches that were copied up under one of their names,
live in the mount alone: ``auplink PLACE flush`` (aufs-tools) makes true links of them, which has
to happen before the unmount.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress

import msgspec

from boxwood.errors import InvalidArgument, Unavailable, Unsupported
from boxwood_ext import mount
from boxwood_plugins.storage._processes import ended

BRANCH_LIMIT = 127
"""Branches of one mount, the written one too (CONFIG_AUFS_BRANCH_MAX_127, the default)."""
PAGE = 4096
"""Bytes of options that mount(2) takes, with the NUL."""
MS_RDONLY = 1
MS_REMOUNT = 32
_SPECIAL = ":,=\\"
"""What the option string gives a meaning to; there is no escaping it."""
_FLUSH_SECONDS = 300.0
"""auplink looks at every file of the mount."""


class MountCall(msgspec.Struct, frozen=True):
    """One mount(2): its five arguments."""

    source: str
    target: str
    type: str
    flags: int
    data: str


class Flush(msgspec.Struct, frozen=True):
    """One run of auplink."""

    target: str


class UnmountCall(msgspec.Struct, frozen=True):
    """One umount2(2)."""

    target: str
    flags: int


Step = MountCall | Flush | UnmountCall


def check_path(path: str) -> None:
    """Refuse a path that cannot be a branch; raises InvalidArgument."""
    found = sorted(set(path) & set(_SPECIAL))
    if found:
        raise InvalidArgument(
            f"aufs: {path}: a branch's path cannot have {' '.join(found)}; use another data root"
        )


def mount_steps(target: str, upper: str | None, lowers: Sequence[str], xino: str) -> list[Step]:
    """Return what mounts a stack of branches.

    Args:
        target: where it is mounted.
        upper: the branch that is written to; None: the mount is read-only.
        lowers: the branches below, topmost first; one at least if there is no upper one.
        xino: the path of the file of inode numbers.

    Raises:
        InvalidArgument: a path that aufs cannot take.
        Unsupported: too many branches.
    """
    branches = [f"{path}=ro+wh" for path in lowers]
    if upper is not None:
        branches.insert(0, f"{upper}=rw")
    if len(branches) > BRANCH_LIMIT:
        raise Unsupported(f"aufs: {target}: {len(branches)} branches, at most {BRANCH_LIMIT}")
    for path in (*lowers, xino, *([upper] if upper is not None else [])):
        check_path(path)
    flags = 0 if upper is not None else MS_RDONLY
    tail = f",dio,xino={xino},dirperm1"
    first, rest = _fitting(branches, PAGE - 1 - len(os.fsencode(tail)) - len("br:"))
    begin = MountCall("none", target, "aufs", flags, f"br:{':'.join(first)}{tail}")
    more = [
        MountCall("none", target, "aufs", flags | MS_REMOUNT, f"append:{branch}") for branch in rest
    ]
    return [begin, *more]


def detach(target: str) -> UnmountCall:
    """Return what unmounts it when nothing that was written matters."""
    return UnmountCall(target, mount.MNT_DETACH)


def unmount_steps(target: str) -> list[Step]:
    """Return what unmounts it, its hard links made true ones before."""
    return [Flush(target), UnmountCall(target, 0)]


def _fitting(branches: Sequence[str], room: int) -> tuple[Sequence[str], Sequence[str]]:
    """Split the branches into those that fit into ``room`` bytes and the others."""
    used = -1
    for at, branch in enumerate(branches):
        used += len(os.fsencode(branch)) + 1
        if used > room:
            if at == 0:
                raise InvalidArgument(f"aufs: {branch[:100]}...: longer than mount(2) takes")
            return branches[:at], branches[at:]
    return branches, ()


async def carry_out(steps: Iterable[Step]) -> None:
    """Do the steps. If a mount fails that is begun, it is taken back; raises OSError."""
    begun = ""
    try:
        for step in steps:
            if isinstance(step, Flush):
                await _flush(step.target)
            else:
                call(step)
            if isinstance(step, MountCall):
                begun = step.target
    except BaseException:
        if begun:
            with suppress(OSError):
                mount.umount2(begun, mount.MNT_DETACH)
        raise


def call(step: MountCall | UnmountCall) -> None:
    """Make one system call; raises OSError."""
    if isinstance(step, MountCall):
        mount.mount(step.source, step.target, step.type, step.flags, step.data)
    else:
        mount.umount2(step.target, step.flags)


async def _flush(target: str) -> None:
    program = shutil.which("auplink")
    if program is None:
        # Without it the hard links come apart, as they do on every copy-up of overlay.
        return
    process = subprocess.Popen(  # noqa: ASYNC220 - returns when the program is executed: 1 ms
        [program, target, "flush"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        await asyncio.wait_for(ended(process.pid), _FLUSH_SECONDS)
    except TimeoutError:
        raise Unavailable(f"aufs: {target}: auplink: not done in {_FLUSH_SECONDS:.0f} s") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
