"""`bench network`: how quick the network drivers are on this machine."""

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

    from boxwood.bench.command import Wanted
    from boxwood.bench.network_command import main
    from boxwood.errors import BoxwoodError

    # So that an interrupt finds somebody who removes what was made.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    wanted = Wanted(
        drivers=tuple(values["driver"] or ()),
        quick=values["quick"],
        json=values["json"] or "",
        html=values["html"] or "",
        compare=values["compare"] or "",
        rounds=values["rounds"] or 0,
        seed=-1 if values["seed"] is None else values["seed"],
    )
    try:
        return main(wanted)
    except BoxwoodError as error:
        raise CliError(str(error)) from error


COMMAND = Command(
    run,
    "Measure network drivers in namespaces of their own; needs root, and no engine",
    "[OPTIONS]",
    (
        Flag("compare", "string", "Report of an earlier run to hold this one against"),
        Flag("driver", "list", "Driver to measure, may be repeated (default: all installed)"),
        Flag("html", "string", "Write a page with plots to this file"),
        Flag("json", "string", "Write the report to this file"),
        Flag("quick", "bool", "Less data, fewer connections, few rounds"),
        Flag("rounds", "int", "Times that everything is measured"),
        Flag("seed", "int", "Of the order"),
    ),
    most=0,
)
