"""`events`: what happens in the engine, as it happens."""

from __future__ import annotations

import sys

from boxwood.cli.command import Command, Flag
from boxwood.cli.errors import CliError
from boxwood.cli.listing import EXIT_TEMPLATE, filters_query, format_flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Print events until `--until`, or until interrupted."""
    line = _printer(values["format"])
    query = {
        "since": _moment(values["since"]),
        "until": _moment(values["until"]),
        "filters": filters_query(values["filter"]),
    }
    for event in ctx.client.request("GET", "/events", query=query).lines():
        ctx.out(line(event))
        sys.stdout.flush()
    return 0


def _moment(text: str | None) -> str | None:
    if not text:
        return None
    from boxwood.cli.opts import OptError, parse_time

    try:
        return parse_time(text)
    except OptError as error:
        raise CliError(str(error)) from error


def _printer(template: str | None) -> Callable[[Any], str]:
    """How one event becomes a line. Raises CliError for a template that does not parse."""
    if not template:
        from boxwood.cli.format import event_line

        return event_line
    if template == "json":
        from boxwood.client import jsonwire

        return lambda event: jsonwire.dumps(event).decode()
    from boxwood.cli.format import typed_object
    from boxwood.cli.template import Template, TemplateError

    try:
        parsed = Template(template)
    except TemplateError as error:
        raise CliError(f"Error parsing format: {error}", EXIT_TEMPLATE) from error

    def render(event: Any) -> str:
        try:
            return parsed.render(typed_object(event, "event"))
        except TemplateError as error:
            raise CliError(f"Error parsing format: {error}", EXIT_TEMPLATE) from error

    return render


COMMAND = Command(
    run,
    "Get real time events from the engine",
    "[OPTIONS]",
    (
        Flag("filter", "filter", "Show only what meets a condition (KEY=VALUE)", "f"),
        format_flag(),
        Flag("since", "string", "Begin with what happened after this time, or duration ago"),
        Flag("until", "string", "End at this time, or duration ago"),
    ),
    most=0,
)
