"""The attacks of launches.py: held by the build that is installed, won where a guard is missing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.attacks.ground import Ground
from tests.attacks.launches import ATTACKS

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

BITES = [(name, guards) for name, attack in ATTACKS.items() for guards in attack.bites]
HOLDS = [(name, guards) for name, attack in ATTACKS.items() for guards in attack.holds]


def label(value: object) -> str:
    return value if isinstance(value, str) else " and ".join(map(str, value))  # type: ignore[call-overload]


@pytest.mark.parametrize("name", ATTACKS)
def test_held(name: str, ground: Callable[..., Ground]) -> None:
    assert not ATTACKS[name].run(ground())


@pytest.mark.parametrize(("name", "guards"), BITES, ids=label)
def test_bites_without(name: str, guards: tuple[str, ...], ground: Callable[..., Ground]) -> None:
    assert ATTACKS[name].run(ground(*guards)), f"{guards}: is not what stops {name}"


@pytest.mark.parametrize(("name", "guards"), HOLDS, ids=label)
def test_another_lock_is_behind(
    name: str, guards: tuple[str, ...], ground: Callable[..., Ground]
) -> None:
    assert not ATTACKS[name].run(ground(*guards))
