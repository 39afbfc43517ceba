"""Snapshots as disks: each is one file with an ext4 in it, mounted through a loop device.

A child is a copy of its parent's file: one reflink where the file system can, its blocks that hold
something elsewhere. No snapshot can take more room or inodes than its file has.
"""

import asyncio
import errno
import fcntl
import os
import struct
import subprocess
from pathlib import Path

from boxwood.drivers.hookspecs import hookimpl
from boxwood.drivers.storage import (
    VOLATILE,
    DirectoryDriver,
    Kind,
    Usage,
    as_boxwood_error,
    open_directory,
)
from boxwood.errors import InvalidArgument, Unavailable, Unsupported
from boxwood_ext import mount

DEFAULT_SIZE = 10 << 30
SMALLEST_SIZE = 16 << 20
_CONFIGURE, _GET_FREE = 0x4C0A, 0x4C82
_READ_ONLY, _AUTOCLEAR = 1, 4
_CONFIG = struct.Struct("=II52xI240x")
"""struct loop_config: the file, the block size, and of loop_info64 the flags."""
_GONE = (errno.ENOENT, errno.ENODEV, errno.ENXIO)
_TRIES = 50
"""To get a loop device that others want too."""


class LoopDriver(DirectoryDriver):
    """See the module."""

    name = "loop"
    # Volatile costs nothing here: a file in the page cache is not synced by unmounting.
    capabilities = frozenset({VOLATILE})

    def __init__(self, root, size=DEFAULT_SIZE):
        super().__init__(root)
        self.size = size
        if not Path("/dev/loop-control").exists():
            raise Unavailable("storage driver loop: /dev/loop-control: missing; modprobe loop")

    async def fill(self, directory, parents, info):
        """Copy the parent's disk, or make an empty one; a view shows its parent's."""
        disk = directory / "disk"
        disk.mkdir(mode=0o700)
        if parents and info.kind is Kind.VIEW:
            return
        if parents:
            with open_directory(parents[0] / "disk") as source, open_directory(disk) as target:
                await self.offload("copy_tree", {}, [source, target])
        else:
            await asyncio.to_thread(self._format, disk / "image")

    def _format(self, image):
        with image.open("xb") as file:
            file.truncate(self.size)
        # Nothing of a fresh file has to be zeroed, now or by the kernel later.
        extra = "assume_storage_prezeroed=1,nodiscard,root_owner=0:0"
        done = subprocess.run(
            ["mkfs.ext4", "-q", "-F", "-m", "0", "-E", extra, image],
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if done.returncode:
            raise Unavailable(f"make disk: {image}: mkfs.ext4: {done.stderr.strip()[-200:]}")
        root = _mounted(image, read_only=False)
        try:
            os.rmdir(f"/proc/self/fd/{root}/lost+found")
            os.chmod(f"/proc/self/fd/{root}", 0o755)
        finally:
            os.close(root)

    def mounts_of(self, directory, parents, info):
        """There is nothing that anybody else could mount."""
        return []

    def mounts(self, key):
        """Refuse: a loop device has to be made for it."""
        super().mounts(key)
        raise Unsupported(f"mount snapshot: {key}: the driver loop mounts by itself")

    async def open_root(self, key, *, volatile=False):
        """Mount the disk; the loop device goes with the mount."""
        super().mounts(key)
        info = self.stat(key)
        view = info.kind is Kind.VIEW
        shown = self.stat(info.parent) if view and info.parent else info
        try:
            return _mounted(self._directory(shown) / "disk/image", read_only=view)
        except OSError as error:
            raise as_boxwood_error("open snapshot", key, error) from error

    async def usage(self, key):
        """Ask the file systems: what is used beyond what the parent's uses."""
        info = self.stat(key)
        own = await self._used(key)
        below = await self._used(info.parent) if info.parent else (0, 0)
        return Usage(max(own[0] - below[0], 0), max(own[1] - below[1], 0))

    async def _used(self, key):
        async with self.opened(key) as root:
            found = os.fstatvfs(root)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        return used, found.f_files - found.f_ffree

    def describe(self):
        """Say what `docker info` shows."""
        return [("Size of each disk", str(self.size)), ("File system", "ext4")]


def _mounted(image, *, read_only):
    """Mount an image, detached. What is mounted already is the same file system once more."""
    device = _device_of(image, read_only)
    try:
        context = mount.fsopen("ext4")
        try:
            mount.fsconfig_string(context, "source", f"/proc/self/fd/{device}")
            if read_only:
                mount.fsconfig_flag(context, "ro")
            mount.fsconfig_create(context)
            return mount.fsmount(context, mount.MOUNT_ATTR_RDONLY if read_only else 0)
        finally:
            os.close(context)
    finally:
        os.close(device)


def _device_of(image, read_only):
    """Return the open loop device of an image: the one that it has, or a new one."""
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        if _backing(file) != image.resolve():
            continue
        try:
            device = os.open(f"/dev/{file.parts[3]}", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            continue
        # Held open it cannot go any more; it may have gone, and come for another, before.
        if _backing(file) == image.resolve():
            return device
        os.close(device)
    return _new_device(image, read_only)


def _backing(file):
    """Return the file behind a loop device; None: the device has gone."""
    try:
        return Path(file.read_text().rstrip("\n"))
    except OSError as error:
        if error.errno not in _GONE:
            raise
        return None


def _new_device(image, read_only):
    flags = os.O_RDONLY if read_only else os.O_RDWR
    backing = os.open(image, flags | os.O_CLOEXEC)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        wanted = _AUTOCLEAR | (_READ_ONLY if read_only else 0)
        for _ in range(_TRIES):
            number = fcntl.ioctl(control, _GET_FREE)
            device = os.open(f"/dev/loop{number}", flags | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, _CONFIGURE, bytearray(_CONFIG.pack(backing, 0, wanted)))
                return device
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:  # somebody was quicker
                    raise
        raise Unavailable(f"mount disk: {image}: no free loop device in {_TRIES} tries")
    finally:
        os.close(control)
        os.close(backing)


@hookimpl
def storage_driver(name, root, options):
    """Hand the driver over; the option `size` is bytes of each disk."""
    if name != LoopDriver.name:
        return None
    size = options.get("size", str(DEFAULT_SIZE))
    if options.keys() - {"size"} or not size.isdecimal() or int(size) < SMALLEST_SIZE:
        raise InvalidArgument(f"storage driver loop: {dict(options)}: one option, size, in bytes")
    return LoopDriver(root, int(size))
