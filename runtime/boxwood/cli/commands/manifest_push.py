"""`manifest push`: send a list of manifests to a registry."""

from __future__ import annotations

import base64

from boxwood.cli import manifests
from boxwood.cli.command import Command, Flag
from boxwood.cli.commands.manifest_create import INSECURE
from boxwood.cli.errors import CliError
from boxwood.cli.progress import auth_header
from boxwood.client.client import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Send it, its manifests first where they are in other repositories; print its digest."""
    target = manifests.whole(args[0])
    members = manifests.kept(ctx, target)
    if not members:
        raise CliError(f"No such manifest: {target}")
    kind, data = manifests.list_document([one["Descriptor"] for one in members])
    sources = [f"{_repository(one['Ref'])}@{one['Descriptor']['digest']}" for one in members]
    body = {"MediaType": kind, "Raw": base64.b64encode(data).decode(), "Sources": sources}
    headers = [("X-Registry-Auth", auth_header(ctx, target))]
    path = f"/boxwood/manifests/{quote(target)}"
    done = ctx.client.request("POST", path, body=body, headers=headers).json()
    for name in done["Pushed"]:
        ctx.out(f"Pushed ref {name} with digest: {name.partition('@')[2]}")
    ctx.out(done["Digest"])
    if values["purge"]:
        manifests.forget(ctx, target)
    return 0


def _repository(name: str) -> str:
    head, slash, last = name.partition("@")[0].rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


COMMAND = Command(
    run,
    "Push a manifest list to a repository",
    "[OPTIONS] MANIFEST_LIST",
    (INSECURE, Flag("purge", "bool", "Remove the local list afterwards", "p")),
    least=1,
    most=1,
)
