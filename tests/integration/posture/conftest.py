"""The storage driver that the containers' roots come from, if the environment names one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.posture import box
from tests.support.storage import CHOSEN, Roots


@pytest.fixture(scope="session", autouse=True)
def _roots() -> Iterator[None]:
    if not CHOSEN:
        yield
        return
    box.ROOTS = Roots(CHOSEN, box.fill)
    yield
    box.ROOTS.close()
    box.ROOTS = None
