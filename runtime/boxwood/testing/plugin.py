"""The pytest plugin of the conformance kits: their command line options."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that choose drivers by name."""
    group = parser.getgroup("boxwood", "conformance kits of Boxwood")
    group.addoption("--boxwood-storage", default="", metavar="NAME", help="storage driver to test")
    group.addoption(
        "--boxwood-storage-opt",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option for the driver; may be repeated",
    )
