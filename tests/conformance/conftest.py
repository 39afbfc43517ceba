"""How the mutants are run: the law that should catch one first, and no more once it is caught."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

CAUGHT: set[type] = set()


def _mutated(item: pytest.Item) -> Any:
    cls = getattr(item, "cls", None)
    return cls if hasattr(cls, "mutant") else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the laws of each mutant."""
    order = {id(item): number for number, item in enumerate(items)}
    first = {}
    for item in items:
        first.setdefault(getattr(item, "cls", None) or item, order[id(item)])

    def place(item: pytest.Item) -> tuple[int, bool, int]:
        cls = _mutated(item)
        expected = cls is not None and cls.law in item.name
        return (first[getattr(item, "cls", None) or item], not expected, order[id(item)])

    if any(_mutated(item) for item in items):
        items.sort(key=place)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out what is known."""
    if _mutated(item) in CAUGHT:
        pytest.skip("caught")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Remember who is caught."""
    outcome = yield
    if outcome.get_result().failed and _mutated(item) is not None:
        CAUGHT.add(_mutated(item))
