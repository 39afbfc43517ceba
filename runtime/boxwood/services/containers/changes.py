"""What a container has changed in its image's tree: ``docker diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boxwood.errors import TooLarge
from boxwood.store.piping import piped

if TYPE_CHECKING:
    from boxwood.model.container import Container
    from boxwood.store.layers import LayerStore

_KINDS = {b"C": 0, b"A": 1, b"D": 2}
LISTING_LIMIT = 256 << 20
"""Bytes of a listing: a million long paths. What comes is one JSON document."""


async def changes(layers: LayerStore, container: Container) -> list[dict[str, Any]]:
    """Return ``Path`` and ``Kind`` (0 modified, 1 added, 2 deleted), sorted by path.

    Raises:
        TooLarge: more changes than one answer may hold.
    """
    pieces = piped(lambda sink: layers.driver.diff(container.snapshot_key, sink, listing=True))
    data = bytearray()
    try:
        async for piece in pieces:
            data += piece
            if len(data) > LISTING_LIMIT:
                raise TooLarge(f"list changes: {container.id[:12]}: more than a listing holds")
    finally:
        await pieces.aclose()
    records = (bytes(record) for record in data.split(b"\0") if record)
    found = [
        {"Path": record[1:].decode("utf-8", "replace"), "Kind": _KINDS[record[:1]]}
        for record in records
    ]
    return sorted(found, key=lambda entry: str(entry["Path"]))
