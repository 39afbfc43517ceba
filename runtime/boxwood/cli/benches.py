"""What the commands below `bench` have in common: no engine, the same flags, an interrupt."""

from __future__ import annotations

from boxwood.cli.command import Flag
from boxwood.cli.errors import CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from boxwood.bench.command import Wanted
    from boxwood.cli.command import Values

COMPARE = Flag("compare", "string", "Report of an earlier run to hold this one against")
DRIVER = Flag("driver", "list", "Driver to measure, may be repeated (default: all installed)")
HTML = Flag("html", "string", "Write a page with plots to this file")
JSON = Flag("json", "string", "Write the report to this file")
ROUNDS = Flag("rounds", "int", "Times that everything is measured")


def measure(main: Callable[[Wanted], int], values: Values, **more: Any) -> int:
    """Run a bench; `more` are fields of Wanted that only it has. Raises CliError."""
    import signal

    from boxwood.bench.command import Wanted
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
        **more,
    )
    try:
        return main(wanted)
    except BoxwoodError as error:
        raise CliError(str(error)) from error
