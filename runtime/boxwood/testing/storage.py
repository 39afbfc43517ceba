"""The conformance kit of storage drivers: what :mod:`boxwood.drivers.storage` promises, as tests.

Run it against any installed driver, as root::

    boxwood plugin test NAME
    pytest --boxwood-storage=NAME --pyargs boxwood.testing.storage

or make a class of your own from :class:`StorageSuite`. Tests ask a driver's capabilities, never
its name. Trees are seen through :meth:`StorageDriver.open_root`, so that a driver may mount by
itself; jobs and mounts are the engine's own.
"""

from __future__ import annotations

import pytest

from boxwood.testing.plugin import chosen
from boxwood.testing.storage_claims import ClaimLaws
from boxwood.testing.storage_crash import CrashLaws
from boxwood.testing.storage_kit import engine_mounter, mounted, plain_offload, run, shown
from boxwood.testing.storage_layers import ApplyLaws, DiffLaws, TreeLaws
from boxwood.testing.storage_life import KeyLaws, LifeLaws

__all__ = ["StorageSuite", "engine_mounter", "mounted", "plain_offload", "run", "shown"]


class StorageSuite(LifeLaws, KeyLaws, TreeLaws, DiffLaws, ApplyLaws, ClaimLaws, CrashLaws):
    """What every storage driver does. A subclass names the driver."""


class TestStorage(StorageSuite):
    """The driver that ``--boxwood-storage`` names."""

    @pytest.fixture(autouse=True)
    def _named(self, request: pytest.FixtureRequest) -> None:
        type(self).driver_name, type(self).driver_options = chosen(request, "storage")
