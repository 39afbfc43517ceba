"""`image mirror`: the tags of a repository to another place, without an engine."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.errors import CliError
from boxwood.cli.places import FLAGS, place, told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Copy what is missing; 1 if a tag failed."""
    from boxwood.copying import command

    if values["all_tags"] and values["tag"]:
        raise CliError(f"{ctx.name}: --all-tags and --tag exclude each other")
    source = place(ctx, values, args[0], "src")
    target = place(ctx, values, args[1], "dest")
    say = (lambda _: None) if values["quiet"] else ctx.out
    done, well = told(lambda: command.mirror(source, target, values["tag"], say))
    ctx.out(done)
    return 0 if well else 1


COMMAND = Command(
    run,
    "Copy the tags of a repository that are missing elsewhere",
    "[OPTIONS] SOURCE DESTINATION",
    (
        Flag("all-tags", "bool", "Copy all tags, which is so without --tag", "a"),
        Flag("tag", "list", "Copy the tags that this pattern matches, may be repeated"),
        *FLAGS,
    ),
    least=2,
    most=2,
    about="Copy the tags of a repository that are missing elsewhere.\n\n"
    "Both are repositories of registries or OCI layouts (`oci:DIR`). Indexes go whole, with what\n"
    "is said of them: signatures and other referrers. A tag that is the same at both is left\n"
    "alone; the destination's other tags stay.",
)
