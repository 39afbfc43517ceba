"""The first walk of a newcomer: a machine with nothing of ours, a clone, and two commands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fresh.machine import FreshMachine
from tests.support import needs

pytestmark = [pytest.mark.fresh, pytest.mark.timeout(1500)]

# The engine that `./dev run` has started would hold the command's namespaces open: it is asked to
# go, and what it has to remove it removes. Each walk is a boot of the machine, so to say.
END = "; status=$?; kill $(cat /run/boxwood/boxwood.pid); sleep 1; exit $status"
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
    walk = machine.walk("./dev run" + END, timeout=900)
    assert walk.status == 0, walk.stderr
    assert "Hello from a container" in walk.stdout
    assert "gcc " in walk.stderr
    assert "compiles the hot paths" in walk.stderr
    assert "What to try next" in walk.stderr
    print(f"the first ./dev run took {walk.seconds:.0f} s")


def test_second_run_takes_seconds(machine: FreshMachine) -> None:
    """The second one finds all of it there; arguments go to `boxwood run`."""
    command = "./dev run --rm --network none busybox echo again"
    walk = machine.walk(command + END, timeout=120)
    assert walk.status == 0, walk.stderr
    assert walk.stdout == "again\n"
    assert walk.seconds < SECOND_RUN_SECONDS, walk.stderr


def test_status_is_the_containers(machine: FreshMachine) -> None:
    """`./dev run` ends as the container did."""
    command = "./dev run --rm --network none busybox sh -c 'exit 7'"
    assert machine.walk(command + END, timeout=120).status == 7


def test_tests_run_there(machine: FreshMachine) -> None:
    """`./dev test` goes to the end: here with the smoke tests only, the rest runs outside."""
    walk = machine.walk("./dev test -m smoke -q", timeout=900)
    assert walk.status == 0, walk.stdout[-4000:] + walk.stderr[-2000:]
    assert " passed" in walk.stdout
