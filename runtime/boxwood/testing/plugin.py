"""The pytest plugin of the conformance kits: their command line options."""

from __future__ import annotations

from pathlib import Path

import pytest

from boxwood.testing.grade import Reporter

pytest.register_assert_rewrite(
    *(f"boxwood.testing.storage_{part}" for part in ("kit", "life", "layers", "claims", "crash")),
    *(f"boxwood.testing.network_{part}" for part in ("life", "links", "ports", "crash")),
    *(f"boxwood.testing.registry_{part}" for part in ("kit", "laws", "peers")),
)

KINDS = ("storage", "isolation", "network", "volume", "log", "registry")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that choose drivers by name."""
    group = parser.getgroup("boxwood", "conformance kits of Boxwood")
    for kind in KINDS:
        group.addoption(
            f"--boxwood-{kind}", default="", metavar="NAME", help=f"{kind} driver to test"
        )
        group.addoption(
            f"--boxwood-{kind}-opt",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="an option for the driver; may be repeated",
        )
    group.addoption(
        "--boxwood-storage-root",
        default="",
        metavar="DIR",
        help="where the storage driver's roots are made; default: pytest's temporary directory",
    )
    group.addoption(
        "--boxwood-report", default="", metavar="FILE", help="write the results there, as JSON"
    )
    group.addoption(
        "--boxwood-thorough",
        action="store_true",
        help="crash at every system call, not at every tenth; more random trees, deeper stacks",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Take down the results, where they are asked for."""
    if file := config.getoption("--boxwood-report"):
        config.pluginmanager.register(Reporter(Path(file).absolute()), "boxwood-report")


def chosen(request: pytest.FixtureRequest, kind: str) -> tuple[str, dict[str, str]]:
    """Return name and options of the driver that the command line names; skips without one."""
    name = request.config.getoption(f"--boxwood-{kind}", default="")
    if not name:
        pytest.skip(f"no --boxwood-{kind}=NAME given")
    options = request.config.getoption(f"--boxwood-{kind}-opt")
    return name, dict(option.partition("=")[::2] for option in options)
