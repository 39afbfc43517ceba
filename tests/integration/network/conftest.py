"""The fixtures of the network tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.needs import need_root
from tests.support.netlab import Lab, lab


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Lab]:
    """A host of the test's own, with the driver `bridge`."""
    need_root()
    with lab(tmp_path / "network") as made:
        yield made
