from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from boxwood_ext import tar
from tests.support.needs import need_root

Extract = Callable[..., Any]


@pytest.fixture(autouse=True)
def _root() -> Iterator[None]:
    need_root()
    before = os.umask(0)
    yield
    os.umask(before)


def extract_into(data: bytes, root: Path, module: Any = None, **options: Any) -> Any:
    """Extract the archive through a pipe, as a worker does; ``module``: with another extractor."""
    root.mkdir(exist_ok=True)
    read_end, write_end = os.pipe()

    def feed() -> None:
        with os.fdopen(write_end, "wb") as pipe:
            try:
                pipe.write(data)
            except BrokenPipeError:
                return

    feeder = threading.Thread(target=feed)
    feeder.start()
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        options.setdefault("whiteouts", "delete")
        return (module or tar).extract(read_end, directory, **options)
    finally:
        os.close(directory)
        os.close(read_end)
        feeder.join()


@pytest.fixture
def extract() -> Extract:
    return extract_into
