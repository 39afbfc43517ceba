"""Attacks on bridge networks: each fails, and each would be won without what defends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.networks import ATTACKS, Target
from tests.support.needs import need_root


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Target]:
    """A host of the test's own."""
    need_root()
    made = Target(tmp_path / "network")
    yield made
    made.close()


@pytest.mark.parametrize("name", ATTACKS)
def test_it_fails(host: Target, name: str) -> None:
    assert not ATTACKS[name].attempt(host)


@pytest.mark.parametrize("name", ATTACKS)
def test_it_would_be_won_without_its_guards(host: Target, name: str) -> None:
    host.weak, host.guards = True, ATTACKS[name].guards
    assert ATTACKS[name].attempt(host)
