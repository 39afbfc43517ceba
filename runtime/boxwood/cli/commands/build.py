"""`build`: make an image of a Dockerfile."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.errors import CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Ask the engine, which says that it does not build yet.

    Raises CliError where it does: sending a context comes with the build service.
    """
    # An empty body is no context: an engine that builds refuses it without starting anything.
    ctx.client.request("POST", "/build", query={"dockerfile": values["file"]}).close()
    raise CliError(f"{ctx.name}: not supported yet")


COMMAND = Command(
    run,
    "Build an image from a Dockerfile",
    "[OPTIONS] PATH | URL | -",
    (
        Flag("build-arg", "list", "Set a variable of the build (KEY=VALUE)"),
        Flag("file", "string", "The Dockerfile (default PATH/Dockerfile)", "f"),
        Flag("label", "list", "Set a label of the image (KEY=VALUE)"),
        Flag("network", "string", "Network of the build's commands"),
        Flag("no-cache", "bool", "Use nothing that earlier builds left"),
        Flag("platform", "string", "Platform of the image (OS[/ARCH[/VARIANT]])"),
        Flag("pull", "bool", "Fetch the base image anew"),
        Flag("quiet", "bool", "Print only the image's id", "q"),
        Flag("tag", "list", "Name of the image (NAME[:TAG])", "t"),
        Flag("target", "string", "Stop at this stage"),
    ),
    least=1,
    most=1,
)
