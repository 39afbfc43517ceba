"""The places of `copy` and `image mirror`: their flags, and what they are made of."""

from __future__ import annotations

from boxwood.cli.command import Flag
from boxwood.cli.errors import CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from boxwood.cli.command import Values
    from boxwood.cli.context import Context
    from boxwood.copying.ends import Place

    T = TypeVar("T")

FLAGS = (
    Flag("dest-creds", "string", "Login for the destination (USER:PASSWORD)"),
    Flag("dest-tls-verify", "bool", "The destination must prove its identity", default=True),
    Flag("quiet", "bool", "Show no progress", "q"),
    Flag("src-creds", "string", "Login for the source (USER:PASSWORD)"),
    Flag("src-tls-verify", "bool", "The source must prove its identity", default=True),
)


def place(ctx: Context, values: Values, text: str, side: str) -> Place:
    """What a place's name and the flags of its `side` (`src`, `dest`) say. Raises CliError."""
    from boxwood.cli.schemes import absolute
    from boxwood.copying import command

    found, server = login(ctx, values, text, side)
    insecure = "" if values[f"{side}_tls_verify"] else server
    return command.place(absolute(text), found, insecure)


def login(ctx: Context, values: Values, text: str, side: str) -> tuple[dict[str, str], str]:
    """The login for a place and its registry's server; empty: it has none. Raises CliError."""
    from boxwood.cli import logins
    from boxwood.cli.progress import canonical
    from boxwood.cli.schemes import scheme_of

    given = values[f"{side}_creds"]
    if scheme_of(text) not in ("", "docker"):
        if given:
            raise CliError(f"{ctx.name} --{side}-creds: {text}: has no logins")
        return {}, ""
    server = logins.server_of(canonical(text.removeprefix("docker://")))
    if given is None:
        return logins.find(ctx, server), server
    user, colon, password = given.partition(":")
    if not colon:
        raise CliError(f"{ctx.name} --{side}-creds: must be USER:PASSWORD")
    return {"username": user, "password": password}, server


def told(work: Callable[[], T]) -> T:
    """Do the work; an error of ours ends the command. Raises CliError."""
    import signal

    from boxwood.errors import BoxwoodError

    # So that an interrupt finds somebody who removes what was begun.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return work()
    except BoxwoodError as error:
        raise CliError(str(error)) from error
