"""`pull`: fetch an image from a registry."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.creation import with_tag
from boxwood.cli.progress import canonical, name_only, pull_image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Fetch, and print the name that was fetched."""
    name, every = args[0], values["all_tags"]
    if every:
        name_only(name)
    whole = name if every else with_tag(name)
    if whole != name and not values["quiet"]:
        ctx.out("Using default tag: latest")
    pull_image(ctx, ctx.client, whole, values["platform"], quiet=values["quiet"], fd=1)
    ctx.out(canonical(whole))
    return 0


COMMAND = Command(
    run,
    "Download an image from a registry",
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    (
        Flag("all-tags", "bool", "Fetch every tag of the repository", "a"),
        Flag("disable-content-trust", "bool", "Does nothing", default=True, hidden=True),
        Flag("platform", "string", "Fetch this platform's variant (OS[/ARCH[/VARIANT]])"),
        Flag("quiet", "bool", "Show no progress", "q"),
    ),
    least=1,
    most=1,
)
