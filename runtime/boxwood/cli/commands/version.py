"""`version`: what the client and the engine are."""

from __future__ import annotations

import os
import sys

from boxwood import __version__
from boxwood.cli.command import Command
from boxwood.cli.errors import CliError
from boxwood.cli.inspection import FORMAT
from boxwood.cli.listing import EXIT_TEMPLATE
from boxwood.client.errors import ApiError, ClientError, ConnectError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxwood.cli.command import Values
    from boxwood.cli.context import Context

# The newest API that the client knows; an engine's answer may lower it.
NEWEST_API = "1.51"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Print both; without an engine only the client, and end with 1."""
    failure: ClientError | CliError | None = None
    server: dict[str, Any] | None = None
    try:
        server = ctx.client.get("/version")
    except (ClientError, CliError) as error:
        failure = error
    _print(ctx, {"Client": _client(server), "Server": server}, values["format"])
    if failure is not None:
        raise CliError(_describe(ctx, failure)) from failure
    return 0


def _describe(ctx: Context, error: ClientError | CliError) -> str:
    from boxwood.cli.main import describe_connect

    if isinstance(error, ConnectError):
        return describe_connect(ctx, error)
    if isinstance(error, ApiError):
        return f"Error response from daemon: {error.message}"
    return str(error)


def _client(server: dict[str, Any] | None) -> dict[str, str]:
    api = NEWEST_API
    if server is not None:
        api = min(api, str(server.get("ApiVersion", api)), key=_number)
    machine = os.uname().machine
    return {
        "Version": __version__,
        "ApiVersion": api,
        "DefaultAPIVersion": NEWEST_API,
        "PythonVersion": ".".join(map(str, sys.version_info[:3])),
        "Os": "linux",
        "Arch": _ARCHITECTURES.get(machine, machine),
        "Context": "default",
    }


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _print(ctx: Context, about: dict[str, Any], template: str | None) -> None:
    if not template:
        for line in _text(about):
            ctx.out(line)
        return
    if template == "json":
        from boxwood.client import jsonwire

        ctx.out(jsonwire.dumps(about).decode())
        return
    from boxwood.cli.format import render_object
    from boxwood.cli.template import TemplateError

    try:
        ctx.out(render_object(template, about, kind="version"))
    except TemplateError as error:
        # Docker's template for this command has a name.
        text = str(error).replace("template: :", "template: version:", 1)
        if error.parsing:
            raise CliError(text, EXIT_TEMPLATE) from error
        raise CliError("\n" + text.replace('executing ""', 'executing "version"', 1)) from error


def _text(about: dict[str, Any]) -> list[str]:
    client = about["Client"]
    lowered = client["ApiVersion"] != client["DefaultAPIVersion"]
    note = f" (downgraded from {client['DefaultAPIVersion']})" if lowered else ""
    lines = [
        "Client:",
        _field("Version", client["Version"]),
        _field("API version", client["ApiVersion"] + note),
        _field("Python version", client["PythonVersion"]),
        _field("OS/Arch", f"{client['Os']}/{client['Arch']}"),
    ]
    return lines + _server(about["Server"]) if about["Server"] else lines


def _server(server: dict[str, Any]) -> list[str]:
    platform = (server.get("Platform") or {}).get("Name", "")
    lines = ["", f"Server: {platform}".rstrip()]
    for part in server.get("Components") or [_engine(server)]:
        details = part.get("Details") or {}
        lines += [f" {part['Name']}:", _inner("Version", part["Version"])]
        if part["Name"] in ("Engine", "Boxwood"):
            lines += _details(details)
        else:
            lines.append(_inner("GitCommit", details.get("GitCommit", "")))
    return lines


def _engine(server: dict[str, Any]) -> dict[str, Any]:
    return {"Name": "Engine", "Version": server.get("Version", ""), "Details": server}


def _details(details: dict[str, Any]) -> list[str]:
    api = f"{details.get('ApiVersion', '')} (minimum version {details.get('MinAPIVersion', '')})"
    known = {
        "API version": api,
        "Go version": details.get("GoVersion"),
        "Git commit": details.get("GitCommit"),
        "Built": details.get("BuildTime"),
        "OS/Arch": f"{details.get('Os', '')}/{details.get('Arch', '')}",
        "Experimental": details.get("Experimental"),
    }
    return [_inner(title, str(value)) for title, value in known.items() if value is not None]


def _field(title: str, value: str) -> str:
    return f" {title + ':':<18} {value}"


def _inner(title: str, value: str) -> str:
    return f"  {title + ':':<17} {value}"


COMMAND = Command(
    run, "Show the version of the client and of the engine", "[OPTIONS]", (FORMAT,), most=0
)
