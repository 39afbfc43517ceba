"""`system dial-stdio`: pass standard input and output on to the engine, for `ssh://` over there."""

from __future__ import annotations

from boxwood.cli import streams
from boxwood.cli.command import Command
from boxwood.client.transport import Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Carry bytes both ways until the engine has closed its side."""
    connection: Connection = ctx.client.dial()
    try:
        streams.Relay(connection.duplex(), streams.Verbatim(1), stdin=0).run()
    finally:
        connection.close()
    return 0


COMMAND = Command(
    run,
    "Pass standard input and output on to the engine",
    about="What ssh:// addresses run on the machine that they name.",
    most=0,
)
