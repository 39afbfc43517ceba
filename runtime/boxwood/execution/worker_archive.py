"""Jobs on archives: decompression, digests and extraction in one pass.

Threads side by side, all of them in compiled code without the GIL nearly all of the time: one
reads and decompresses, one computes both digests, one extracts, and one writes the recipe where
it is wanted. The pieces between them are handed over in memory, not copied, and bounded.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import threading
from collections.abc import Callable
from typing import Any, Literal

from boxwood.errors import InvalidArgument, TooLarge
from boxwood.execution.worker_compress import SAMPLE, find_compressor
from boxwood.execution.worker_decompress import (
    CHUNK,
    Digester,
    Source,
    compression_of,
    decompressed,
    hasher_for,
)
from boxwood.execution.worker_recipe import Recorder
from boxwood_ext import tar

RATIO_LIMIT = 1200
"""Bytes out for a byte in: gzip cannot do more than 1032 (zlib's documentation), so nothing that
is honest comes near; zstd and xz can reach millions."""
RATIO_FREE = 64 << 20
"""Bytes out before the ratio counts."""
_Form = Literal["plain", "overlay", "aufs", "delete"]
_CONTENT_SAMPLE = 4 * CHUNK
"""Bytes of the content that are kept to find out what compressed it."""


class Feeder(threading.Thread):
    """Reads the source, feeds the extractor, and has both digests computed."""

    def __init__(
        self,
        source: int,
        arguments: dict[str, Any],
        *,
        growing: int = -1,
        digesting: bool = True,
    ) -> None:
        """``growing`` as :class:`Source` has it; without ``digesting`` it is no layer's."""
        super().__init__(daemon=True)
        self.ring = tar.Ring()
        self._digester = Digester() if digesting else None
        self._name = _named(arguments) if digesting else "unpack archive"
        self.source = Source(source, self._came, growing)
        self._limit = arguments["max_bytes"]
        self._ratio = arguments.get("max_ratio", 0) or RATIO_LIMIT
        self._outer_name, self.outer = hasher_for(arguments.get("digest", ""))
        self._inner_name, self.inner = hasher_for(arguments.get("diff_id", ""))
        self.sampling = bool(arguments.get("recipe"))
        self.stored_sample = bytearray()
        self.content_sample = bytearray()
        self.given = 0
        self.compression = ""
        self.error: BaseException | None = None

    def run(self) -> None:
        """Pump, and keep what went wrong for the job."""
        try:
            self.compression = compression_of(self.source.peek())
            for piece in decompressed(self.source, self.compression, self._name):
                if not self._give(piece):
                    break
        except BaseException as error:  # noqa: BLE001 - raised again by the job
            self.error = error
        finally:
            self.ring.end()

    def finish(self) -> None:
        """Wait until it and the digests are done."""
        self.join()
        if self._digester is not None:
            self._digester.finish()

    def _two(self) -> bool:
        """Are there two digests, or is the one of what came that of the tar, too?"""
        return self.compression != "" or self._outer_name != self._inner_name

    @property
    def digest(self) -> str:
        """Of the bytes as they came."""
        hasher = self.outer if self._two() else self.inner
        return f"{self._outer_name}:{hasher.hexdigest()}"

    @property
    def diff_id(self) -> str:
        """Of the tar."""
        return f"{self._inner_name}:{self.inner.hexdigest()}"

    def _came(self, data: bytes) -> None:
        if self._digester is not None and self._two():
            self._digester.update(self.outer, data)
        if self.sampling and len(self.stored_sample) < SAMPLE:
            self.stored_sample += data[: SAMPLE - len(self.stored_sample)]

    def _give(self, out: bytes) -> bool:
        self.given += len(out)
        if self.given > self._limit:
            raise TooLarge(f"decompress: more than {self._limit} bytes")
        if self.given > RATIO_FREE and self.given > self.source.taken * self._ratio:
            raise TooLarge(f"decompress: {self.compression}: expands more than {self._ratio} times")
        if self._digester is not None:
            self._digester.update(self.inner, out)
        if self.sampling and len(self.content_sample) < _CONTENT_SAMPLE:
            self.content_sample += out[: _CONTENT_SAMPLE - len(self.content_sample)]
        return self.ring.put(out)

    def compressor(self) -> str:
        """Find what makes the same compressed bytes again; see :func:`find_compressor`."""
        stored, content = bytes(self.stored_sample), bytes(self.content_sample)
        return find_compressor(self.compression, stored, content, self.given)


def fed(feeder: Feeder, take: Callable[[tar.Ring], tar.Extracted]) -> tar.Extracted:
    """Have ``take`` read what the feeder brings, and see to its end whatever happens."""
    feeder.start()
    try:
        return take(feeder.ring)
    except tar.TarError:
        feeder.finish()
        # A stream that broke looks like an archive that is cut off: its own error says more.
        if feeder.error is not None:
            raise feeder.error from None
        raise
    finally:
        feeder.ring.leave()
        feeder.finish()


def _named(arguments: dict[str, Any]) -> str:
    """Return what errors call a layer: by the digest that is known of it, if one is."""
    digest = arguments.get("digest", "") or arguments.get("diff_id", "")
    return f"unpack layer: {digest}" if digest else "unpack layer"


def _extract(
    feeder: Feeder,
    target: int,
    arguments: dict[str, Any],
    form: _Form,
    record: int = -1,
    parent: int = -1,
    follow: int = -1,
) -> tar.Extracted:
    """Extract what the feeder brings, beneath the directory."""
    directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=target)
    try:
        return fed(
            feeder,
            lambda ring: tar.extract(
                ring,
                directory,
                whiteouts=form,
                userxattr=arguments.get("user_xattr", False),
                devices=arguments.get("devices", True),
                archive=form == "plain",
                parent_fd=parent,
                record_fd=record,
                follow_fd=follow,
                max_entries=arguments["max_entries"],
                max_bytes=arguments["max_bytes"],
                max_name=arguments.get("max_name", 4095),
            ),
        )
    finally:
        os.close(directory)


