"""The floor of unpacking gzip: isal's inflate in one thread, a bare C extractor in another.

No digest, no check, no confinement, nothing that makes an archive safe: what is left when all that
our unpacking is for is taken away. It is what `./dev bench layers` holds the unpacking against.
"""

from __future__ import annotations

import ctypes
import os
import queue
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from isal import igzip_lib

_PIECE = 64 << 10
_QUEUE = 16
"""Pieces between the two threads."""


def build(room: Path) -> Path:
    """Compile the extractor into `room` and return its library."""
    library = room / "floor.so"
    source = Path(__file__).with_suffix(".c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


class Floor:
    """The extractor, loaded."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library), use_errno=True)
        self._library.floor_open.restype = ctypes.c_void_p
        self._library.floor_feed.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
        self._library.floor_close.argtypes = [ctypes.c_void_p]

    def unpack(self, layer: Path, target: Path) -> None:
        """Unpack a layer in gzip into an empty directory.

        Raises:
            OSError: a file could not be made; this floor takes no archive but well-made ones.
        """
        pieces: queue.Queue[bytes | None] = queue.Queue(_QUEUE)
        failed: list[int] = []
        root = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
        thread = threading.Thread(target=self._extract, args=(root, pieces, failed))
        thread.start()
        try:
            for piece in inflated(layer):
                pieces.put(piece)
        finally:
            pieces.put(None)
            thread.join()
            os.close(root)
        if failed:
            raise OSError(failed[0], f"bench floor: unpack: {os.strerror(failed[0])}")

    def _extract(self, root: int, pieces: queue.Queue[bytes | None], failed: list[int]) -> None:
        state = self._library.floor_open(root)
        while (piece := pieces.get()) is not None:
            if not failed and self._library.floor_feed(state, piece, len(piece)):
                failed.append(ctypes.get_errno())
        self._library.floor_close(state)


def inflated(layer: Path) -> Iterator[bytes]:
    """Yield what a gzip of one member holds, in pieces of a megabyte at most."""
    member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    with layer.open("rb", buffering=0) as file:
        while not member.eof:
            data = file.read(_PIECE) if member.needs_input else b""
            if member.needs_input and not data:
                return
            yield member.decompress(data, 1 << 20)
