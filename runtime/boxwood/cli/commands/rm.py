"""`rm`: remove containers."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.targets import each
from boxwood.client.client import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Remove each container, echoing its name; with --force one that is not there is no failure."""
    force = values["force"]
    query = {"force": force or None, "v": values["volumes"] or None, "link": values["link"] or None}

    def path(name: str) -> str:
        return f"/containers/{quote(name.strip('/'))}"

    return each(
        ctx, args, "DELETE", path, query, tolerate=lambda error: force and error.status == 404
    )


COMMAND = Command(
    run,
    "Remove one or more containers",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    (
        Flag("force", "bool", "Kill a running container first", "f"),
        Flag("link", "bool", "Remove the link, not the container", "l"),
        Flag("volumes", "bool", "Remove the container's anonymous volumes too", "v"),
    ),
    least=1,
)
