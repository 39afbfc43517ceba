"""``docker import``: an image of one layer from the tar of a file tree."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from boxwood.errors import InvalidArgument
from boxwood.execution.spool import to_file
from boxwood.model.config import ContainerConfig
from boxwood.model.digest import Digest
from boxwood.model.image import Image, ImageConfig
from boxwood.model.platform import Platform
from boxwood.model.reference import Reference
from boxwood.services.images.changes import apply_changes

if TYPE_CHECKING:
    from boxwood.services.images.service import ImagesService
    from boxwood.store.records import Layer


class Import:
    """One request to import."""

    def __init__(
        self,
        service: ImagesService,
        name: Reference | None,
        comment: str,
        changes: Sequence[str],
        platform: str,
    ) -> None:
        """Check what was asked for, before a byte of the stream is read.

        Raises:
            InvalidArgument: a change or the platform.
        """
        self._service = service
        self._name = name
        self._comment = comment
        self._config = apply_changes(ContainerConfig(), changes)
        self._platform = Platform.parse(platform) if platform else Platform.host()
        if self._platform.os != "linux":
            raise InvalidArgument("operating system is not supported")

    async def run(self, stream: AsyncIterator[bytes]) -> Image:
        """Receive, unpack, record; see :meth:`ImagesService.import_`."""
        service = self._service
        with service.content.ingest() as ingest:
            try:
                await to_file(stream, ingest / "layer")
                with (ingest / "layer").open("rb") as file:
                    unpacked = await service.layers.unpacker.unpack(
                        None, file.fileno(), keep=ingest / "layer"
                    )
            finally:
                service.layers.clean_later()
        with service.lease([unpacked.layer.chain_id]):
            image = await self._record(unpacked.layer)
        if self._name is not None:
            service.publish("image", "tag", image.id, {"name": self._name.familiar})
        service.publish("image", "import", image.id, {"name": image.id})
        return image

    async def _record(self, layer: Layer) -> Image:
        service = self._service
        document = self._document(layer.diff_id)
        config = ImageConfig.parse(document)
        with service.undoing(document):
            # Now, so that no create has to wait for it.
            await service.layers.ensure_init(Digest.parse(layer.chain_id))
            service.content.put(document)
            await service.layers.settle([layer.chain_id])
            names = [self._name] if self._name is not None else []
            return service.catalog.add(config, document, names)[0]

    def _document(self, diff_id: str) -> bytes:
        now = dt.datetime.now(dt.UTC)
        created = f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond:06d}Z"
        document: dict[str, Any] = {
            "architecture": self._platform.architecture,
            "config": dense(msgspec.to_builtins(self._config)),
            "created": created,
            "history": [{"created": created, "comment": self._comment}],
            "os": self._platform.os,
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        }
        if self._platform.variant:
            document["variant"] = self._platform.variant
        return msgspec.json.encode(document)


def dense(config: dict[str, Any]) -> dict[str, Any]:
    """Leave out what was not set: the document is the image's identity."""
    kept = {key: value for key, value in config.items() if value not in (None, "", False)}
    health = kept.get("Healthcheck")
    if isinstance(health, dict):
        kept["Healthcheck"] = {key: value for key, value in health.items() if value}
    return kept
