"""``docker load``: from a client's stream to images with names.

The stream goes through a pipe to a worker, which decompresses it and splits it into files of a
private directory: members may come in any order. Meanwhile other workers unpack what may be layers
from those files as they grow (:mod:`boxwood.store.ahead`). Then the archive says what belongs
where, the layers are put there by their digests, and the image is recorded. Nothing is visible
before.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxwood.drivers.storage import open_directory
from boxwood.errors import InvalidArgument
from boxwood.execution.spool import fed
from boxwood.faultpoints import fault
from boxwood.model.digest import Digest, chain_ids
from boxwood.model.image import Image
from boxwood.services.images.archive import Archive, ArchivedImage
from boxwood.services.images.following import Following
from boxwood.store.ahead import Ahead

if TYPE_CHECKING:
    from boxwood.services.images.service import Emit, ImagesService

ARCHIVE_BYTES = 1 << 40
"""Bytes of an archive unpacked; the disk is the real limit, and says so."""
ARCHIVE_ENTRIES = 200_000
"""Members of an archive: at 1,000 images of 100 layers, two each."""


class Load:
    """One request to load."""

    def __init__(self, service: ImagesService, emit: Emit) -> None:
        self._service = service
        self._emit = emit
        self._ahead = Ahead(service.layers)
        self._single = False

    async def run(self, stream: AsyncIterator[bytes]) -> list[Image]:
        """Load all; see :meth:`ImagesService.load`."""
        with self._service.content.ingest() as ingest:
            try:
                files = ingest / "files"
                files.mkdir(mode=0o700)
                async with Ahead(self._service.layers) as self._ahead:
                    with Archive(files) as archive:
                        return await self._load(archive, stream)
            finally:
                self._service.layers.clean_later()

    async def _load(self, archive: Archive, stream: AsyncIterator[bytes]) -> list[Image]:
        await self._split(stream, archive)
        images = archive.images()
        if not images:
            raise InvalidArgument("load image: the archive holds no image")
        for image in images:
            self._check(image)
        self._single = len(images) == 1
        return [await self._load_one(archive, image) for image in images]

    def _check(self, found: ArchivedImage) -> None:
        """Refuse an image under a name that it may not get; one that it has here it may keep."""
        for name in found.names:
            known = self._service.catalog.by_name(name)
            if known is None or known.id != Digest.of(found.document):
                self._service.shipping.policy.unsigned(name, "an archive brings none")

    async def _split(self, stream: AsyncIterator[bytes], archive: Archive) -> None:
        arguments = {"max_bytes": ARCHIVE_BYTES, "max_entries": ARCHIVE_ENTRIES}
        offload = self._service.offload
        with open_directory(archive.directory) as directory:

            async def split(source: int, *told: int) -> None:
                await offload("split_archive", arguments, [source, directory, *told])

            if not Ahead.possible(self._service.layers):
                await fed(stream, split)
                return
            following = Following(archive, self._ahead, self._service.layers)
            async with following.told() as told:
                await fed(stream, lambda source: split(source, told))

    async def _load_one(self, archive: Archive, found: ArchivedImage) -> Image:
        service = self._service
        chains = chain_ids(found.config.rootfs.diff_ids)
        with service.lease(chains), service.undoing(found.document):
            await self._unpack(archive, found)
            if self._single:
                await self._clear(archive)
            service.content.put(found.document)
            # Now, so that no create has to wait for it.
            await service.layers.ensure_init(chains[-1] if chains else None)
            await service.layers.settle(chains)
            image, moved = service.catalog.add(found.config, found.document, list(found.names))
            fault("load.recorded")
        self._say(image, found, moved)
        return image

    async def _clear(self, archive: Archive) -> None:
        """Delete what was split: else the barrier would wait until all of it is on the disk."""
        await self._ahead.close()
        with open_directory(archive.directory.parent) as ingest:
            await self._service.offload("remove_tree", {"name": archive.directory.name}, [ingest])

    async def _unpack(self, archive: Archive, found: ArchivedImage) -> None:
        parent: Digest | None = None
        chains = chain_ids(found.config.rootfs.diff_ids)
        with ExitStack() as stack:
            # All at once: one that is not there is found before anything is done.
            files = [archive.open(layer.path) for layer in found.layers]
            for fd in files:
                stack.callback(os.close, fd)
            for layer, fd, diff_id, chain in zip(
                found.layers, files, found.config.rootfs.diff_ids, chains, strict=True
            ):
                os.lseek(fd, 0, os.SEEK_SET)
                await self._service.layers.unpacker.unpack(
                    parent,
                    fd,
                    diff_id=diff_id,
                    digest=layer.digest,
                    keep=Path(os.readlink(f"/proc/self/fd/{fd}")),
                    begun=self._ahead.take(fd),
                )
                parent = chain

    def _say(self, image: Image, found: ArchivedImage, moved: dict[str, str]) -> None:
        service = self._service
        for name in found.names:
            if (old := moved.get(str(name))) is not None:
                self._stream(
                    f"The image {name.familiar} already exists, renaming the old one with ID "
                    f"{old} to empty string"
                )
            service.publish("image", "tag", image.id, {"name": name.familiar})
        for name in found.names:
            self._stream(f"Loaded image: {name.familiar}")
        if not found.names:
            self._stream(f"Loaded image ID: {image.id}")
        service.publish("image", "load", image.id, {"name": image.id})

    def _stream(self, line: str) -> None:
        message: dict[str, Any] = {"stream": f"{line}\n"}
        self._emit(message)
