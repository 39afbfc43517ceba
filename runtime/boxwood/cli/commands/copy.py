"""`copy`: an image from one place to another; engines take part only where they are named."""

from __future__ import annotations

from boxwood.cli import exchange
from boxwood.cli.command import Command, Flag
from boxwood.cli.places import FLAGS, place, told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Copy, and print the digest; between engines, the id."""
    here, there = exchange.ends(ctx, args)
    if here.engine is not None or there.engine is not None:
        ctx.out(exchange.copy(ctx, values, here, there))
        return 0
    from boxwood.copying import command

    source = place(ctx, values, here.name, "src")
    target = place(ctx, values, there.name, "dest")
    platform = values["platform"] or ""
    say = (lambda _: None) if values["quiet"] else ctx.out
    done = told(lambda: command.copy(source, target, all=values["all"], platform=platform, say=say))
    ctx.out(done)
    return 0


COMMAND = Command(
    run,
    "Copy an image between registries, archives, directories and engines",
    "[OPTIONS] SOURCE DESTINATION",
    (
        Flag("all", "bool", "Copy an index with the images of all platforms", "a"),
        Flag("platform", "string", "Copy this platform's variant (OS[/ARCH[/VARIANT]])"),
        *FLAGS,
    ),
    least=2,
    most=4,
    about="Copy an image between registries, archives, directories and engines.\n\n"
    "boxwood:IMAGE is an image of the engine that is spoken to, two words (ssh://HOST IMAGE,\n"
    "unix:///PATH IMAGE, tcp://HOST IMAGE) are one of another engine. Without such, no engine\n"
    "takes part: nothing is unpacked, and the manifest goes as it is, so that its digest stays.\n"
    "Names without a scheme are those of registries. What the destination has is not sent; a\n"
    "source that breaks off is asked for the rest.",
)
