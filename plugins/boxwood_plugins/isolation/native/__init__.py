"""The isolation driver ``native``: see :mod:`boxwood_plugins.isolation.native.driver`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from boxwood.drivers.hookspecs import hookimpl
from boxwood.drivers.isolation import IsolationDriver
from boxwood.errors import InvalidArgument


@hookimpl
def isolation_driver(name: str, root: Path, options: Mapping[str, str]) -> IsolationDriver | None:
    """Hand the driver over; it has no options."""
    if name != "native":
        return None
    if options:
        raise InvalidArgument(f"isolation: native: {min(options)}: unknown option")
    from boxwood_plugins.isolation.native.driver import NativeDriver

    return NativeDriver(root)
