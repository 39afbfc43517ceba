"""`manifest create`: begin a list of manifests here, to annotate and to push."""

from __future__ import annotations

from boxwood.cli import manifests
from boxwood.cli.command import Command, Flag
from boxwood.cli.errors import CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context

INSECURE = Flag("insecure", "bool", "Does nothing: the engine's insecure-registries count")


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Fetch the manifests, then keep them together."""
    target = manifests.whole(args[0])
    if manifests.kept(ctx, target) and not values["amend"]:
        raise CliError("refusing to amend an existing manifest list with no --amend flag")
    found = [manifests.look(ctx, manifests.whole(name)) for name in args[1:]]
    for one in found:
        if manifests.is_list(one):
            raise CliError(f"{one['Ref']} is a manifest list")
    for one in found:
        manifests.keep(ctx, target, one)
    ctx.out(f"Created manifest list {target}")
    return 0


COMMAND = Command(
    run,
    "Create a local manifest list for annotating and pushing to a registry",
    "MANIFEST_LIST MANIFEST [MANIFEST...]",
    (Flag("amend", "bool", "Add to a list that is there", "a"), INSECURE),
    least=2,
)
