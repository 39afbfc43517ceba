"""`system fsck`: what the engine has recorded and what is on disk, compared."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Print a line for each finding; 1 when there is one."""
    from boxwood.client import jsonwire

    query = {"deep": "1"} if values["deep"] else {}
    work = ctx.client.post if values["repair"] else ctx.client.get
    report = work("/boxwood/fsck", query)
    if values["format"] == "json":
        ctx.out(jsonwire.dumps(report).decode())
    else:
        _print(ctx, report)
    return 1 if report["Findings"] else 0


def _print(ctx: Context, report: dict[str, Any]) -> None:
    for finding in report["Findings"]:
        state = "repaired: " if finding["Repaired"] else ""
        ctx.out(f"{state}{finding['Kind']}  {finding['Object']}  {finding['Detail']}")
        if finding["Advice"]:
            ctx.out(f"    -> {finding['Advice']}")
    if not report["Complete"]:
        ctx.out("Something is being loaded: orphans were not looked for.")
    seen = ", ".join(
        f"{report[key]} {key.lower()}"
        for key in ("Images", "Layers", "Blobs", "Recipes", "Containers")
    )
    ctx.out(f"Looked at {seen}: {len(report['Findings']) or 'nothing'} wrong.")


COMMAND = Command(
    run,
    "Compare what is recorded with what is on disk; exit status 1 when something is wrong",
    "[OPTIONS]",
    (
        Flag("deep", "bool", "Make each layer's archive again of its files, and compare"),
        Flag("format", "string", "How to print: 'json' for the whole report"),
        Flag("repair", "bool", "Remove what nothing refers to, and records of what is gone"),
    ),
    most=0,
)
