"""`pull`: fetch an image from a registry."""

from __future__ import annotations

from boxwood.cli import transfer
from boxwood.cli.command import Command, Flag
from boxwood.cli.creation import checked_name, with_tag
from boxwood.cli.errors import CliError
from boxwood.cli.progress import canonical, name_only, pull_from, pull_image
from boxwood.cli.schemes import absolute, scheme_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Fetch, and print the name that was fetched, unless the engine knows it better."""
    if (other := transfer.split(args)) is not None:
        return transfer.pull(ctx, *other, quiet=values["quiet"], exact=values["exact"])
    if values["exact"]:
        raise CliError(f"{ctx.name} --exact: is for images that go from engine to engine")
    if len(args) > 1:
        schemes = ", ".join(transfer.SCHEMES)
        raise CliError(f"{args[1]}: no engine: it begins with one of {schemes}")
    name, every, quiet = args[0], values["all_tags"], values["quiet"]
    scheme = scheme_of(name)
    if every and (scheme or values["name"]):
        raise CliError(f"{ctx.name} --all-tags: takes the name of a repository, and nothing else")
    if scheme or values["name"]:
        source = absolute(name) if scheme else f"docker://{name}"
        pull_from(ctx, source, values["name"], values["platform"], quiet=quiet)
        return 0
    if every:
        name_only(name)
    whole = checked_name(name) if every else with_tag(checked_name(name))
    if whole != name and not values["quiet"]:
        ctx.out("Using default tag: latest")
    pull_image(ctx, ctx.client, whole, values["platform"], quiet=values["quiet"], fd=1)
    ctx.out(canonical(whole))
    return 0


COMMAND = Command(
    run,
    "Download an image from a registry, an archive, a directory or another engine",
    "[OPTIONS] [ENGINE] NAME[:TAG|@DIGEST]|SCHEME:SOURCE",
    (
        Flag("all-tags", "bool", "Fetch every tag of the repository", "a"),
        Flag("exact", "bool", "Between engines, bring compressed layers byte for byte"),
        Flag("disable-content-trust", "bool", "Does nothing", default=True, hidden=True),
        Flag("name", "string", "Call the image so here"),
        Flag("platform", "string", "Fetch this platform's variant (OS[/ARCH[/VARIANT]])"),
        Flag("quiet", "bool", "Show no progress", "q"),
    ),
    least=1,
    most=2,
)
