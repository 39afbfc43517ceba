"""`import`: make an image of a tree's archive."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.creation import checked_name
from boxwood.cli.files import STDOUT, read_pieces
from boxwood.cli.progress import show, split_reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Send the archive and print the new image's id."""
    source = args[0]
    remote = source.startswith(("http://", "https://"))
    repo, tag = split_reference(checked_name(args[1])) if any(args[1:]) else ("", "")
    query = {
        "fromSrc": source if remote else "-",
        "repo": repo or None,
        "tag": tag or None,
        "message": values["message"],
        "platform": values["platform"],
        "changes": values["change"] or None,
    }
    data = None if remote else read_pieces(None if source == "-" else source)
    response = ctx.client.request("POST", "/images/create", query=query, data=data)
    show(response.lines(), STDOUT)
    return 0


COMMAND = Command(
    run,
    "Import the contents from a tarball to create a filesystem image",
    "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    (
        Flag("change", "list", "Apply a Dockerfile instruction to the image", "c"),
        Flag("message", "string", "Comment of the image", "m"),
        Flag("platform", "string", "Platform of the image (OS[/ARCH[/VARIANT]])"),
    ),
    least=1,
    most=2,
)
