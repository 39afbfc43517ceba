"""Progress that an engine tells as a stream of JSON objects: pulls, loads, imports, pushes."""

from __future__ import annotations

import os

from boxwood.cli.errors import CliError
from boxwood.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from boxwood.cli.board import Board
    from boxwood.cli.context import Context
    from boxwood.client.client import Client


def show(messages: Iterable[dict[str, Any]], fd: int, *, quiet: bool = False) -> list[Any]:
    """Print the messages to `fd` until they end; what came as `aux`.

    On a terminal one line per id is redrawn in place, with a bar; elsewhere each status is a line
    and the figures of running transfers are left out. Raises CliError for an error in the stream.
    """
    board: Board | None = None
    if not quiet and _is_terminal(fd):
        from boxwood.cli.board import Board

        board = Board(fd)
    aux: list[Any] = []
    try:
        for message in messages:
            if message.get("error") or message.get("errorDetail"):
                detail = message.get("errorDetail") or {}
                raise CliError(detail.get("message") or message["error"])
            if "aux" in message:
                aux.append(message["aux"])
            elif quiet:
                continue
            elif board is not None and message.get("id") and "stream" not in message:
                board.draw(message)
            elif text := plain(message):
                if board is not None:
                    board.end()
                os.write(fd, text.encode())
    finally:
        if board is not None:
            board.end()
    return aux


def plain(message: dict[str, Any]) -> str:
    """One message as text for what is no terminal; empty for the figures of a transfer."""
    if "stream" in message:
        return str(message["stream"])
    figures = message.get("progressDetail") or {}
    if figures.get("current") or message.get("progress"):
        return ""
    status = printable(str(message.get("status", "")))
    if not status:
        return ""
    name = printable(str(message.get("id", "")))
    return f"{name}: {status}\n" if name else f"{status}\n"


def printable(text: str) -> str:
    """What a registry says, without what steers a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def _is_terminal(fd: int) -> bool:
    """Whether lines can be redrawn there."""
    return os.isatty(fd) and os.environ.get("TERM", "dumb") != "dumb"


def pull_image(
    ctx: Context, client: Client, image: str, platform: str | None, *, quiet: bool, fd: int
) -> None:
    """Have the engine fetch `image`, without a tag all of its tags. Raises ApiError, CliError."""
    name, tag = split_reference(canonical(image))
    query = {"fromImage": name, "tag": tag or None, "platform": platform or None}
    _pulled(client, query, auth_header(ctx, name), fd, quiet=quiet)


def pull_from(
    ctx: Context, source: str, called: str | None, platform: str | None, *, quiet: bool
) -> None:
    """Have the engine fetch what `source`, with its scheme, is. Raises ApiError, CliError."""
    query = {"fromImage": source, "repo": called or None, "platform": platform or None}
    _pulled(ctx.client, query, auth_header(ctx, source), 1, quiet=quiet)


def _pulled(
    client: Client, query: Mapping[str, str | None], auth: str, fd: int, *, quiet: bool
) -> None:
    headers = [("X-Registry-Auth", auth)]
    response = client.request("POST", "/images/create", query=query, headers=headers)
    try:
        show(response.lines(), fd, quiet=quiet)
    except CliError as error:
        # Docker words an error inside the stream as it words an error status.
        raise ApiError(500, error.text) from error


def split_reference(image: str) -> tuple[str, str]:
    """Name and tag, or name and digest."""
    name, at, digest = image.partition("@")
    if at:
        return name, digest
    head, slash, last = image.rpartition("/")
    last, _, tag = last.partition(":")
    return f"{head}{slash}{last}", tag


def name_only(image: str) -> None:
    """Raise CliError for a name with a tag or a digest, where all tags are meant."""
    if split_reference(image)[1]:
        raise CliError("tag can't be used with --all-tags/-a")


def canonical(image: str) -> str:
    """The whole name: `docker.io/library/busybox:latest` for `busybox:latest`."""
    first, slash, _ = image.partition("/")
    if slash and (any(mark in first for mark in ".:") or first == "localhost"):
        return image
    return f"docker.io/{image}" if slash else f"docker.io/library/{image}"


def auth_header(ctx: Context, image: str) -> str:
    """The credentials for an image's registry, as the header carries them; `{}` for none."""
    from boxwood.cli import logins
    from boxwood.cli.schemes import scheme_of

    name = image.removeprefix("docker://")
    record = {} if scheme_of(name) else logins.find(ctx, logins.server_of(canonical(name)))
    return as_header(record)


def as_header(record: Mapping[str, str]) -> str:
    """A login as `X-Registry-Auth` carries it."""
    import base64

    from boxwood.client import jsonwire

    return base64.urlsafe_b64encode(jsonwire.dumps(record)).decode()
