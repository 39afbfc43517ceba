"""`inspect`: show an object of whatever kind."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.errors import CliError
from boxwood.cli.inspection import FORMAT, PATHS, fetcher, inspect
from boxwood.client.client import quote
from boxwood.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxwood.cli.command import Values
    from boxwood.cli.context import Context

# Docker's kinds; those that are not in PATHS are swarm's, or managed plugins.
_KINDS = [
    "config",
    "container",
    "image",
    "network",
    "node",
    "plugin",
    "secret",
    "service",
    "task",
    "volume",
]


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Print each object, found under the first kind that has it."""
    if values["launch"]:
        return _launch(ctx, args)
    kind = values["type"]
    if kind is not None and kind not in _KINDS:
        known = ", ".join(f'"{name}"' for name in _KINDS)
        raise CliError(f'unknown type: "{kind}": must be one of {known}')
    if kind is not None and kind not in PATHS:
        raise CliError(f"--type {kind}: not supported: swarm is out of scope")
    kinds = [kind] if kind else list(PATHS)
    size = {"size": values["size"] or None}

    def fetch(name: str) -> tuple[str, Any]:
        for each in kinds:
            try:
                return fetcher(ctx, each, size if each == "container" else None)(name)
            except ApiError as error:
                if error.status != 404 and not (error.status == 400 and each == "image"):
                    raise
                if len(kinds) == 1 and each != "container":
                    raise
        what = "object" if kind is None else kind
        raise CliError(f"Error: No such {what}: {name}")

    return inspect(ctx, args, fetch, values["format"])


def _launch(ctx: Context, args: list[str]) -> int:
    """Print the launch program that each container was started with."""
    for name in args:
        response = ctx.client.request("GET", f"/boxwood/launch/{quote(name)}")
        ctx.out(response.read().decode("utf-8", "replace").rstrip("\n"))
    return 0


COMMAND = Command(
    run,
    "Return low-level information on objects of the engine",
    "[OPTIONS] NAME|ID [NAME|ID...]",
    (
        FORMAT,
        Flag("launch", "bool", "Show the program that a container was launched with"),
        Flag("size", "bool", "Show the sizes of a container", "s"),
        Flag("type", "string", "Look only for objects of this kind"),
    ),
    least=1,
)
