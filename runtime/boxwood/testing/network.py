"""The conformance kit of network drivers: what :mod:`boxwood.drivers.network` promises, as tests.

Run it against any installed driver, as root::

    pytest --boxwood-network=NAME --pyargs boxwood.testing.network

or make a class of your own from :class:`NetworkSuite`.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from boxwood.drivers import manager
from boxwood.drivers.network import (
    CONTAINER,
    HOST,
    NEW,
    Attachment,
    EndpointRequest,
    NetworkDriver,
    NetworkSpec,
    Pool,
)
from boxwood.errors import Unsupported
from boxwood.testing.plugin import chosen

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of the driver to its end."""
    return asyncio.run(work)


class NetworkSuite:
    """What every network driver does. A subclass names the driver."""

    driver_name: ClassVar[str] = ""
    driver_options: ClassVar[Mapping[str, str]] = {}
    mode: ClassVar[str] = "kit"
    """The network mode that leads to this driver."""

    def spec(self, key: str) -> NetworkSpec:
        """Return the network that the laws make."""
        return NetworkSpec(
            id=key,
            name="kit",
            pools=(Pool(subnet="10.213.77.0/24", gateway="10.213.77.1"),),
        )

    def make(self, root: Path) -> NetworkDriver:
        """Make the driver, as the engine would after a start."""
        driver = manager.select(
            "network", self.driver_name, root=root, options=dict(self.driver_options)
        )
        assert isinstance(driver, NetworkDriver)
        return driver

    @pytest.fixture
    def driver(self, tmp_path: Path) -> NetworkDriver:
        """A fresh driver."""
        return self.make(tmp_path / "network")

    @pytest.fixture
    def network(self, driver: NetworkDriver) -> Iterator[NetworkSpec]:
        """A network of the driver's, made if it makes any."""
        asked = self.spec("b0" * 32)
        try:
            network = driver.defaults(asked)
        except Unsupported:
            yield asked
            return
        run(driver.create_network(network))
        yield network
        run(driver.remove_network(network))

    @pytest.fixture
    def request_(self, network: NetworkSpec) -> EndpointRequest:
        """What a sandbox asks for."""
        return EndpointRequest(
            sandbox="5a" * 32,
            network=network.id,
            endpoint="e0" * 32,
            mode=self.mode,
            addresses=("10.213.77.2/24",),
            gateways=("10.213.77.1",),
        )

    @pytest.fixture
    def netns(self) -> Iterator[int]:
        """A descriptor of a network namespace that only this test has."""
        with subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; read _"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as holder:
            assert holder.stdout is not None
            holder.stdout.readline()
            fd = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            holder.kill()
        yield fd
        os.close(fd)

    def test_the_namespace_is_one_of_three_kinds(
        self, driver: NetworkDriver, request_: EndpointRequest
    ) -> None:
        """And the answer is pure: asked twice it is the same."""
        found = driver.namespace(request_)
        assert found.kind in (NEW, HOST, CONTAINER)
        assert bool(found.container) == (found.kind == CONTAINER)
        assert driver.namespace(request_) == found

    def test_attach_and_detach(
        self, driver: NetworkDriver, request_: EndpointRequest, netns: int
    ) -> None:
        """What was made names its network; undoing it twice is undoing it once."""
        if driver.namespace(request_).kind != NEW:
            pytest.skip("the driver attaches nothing to a namespace that is somebody else's")
        before = links()
        made = run(driver.attach(request_, netns))
        assert isinstance(made, Attachment)
        assert made.network == request_.network
        run(driver.detach(made))
        run(driver.detach(made))
        assert links() == before

    def test_a_crash_leaves_nothing_that_is_not_wanted(
        self, driver: NetworkDriver, request_: EndpointRequest, netns: int, tmp_path: Path
    ) -> None:
        """``reconcile`` keeps what is wanted and says what it removed, once."""
        if driver.namespace(request_).kind != NEW:
            pytest.skip("the driver attaches nothing to a namespace that is somebody else's")
        before = links()
        made = run(driver.attach(request_, netns))
        after = self.make(tmp_path / "network")
        assert run(after.reconcile([made])) == []
        assert all(isinstance(text, str) for text in run(after.reconcile([])))
        assert run(after.reconcile([])) == []
        run(after.detach(made))
        assert links() == before

    def test_networks_are_made_and_removed_once(self, driver: NetworkDriver) -> None:
        """Both are idempotent, where there are networks to make."""
        try:
            network = driver.defaults(self.spec("c1" * 32))
        except Unsupported:
            return
        run(driver.create_network(network))
        run(driver.create_network(network))
        run(driver.remove_network(network))
        run(driver.remove_network(network))


def links() -> list[str]:
    """Return the names of the links in our own namespace."""
    return sorted(os.listdir("/sys/class/net"))


class TestNetwork(NetworkSuite):
    """The driver that ``--boxwood-network`` names."""

    @pytest.fixture(autouse=True)
    def _named(self, request: pytest.FixtureRequest) -> None:
        type(self).driver_name, type(self).driver_options = chosen(request, "network")
