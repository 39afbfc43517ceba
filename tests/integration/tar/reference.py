"""The slow, obvious extractor: the oracle for good archives, and the weak one for bad ones.

It trusts names and links as they come. On an archive that means no harm its result is what the
compiled one has to match; on a hostile one it does the harm, which proves that the attack bites.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
from pathlib import Path


def extract(data: bytes, root: Path) -> None:
    """Apply a layer to a tree: what is there is replaced, whiteouts delete what lay below."""
    fresh: set[str] = set()
    times: list[tuple[Path, int]] = []
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            name = os.path.normpath(member.name)
            path = root / name.lstrip("/") if not member.name.startswith("/") else Path(name)
            base = path.name
            if base.startswith(".wh.") and not base.startswith(".wh..wh..a"):
                path.parent.mkdir(parents=True, exist_ok=True)
                parts = name.split("/")
                fresh.update("/".join(parts[:n]) for n in range(1, len(parts)))
            if base == ".wh..wh..opq":
                _clear(path.parent, os.path.dirname(name), fresh)
            elif base.startswith(".wh..wh."):
                continue
            elif base.startswith(".wh."):
                hidden = path.parent / base[4:]
                key = os.path.join(os.path.dirname(name), base[4:])
                if key not in fresh:
                    remove(hidden)
                elif hidden.is_dir() and not hidden.is_symlink():
                    _clear(hidden, key, fresh)
            else:
                _place(tar, member, path, root)
                parts = name.split("/")
                fresh.update("/".join(parts[: n + 1]) for n in range(len(parts)))
                if member.isdir():
                    times.append((path, int(member.mtime)))
    for path, mtime in times:
        if path.is_dir() and not path.is_symlink():
            os.utime(path, (mtime, mtime))


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.is_symlink() or path.exists():
        path.unlink()


def _clear(directory: Path, name: str, fresh: set[str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for child in directory.iterdir():
        key = os.path.normpath(os.path.join(name, child.name))
        if key not in fresh:
            remove(child)
        elif child.is_dir() and not child.is_symlink():
            _clear(child, key, fresh)


def _place(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, root: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if member.isdir():
        if path.is_symlink() or not path.is_dir():
            remove(path)
            path.mkdir()
    elif member.islnk():
        target = root / member.linkname
        if not (path.exists() and path.samefile(target)):
            remove(path)
            os.link(target, path, follow_symlinks=False)
        return
    else:
        remove(path)
        if member.isreg():
            source = tar.extractfile(member)
            assert source is not None
            path.write_bytes(source.read())
        elif member.issym():
            path.symlink_to(member.linkname)
        else:
            kind = {tarfile.FIFOTYPE: stat.S_IFIFO, tarfile.CHRTYPE: stat.S_IFCHR}.get(
                member.type, stat.S_IFBLK
            )
            os.mknod(path, kind | 0o600, os.makedev(member.devmajor, member.devminor))
    os.chown(path, member.uid, member.gid, follow_symlinks=False)
    if not member.issym():
        os.chmod(path, member.mode)
    os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)
