"""`bench storage`: how quick the storage drivers are on this machine."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.errors import CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Measure, without an engine; only here is the bench imported."""
    import signal

    from boxwood.bench.command import Wanted, main
    from boxwood.errors import BoxwoodError

    # So that an interrupt finds somebody who unmounts what was mounted.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    wanted = Wanted(
        tuple(values["driver"] or ()),
        tuple(values["fs"] or ()),
        values["quick"],
        values["json"] or "",
        values["html"] or "",
        values["compare"] or "",
        values["rounds"] or 0,
        -1 if values["seed"] is None else values["seed"],
        values["folder"] or "",
    )
    try:
        return main(wanted)
    except BoxwoodError as error:
        raise CliError(str(error)) from error


COMMAND = Command(
    run,
    "Measure storage drivers on fresh file systems; needs root, and no engine",
    "[OPTIONS]",
    (
        Flag("compare", "string", "Report of an earlier run to hold this one against"),
        Flag("driver", "list", "Driver to measure, may be repeated (default: all installed)"),
        Flag("folder", "string", "Where the files of the file systems are made"),
        Flag("fs", "strings", "File systems: ext4, xfs, btrfs, tmpfs (default: ext4,tmpfs)"),
        Flag("html", "string", "Write a page with plots to this file"),
        Flag("json", "string", "Write the report to this file"),
        Flag("quick", "bool", "Small files, short stacks, few rounds"),
        Flag("rounds", "int", "Times that everything is measured"),
        Flag("seed", "int", "Of the order and of the files' bytes"),
    ),
    most=0,
)
