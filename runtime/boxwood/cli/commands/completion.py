"""`completion`: the script that lets a shell complete our commands."""

from __future__ import annotations

from boxwood.cli.command import Command
from boxwood.cli.errors import CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context

SHELLS = ("bash", "fish", "zsh")


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Print the script: `source <(boxwood completion bash)`."""
    from boxwood.cli.completion import script

    if args[0] not in SHELLS:
        raise CliError(f"{ctx.name}: {args[0]}: must be one of {', '.join(SHELLS)}")
    ctx.out(script(ctx.prog, args[0]))
    return 0


COMMAND = Command(run, "Print a shell completion script", "bash|zsh|fish", least=1, most=1)
