"""Random file trees, changes to them, and what of them a layer must bring across."""

from __future__ import annotations

import os
import random
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from boxwood_ext import diff, tar

NAMES = ["a", "b", "c-d", "e.f", "ü", "x" * 120, "with space", ".hidden", "z\n"]


class Gardener:
    """Makes and changes a tree, as chance has it."""

    def __init__(self, dice: random.Random, root: Path, *, links: bool = True) -> None:
        self._dice = dice
        self._root = root
        self._acts: list[Callable[[], None]] = [
            self._directory, self._directory, self._file, self._file, self._file, self._symlink,
            self._node, self._mode, self._owner, self._attribute, self._touch, self._sparse,
            self._delete, self._replace, self._rename, *([self._link] if links else []),
        ]  # fmt: skip

    def work(self, times: int) -> None:
        """Do something to the tree, again and again; what cannot be done is left."""
        for _ in range(times):
            try:
                self._dice.choice(self._acts)()
            except (FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError):
                continue

    def _all(self, wanted: Callable[[Path], bool] = lambda _: True) -> list[Path]:
        found = [
            Path(at) / name
            for at, directories, files in os.walk(self._root)
            for name in (*directories, *files)
        ]
        return sorted(path for path in found if wanted(path))

    def _some(self, wanted: Callable[[Path], bool] = lambda _: True) -> Path:
        found = self._all(wanted)
        if not found:
            raise FileExistsError
        return self._dice.choice(found)

    def _place(self) -> Path:
        inside = [self._root, *self._all(lambda path: path.is_dir() and not path.is_symlink())]
        return self._dice.choice(inside) / self._dice.choice(NAMES)

    def _directory(self) -> None:
        self._place().mkdir()

    def _file(self) -> None:
        place = self._place()
        if place.is_symlink() or (place.exists() and not place.is_file()):
            raise FileExistsError
        place.write_bytes(self._dice.randbytes(self._dice.choice([0, 1, 511, 512, 513, 70_000])))

    def _sparse(self) -> None:
        place = self._place()
        with place.open("xb") as file:
            file.seek(self._dice.randrange(200_000, 900_000))
            file.write(b"data")
            file.truncate(1_000_000 + self._dice.randrange(1000))

    def _symlink(self) -> None:
        self._place().symlink_to(self._dice.choice(["/nowhere", "a", "../b", "y" * 150]))

    def _node(self) -> None:
        kind = self._dice.choice([stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK])
        os.mknod(self._place(), kind | 0o640, os.makedev(7, self._dice.randrange(1, 300)))

    def _link(self) -> None:
        os.link(self._some(lambda p: p.is_file() and not p.is_symlink()), self._place())

    def _mode(self) -> None:
        wanted = self._some(lambda path: not path.is_symlink())
        wanted.chmod(self._dice.choice([0o600, 0o644, 0o755, 0o4755, 0o2711, 0o1777]))

    def _owner(self) -> None:
        ids = [0, 1000, 65_534, 3_000_000]
        os.chown(self._some(), self._dice.choice(ids), self._dice.choice(ids),
                 follow_symlinks=False)  # fmt: skip

    def _attribute(self) -> None:
        path = self._some(lambda p: not p.is_symlink() and (p.is_file() or p.is_dir()))
        names = [name for name in os.listxattr(path) if name.startswith("user.")]
        if names and self._dice.random() < 0.3:
            os.removexattr(path, self._dice.choice(names))
        else:
            os.setxattr(path, f"user.{self._dice.choice('xyz')}", self._dice.randbytes(5))

    def _touch(self) -> None:
        path = self._some(lambda p: not p.is_dir() or p.is_symlink())
        # Never the same second again: with a fraction and without, that would be the same time.
        moment = self._dice.randrange(4_000_000_000) * 10**9 + self._dice.choice([0, 123_456_789])
        os.utime(path, ns=(moment, moment), follow_symlinks=False)

    def _delete(self) -> None:
        subprocess.run(["rm", "-rf", "--", self._some()], check=True)

    def _replace(self) -> None:
        path = self._some()
        subprocess.run(["rm", "-rf", "--", path], check=True)
        if self._dice.random() < 0.5:
            path.mkdir()
        else:
            path.write_text("instead")

    def _rename(self) -> None:
        path, place = self._some(), self._place()
        # Overlay answers EXDEV for a lower directory: mv copies then, and so do containers.
        if path != place and path not in place.parents and not place.exists():
            subprocess.run(["mv", "-T", "--", path, place], check=False, capture_output=True)


def look(root: Path) -> dict[str, Any]:
    """Return all that a layer must bring across, by path."""
    groups: dict[tuple[int, int], str] = {}
    found: dict[str, Any] = {}
    for at, directories, files in os.walk(root):
        directories.sort()  # else the first name of a file would be another one on each file system
        for name in sorted((*directories, *files)):
            path = os.path.join(at, name)
            status = os.lstat(path)
            shown = os.path.relpath(path, root)
            entry: dict[str, Any] = {
                "mode": status.st_mode, "owner": (status.st_uid, status.st_gid),
            }  # fmt: skip
            if not stat.S_ISDIR(status.st_mode):
                entry["mtime"] = status.st_mtime_ns
                entry["first"] = groups.setdefault((status.st_dev, status.st_ino), shown)
            if stat.S_ISREG(status.st_mode):
                entry["content"] = Path(path).read_bytes()
            if stat.S_ISLNK(status.st_mode):
                entry["target"] = os.readlink(path)
            if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
                entry["device"] = status.st_rdev
            if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
                entry["attributes"] = {
                    key: os.getxattr(path, key)
                    for key in os.listxattr(path) if key.startswith(("user.", "security.capab"))
                    and not key.startswith("user.overlay.")
                }  # fmt: skip
            found[shown] = entry
    return found


def written(new: Path, old: Path | None, sink: Path, **options: Any) -> bytes:
    """Return the layer's tar that `diff` writes."""
    fds = [os.open(new, os.O_RDONLY | os.O_DIRECTORY)]
    if old is not None:
        fds.append(os.open(old, os.O_RDONLY | os.O_DIRECTORY))
    out = os.open(sink, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        found = diff.diff(out, *fds, **options)
    finally:
        for fd in (out, *fds):
            os.close(fd)
    data = sink.read_bytes()
    assert found["size"] == len(data)
    return data


def applied(archive: Path, root: Path) -> None:
    """Unpack a layer on a tree; what it hides is deleted."""
    source = os.open(archive, os.O_RDONLY)
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    before = os.umask(0)
    try:
        tar.extract(source, directory, whiteouts="delete")
    finally:
        os.umask(before)
        os.close(source)
        os.close(directory)


def copy(source: Path, target: Path) -> None:
    """Copy a tree with everything."""
    subprocess.run(["cp", "-a", "--", source, target], check=True)
