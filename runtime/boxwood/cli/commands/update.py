"""`update`: change the limits of containers, and the ports they publish."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag, defaults
from boxwood.cli.errors import CliError
from boxwood.cli.runflags import CREATE_FLAGS
from boxwood.client.client import quote
from boxwood.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxwood.cli.command import Values
    from boxwood.cli.context import Context

_NAMES = frozenset(
    [
        "blkio-weight",
        "cpu-period",
        "cpu-quota",
        "cpu-rt-period",
        "cpu-rt-runtime",
        "cpu-shares",
        "cpus",
        "cpuset-cpus",
        "cpuset-mems",
        "memory",
        "memory-reservation",
        "memory-swap",
        "pids-limit",
    ]
)
FLAGS = (
    *(flag for flag in CREATE_FLAGS if flag.name in _NAMES),
    Flag("restart", "string", "When to start the container again"),
    Flag("publish-add", "list", "Publish a port from now on ([ADDRESS:][HOST:]PORT[/PROTOCOL])"),
    Flag("publish-rm", "list", "Publish a port no more ([HOST:]PORT[/PROTOCOL])"),
    Flag(
        "publish-from",
        "string",
        "Take over the ports that another container publishes (CONTAINER[:PORT[/PROTOCOL]])",
    ),
)


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Update each container, echoing its name."""
    if all(value is None or value == [] for value in values.values()):
        raise CliError("you must provide one or more flags when using this command")
    ports = _ports(values)
    body, code = _body(values), 0
    for name in args:
        try:
            answer = _update(ctx, name, body, ports)
        except ApiError as error:
            ctx.err(f"Error response from daemon: {error.message}")
            code = 1
            continue
        for warning in answer.get("Warnings") or ():
            ctx.err(f"WARNING: {warning}")
        ctx.out(name)
    return code


def _update(ctx: Context, name: str, body: dict[str, Any], ports: dict[str, Any]) -> dict[str, Any]:
    if any(ports.values()):
        ctx.client.post(f"/boxwood/containers/{quote(name)}/ports", body=ports)
        if not body:
            return {}
    answer: dict[str, Any] = ctx.client.post(f"/containers/{quote(name)}/update", body=body) or {}
    return answer


def _ports(values: Values) -> dict[str, Any]:
    """Take the flags about ports out of the others, as the engine wants them."""
    from boxwood.cli.opts import OptError
    from boxwood.cli.opts._ports import published

    try:
        ports: dict[str, Any] = {
            "Add": published(values.pop("publish_add") or []),
            "Remove": values.pop("publish_rm") or [],
        }
        giver, _, port = (values.pop("publish_from") or "").partition(":")
        return ports | {"From": giver, "Ports": [port] if port else []}
    except OptError as error:
        raise CliError(str(error)) from error


def _body(values: Values) -> dict[str, Any]:
    """The request's resources: what the same flags of `create` would ask for."""
    from boxwood.cli.opts import OptError, build_create_body

    empty: Values = defaults(CREATE_FLAGS)
    try:
        asked = build_create_body({**empty, **values}, "-", []).body
        plain = build_create_body(empty, "-", []).body
    except OptError as error:
        raise CliError(str(error)) from error
    host, default = asked["HostConfig"], plain["HostConfig"]
    return {key: value for key, value in host.items() if default.get(key) != value}


COMMAND = Command(
    run,
    "Update configuration of one or more containers",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    FLAGS,
    least=1,
)
