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
    """Copy what is missing; 1 if a tag, or a repository of a list, failed."""
    from boxwood.copying import command

    if values["all_tags"] and values["tag"]:
        raise CliError(f"{ctx.name}: --all-tags and --tag exclude each other")
    listed = values["list"]
    if listed and (args or values["tag"] or values["all_tags"]):
        raise CliError(f"{ctx.name} --list: the list says what, where to, and which tags")
    if not listed and len(args) != 2:
        raise CliError(f"{ctx.name}: name a source and a destination, or a file with --list")
    lines = _lines(ctx, listed) if listed else [[*args, *values["tag"]]]
    routes = [
        command.Route(
            place(ctx, values, source, "src"), place(ctx, values, target, "dest"), tuple(tags)
        )
        for source, target, *tags in lines
    ]
    done, well = told(
        lambda: command.mirror(
            routes,
            without=values["exclude"],
            platform=values["platform"] or "",
            dry=values["dry_run"],
            say=(lambda _: None) if values["quiet"] else ctx.out,
        )
    )
    ctx.out(done)
    return 0 if well else 1


def _lines(ctx: Context, file: str) -> list[list[str]]:
    """The words of each line of a list, `-` being the standard input. Raises CliError."""
    import sys

    try:
        if file == "-":
            text = sys.stdin.read()
        else:
            with open(file, encoding="utf-8") as opened:
                text = opened.read()
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else error
        raise CliError(f"{ctx.name}: {file}: {cause}") from error
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if words and len(words) < 2:
            raise CliError(f"{ctx.name}: {file}: line {number}: a source without a destination")
        if words:
            found.append(words)
    if not found:
        raise CliError(f"{ctx.name}: {file}: names no repository")
    return found


COMMAND = Command(
    run,
    "Copy the tags of a repository that are missing elsewhere",
    "[OPTIONS] [SOURCE DESTINATION]",
    (
        Flag("all-tags", "bool", "Copy all tags, which is so without --tag", "a"),
        Flag("dry-run", "bool", "Write nothing, say what would be copied"),
        Flag("exclude", "list", "Leave tags out that this pattern matches, may be repeated"),
        Flag("list", "string", "Read what to copy from a file: SOURCE DESTINATION [PATTERN...]"),
        Flag("platform", "string", "Of indexes copy only this variant (OS[/ARCH[/VARIANT]])"),
        Flag("tag", "list", "Copy the tags that this pattern matches, may be repeated"),
        *FLAGS,
    ),
    most=2,
    about="Copy the tags of a repository that are missing elsewhere.\n\n"
    "Both are repositories of registries or OCI layouts (`oci:DIR`). Indexes go whole, with what\n"
    "is said of them: signatures and other referrers. A tag that is the same at both is left\n"
    "alone; the destination's other tags stay. A run that was ended is begun again with what is\n"
    "missing. The exit code is 1 if a tag failed.",
)
