"""`plugin ls`: the drivers and extensions that are installed, and whether they load."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.listing import format_flag, show
from boxwood.client.errors import ApiError, ConnectError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxwood.cli.command import Values
    from boxwood.cli.context import Context

# design.md section 2: one entry-point group per kind, and the one for commands.
KINDS = ("storage", "isolation", "network", "registry", "volume", "log", "extension", "command")
HEADERS = {
    "Kind": "KIND",
    "Module": "MODULE",
    "Name": "NAME",
    "Package": "PACKAGE",
    "Status": "STATUS",
    "Version": "VERSION",
}


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Print a line for each plugin; what failed to load is the engine's word."""
    failures = _failures(ctx)
    rows = [_row(entry, failures) for entry in _installed()]
    show(
        rows,
        template=values["format"],
        table="{{.Kind}}\t{{.Name}}\t{{.Package}}\t{{.Version}}\t{{.Status}}",
        headers=HEADERS,
        quiet="Name" if values["quiet"] else None,
    )
    return 0


def _installed() -> list[tuple[str, Any]]:
    """Kind and entry point of every plugin; metadata alone is read, nothing imported."""
    from importlib.metadata import entry_points

    return [
        (kind, point)
        for kind in KINDS
        for point in sorted(entry_points(group=f"boxwood.{kind}"), key=lambda point: point.name)
    ]


def _failures(ctx: Context) -> dict[tuple[str, str], str]:
    """What the running engine could not load, by kind and name; {} when none runs or says."""
    try:
        listed = ctx.new_client().get("/boxwood/plugins")
    except (ApiError, ConnectError):
        return {}
    return {(item["kind"], item["name"]): item["error"] for item in listed if item["error"]}


def _row(entry: tuple[str, Any], failures: dict[tuple[str, str], str]) -> dict[str, str]:
    kind, point = entry
    return {
        "Kind": kind,
        "Module": point.value,
        "Name": point.name,
        "Package": point.dist.name if point.dist else "",
        "Status": failures.get((kind, point.name), "ok"),
        "Version": point.dist.version if point.dist else "",
    }


COMMAND = Command(
    run,
    "List drivers, extensions and commands that plugins bring",
    "[OPTIONS]",
    (format_flag(), Flag("quiet", "bool", "Show names only", "q")),
    most=0,
)
