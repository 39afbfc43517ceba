"""``docker commit``: what a container has changed becomes a layer, and an image on its image."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from boxwood.drivers.storage import as_boxwood_error
from boxwood.model import times
from boxwood.model.config import ContainerConfig
from boxwood.model.digest import Digest
from boxwood.model.image import Image, ImageConfig
from boxwood.model.reference import Reference
from boxwood.model.wire import replace
from boxwood.services.images.changes import applied, parsed
from boxwood.services.images.importing import dense

if TYPE_CHECKING:
    from boxwood.services.images.service import ImagesService

log = logging.getLogger(__name__)

EMPTY_LAYER = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
"""Diff ID of a tar without an entry: 1,024 zeros."""
_OF_IMAGES = frozenset(
    {
        "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels",
        "StopSignal", "Healthcheck", "Shell", "OnBuild",
    }
)  # fmt: skip
"""What of a container's config an image has (OCI image-spec config.md, and Docker's additions)."""


class CommitRequest(msgspec.Struct, frozen=True):
    """What is committed. ``config`` is what the image gets; ``command`` the container's own."""

    snapshot: str
    base: Image
    config: ContainerConfig
    command: tuple[str, ...] = ()
    name: Reference | None = None
    comment: str = ""
    author: str = ""


class Commit:
    """One request to commit."""

    def __init__(self, service: ImagesService, request: CommitRequest) -> None:
        self._service = service
        self._request = request

    async def run(self) -> Image:
        """Pack, unpack as a layer, record; see :meth:`ImagesService.commit`."""
        service = self._service
        chains = self._request.base.chain_ids
        with service.lease(chains):
            chain, diff_id = await self._layer(chains[-1] if chains else None)
            with service.lease([chain] if chain else []):
                image = await self._record(diff_id, chain)
        name = self._request.name
        if name is not None:
            service.publish("image", "tag", image.id, {"name": name.familiar})
        return image

    async def _layer(self, parent: Digest | None) -> tuple[str, str]:
        """Make the layer; returns its chain ID and its diff ID, the first empty for no change.

        The tar is written to a file first, because that file becomes the layer's blob: what was
        packed is what save and push send, whatever the driver makes of the tree.
        """
        service = self._service
        driver = service.layers.driver
        with service.content.ingest() as ingest:
            path = ingest / "layer"
            try:
                with path.open("xb") as sink:
                    written = await driver.diff(self._request.snapshot, sink.fileno())
                if written.cut:
                    log.warning(
                        "commit %s: %d files became shorter while they were read; their rest is "
                        "zeros", self._request.snapshot[:12], written.cut,
                    )  # fmt: skip
                if not written.entries:
                    return "", EMPTY_LAYER
                with path.open("rb") as file:
                    made = await service.layers.unpacker.unpack(parent, file.fileno(), keep=path)
            except OSError as error:
                raise as_boxwood_error("commit", self._request.snapshot, error) from error
            finally:
                service.layers.clean_later()
        return made.layer.chain_id, made.layer.diff_id

    async def _record(self, diff_id: str, chain: str) -> Image:
        service = self._service
        base = self._request.base
        document = self._document(diff_id)
        config = ImageConfig.parse(document)
        top = Digest.parse(chain) if chain else (base.chain_ids or (None,))[-1]
        with service.undoing(document):
            await service.layers.ensure_init(top)
            service.content.put(document)
            await service.layers.settle([chain] if chain else [])
            names = [self._request.name] if self._request.name is not None else []
            return service.catalog.add(config, document, names, parent=base.id)[0]

    def _document(self, diff_id: str) -> bytes:
        request = self._request
        document = msgspec.json.decode(request.base.document, type=dict[str, Any])
        created = times.rfc3339(time.time_ns())
        empty = diff_id == EMPTY_LAYER
        diff_ids = list(request.base.config.rootfs.diff_ids)
        # An image without a history gets one that adds up.
        history = list(document.get("history") or [{} for _ in diff_ids])
        history.append(
            _filled(
                created=created,
                created_by=" ".join(request.command),
                author=request.author,
                comment=request.comment,
                empty_layer=empty,
            )
        )
        config = dense(msgspec.to_builtins(request.config))
        for key in ("container", "container_config", "id", "parent", "docker_version", "comment"):
            document.pop(key, None)
        document.update(
            author=request.author or None,
            config={key: value for key, value in config.items() if key in _OF_IMAGES},
            created=created,
            history=history,
            rootfs={"type": "layers", "diff_ids": diff_ids + ([] if empty else [diff_id])},
        )
        return msgspec.json.encode({k: v for k, v in document.items() if v is not None})


def _filled(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value}


def committed_config(config: ContainerConfig, changes: Sequence[str]) -> ContainerConfig:
    """Apply Dockerfile instructions to a config.

    As in a Dockerfile, a new entry point has no use for the arguments of the old one.

    Raises:
        InvalidArgument: an instruction.
    """
    todo = parsed(changes)
    words = {instruction.name for instruction in todo}
    if "ENTRYPOINT" in words and "CMD" not in words:
        config = replace(config, cmd=None)
    return applied(config, todo)
