"""`system df`: what the engine keeps on disk."""

from __future__ import annotations

import sys

from boxwood.cli.command import Command, Flag
from boxwood.cli.listing import format_flag, show
from boxwood.cli.usage import show_each
from boxwood.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxwood.cli.command import Values
    from boxwood.cli.context import Context

HEADERS = {
    "Active": "ACTIVE",
    "Reclaimable": "RECLAIMABLE",
    "Size": "SIZE",
    "TotalCount": "TOTAL",
    "Type": "TYPE",
}


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Print a line for each kind of thing, or with --verbose one for each thing."""
    usage = ctx.client.get("/system/df")
    if values["verbose"] and not values["format"]:
        show_each(usage)
        _show_archives(ctx)
        return 0
    images, containers = usage.get("Images") or [], usage.get("Containers") or []
    volumes, cache = usage.get("Volumes") or [], usage.get("BuildCache") or []
    used = [image for image in images if image.get("Containers", 0) > 0]
    running = [item for item in containers if item.get("State") in ("running", "paused")]
    mounted = [item for item in volumes if (item.get("UsageData") or {}).get("RefCount", 0) > 0]
    layers = usage.get("LayersSize") or 0
    rows = [
        _row("Images", images, used, layers, layers - sum(map(_size, used))),
        _sized("Containers", containers, running, lambda item: item.get("SizeRw") or 0),
        _sized("Local Volumes", volumes, mounted, lambda item: item["UsageData"]["Size"]),
        _sized("Build Cache", cache, [item for item in cache if item.get("InUse")], _size),
    ]
    table = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}"
    show(rows, template=values["format"], table=table, headers=HEADERS)
    return 0


def _show_archives(ctx: Context) -> None:
    from boxwood.cli.format import human_size

    try:
        kept = ctx.client.get("/boxwood/archives")
    except ApiError as error:
        if error.status == 404:  # an engine that is not ours
            return
        raise
    rows = [{**entry, "Size": human_size(entry["Size"], 4)} for entry in kept]
    sys.stdout.write("\nArchives kept beside the files of their layers:\n\n")
    table = "{{.Layer}}\t{{.Size}}\t{{.Reason}}"
    headers = {"Layer": "LAYER", "Reason": "REASON", "Size": "SIZE"}
    show(rows, template=None, table=table, headers=headers)


def _size(item: dict[str, Any]) -> int:
    return int(item.get("Size") or 0)


def _sized(title: str, every: list[Any], active: list[Any], size: Any) -> dict[str, str]:
    total = sum(map(size, every))
    return _row(title, every, active, total, total - sum(map(size, active)))


def _row(title: str, every: list[Any], active: list[Any], size: int, free: int) -> dict[str, str]:
    from boxwood.cli.format import human_size

    share = f" ({free * 100 // size}%)" if size > 0 else ""
    return {
        "Active": str(len(active)),
        "Reclaimable": human_size(free, 4) + share,
        "Size": human_size(size, 4),
        "TotalCount": str(len(every)),
        "Type": title,
    }


COMMAND = Command(
    run,
    "Show disk usage",
    "[OPTIONS]",
    (
        format_flag(),
        Flag(
            "verbose",
            "bool",
            "List each thing, and why archives are kept",
            "v",
        ),
    ),
    most=0,
)
