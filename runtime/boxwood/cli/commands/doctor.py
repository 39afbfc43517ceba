"""`doctor`: what this machine can do for an engine, what is missing, what to install."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context

_MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Print a line for each check; 1 when something fails that containers need."""
    from boxwood.cli.checks import all_checks

    results = all_checks(ctx)
    if values["format"] == "json":
        from boxwood.client import jsonwire

        for result in results:
            ctx.out(jsonwire.dumps(result._asdict()).decode())
    else:
        width = max(len(result.name) for result in results)
        for result in results:
            line = f"{_MARKS[result.state]}  {result.name:<{width}}  {result.detail}".rstrip()
            ctx.out(line)
            if result.advice:
                ctx.out(f"{'':<{width + 8}}-> {result.advice}")
    return 1 if any(result.state == "fail" for result in results) else 0


COMMAND = Command(
    run,
    "Show what this machine can do, what is missing, and what to install",
    "[OPTIONS]",
    (Flag("format", "string", "How to print: 'json' for an object a line"),),
    most=0,
)
