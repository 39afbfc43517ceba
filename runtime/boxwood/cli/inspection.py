"""What the inspect commands share: fetch several objects, print them, then say what is missing."""

from __future__ import annotations

import sys

from boxwood.cli.command import Flag
from boxwood.cli.errors import CliError
from boxwood.cli.listing import template_failure
from boxwood.client.client import quote
from boxwood.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from boxwood.cli.context import Context
    from boxwood.client.client import Query

    # Fetches one object by name: its kind and its value.
    Fetch = Callable[[str], tuple[str, Any]]

FORMAT = Flag("format", "string", "How to print: 'json', or a Go template", "f")

PATHS = {
    "container": "/containers/{}/json",
    "image": "/images/{}/json",
    "network": "/networks/{}",
    "volume": "/volumes/{}",
}


def fetcher(ctx: Context, kind: str, query: Query | None = None) -> Fetch:
    """Fetches objects of one kind."""

    def fetch(name: str) -> tuple[str, Any]:
        return kind, ctx.client.get(PATHS[kind].format(quote(name)), query)

    return fetch


def inspect(ctx: Context, names: list[str], fetch: Fetch, template: str | None) -> int:
    """Print what is there, then an error line for each that is not; 1 if there was one."""
    found: list[tuple[str, Any]] = []
    errors: list[str] = []
    for name in names:
        try:
            found.append(fetch(_named(name)))
        except ApiError as error:
            errors.append(f"Error response from daemon: {error.message}")
        except CliError as error:
            errors.append(error.text)
    _print(found, template)
    for text in errors:
        ctx.err(text)
    return 1 if errors else 0


def _named(name: str) -> str:
    if not name:
        raise CliError("invalid container name or ID: value is empty")
    return name


def _print(found: list[tuple[str, Any]], template: str | None) -> None:
    from boxwood.cli.format import inspect_print
    from boxwood.cli.template import TemplateError

    try:
        if not template or template == "json":
            inspect_print([value for _, value in found], template, sys.stdout)
            return
        for kind, value in found:
            inspect_print([value], template, sys.stdout, kind=kind)
    except TemplateError as error:
        raise template_failure(error) from error
