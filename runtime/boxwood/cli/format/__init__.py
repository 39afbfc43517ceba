"""How the command line shows things: lists, tables, inspect, sizes, durations, rows.

The names below come from the modules beside this one when they are first used: a command pays
for what it prints.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.format._events import event_line as event_line
    from boxwood.cli.format._inspect import inspect_print as inspect_print
    from boxwood.cli.format._inspect import render_object as render_object
    from boxwood.cli.format._inspect import typed_object as typed_object
    from boxwood.cli.format._list import Row as Row
    from boxwood.cli.format._list import print_list as print_list
    from boxwood.cli.format._list import table_text as table_text
    from boxwood.cli.format._ports import ports_column as ports_column
    from boxwood.cli.format._rows import container_row as container_row
    from boxwood.cli.format._rows import (
        container_template_needs_size as container_template_needs_size,
    )
    from boxwood.cli.format._rows import history_row as history_row
    from boxwood.cli.format._rows import image_row as image_row
    from boxwood.cli.format._rows import image_rows as image_rows
    from boxwood.cli.format._rows import network_row as network_row
    from boxwood.cli.format._rows import volume_row as volume_row
    from boxwood.cli.format._units import command_column as command_column
    from boxwood.cli.format._units import ellipsis as ellipsis
    from boxwood.cli.format._units import human_duration as human_duration
    from boxwood.cli.format._units import human_size as human_size
    from boxwood.cli.format._units import human_size_binary as human_size_binary
    from boxwood.cli.format._units import short_id as short_id

_HOMES = {
    "_events": "event_line",
    "_inspect": "inspect_print render_object typed_object",
    "_list": "Row print_list table_text",
    "_ports": "ports_column",
    "_rows": (
        "container_row container_template_needs_size history_row image_row image_rows "
        "network_row volume_row"
    ),
    "_units": "command_column ellipsis human_duration human_size human_size_binary short_id",
}


def __getattr__(name: str) -> object:
    """The public name `name`, from the module that has it."""
    from importlib import import_module

    for home, names in _HOMES.items():
        if name in names.split():
            value: object = getattr(import_module(f"{__name__}.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
