"""`daemon`: be the engine."""

from __future__ import annotations

from boxwood.cli.command import Command
from boxwood.cli.daemonflags import DAEMON_FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Run the engine until it is told to end; only here is engine code imported.

    What was not given on the command line is left to the configuration file.
    """
    from boxwood.daemon import main

    _restore_signals()
    given = {name: value for name, value in values.items() if value not in (None, [])}
    return int(main(given))


def _restore_signals() -> None:
    """The engine's own handling of signals begins from Python's defaults, not from a client's."""
    import signal

    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)


COMMAND = Command(run, "Run the engine", "[OPTIONS]", DAEMON_FLAGS, most=0)
