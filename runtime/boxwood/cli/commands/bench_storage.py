"""`bench storage`: how quick the storage drivers are on this machine."""

from __future__ import annotations

from boxwood.cli.benches import COMPARE, DRIVER, HTML, JSON, ROUNDS, measure
from boxwood.cli.command import Command, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Measure, without an engine; only here is the bench imported."""
    from boxwood.bench.command import main

    return measure(
        main,
        values,
        file_systems=tuple(values["fs"] or ()),
        folder=values["folder"] or "",
    )


COMMAND = Command(
    run,
    "Measure storage drivers on fresh file systems; needs root, and no engine",
    "[OPTIONS]",
    (
        COMPARE,
        DRIVER,
        Flag("folder", "string", "Where the files of the file systems are made"),
        Flag("fs", "strings", "File systems: ext4, xfs, btrfs, tmpfs (default: ext4,tmpfs)"),
        HTML,
        JSON,
        Flag("quick", "bool", "Small files, short stacks, few rounds"),
        ROUNDS,
        Flag("seed", "int", "Of the order and of the files' bytes"),
    ),
    most=0,
)
