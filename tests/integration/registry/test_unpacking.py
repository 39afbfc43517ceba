"""When a pull unpacks its layers: as they come, in their order only where the driver needs it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.integration.tar.archives import archive, entry
from tests.support.engine import Engine
from tests.support.needs import until
from tests.support.pulls import begun, go_away, held_up, is_here
from tests.support.scripted import Scripted, digest

pytestmark = pytest.mark.root

FIRST, LAST = os.urandom(1 << 20), os.urandom(3 << 20)
LOWER = archive(entry("in-the-lower", data=FIRST), entry("last", data=LAST))
UPPER = archive(entry("in-the-upper", data=b"x" * 5000))


def unpacked(house: Engine, name: str, size: int) -> bool:
    """Is a whole file somewhere below the storage driver's root?"""
    found = (house.data_root / "storage").rglob(name)
    return any(path.stat().st_size == size for path in found)


@pytest.mark.parametrize(("driver", "in_order"), [("overlay", False), ("vfs", True)])
def test_as_they_come(make_engine: Callable[..., Engine], driver: str, in_order: bool) -> None:
    """The lowest layer stops in its midst; what has come of it is unpacked, and so is the one above
    it, unless that is unpacked on its parent's tree."""
    house = make_engine("--storage-driver", driver, busybox=False)
    with Scripted(LOWER, UPPER).serving() as registry, ExitStack() as left:
        going, _ = held_up(registry, len(registry.layers[0]) // 2)
        client, stream = begun(house, registry.image)
        left.callback(go_away, client, stream)
        upper = digest(registry.layers[1])[7:19]
        said = ((one.get("id"), one.get("status")) for one in map(json.loads, stream))
        assert (upper, "Download complete") in said
        until(lambda: unpacked(house, "in-the-lower", len(FIRST)), "what came is unpacked")
        if in_order:
            assert not unpacked(house, "in-the-upper", 5000)
        else:
            until(lambda: unpacked(house, "in-the-upper", 5000), "the upper one is unpacked")
        assert not is_here(house, registry.image)
        going.set()
        assert b'"error"' not in stream.read()
        assert unpacked(house, "in-the-upper", 5000)
        assert unpacked(house, "last", len(LAST))
        assert is_here(house, registry.image)
