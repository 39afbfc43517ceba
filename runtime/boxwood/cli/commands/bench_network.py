"""`bench network`: how quick the network drivers are on this machine."""

from __future__ import annotations

from boxwood.cli.benches import COMPARE, DRIVER, HTML, JSON, ROUNDS, measure
from boxwood.cli.command import Command, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Measure, without an engine; only here is the bench imported."""
    from boxwood.bench.network_command import main

    return measure(main, values)


COMMAND = Command(
    run,
    "Measure network drivers in namespaces of their own; needs root, and no engine",
    "[OPTIONS]",
    (
        COMPARE,
        DRIVER,
        HTML,
        JSON,
        Flag("quick", "bool", "Less data, fewer connections, few rounds"),
        ROUNDS,
        Flag("seed", "int", "Of the order"),
    ),
    most=0,
)
