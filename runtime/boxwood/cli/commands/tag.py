"""`tag`: give an image a further name."""

from __future__ import annotations

from boxwood.cli.command import Command
from boxwood.cli.creation import checked_name, with_tag
from boxwood.cli.errors import CliError
from boxwood.cli.progress import split_reference
from boxwood.client.client import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Tag; prints nothing."""
    try:
        name, tag = split_reference(with_tag(checked_name(args[1])))
    except CliError as error:
        said = f'"{args[1]}" is not a valid repository/tag: {error.text}'
        raise CliError(f"Error parsing reference: {said}") from error
    ctx.client.post(f"/images/{quote(args[0])}/tag", {"repo": name, "tag": tag})
    return 0


COMMAND = Command(
    run,
    "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    least=2,
    most=2,
    interspersed=False,
)
