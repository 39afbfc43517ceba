"""The first-party network drivers pass the kit that strangers' pass."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from boxwood.drivers.network import NetworkDriver
from boxwood.testing.network import NetworkSuite
from boxwood_ext import net, rtnl
from tests.support.cni import need_plugins, write_list
from tests.support.needs import need_root
from tests.support.paths import ROOT


@pytest.fixture(autouse=True)
def _root() -> None:
    need_root()


class TestNone(NetworkSuite):
    driver_name = mode = "none"


class TestHost(NetworkSuite):
    driver_name = mode = "host"


class TestContainer(NetworkSuite):
    driver_name = "container"
    mode = "container:" + "d0" * 32


class TestBridge(NetworkSuite):
    driver_name = "bridge"


class TestMacvlan(NetworkSuite):
    driver_name = "macvlan"

    def prepare(self) -> None:
        parents = [rtnl.new_link(f"kit-parent{number}", "bridge", up=True) for number in (0, 1)]
        with net.Netlink() as channel:
            channel.batch(parents)

    def options_of_network(self, number: int) -> dict[str, str]:
        return {"parent": f"kit-parent{number}"}


class TestCni(NetworkSuite):
    """The plugins of Debian: bridge, host-local, tuning, portmap."""

    driver_name = "cni"
    # A plugin that is killed in its ADD has told nobody what it made: tests/integration/network.
    crash_operations = ("detach", "remove")

    @pytest.fixture(autouse=True)
    def _lists(self, tmp_path: Path) -> None:
        need_plugins()
        self.lists = [write_list(tmp_path, number) for number in (0, 1)]

    def options_of_network(self, number: int) -> dict[str, str]:
        return {"conflist": str(self.lists[number])}


class TestMacvlanAlone(NetworkSuite):
    driver_name = "macvlan"


class TestRouted(NetworkSuite):
    """The example of a stranger's package."""

    driver_name = "routed"

    def make(self, root: Path) -> NetworkDriver:
        path = ROOT / "examples/network-routed/boxwood_routed.py"
        found = runpy.run_path(str(path))["network_driver"]("routed", root, {})
        assert isinstance(found, NetworkDriver)
        return found
