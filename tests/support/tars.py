"""Small tars of files that tests name."""

from __future__ import annotations

import io
import random
import tarfile


def noise(seed: int, size: int) -> bytes:
    """Return bytes that do not compress."""
    return random.Random(seed).randbytes(size)


def tar_of(files: dict[str, bytes]) -> bytes:
    """Return a tar of these files, the same each time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
