"""Copies with an engine at one end, or at both: it is asked to push, to pull, or for the image.

An engine's end is written `boxwood:IMAGE` (the engine that is spoken to) or as two words, its
address and the image (`ssh://HOST IMAGE`).
"""

from __future__ import annotations

from boxwood.cli import transfer
from boxwood.cli.creation import with_tag
from boxwood.cli.errors import CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from boxwood.cli.command import Values
    from boxwood.cli.context import Context
    from boxwood.client.client import Client

OWN = "boxwood:"


class End:
    """One end of a copy: `image` on an `engine` (empty: our own), or a place's name and None."""

    __slots__ = ("engine", "name")

    def __init__(self, name: str, engine: str | None = None) -> None:
        self.name = name
        self.engine = engine

    def client(self, ctx: Context) -> Client:
        """A client of the engine. Raises CliError, ConnectError."""
        return ctx.client_at(self.engine) if self.engine else ctx.client


def ends(ctx: Context, args: list[str]) -> tuple[End, End]:
    """The source and the destination that were written. Raises CliError."""
    found: list[End] = []
    words = iter(args)
    for word in words:
        if word.startswith(transfer.SCHEMES):
            image = next(words, "")
            if not image or image.startswith(transfer.SCHEMES):
                raise CliError(f"{ctx.name}: {word}: the image there must follow")
            found.append(End(image, word))
        elif word.startswith(OWN):
            found.append(End(word.removeprefix(OWN), ""))
        else:
            found.append(End(word))
    if len(found) != 2 or not all(end.name for end in found):
        raise CliError(f"{ctx.name}: name a source and a destination, each one image")
    return found[0], found[1]


def copy(ctx: Context, values: Values, source: End, target: End) -> str:
    """Have the engines do it; the digest, or between engines the id, of what is there now.

    Raises ClientError, CliError.
    """
    for flag, end in (("src", source), ("dest", target)):
        if end.engine is not None and values[f"{flag}_creds"]:
            raise CliError(f"{ctx.name} --{flag}-creds: an engine has no logins")
        if not values[f"{flag}_tls_verify"]:
            raise CliError(f"{ctx.name} --{flag}-tls-verify: the engine's own settings say that")
    if values["all"]:
        raise CliError(f"{ctx.name} --all: an engine has images of one platform")
    if source.engine is None:
        return _pull(ctx, values, source.name, target)
    if values["platform"]:
        raise CliError(f"{ctx.name} --platform: the engine's image is of the one that it is of")
    if target.engine is None:
        return _push(ctx, values, source, target.name)
    return _between(ctx, source, target, quiet=values["quiet"])


def _between(ctx: Context, source: End, target: End, *, quiet: bool) -> str:
    done = transfer.bring(
        source.client(ctx),
        target.client(ctx),
        source.name,
        quiet=quiet,
        called=target.name,
        exact=True,
    )
    return str(done["id"])


def _push(ctx: Context, values: Values, source: End, place: str) -> str:
    from boxwood.cli.progress import show, split_reference
    from boxwood.client.client import quote

    client = source.client(ctx)
    name, tag = split_reference(with_tag(source.name))
    response = client.request(
        "POST",
        f"/images/{quote(name)}/push",
        query={"tag": tag or None, "destination": _reached(ctx, client, place)},
        headers=_login(ctx, values, place, "dest"),
    )
    aux = show(response.lines(), 1, quiet=values["quiet"])
    return str(aux[-1]["Digest"]) if aux else ""


def _pull(ctx: Context, values: Values, place: str, target: End) -> str:
    from boxwood.cli.progress import show

    client = target.client(ctx)
    query = {
        "fromImage": _reached(ctx, client, place),
        "repo": with_tag(target.name),
        "platform": values["platform"] or None,
    }
    headers = _login(ctx, values, place, "src")
    response = client.request("POST", "/images/create", query=query, headers=headers)
    digest: list[str] = []
    show(_watched(response.lines(), digest), 1, quiet=values["quiet"])
    return digest[-1] if digest else ""


def _watched(messages: Iterable[dict[str, Any]], digest: list[str]) -> Iterator[dict[str, Any]]:
    """The messages as they are; the digest that one of them says is appended."""
    for message in messages:
        head, _, rest = str(message.get("status", "")).partition(": ")
        if head == "Digest":
            digest.append(rest)
        yield message


def _reached(ctx: Context, client: Client, place: str) -> str:
    """A place as the engine has to be told of it. Raises CliError for files it cannot reach."""
    from boxwood.cli.schemes import absolute, is_path, scheme_of

    if not scheme_of(place):
        return f"docker://{place}"
    if is_path(place) and client.address.scheme != "unix":
        raise CliError(
            f"{ctx.name}: {place}: {client.address.text} cannot reach files of this machine: "
            "bring the image to an engine here, or to a registry"
        )
    return absolute(place)


def _login(ctx: Context, values: Values, place: str, side: str) -> list[tuple[str, str]]:
    from boxwood.cli.places import login
    from boxwood.cli.progress import as_header

    return [("X-Registry-Auth", as_header(login(ctx, values, place, side)[0]))]
