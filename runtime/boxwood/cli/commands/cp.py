"""`cp`: copy between a container and the host."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.errors import CliError
from boxwood.client.client import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Ask the engine for the container's side; copying itself comes with the archive routes.

    Raises CliError where the engine has them and this command does not use them yet.
    """
    sides = [_container(text) for text in args]
    if all(sides):
        raise CliError("copying between containers is not supported")
    if not any(sides):
        raise CliError("must specify at least one container source")
    side = sides[0] or sides[1]
    assert side is not None
    query = {"path": side[1]}
    ctx.client.request("GET", f"/containers/{quote(side[0])}/archive", query=query).close()
    raise CliError(f"{ctx.name}: not supported yet")


def _container(text: str) -> tuple[str, str] | None:
    """The container and the path in it; None for a path of the host."""
    if text == "-" or text.startswith(("/", ".")) or ":" not in text:
        return None
    name, _, path = text.partition(":")
    return name, path


COMMAND = Command(
    run,
    "Copy files/folders between a container and the local filesystem",
    "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-",
    (
        Flag("archive", "bool", "Keep owners and groups", "a"),
        Flag("follow-link", "bool", "Follow symbolic links in the source", "L"),
        Flag("quiet", "bool", "Show no progress", "q"),
    ),
    least=2,
    most=2,
)
