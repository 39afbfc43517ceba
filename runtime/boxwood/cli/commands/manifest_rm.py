"""`manifest rm`: forget lists of manifests that are kept here."""

from __future__ import annotations

from boxwood.cli import manifests
from boxwood.cli.command import Command
from boxwood.cli.errors import CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Remove each; those that are not there are named at the end."""
    errors = []
    for name in args:
        try:
            manifests.forget(ctx, manifests.whole(name))
        except CliError as error:
            errors.append(error.text)
    if errors:
        raise CliError("\n".join(errors))
    return 0


COMMAND = Command(
    run,
    "Delete one or more manifest lists from local storage",
    "MANIFEST_LIST [MANIFEST_LIST...]",
    least=1,
)
