"""`push`: send an image to a registry."""

from __future__ import annotations

from boxwood.cli import transfer
from boxwood.cli.command import Command, Flag
from boxwood.cli.commands.load import platform_json
from boxwood.cli.creation import checked_name, with_tag
from boxwood.cli.errors import CliError
from boxwood.cli.progress import auth_header, canonical, name_only, show, split_reference
from boxwood.cli.schemes import absolute, scheme_of
from boxwood.client.client import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Send, showing progress; quietly, the name that was sent."""
    if (other := transfer.split(args)) is not None:
        return transfer.push(ctx, *other, quiet=values["quiet"], exact=values["exact"])
    if values["exact"]:
        raise CliError(f"{ctx.name} --exact: is for images that go from engine to engine")
    to = absolute(args[1]) if len(args) > 1 else ""
    if to and not scheme_of(to):
        raise CliError(
            f"{ctx.name}: {to}: no destination: it begins with a scheme (docker://, oci:)"
        )
    if to and values["all_tags"]:
        raise CliError(f"{ctx.name} --all-tags: a destination takes one image")
    if values["all_tags"]:
        name_only(args[0])
    whole = checked_name(args[0]) if values["all_tags"] else with_tag(checked_name(args[0]))
    if whole != args[0] and not values["quiet"]:
        ctx.out("Using default tag: latest")
    name, tag = split_reference(whole)
    query = {"tag": tag or None, "platform": platform_json(values["platform"])}
    query |= {"destination": to or None, "compression": values["compression"] or None}
    headers = [("X-Registry-Auth", auth_header(ctx, to or name))]
    path = f"/images/{quote(name)}/push"
    response = ctx.client.request("POST", path, query=query, headers=headers)
    show(response.lines(), 1, quiet=values["quiet"])
    if values["quiet"]:
        ctx.out(canonical(whole))
    return 0


COMMAND = Command(
    run,
    "Upload an image to a registry, an archive, a directory or another engine",
    "[OPTIONS] [ENGINE] NAME[:TAG] [SCHEME:DESTINATION]",
    (
        Flag("all-tags", "bool", "Send every tag of the repository", "a"),
        Flag("compression", "string", "Compress new layers so (gzip or zstd, with :LEVEL)"),
        Flag("exact", "bool", "Between engines, bring compressed layers byte for byte"),
        Flag("disable-content-trust", "bool", "Does nothing", default=True, hidden=True),
        Flag("platform", "string", "Send only this platform's variant (OS[/ARCH[/VARIANT]])"),
        Flag("quiet", "bool", "Show no progress", "q"),
    ),
    least=1,
    most=2,
)