def unpack_layer(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Unpack a layer, compressed or not.

    Descriptors: the layer's bytes; the directory; with ``recipe`` an empty file; with ``growing``
    the pipe that says when there is more; with ``parent`` the tree that the layer is for, when the
    directory is a branch by itself. Arguments: the fields of
    :class:`boxwood.drivers.storage.ApplyRequest` (``recipe`` and ``growing`` as bools), ``parent``
    (a bool), ``whiteouts`` (``overlay``, ``aufs`` or ``delete``), ``user_xattr``, ``devices``.
    Answers the fields of :class:`boxwood.drivers.storage.Applied`.
    """
    wanted = bool(arguments.get("recipe"))
    growing = fds[2 + wanted] if arguments.get("growing") else -1
    feeder = Feeder(fds[0], arguments, growing=growing)
    recorder = Recorder(fds[2]) if wanted else None
    try:
        record = recorder.sink if recorder else -1
        parent = fds[-1] if arguments.get("parent") else -1
        extracted = _extract(feeder, fds[1], arguments, arguments["whiteouts"], record, parent)
    finally:
        if recorder is not None:
            recorder.close()
    answer = found_out(feeder, extracted, arguments)
    answer["recipe"] = recorder is not None and _complete(recorder, feeder, extracted)
    return answer


def found_out(
    feeder: Feeder, extracted: tar.Extracted, arguments: dict[str, Any]
) -> dict[str, Any]:
    """Return the fields of ``Applied``, without a recipe; digests asked for are verified.

    Raises:
        InvalidArgument: the digests are others.
    """
    if feeder.error is not None:
        raise feeder.error
    found = {"diff_id": feeder.diff_id, "digest": feeder.digest}
    for key, value in found.items():
        wanted = arguments.get(key, "")
        if wanted and wanted != value:
            raise InvalidArgument(f"unpack layer: {wanted}: the content's {key} is {value}")
    return {
        **found,
        "size": extracted["bytes"],
        "entries": extracted["entries"],
        "stored": feeder.source.taken,
        "tar_size": feeder.given,
        "compression": feeder.compression,
        "compressor": feeder.compressor(),
        "recipe": False,
        "lacked": extracted["lacked"],
        "implied": extracted.get("implied", []),
    }


def adopt_directories(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Give directories that no entry of a layer names the looks that they have below it.

    Descriptors: the layer's branch; the tree that it lies on. Arguments: ``paths`` (bytes), as
    :func:`unpack_layer` answered ``implied``. Answers ``adopted``: False: the layer has to be
    unpacked again, on its parent.
    """
    branch = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fds[0])
    try:
        return {"adopted": tar.adopt(branch, fds[1], arguments["paths"])}
    finally:
        os.close(branch)


