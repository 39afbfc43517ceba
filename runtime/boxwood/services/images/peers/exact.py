"""Layers whose compressed bytes themselves are asked for: where nobody can make them again."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from boxwood.drivers.storage import as_boxwood_error
from boxwood.execution.spool import to_fd

if TYPE_CHECKING:
    from boxwood.services.images.peers.wanted import Wanted
    from boxwood.services.images.service import ImagesService
    from boxwood.store.records import Claim

Stream = Callable[[int], AsyncIterator[bytes]]


def asked_for(claim: Claim | None, wanted: Wanted) -> bool:
    """Has the other engine compressed bytes that it keeps as they are, of a credible size?"""
    return claim is not None and not claim.compressor and claim.is_credible(wanted.size)


async def unpack(service: ImagesService, wanted: Wanted, claim: Claim, stream: Stream) -> None:
    """Have the bytes come, which were asked for, and unpack them; both digests are verified.

    ``stream`` is given their number. Raises as :meth:`LayerStore.unpack`, and what the stream does.
    """
    path = service.content.root / "ingest" / f"blob-{secrets.token_hex(8)}"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise as_boxwood_error("receive", path.name, error) from error
    try:
        await to_fd(stream(claim.stored), fd)
        os.lseek(fd, 0, os.SEEK_SET)
        await service.layers.unpacker.unpack(
            wanted.parent, fd, diff_id=wanted.diff_id, digest=claim.blob, keep=path
        )
    finally:
        os.close(fd)
        path.unlink(missing_ok=True)
