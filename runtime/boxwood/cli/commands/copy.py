"""`copy`: an image from one place to another, without an engine."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.places import FLAGS, place, told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Copy, and print the digest."""
    from boxwood.copying import command

    source = place(ctx, values, args[0], "src")
    target = place(ctx, values, args[1], "dest")
    platform = values["platform"] or ""
    say = (lambda _: None) if values["quiet"] else ctx.out
    done = told(lambda: command.copy(source, target, all=values["all"], platform=platform, say=say))
    ctx.out(done)
    return 0


COMMAND = Command(
    run,
    "Copy an image between registries, archives and directories",
    "[OPTIONS] SOURCE DESTINATION",
    (
        Flag("all", "bool", "Copy an index with the images of all platforms", "a"),
        Flag("platform", "string", "Copy this platform's variant (OS[/ARCH[/VARIANT]])"),
        *FLAGS,
    ),
    least=2,
    most=2,
    about="Copy an image between registries, archives and directories.\n\n"
    "No engine takes part: nothing is unpacked, and the manifest goes as it is, so that its\n"
    "digest stays. Names without a scheme are those of registries. What the destination has is\n"
    "not sent; a source that breaks off is asked for the rest.",
)
