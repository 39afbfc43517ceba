"""What the listing commands share: formats, filters, and how a template's error ends."""

from __future__ import annotations

import sys

from boxwood.cli.command import Flag
from boxwood.cli.errors import CliError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from boxwood.cli.context import Context
    from boxwood.cli.template import TemplateError

# A template that does not parse, where Docker tells that apart: inspect, info, version, events.
EXIT_TEMPLATE = 64

FORMAT_HELP = "How to print: 'table', 'table TEMPLATE', 'json', or a Go template such as '{{.ID}}'"


def format_flag(short: str = "") -> Flag:
    """The flag of every command that prints a list."""
    return Flag("format", "string", FORMAT_HELP, short)


def filters_query(filters: list[str]) -> str | None:
    """The `filters` parameter for `--filter` values; None for none. Raises UsageError."""
    if not filters:
        return None
    from boxwood.cli.opts import OptError, parse_filters
    from boxwood.client import jsonwire

    try:
        return jsonwire.dumps(parse_filters(filters)).decode()
    except OptError as error:
        raise UsageError(str(error), flag=True) from error


def chosen_format(ctx: Context, typed: str | None, key: str, *, quiet: bool) -> str | None:
    """The flag's value, or what `config.json` says under `key` where the flag is absent."""
    if typed:
        return typed
    configured = None if quiet else ctx.config.get(key)
    return str(configured) if configured else None


def show(
    rows: Iterable[Mapping[str, Any]],
    *,
    template: str | None,
    table: str,
    headers: Mapping[str, str],
    quiet: str | None = None,
) -> None:
    """Print rows to stdout. Raises CliError for a template's error."""
    from boxwood.cli.format import print_list
    from boxwood.cli.template import TemplateError

    try:
        print_list(
            rows,
            template=template,
            default_table=table,
            headers=headers,
            quiet_field=quiet,
            out=sys.stdout,
        )
    except TemplateError as error:
        raise CliError(str(error)) from error


def template_failure(error: TemplateError) -> CliError:
    """A template's error in the commands that print objects: 64 where it does not parse."""
    if error.parsing:
        return CliError(str(error), EXIT_TEMPLATE)
    return CliError(f"\n{error}")
