"""The conformance kit of network drivers: what :mod:`boxwood.drivers.network` promises, as tests.

Run it against any installed driver, as root::

    boxwood plugin test --kind network NAME
    pytest --boxwood-network=NAME --pyargs boxwood.testing.network

or make a class of your own from :class:`NetworkSuite`. Tests ask a driver's capabilities, never
its name. Each works on a host of its own (a network namespace), with sandboxes that it reaches
into, and sends real packets between them.
"""

from __future__ import annotations

import pytest

from boxwood.testing.network_crash import CrashLaws, ReconcileLaws
from boxwood.testing.network_kit import Bed, Member, run
from boxwood.testing.network_life import LifeLaws
from boxwood.testing.network_links import LinkLaws, WallLaws
from boxwood.testing.network_ports import PortLaws
from boxwood.testing.plugin import chosen

__all__ = ["Bed", "Member", "NetworkSuite", "run"]


class NetworkSuite(LifeLaws, LinkLaws, WallLaws, PortLaws, ReconcileLaws, CrashLaws):
    """What every network driver does. A subclass names the driver."""


class TestNetwork(NetworkSuite):
    """The driver that ``--boxwood-network`` names."""

    @pytest.fixture(autouse=True)
    def _named(self, request: pytest.FixtureRequest) -> None:
        type(self).driver_name, type(self).driver_options = chosen(request, "network")
