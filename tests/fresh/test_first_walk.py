"""The first walk of a newcomer: a machine with nothing of ours, a clone, and two commands.

Each walk ends as a machine does whose power is cut: the engine that it started is gone with it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fresh.machine import FreshMachine
from tests.support import needs

pytestmark = [pytest.mark.fresh, pytest.mark.timeout(1500)]

SECOND_RUN_SECONDS = 15.0


@pytest.fixture(scope="module")
def machine() -> Iterator[FreshMachine]:
    """A fresh machine with a clone of the checkout."""
    needs.need_root()
    needs.need_program("mmdebstrap")
    fresh = FreshMachine()
    try:
        fresh.build()
        yield fresh
    finally:
        fresh.close()


def test_run_alone_is_enough(machine: FreshMachine) -> None:
    """`./dev run` says what it needs and why, installs it, and a container's words come out."""
    walk = machine.walk("./dev run", timeout=900)
    assert walk.status == 0, walk.stderr
    assert "Hello from a container" in walk.stdout
    assert "gcc " in walk.stderr
    assert "compiles the hot paths" in walk.stderr
    assert "What to try next" in walk.stderr
    print(f"the first ./dev run took {walk.seconds:.0f} s")


def test_second_run_takes_seconds(machine: FreshMachine) -> None:
    """The second one finds all of it there; arguments go to `boxwood run`."""
    command = "./dev run --rm --network none busybox echo again"
    walk = machine.walk(command, timeout=120)
    assert walk.status == 0, walk.stderr
    assert walk.stdout == "again\n"
    assert walk.seconds < SECOND_RUN_SECONDS, walk.stderr


def test_status_is_the_containers(machine: FreshMachine) -> None:
    """`./dev run` ends as the container did."""
    command = "./dev run --rm --network none busybox sh -c 'exit 7'"
    assert machine.walk(command, timeout=120).status == 7


def test_tests_run_there(machine: FreshMachine) -> None:
    """`./dev test` goes to the end: here with the smoke tests only, the rest runs outside."""
    walk = machine.walk("./dev test -m smoke -q", timeout=900)
    assert walk.status == 0, walk.stdout[-4000:] + walk.stderr[-2000:]
    assert " passed" in walk.stdout
