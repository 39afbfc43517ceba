"""Prerequisites of a test: missing in CI they fail it, elsewhere they skip it and say so."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

import pytest

IN_CI = os.environ.get("CI", "") not in ("", "0", "false")


def need(present: object, reason: str) -> None:
    """Go on if the prerequisite is there; fail (CI) or skip (elsewhere) with the reason if not."""
    if present:
        return
    if IN_CI:
        pytest.fail(f"missing on this machine: {reason}", pytrace=False)
    pytest.skip(f"missing on this machine: {reason}")


def need_program(name: str) -> str:
    """Return the path of the program; fail or skip if it is not installed."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    need(path, f"the program {name}")
    assert path is not None
    return path


def need_root() -> None:
    """Fail or skip unless the tests run as root."""
    need(os.geteuid() == 0, "root")


def until(
    condition: Callable[[], Any], what: str, *, seconds: float = 10.0, every: float = 0.02
) -> Any:
    """Wait until the condition holds and return what it returned; fail when the time is over."""
    import time

    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            pytest.fail(f"after {seconds} s still not: {what}")
        time.sleep(every)
    return value
