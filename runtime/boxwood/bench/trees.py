"""The layer that the storage bench works on: made anew, the same bytes for the same seed."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import zstandard

GZIP_LEVEL = 6
BIG_NAME = "big"


class Shape(msgspec.Struct, frozen=True):
    """How much is measured: bytes of the big file, files of the many, stacks, containers at once.

    ``passes`` caps how often a deep stack is measured: building one costs more than the rest.
    """

    big: int = 64 << 20
    files: int = 2000
    depths: tuple[int, ...] = (10, 50, 100)
    at_once: int = 16
    passes: int = 5


QUICK = Shape(big=4 << 20, files=200, depths=(10,), at_once=4, passes=3)


def small_names(shape: Shape) -> list[str]:
    """Return the names of the many small files, forty to a folder."""
    return [f"many/{number // 40:03}/{number:05}.txt" for number in range(shape.files)]


def write_layers(folder: Path, shape: Shape, seed: int) -> dict[str, Path]:
    """Write the layer in all its compressions; returns the files by ``plain``, ``gzip``, ``zstd``.

    Half of each file's bytes repeat, so that it compresses about as programs and texts do.
    """
    plain = folder / "layer.tar"
    with plain.open("xb") as file, tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in _entries(shape, random.Random(seed)):
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = len(data), 1_700_000_000, 0o644
            archive.addfile(info, io.BytesIO(data))
    data = plain.read_bytes()
    paths = {"plain": plain, "gzip": folder / "layer.tar.gz", "zstd": folder / "layer.tar.zst"}
    paths["gzip"].write_bytes(gzip.compress(data, GZIP_LEVEL, mtime=0))
    paths["zstd"].write_bytes(zstandard.ZstdCompressor().compress(data))
    return paths


def _entries(shape: Shape, source: random.Random) -> Iterator[tuple[str, bytes]]:
    yield BIG_NAME, _text(source, shape.big)
    for name in small_names(shape):
        yield name, _text(source, source.randrange(200, 8000))


def _text(source: random.Random, size: int) -> bytes:
    block = 4096
    parts = bytearray()
    while len(parts) < size:
        fresh = source.randbytes(block // 2)
        parts += fresh + fresh
    return bytes(parts[:size])
