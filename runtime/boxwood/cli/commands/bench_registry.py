"""`bench registry`: how quick the registry transports are on this machine."""

from __future__ import annotations

from boxwood.cli.benches import COMPARE, DRIVER, HTML, JSON, ROUNDS, measure
from boxwood.cli.command import Command, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Measure, without an engine; only here is the bench imported."""
    from boxwood.bench.registry_command import main

    return measure(main, values, folder=values["folder"] or "")


COMMAND = Command(
    run,
    "Measure registry transports on places of their own; needs no engine and no network",
    "[OPTIONS]",
    (
        COMPARE,
        DRIVER,
        Flag("folder", "string", "Where images, registries and what is unpacked are put"),
        HTML,
        JSON,
        Flag("quick", "bool", "A small image, few rounds"),
        ROUNDS,
        Flag("seed", "int", "Of the order and of the files' bytes"),
    ),
    most=0,
)
