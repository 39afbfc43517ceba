"""`manifest inspect`: a manifest or a list of them, kept here or in a registry."""

from __future__ import annotations

from boxwood.cli import manifests
from boxwood.cli.command import Command, Flag
from boxwood.cli.commands.manifest_create import INSECURE
from boxwood.cli.errors import CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Print it as JSON."""
    name = manifests.whole(args[-1])
    if len(args) == 2:
        members = manifests.kept(ctx, manifests.whole(args[0]))
        found = next((one for one in members if one["Ref"] == name), None)
        if found is None:
            raise CliError(f"No such manifest: {name}")
        return _one(ctx, found, values["verbose"])
    if members := manifests.kept(ctx, name):
        return _list(ctx, members, values["verbose"])
    found = manifests.look(ctx, name)
    if not manifests.is_list(found):
        return _one(ctx, found, values["verbose"])
    entries = manifests.document_of(found).get("manifests") or []
    if values["verbose"]:
        return _list(ctx, [_member(ctx, name, entry) for entry in entries], True)
    ctx.out(manifests.list_document(entries)[1].decode())
    return 0


def _member(ctx: Context, name: str, entry: dict[str, Any]) -> dict[str, Any]:
    """A manifest that a list in a registry names, described as the list does."""
    found = manifests.look(ctx, f"{name}@{entry['digest']}")
    platform = entry.get("platform") or found["Descriptor"].get("platform")
    return {**found, "Descriptor": {**found["Descriptor"], "platform": platform}}


def _one(ctx: Context, found: dict[str, Any], verbose: bool) -> int:
    ctx.out(_pretty(found if verbose else manifests.document_of(found)))
    return 0


def _list(ctx: Context, members: list[dict[str, Any]], verbose: bool) -> int:
    if verbose:
        ctx.out(_pretty(members))
    else:
        descriptors = [one["Descriptor"] for one in members]
        ctx.out(manifests.list_document(descriptors)[1].decode())
    return 0


def _pretty(value: Any) -> str:
    import json

    return json.dumps(value, indent="\t", ensure_ascii=False)


COMMAND = Command(
    run,
    "Display an image manifest, or manifest list",
    "[OPTIONS] [MANIFEST_LIST] MANIFEST",
    (INSECURE, Flag("verbose", "bool", "Show layers and platform too", "v")),
    least=1,
    most=2,
)
