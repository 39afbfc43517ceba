"""What the prune commands share: the question, the request, the account."""

from __future__ import annotations

import sys

from boxwood.cli.command import Flag
from boxwood.cli.errors import CliError
from boxwood.cli.listing import filters_query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.context import Context

PRUNE_FILTER = Flag("filter", "filter", "Prune only what meets a condition (KEY=VALUE)")
FORCE = Flag("force", "bool", "Do not ask", "f")


def confirm(warning: str) -> None:
    """Ask on stdin; anything but a yes raises CliError, which is no failure, as with Docker."""
    sys.stdout.write(f"WARNING! {warning}\nAre you sure you want to continue? [y/N] ")
    sys.stdout.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CliError("", 0)


def prune(ctx: Context, path: str, filters: list[str], key: str, title: str) -> int:
    """Prune and print what went, one a line under `title`; the bytes that were freed."""
    answer = ctx.client.post(path, {"filters": filters_query(filters)}) or {}
    gone = answer.get(key) or []
    if gone:
        ctx.out(f"{title}:")
        for item in gone:
            ctx.out(_line(item))
        ctx.out("")
    return int(answer.get("SpaceReclaimed") or 0)


def say_reclaimed(ctx: Context, size: int) -> None:
    """The last line of every prune that frees space."""
    from boxwood.cli.format import human_size

    ctx.out(f"Total reclaimed space: {human_size(size)}")


def _line(item: str | dict[str, str]) -> str:
    if isinstance(item, str):
        return item
    key = "Untagged" if item.get("Untagged") else "Deleted"
    return f"{key.lower()}: {item[key]}"
