"""Laws of what is there after a crash, an error, or somebody else's change."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar, NamedTuple

import pytest

from boxwood.drivers.network import PUBLISHES_PORTS, Attachment, NetworkDriver, NetworkSpec
from boxwood.errors import BoxwoodError, Unsupported
from boxwood.testing import faults
from boxwood.testing import network_world as world
from boxwood.testing.network_kit import Bed, Member, NetworkKit, compared, port, run, settled

_Try = Callable[..., faults.Outcome]
"""Runs a work in a child; ``at`` and ``error`` say where it fails."""


class _Ground(NamedTuple):
    """From where a fault is tried, again and again."""

    network: NetworkSpec
    neighbour: Member
    sight: world.Sight
    rules: list[str]


class ReconcileLaws(NetworkKit):
    """What is wanted is restored, the rest goes."""

    def test_a_crash_leaves_nothing_that_is_not_wanted(self, bed: Bed) -> None:
        """``reconcile`` keeps what is wanted and says what it removed, once."""
        network = bed.network()
        before = world.look()
        member, other = bed.join(network), bed.join(network)
        made = world.look()
        driver = bed.restart()
        run(driver.create_network(network))
        assert run(driver.reconcile([member.made, other.made])) == []
        assert compared(made, world.look()) == []
        assert all(isinstance(text, str) for text in run(driver.reconcile([member.made])))
        with world.serving(member.netns, 80) as door:
            door.visited_from(member.netns, member.address, 80)
        run(driver.reconcile([]))
        assert run(driver.reconcile([])) == []
        assert settled(before) == []
        run(driver.detach(member.made))

    def test_another_engine_leaves_it_alone(self, bed: Bed) -> None:
        """Of two engines on one host, each reconciles what is its own."""
        network = bed.network()
        one, two = bed.join(network), bed.join(network)
        made = world.look()
        other = self.make(bed.root.with_name("other"))
        assert run(other.reconcile([])) == []
        assert compared(made, world.look()) == []
        with world.serving(one.netns, 80) as door:
            door.visited_from(two.netns, one.address, 80)

    def test_sandboxes_that_ended_meanwhile(self, bed: Bed) -> None:
        """Their namespace is gone and nobody wants them: nothing of them is left."""
        network = bed.network()
        before, rules = world.look(), world.rules()
        ports = (port(80),) if PUBLISHES_PORTS in bed.driver.capabilities else ()
        member = bed.join(network, ports=ports)
        bed.restart()
        os.close(member.netns)
        run(bed.driver.create_network(network))
        run(bed.driver.reconcile([]))
        assert settled(before) == []
        assert run(bed.driver.reconcile([])) == []
        if rules:
            assert world.rules() == rules

    def test_flushed_rules_are_restored(self, bed: Bed) -> None:
        """After a flush of the packet filter, ``reconcile`` brings back what is published."""
        network = bed.network()
        bed.need_ports(network)
        with world.outside() as far:
            member = bed.join(network, ports=(port(80),))
            before = world.rules()
            if not before:
                pytest.skip("the driver has no rules in the packet filter")
            with world.serving(member.netns, 80) as door:
                world.flush_rules()
                assert not door.reachable(far, world.HOST_ADDRESS, 20080)
                run(bed.restart().create_network(network))
                assert run(bed.driver.reconcile([member.made])) != []
                door.visited_from(far, world.HOST_ADDRESS, 20080)
                assert run(bed.driver.reconcile([member.made])) == []
            assert world.rules() == before

    def test_the_guard_restores_them(self, bed: Bed) -> None:
        """Without being asked, telling of it; and it ends when it is cancelled."""
        network = bed.network()
        bed.need_ports(network)
        with world.outside() as far:
            member = bed.join(network, ports=(port(80),))
            before = world.rules()
            if not before:
                pytest.skip("the driver has no rules in the packet filter")
            told = run(self._guarded(bed, member, before))
            assert told
            assert all(isinstance(text, str) for text in told)
            with world.serving(member.netns, 80) as door:
                door.visited_from(far, world.HOST_ADDRESS, 20080)

    async def _guarded(self, bed: Bed, member: Member, before: list[str]) -> list[str]:
        told: list[str] = []
        await bed.driver.reconcile([member.made])
        guard = asyncio.create_task(bed.driver.guard(told.append))
        try:
            for _ in range(2):
                count, end = len(told), time.monotonic() + world.REACHED_SECONDS
                while True:
                    await asyncio.to_thread(world.flush_rules)
                    if await self._restored(before, partial(_more, told, count)):
                        break
                    # It may not have listened yet, on a busy machine.
                    assert not guard.done(), "the guard has gone home"
                    assert time.monotonic() < end, "flushed rules are not restored, or not told of"
        finally:
            guard.cancel()
            with suppress(asyncio.CancelledError):
                async with asyncio.timeout(world.REACHED_SECONDS):
                    await guard
        return told

    async def _restored(self, before: list[str], told: Callable[[], bool]) -> bool:
        """Are the rules as before, and has somebody told of it, within a second?"""
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            if told() and await asyncio.to_thread(world.rules) == before:
                return True
            await asyncio.sleep(0.02)
        return False


_AT_MOST = 12
"""Calls of one operation that are tried, but for a thorough run; others each time."""


class CrashLaws(NetworkKit):
    """At each system call that changes something."""

    crash_operations: ClassVar[tuple[str, ...]] = (
        "attach", "attach-gone", "detach", "create", "remove",
    )  # fmt: skip
    """Those that are broken off."""

    @pytest.fixture
    def thorough(self, request: pytest.FixtureRequest) -> bool:
        """Is everything to be tried?"""
        asked = request.config.getoption("--boxwood-thorough", default=False)
        return bool(asked or request.config.getoption("--soak", default=False))

    @pytest.fixture
    def ground(self, bed: Bed) -> _Ground:
        """A network with a sandbox that must not notice."""
        if not faults.supported():
            pytest.skip("faults need root, on x86_64 or aarch64")
        network = bed.network()
        neighbour = bed.join(network)
        return _Ground(network, neighbour, world.look(), world.rules())

    @pytest.mark.parametrize("name", ["attach", "attach-gone", "detach", "create", "remove"])
    def test_a_crash_at_any_call(
        self, bed: Bed, ground: _Ground, thorough: bool, name: str
    ) -> None:
        """Killed before any of them: the next start leaves nothing of it, and loses nothing."""
        for at in self._places(bed, ground, name, thorough):
            work, netns = self._begin(bed, ground, name)
            outcome = work(at=at)
            place = f"killed before {name}'s call {at} ({(outcome.calls or ['?'])[-1]})"
            if not outcome.hit:  # it took another way this time
                assert outcome.words.startswith("ok"), f"{place}: {outcome.words}"
            if name == "attach-gone":
                os.close(netns)
            self._recover(bed, ground, place)
            if name == "attach":
                self._again(bed, ground, netns, place)

    @pytest.mark.parametrize("name", ["attach", "detach", "create", "remove"])
    def test_an_error_at_any_call(
        self, bed: Bed, ground: _Ground, thorough: bool, name: str
    ) -> None:
        """A call that fails is an error of the contract's, and what was made is unmade."""
        for at in self._places(bed, ground, name, thorough):
            work, netns = self._begin(bed, ground, name)
            inside = world.look(netns)
            outcome = work(at=at, error=errno.ENOBUFS)
            place = f"ENOBUFS at {name}'s call {at} ({(outcome.calls or ['?'])[-1]})"
            assert outcome.status == 0, f"{place}: died: {outcome.status}"
            assert outcome.words.startswith(("ok", "refused")), f"{place}: {outcome.words}"
            if name == "attach" and outcome.words.startswith("refused"):
                assert settled(ground.sight) == [], place
                assert compared(inside, world.look(netns)) == [], place
                assert world.rules() == ground.rules, place
            self._recover(bed, ground, place)
            if name == "attach" and outcome.words.startswith("refused"):
                self._again(bed, ground, netns, place)

    def _places(self, bed: Bed, ground: _Ground, name: str, thorough: bool) -> list[int]:
        """Choose the calls, after a run without a fault."""
        if name not in self.crash_operations:
            pytest.skip("the suite leaves it out")
        work, netns = self._begin(bed, ground, name)
        outcome = work()
        assert outcome.words == "ok", f"without a fault: {outcome.words}"
        if name == "attach-gone":
            os.close(netns)
        self._recover(bed, ground, "without a fault")
        places = list(range(len(outcome.calls)))
        if thorough or len(places) <= _AT_MOST:
            return places
        return sorted({*random.sample(places, _AT_MOST), places[-1]})

    def _begin(self, bed: Bed, ground: _Ground, name: str) -> tuple[_Try, int]:
        """Return how it is tried in a child, and the sandbox that it is about."""
        netns = bed.sandbox()
        ports = (port(80),) if PUBLISHES_PORTS in bed.driver.capabilities else ()
        request = bed.ask(ground.network, ports=ports)
        kept = [ground.neighbour.made]
        if name == "detach":
            kept.append(run(bed.driver.attach(request, netns)))
        drivers: list[NetworkDriver] = []
        other = self._other(bed) if name in ("create", "remove") else ground.network
        if name == "remove":
            run(bed.driver.create_network(other))

        def first() -> None:
            drivers.append(self.make(bed.root))
            run(_started(drivers[0], ground.network, kept))

        def work() -> str:
            if name == "create":
                return _done(drivers[0].create_network(other))
            if name == "remove":
                return _done(drivers[0].remove_network(other))
            if name == "detach":
                return _done(drivers[0].detach(kept[1], netns))
            return _done(drivers[0].attach(request, netns))

        return partial(faults.attempt, work, network=True, first=first), netns

    def _other(self, bed: Bed) -> NetworkSpec:
        try:
            return bed.driver.defaults(bed.spec(1))
        except Unsupported:
            pytest.skip("the driver has no networks to make")

    def _recover(self, bed: Bed, ground: _Ground, place: str) -> None:
        """Start again; only what is wanted is there, and it works."""
        run(_started(bed.restart(), ground.network, [ground.neighbour.made]))
        assert settled(ground.sight) == [], place
        assert world.rules() == ground.rules, place
        netns, address = ground.neighbour.netns, ground.neighbour.address
        with world.serving(netns, 80) as door:
            door.visited_from(netns, address, 80)

    def _again(self, bed: Bed, ground: _Ground, netns: int, place: str) -> None:
        """What was broken off can be done: the sandbox is attached, and reached."""
        request = bed.ask(ground.network)
        made = run(bed.driver.attach(request, netns))
        address = made.addresses[0].partition("/")[0]
        with world.serving(netns, 80) as door:
            door.visited_from(ground.neighbour.netns, address, 80)
        run(bed.driver.detach(made, netns))
        assert settled(ground.sight) == [], f"{place}, done again"


async def _started(driver: NetworkDriver, network: NetworkSpec, kept: Sequence[Attachment]) -> None:
    """Do what the engine does at its start."""
    await driver.create_network(network)
    await driver.reconcile(kept)


def _more(told: list[str], count: int) -> bool:
    return len(told) > count


def _done(work: Coroutine[Any, Any, object]) -> str:
    try:
        asyncio.run(work)
    except BoxwoodError as error:
        return f"refused: {type(error).__name__}: {error}"
    return "ok"
