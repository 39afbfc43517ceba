"""Creating a container for `run` and `create`: body, image, id file, warnings."""

from __future__ import annotations

import os

from boxwood.cli.errors import CliError
from boxwood.client.client import Client
from boxwood.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxwood.cli.command import Values
    from boxwood.cli.context import Context

# What the engine, or the command line before it, refuses ends with this.
EXIT_REFUSED = 125
_ID_LENGTH = 64


def failure(ctx: Context, text: str, code: int = EXIT_REFUSED) -> CliError:
    """How `run` and `create` say that nothing runs."""
    return CliError(f"{ctx.prog}: {text}\n\nRun '{ctx.name} --help' for more information", code)


class Creation:
    """What is to be created: the request's `body`, the container's `name`, the `query`."""

    def __init__(self, ctx: Context, values: Values, args: list[str]) -> None:
        from boxwood.cli.errors import UsageError
        from boxwood.cli.opts import OptError, build_create_body

        self._ctx = ctx
        self._values = values
        self.image = args[0]
        try:
            request = build_create_body({**values, "given": ctx.given}, args[0], args[1:])
        except OptError as error:
            if error.in_flag:
                raise UsageError(str(error), flag=True) from error
            raise failure(ctx, str(error)) from error
        self.body, self.name, self.query = request.body, request.name, request.query
        for warning in request.warnings:
            ctx.err(f"WARNING: {warning}")
        self._add_proxies()

    def create(self) -> str:
        """Create the container, fetching its image where that is missing; its id.

        Raises CliError in Docker's words.
        """
        id_file = _IdFile(self._ctx, self._values["cidfile"])
        try:
            answer = self._create_or_pull()
        except ApiError as error:
            id_file.discard()
            if self._ctx.name.endswith(" create"):  # as Docker: run explains, create does not
                raise
            raise failure(self._ctx, f"Error response from daemon: {error.message}") from error
        for warning in answer.get("Warnings") or ():
            self._ctx.err(f"WARNING: {warning}")
        container = str(answer["Id"])
        id_file.write(container)
        return container

    def _create_or_pull(self) -> dict[str, Any]:
        client, pull = self._ctx.client, self._values["pull"]
        if pull == "always":
            self._pull(client)
        try:
            return self._post(client)
        except ApiError as error:
            if not (error.status == 404 and "no such image" in error.message.lower()):
                raise
            if pull != "missing":
                raise
        self._ctx.err(f"Unable to find image '{with_tag(self.image)}' locally")
        self._pull(client)
        return self._post(client)

    def _post(self, client: Client) -> dict[str, Any]:
        query = {**self.query, "name": self.name} if self.name else self.query
        answer: dict[str, Any] = client.post("/containers/create", query, self.body)
        return answer

    def _pull(self, client: Client) -> None:
        from boxwood.cli.progress import pull_image

        quiet = bool(self._values["quiet"])
        image = with_tag(self.image)
        pull_image(self._ctx, client, image, self._values["platform"], quiet=quiet, fd=2)

    def _add_proxies(self) -> None:
        """The configuration's `proxies` become environment of what is created."""
        proxies = self._ctx.config.get("proxies")
        if proxies:
            address = self._ctx.host
            settings = proxies.get(address) or proxies.get("default") or {}
            self.body["Env"] = proxy_environment(settings, self.body.get("Env") or [])


def proxy_environment(settings: dict[str, str], given: list[str]) -> list[str]:
    """`given` with the proxies' variables, in both cases, where it does not name them itself."""
    names = {
        "httpProxy": "HTTP_PROXY",
        "httpsProxy": "HTTPS_PROXY",
        "noProxy": "NO_PROXY",
        "ftpProxy": "FTP_PROXY",
        "allProxy": "ALL_PROXY",
    }
    taken = {entry.partition("=")[0] for entry in given}
    added = []
    for key, name in names.items():
        if settings.get(key):
            spellings = (name, name.lower())
            added += [f"{each}={settings[key]}" for each in spellings if each not in taken]
    return given + added


def with_tag(image: str) -> str:
    """The reference as Docker shows it: `:latest` where it has neither tag nor digest."""
    if "@" in image or ":" in image.rpartition("/")[2]:
        return image
    return f"{image}:latest"


def checked_name(image: str) -> str:
    """The same name, if it can be one of an image: the engine looks closer.

    Raises CliError for what would mean something else where name and tag are sent apart: an empty
    name, a tag that was left out after its colon, an id.
    """
    name, colon, tag = image.rpartition("/")[2].partition(":")
    if not name or (colon and not tag) or not (image[0].isalnum() or image[0] == "["):
        raise CliError("invalid reference format")
    if len(image) == _ID_LENGTH and not image.strip("0123456789abcdef"):
        raise CliError(
            f"invalid repository name ({image}), cannot specify 64-byte hexadecimal strings"
        )
    return image


class _IdFile:
    """The file of --cidfile: it may not be there before, and goes when nothing was created."""

    def __init__(self, ctx: Context, path: str | None) -> None:
        self._path = path
        self._fd = -1
        if not path:
            return
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._fd = os.open(path, flags, 0o666)
        except FileExistsError as error:
            raise failure(
                ctx,
                "container ID file found, make sure the other container isn't running or "
                f"delete {path}",
            ) from error
        except OSError as error:
            raise failure(
                ctx, f"failed to create the container ID file: {path}: {error.strerror}"
            ) from error

    def write(self, container: str) -> None:
        """Keep the id."""
        if self._fd >= 0:
            with os.fdopen(self._fd, "w") as file:
                file.write(container)

    def discard(self) -> None:
        """Nothing was created."""
        if self._fd >= 0 and self._path:
            os.close(self._fd)
            os.unlink(self._path)