def _complete(recorder: Recorder, feeder: Feeder, extracted: tar.Extracted) -> bool:
    if not feeder.diff_id.startswith("sha256:"):
        return False
    digest = bytes.fromhex(feeder.inner.hexdigest())
    return recorder.finish(extracted["recorded"], feeder.given, digest, keeps=extracted["kept"] > 0)


def split_archive(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Unpack an archive of files (what ``docker save`` writes) into a private directory.

    Descriptors: the stream; the directory; a pipe that is told of large files (``follow_fd`` of
    :func:`boxwood_ext.tar.extract`), or none. Arguments: ``max_bytes``, ``max_entries``. Answers
    ``entries`` and ``stored`` (bytes as they came).
    """
    feeder = Feeder(fds[0], arguments, digesting=False)
    follow = fds[2] if len(fds) > 2 else -1
    extracted = _extract(feeder, fds[1], arguments, "plain", follow=follow)
    if feeder.error is not None:
        raise feeder.error
    return {"entries": extracted["entries"], "stored": feeder.source.taken}


def extract_plain(
    source: int,
    root: int,
    limits: dict[str, Any],
    *,
    prefix: str,
    keep_kinds: bool,
    chown: tuple[int, int] | None,
) -> tar.Extracted:
    """Extract a tar, compressed or not, beneath ``prefix`` of a root, names as they are.

    ``limits``: ``max_bytes``, ``max_entries``; the rest as :func:`boxwood_ext.tar.extract` has it.
    """
    feeder = Feeder(source, limits, digesting=False)
    directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    try:
        extracted = fed(
            feeder,
            lambda ring: tar.extract(
                ring,
                directory,
                whiteouts="plain",
                prefix=prefix,
                keep_kinds=keep_kinds,
                chown=chown,
                max_entries=limits["max_entries"],
                max_bytes=limits["max_bytes"],
            ),
        )
    finally:
        os.close(directory)
    if feeder.error is not None:
        raise feeder.error
    return extracted


def hash_file(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Answers ``digest`` and ``size`` of the file given, from its start.

    Arguments: ``algorithm`` (``sha256``, unless it is given).
    """
    algorithm = arguments.get("algorithm", "sha256")
    hasher = hashlib.new(algorithm)
    size = 0
    while data := os.pread(fds[0], CHUNK, size):
        hasher.update(data)
        size += len(data)
    return {"digest": f"{algorithm}:{hasher.hexdigest()}", "size": size}


def plain_layer(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Write what a compressed stream holds.

    Descriptors: the stream; where to write. Answers ``size`` (bytes written) and ``digest``.
    """
    del arguments
    hasher, size = hashlib.sha256(), 0
    source = Source(fds[0], lambda _: None)
    for piece in decompressed(source, compression_of(source.peek()), "read layer"):
        hasher.update(piece)
        size += len(piece)
        view = memoryview(piece)
        while view:
            view = view[os.write(fds[1], view) :]
    return {"size": size, "digest": f"sha256:{hasher.hexdigest()}"}


def sync(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Write out the file systems of these directories (syncfs(2)); without any, all of them.

    Raises:
        OSError: the disk took it not.
    """
    del arguments
    if not fds:
        os.sync()
    libc = ctypes.CDLL(None, use_errno=True)
    for fd in fds:
        # One that is only O_PATH does not do (EBADF).
        directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
        try:
            if libc.syncfs(directory) < 0:
                number = ctypes.get_errno()
                raise OSError(number, f"syncfs: {os.strerror(number)}")
        finally:
            os.close(directory)
    return {}
