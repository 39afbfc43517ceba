"""`commit`: make an image of what a container has changed."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.creation import checked_name
from boxwood.cli.progress import split_reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Commit, and print the image's id."""
    repo, tag = split_reference(checked_name(args[1])) if any(args[1:]) else ("", "")
    query = {
        "container": args[0],
        "repo": repo or None,
        "tag": tag or None,
        "comment": values["message"],
        "author": values["author"],
        "changes": values["change"] or None,
        "pause": values["pause"] and not values["no_pause"],
    }
    ctx.out(ctx.client.post("/commit", query)["Id"])
    return 0


COMMAND = Command(
    run,
    "Create a new image from a container's changes",
    "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    (
        Flag("author", "string", "Author of the image", "a"),
        Flag("change", "list", "Apply a Dockerfile instruction to the image", "c"),
        Flag("message", "string", "Comment of the image", "m"),
        Flag("no-pause", "bool", "Do not pause the container meanwhile"),
        Flag("pause", "bool", "Pause the container meanwhile", "p", default=True),
    ),
    least=1,
    most=2,
    interspersed=False,
)
