"""The flags of `run` and `create` as an Engine API request, and small grammars of other flags.

The names below come from the modules beside this one when they are first used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.opts._create import CreateRequest as CreateRequest
    from boxwood.cli.opts._create import build_create_body as build_create_body
    from boxwood.cli.opts._errors import OptError as OptError
    from boxwood.cli.opts._files import parse_env as parse_env
    from boxwood.cli.opts._files import parse_env_file as parse_env_file
    from boxwood.cli.opts._query import parse_filters as parse_filters
    from boxwood.cli.opts._query import parse_signal as parse_signal
    from boxwood.cli.opts._query import parse_time as parse_time
    from boxwood.cli.opts._scalars import parse_bytes as parse_bytes
    from boxwood.cli.opts._scalars import parse_cpus as parse_cpus
    from boxwood.cli.opts._scalars import parse_duration as parse_duration

_HOMES = {
    "_create": "CreateRequest build_create_body",
    "_errors": "OptError",
    "_files": "parse_env parse_env_file",
    "_query": "parse_filters parse_signal parse_time",
    "_scalars": "parse_bytes parse_cpus parse_duration",
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
