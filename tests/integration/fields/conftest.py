"""One connection for the whole folder, and a default container to compare with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.fields.box import Api, Box
from tests.support.engine import Engine


@pytest.fixture(scope="session")
def api(engine: Engine) -> Iterator[Api]:
    """One keep-alive connection to the shared engine."""
    api = Api(engine)
    yield api
    api.connection.close()


@pytest.fixture(scope="module")
def default(api: Api) -> Iterator[Box]:
    """A container that runs and of which nothing was asked; a file's: others clear the engine."""
    with api.living() as box:
        yield box
