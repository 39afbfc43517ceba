"""The first-party network drivers pass the kit that strangers' pass."""

from __future__ import annotations

import pytest

from boxwood.testing.network import NetworkSuite
from boxwood_ext import net, rtnl
from tests.support.needs import need_root


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


class TestMacvlanAlone(NetworkSuite):
    driver_name = "macvlan"
