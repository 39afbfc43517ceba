"""`image verify`: is what a registry has under a name signed as it should be?"""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.creation import with_tag
from boxwood.cli.errors import CliError
from boxwood.cli.progress import auth_header, canonical

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Print who signed what; nothing is pulled."""
    name = canonical(with_tag(args[0]))
    keys = [{"Name": file, "Data": _read(ctx, file)} for file in values["key"]]
    body = {"Name": name, "Platform": values["platform"] or "", "Keys": keys}
    headers = [("X-Registry-Auth", auth_header(ctx, name))]
    found = ctx.client.request("POST", "/boxwood/verify", body=body, headers=headers).json()
    ctx.out(f"{found['Name']}: verified\n  digest    {found['Digest']}")
    identity = found["Identity"] or "none: the signature names no repository"
    ctx.out(f"  key       {found['Key']}\n  identity  {identity}")
    return 0


def _read(ctx: Context, file: str) -> str:
    try:
        with open(file, encoding="ascii") as stream:
            return stream.read(1 << 16)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a key in PEM"
        raise CliError(f"{ctx.name}: {file}: {why}") from error


COMMAND = Command(
    run,
    "Verify the signature of an image in its registry",
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    (
        Flag("key", "list", "Public key (PEM) that must have signed; default: the engine's policy"),
        Flag("platform", "string", "Verify this platform's variant (OS[/ARCH[/VARIANT]])"),
    ),
    least=1,
    most=1,
)
