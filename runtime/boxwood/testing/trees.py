"""Random file trees, changes to them, and all that a layer must bring across of them."""

from __future__ import annotations

import errno
import os
import random
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

NAMES = ("a", "b", "c-d", "e.f", "ü", "n" * 120, "with space", ".hidden", "z\n")
IDS = (0, 1000, 65_534, 3_000_000)


def grow(root: Path, dice: random.Random, times: int) -> None:
    """Do something to the tree, again and again; what cannot be done is left."""
    acts: tuple[Callable[[Path, random.Random], None], ...] = (
        _directory, _directory, _file, _file, _file, _sparse, _symlink, _pipe,
        _mode, _owner, _attribute, _touch, _delete, _replace, _link,
    )  # fmt: skip
    for _ in range(times):
        try:
            dice.choice(acts)(root, dice)
        except (FileExistsError, NotADirectoryError, IsADirectoryError, IndexError):
            continue
        except OSError as error:
            # fuse-overlayfs 1.10 says so once in some thousand times, with memory to spare.
            if error.errno != errno.ENOMEM:
                raise


def _all(root: Path, wanted: Callable[[os.stat_result], bool] = lambda _: True) -> list[Path]:
    return [path for path, status in walk(root) if wanted(status)]


def _new(root: Path, dice: random.Random) -> Path:
    folders = [root, *_all(root, lambda status: stat.S_ISDIR(status.st_mode))]
    return dice.choice(folders) / dice.choice(NAMES)


def _directory(root: Path, dice: random.Random) -> None:
    _new(root, dice).mkdir()


def _file(root: Path, dice: random.Random) -> None:
    with _new(root, dice).open("xb") as file:
        file.write(dice.randbytes(dice.choice([0, 1, 511, 512, 513, 70_000])))


def _sparse(root: Path, dice: random.Random) -> None:
    with _new(root, dice).open("xb") as file:
        file.seek(dice.randrange(200_000, 900_000))
        file.write(b"data")
        file.truncate(1_000_000)


def _symlink(root: Path, dice: random.Random) -> None:
    _new(root, dice).symlink_to(dice.choice(["/nowhere", "a", "../b", "y" * 150]))


def _pipe(root: Path, dice: random.Random) -> None:
    os.mkfifo(_new(root, dice), 0o640)


def _link(root: Path, dice: random.Random) -> None:
    # Fresh names only: a lower file's other names stay behind when one is copied up.
    place = _new(root, dice)
    with place.open("xb") as file:
        file.write(b"linked")
    os.link(place, place.with_name(f"{place.name[:20]}-link{dice.randrange(1000)}"))


def _changeable(status: os.stat_result) -> bool:
    # Of a pipe in a lower branch fuse-overlayfs 1.10 changes nothing (EIO).
    return not stat.S_ISFIFO(status.st_mode)


def _mode(root: Path, dice: random.Random) -> None:
    path = dice.choice(_all(root, lambda s: _changeable(s) and not stat.S_ISLNK(s.st_mode)))
    path.chmod(dice.choice([0o600, 0o644, 0o755, 0o4755, 0o2711, 0o1777]))


def _owner(root: Path, dice: random.Random) -> None:
    path = dice.choice(_all(root, _changeable))
    os.chown(path, dice.choice(IDS), dice.choice(IDS), follow_symlinks=False)


def _attribute(root: Path, dice: random.Random) -> None:
    path = dice.choice(_all(root, lambda s: stat.S_ISREG(s.st_mode) or stat.S_ISDIR(s.st_mode)))
    os.setxattr(path, f"user.{dice.choice('xyz')}", dice.randbytes(5))


def _touch(root: Path, dice: random.Random) -> None:
    path = dice.choice(_all(root, lambda s: _changeable(s) and not stat.S_ISDIR(s.st_mode)))
    moment = dice.randrange(4_000_000_000) * 10**9 + 123_456_789
    os.utime(path, ns=(moment, moment), follow_symlinks=False)


def _delete(root: Path, dice: random.Random) -> None:
    path = dice.choice(_all(root))
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _replace(root: Path, dice: random.Random) -> None:
    path = dice.choice(_all(root))
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
        path.write_text("instead")
    else:
        path.unlink()
        path.mkdir()


def walk(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield all below ``root``, folders before what is in them, by name."""
    for entry in sorted(os.scandir(root), key=lambda entry: os.fsencode(entry.name)):
        status = entry.stat(follow_symlinks=False)
        yield Path(entry.path), status
        if stat.S_ISDIR(status.st_mode):
            yield from walk(Path(entry.path))


def look(root: Path, *, links: bool = True) -> dict[str, Any]:
    """Return all that a layer must bring across, by path below ``root``.

    Times of folders are left out: a layer has them where it names the folder only. ``links``:
    which names are one file's, too.
    """
    groups: dict[tuple[int, int], str] = {}
    found: dict[str, Any] = {}
    for path, status in walk(root):
        name = str(path.relative_to(root))
        entry: dict[str, Any] = {
            "mode": oct(status.st_mode),
            "owner": (status.st_uid, status.st_gid),
        }
        if not stat.S_ISDIR(status.st_mode):
            entry["mtime"] = status.st_mtime_ns
        if links and not stat.S_ISDIR(status.st_mode):
            entry["first"] = groups.setdefault((status.st_dev, status.st_ino), name)
        if stat.S_ISREG(status.st_mode):
            entry["content"] = path.read_bytes()
        if stat.S_ISLNK(status.st_mode):
            entry["target"] = os.readlink(path)
        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
            entry["attributes"] = _attributes(path)
        if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            entry["device"] = status.st_rdev
        found[name] = entry
    return found


def _attributes(path: Path) -> dict[str, bytes]:
    return {
        key: os.getxattr(path, key)
        for key in os.listxattr(path)
        if key.startswith(("user.", "security.capability"))
        and not key.startswith(("user.overlay.", "user.fuseoverlayfs."))
    }


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Name each entry that two trees do not share, and in what it differs."""
    told = []
    for name in sorted(one.keys() | other.keys()):
        if name not in one or name not in other:
            told.append(f"{name[:60]!r}: only in the {'second' if name in other else 'first'}")
            continue
        keys = one[name].keys() | other[name].keys()
        parts = sorted(k for k in keys if one[name].get(k) != other[name].get(k))
        if parts:
            told.append(f"{name[:60]!r}: {', '.join(parts)}")
    return told
