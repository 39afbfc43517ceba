"""Content by its digest: the blobs of images, immutable, verified before they are here.

On disk::

    <root>/blobs/<algorithm>/<hex>   whole, 0600
    <root>/ingest/<name>/            what is coming in; gone after a crash

A blob appears by one rename or link. Nothing is counted here: who owns blobs says which to keep.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from boxwood.drivers.storage import as_boxwood_error
from boxwood.errors import DataLoss, InvalidArgument, NotFound, TooLarge, Unavailable
from boxwood.model.digest import Digest

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class ContentStore:
    """Errors: NotFound, DataLoss (bytes that are not their digest), ResourceExhausted, Internal."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            for part in ("", "blobs", "blobs/sha256", "blobs/sha512", "ingest"):
                (root / part).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"content store: {root}: {error.strerror}") from error

    def path(self, digest: Digest) -> Path:
        """Return where the blob is or would be."""
        return self.root / "blobs" / digest.algorithm / digest.hex

    def has(self, digest: Digest) -> bool:
        """Is the blob here?"""
        return self.path(digest).exists()

    def size(self, digest: Digest) -> int:
        """Return the blob's size in bytes; raises NotFound."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            raise NotFound(f"content: {digest}: no such blob") from None

    def open(self, digest: Digest) -> int:
        """Return a descriptor to read the blob; the caller closes it. Raises NotFound."""
        try:
            return os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"content: {digest}: no such blob") from None
        except OSError as error:
            raise as_boxwood_error("open content", digest, error) from error

    def read(self, digest: Digest, limit: int) -> bytes:
        """Return a small blob, verified.

        Raises:
            NotFound, TooLarge (more than ``limit`` bytes), DataLoss
        """
        with os.fdopen(self.open(digest), "rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise TooLarge(f"content: {digest}: larger than {limit} bytes")
        if Digest.of(data, digest.algorithm) != digest:
            raise DataLoss(f"content: {digest}: the stored bytes have another digest")
        return data

    def put(self, data: bytes) -> Digest:
        """Store a small document durably and return its digest. Idempotent.

        A file of its name that holds something else is damage, and replaced.
        """
        digest = Digest.of(data)
        with suppress(OSError):
            if self.path(digest).read_bytes() == data:
                return digest
        fresh = self.root / "ingest" / f"put.{secrets.token_hex(8)}"
        try:
            fd = os.open(fresh, _NEW, 0o600)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
                os.fdatasync(fd)
            finally:
                os.close(fd)
            fresh.rename(self.path(digest))
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise as_boxwood_error("store content", digest, error) from error
        return digest

    def adopt(self, file: Path, digest: Digest) -> None:
        """Give a file of the same file system a second name, as the blob ``digest``: one link.

        The caller has verified it, and removes the first name when it needs it no more: one file
        of an archive may be a layer of several images. Idempotent: one that is here stays.
        """
        try:
            if not self.has(digest):
                file.chmod(0o600)
                os.link(file, self.path(digest))
        except OSError as error:
            raise as_boxwood_error("store content", digest, error) from error

    def delete(self, digest: Digest) -> None:
        """Delete a blob; nothing there is no error."""
        self.path(digest).unlink(missing_ok=True)

    def walk(self) -> Iterator[Digest]:
        """Yield all blobs; what is called otherwise is passed over, see :meth:`foreign`."""
        for digest, _ in self._entries():
            if digest is not None:
                yield digest

    def foreign(self) -> list[str]:
        """Return the paths of what lies among the blobs and is none: nothing of ours."""
        return [path for digest, path in self._entries() if digest is None]

    def _entries(self) -> Iterator[tuple[Digest | None, str]]:
        for algorithm in ("sha256", "sha512"):
            for entry in os.scandir(self.root / "blobs" / algorithm):
                try:
                    yield Digest.parse(f"{algorithm}:{entry.name}"), entry.path
                except InvalidArgument:
                    yield None, entry.path

    @contextmanager
    def ingest(self) -> Iterator[Path]:
        """``with store.ingest() as directory``: a private directory; its owner empties it.

        What is left in it is removed by :meth:`leftovers`' caller.
        """
        directory = self.root / "ingest" / f"in.{secrets.token_hex(8)}"
        try:
            directory.mkdir(mode=0o700)
        except OSError as error:
            raise as_boxwood_error("store content", directory.name, error) from error
        try:
            yield directory
        finally:
            try:
                directory.rename(self.root / "ingest" / f"trash.{directory.name}")
            except OSError:
                pass  # the disk may be broken; the first error is what matters

    def leftovers(self, *, all_of_them: bool) -> list[str]:
        """Return names in ``ingest`` to be deleted: what is done with, or, at start, all."""
        names = os.listdir(self.root / "ingest")
        return [name for name in names if all_of_them or name.startswith("trash.")]
