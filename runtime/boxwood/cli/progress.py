"""Progress that an engine tells as a stream of JSON objects: pulls, loads, imports, pushes."""

from __future__ import annotations

import os

from boxwood.cli.errors import CliError
from boxwood.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from boxwood.cli.context import Context
    from boxwood.client.client import Client


def show(messages: Iterable[dict[str, Any]], fd: int, *, quiet: bool = False) -> list[Any]:
    """Print the messages to `fd` until they end; what came as `aux`.

    On a terminal one line per id is redrawn in place; elsewhere each status is a line and the
    figures of running transfers are left out. Raises CliError for an error in the stream.
    """
    board = _Board(fd) if os.isatty(fd) and not quiet else None
    aux: list[Any] = []
    for message in messages:
        if message.get("error") or message.get("errorDetail"):
            detail = message.get("errorDetail") or {}
            raise CliError(detail.get("message") or message["error"])
        if "aux" in message:
            aux.append(message["aux"])
        elif quiet:
            continue
        elif board is not None:
            board.draw(message)
        elif text := plain(message):
            os.write(fd, text.encode())
    return aux


def plain(message: dict[str, Any]) -> str:
    """One message as text for what is no terminal; empty for the figures of a transfer."""
    if "stream" in message:
        return str(message["stream"])
    figures = message.get("progressDetail") or {}
    if figures.get("current") or message.get("progress"):
        return ""
    status = str(message.get("status", ""))
    if not status:
        return ""
    name = message.get("id")
    return f"{name}: {status}\n" if name else f"{status}\n"


class _Board:
    """Lines on a terminal, one per id, each redrawn where it stands."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._rows: dict[str, int] = {}

    def draw(self, message: dict[str, Any]) -> None:
        """Show one message."""
        name = message.get("id")
        if not name or "stream" in message:
            self._rows.clear()
            self._write(plain({**message, "progress": "", "progressDetail": None}))
            return
        text = f"{name}: {message.get('status', '')} {self._figures(message)}".rstrip()
        if name not in self._rows:
            self._rows[name] = len(self._rows)
            self._write(f"{text}\n")
            return
        up = len(self._rows) - self._rows[name]
        self._write(f"\x1b[{up}A\r\x1b[2K{text}\x1b[{up}B\r")

    @staticmethod
    def _figures(message: dict[str, Any]) -> str:
        if message.get("progress"):
            return str(message["progress"])
        detail = message.get("progressDetail") or {}
        current, total = detail.get("current"), detail.get("total")
        if not current:
            return ""
        from boxwood.cli.format import human_size

        return f"{human_size(current)}/{human_size(total)}" if total else human_size(current)

    def _write(self, text: str) -> None:
        os.write(self._fd, text.encode())


def pull_image(
    ctx: Context, client: Client, image: str, platform: str | None, *, quiet: bool, fd: int
) -> None:
    """Have the engine fetch `image`, without a tag all of its tags. Raises ApiError, CliError."""
    name, tag = split_reference(canonical(image))
    query = {"fromImage": name, "tag": tag or None, "platform": platform or None}
    headers = [("X-Registry-Auth", auth_header(ctx, name))]
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
    import base64

    from boxwood.cli import logins
    from boxwood.client import jsonwire

    record = logins.find(ctx, logins.server_of(canonical(image)))
    return base64.urlsafe_b64encode(jsonwire.dumps(record)).decode()
