"""The job that gives a branch's marks of what is gone another form.

What fuse-overlayfs has written into a branch holds the marks of the kernel's overlay, its own
(files ``.wh..wh..opq`` beside the attribute, a device ``.wh..opq``) and an attribute that says
where a file was copied up from. A committed branch has one form only: that of the kernel's overlay
or that of aufs.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import Any

from boxwood.errors import InvalidArgument, Unsupported
from boxwood.execution.worker_trees import readable

PREFIX = ".wh."
OPAQUE_FILE = ".wh..wh..opq"
_OPAQUE = "overlay.opaque"
_OWN = ("user.fuseoverlayfs.", "trusted.overlay.", "user.overlay.")
_DEPTH_LIMIT = 2100
"""Levels of directories, a descriptor each: as many as a path that can be named has."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def convert_whiteouts(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Convert a branch, in place.

    Descriptors: the branch. Argument ``form``: ``overlay`` or ``aufs``. Whatever of both forms is
    there becomes the wanted one; doing it again changes nothing. The new mark is made before the
    old one goes, so that a crash leaves each thing marked at least once. Times of directories
    stay. Answers ``converted``: marks that were changed.
    """
    form = arguments["form"]
    if form not in ("overlay", "aufs"):
        raise InvalidArgument(f"convert whiteouts: {form}: no such form")
    converter = _Converter(form == "aufs")
    converter.tree(readable(fds[0]))
    return {"converted": converter.converted}


class _Level:
    """An open directory, what of it is still to be looked at, and its times."""

    def __init__(self, fd: int, path: str) -> None:
        self.fd = fd
        self.path = path
        before = os.fstat(fd)
        self.atime, self.mtime = before.st_atime_ns, before.st_mtime_ns
        self.names = os.listdir(fd)
        self.marked = OPAQUE_FILE in self.names


class _Converter:
    def __init__(self, aufs: bool) -> None:
        self._aufs = aufs
        self._space = "trusted"
        self.converted = 0

    def tree(self, root: int) -> None:
        """Convert all below an open directory, and itself; a level's own names before its end."""
        levels = [_Level(root, "")]
        try:
            while levels:
                below = self._next(levels[-1])
                if below is not None:
                    levels.append(below)
                    if len(levels) > _DEPTH_LIMIT:
                        raise InvalidArgument(
                            f"convert whiteouts: {below.path[:200]}: over {_DEPTH_LIMIT} levels"
                        )
                    continue
                self._leave(levels[-1])
                os.close(levels.pop().fd)
        finally:
            for level in levels:
                os.close(level.fd)

    def _next(self, level: _Level) -> _Level | None:
        """Convert a directory's entries up to the next one that is a directory; open that."""
        while level.names:
            name = level.names.pop()
            status = os.stat(name, dir_fd=level.fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                below = os.open(name, _DIRECTORY, dir_fd=level.fd)
                return _Level(below, f"{level.path}/{name}")
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                self._device(level.fd, name, level.path)
            elif name.startswith(PREFIX):
                if not self._aufs and name != OPAQUE_FILE:
                    self._file(level.fd, name)
            elif stat.S_ISREG(status.st_mode):
                self._strip(level.fd, name)
        return None

    def _leave(self, level: _Level) -> None:
        self._opaque(level.fd, level.marked)
        if os.fstat(level.fd).st_mtime_ns != level.mtime:
            os.utime(level.fd, ns=(level.atime, level.mtime))

    def _device(self, fd: int, name: str, path: str) -> None:
        """A whiteout in overlay's form."""
        if name.startswith(PREFIX):
            os.unlink(name, dir_fd=fd)
        elif self._aufs:
            self._touch(fd, PREFIX + name, f"{path}/{name}")
            os.unlink(name, dir_fd=fd)
            self.converted += 1

    def _file(self, fd: int, name: str) -> None:
        """A whiteout in aufs's form, or aufs's own files, which nobody else wants."""
        if not name.startswith(PREFIX + PREFIX):
            with suppress(FileExistsError):
                os.mknod(name.removeprefix(PREFIX), stat.S_IFCHR, 0, dir_fd=fd)
        os.unlink(name, dir_fd=fd)
        self.converted += 1

    def _touch(self, fd: int, name: str, path: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            os.close(os.open(name, flags, 0o444, dir_fd=fd))
        except FileExistsError:
            return
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise Unsupported(
                    f"convert whiteouts: {path[:300]}: no layer can say that a file with so long "
                    "a name is gone"
                ) from error
            raise

    def _opaque(self, fd: int, marked: bool) -> None:
        """Mark an opaque directory in the wanted form, and in no other."""
        found = [name for name in os.listxattr(fd) if name.endswith(f".{_OPAQUE}")]
        opaque = marked or any(os.getxattr(fd, name) == b"y" for name in found)
        if self._aufs:
            if opaque and not marked:
                self._touch(fd, OPAQUE_FILE, OPAQUE_FILE)
                self.converted += 1
            self._strip(fd, None)
            return
        if opaque and not found:
            self._mark_opaque(fd)
            self.converted += 1
        if marked:
            os.unlink(OPAQUE_FILE, dir_fd=fd)
        self._strip(fd, None, keep=_OPAQUE)

    def _mark_opaque(self, fd: int) -> None:
        try:
            os.setxattr(fd, f"{self._space}.{_OPAQUE}", b"y")
        except PermissionError:
            if self._space == "user":
                raise
            self._space = "user"  # in a user namespace nobody sets trusted attributes
            self._mark_opaque(fd)

    def _strip(self, fd: int, name: str | None, keep: str = "") -> None:
        """Remove the attributes of the stacking from an open directory, or a file in it."""
        inside = fd
        if name is not None:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            inside = os.open(name, flags, dir_fd=fd)
        try:
            for attribute in os.listxattr(inside):
                if attribute.startswith(_OWN) and not (keep and attribute.endswith(keep)):
                    os.removexattr(inside, attribute)
        finally:
            if inside != fd:
                os.close(inside)
