"""`info`: the engine and the machine it runs on."""

from __future__ import annotations

from boxwood import __version__
from boxwood.cli.command import Command
from boxwood.cli.errors import CliError
from boxwood.cli.inspection import FORMAT
from boxwood.cli.listing import template_failure
from boxwood.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxwood.cli.command import Values
    from boxwood.cli.context import Context

    Info = dict[str, Any]


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Print what the engine says of itself; its warnings go to stderr."""
    template = values["format"]
    if template:
        info = {**ctx.client.get("/info"), "ClientInfo": _client(ctx)}
        ctx.out(_formatted(template, info))
        return 0
    for line in _client_lines(ctx):
        ctx.out(line)
    ctx.out("\nServer:")
    try:
        info = ctx.client.get("/info")
    except ClientError as error:
        from boxwood.cli.commands.version import _describe

        raise CliError(f"{_describe(ctx, error)}\nerrors pretty printing info") from error
    for line in server_lines(info, ctx.product):
        ctx.out(f" {line}" if line else "")
    for warning in info.get("Warnings") or ():
        ctx.err(warning)
    return 0


def _client(ctx: Context) -> Info:
    return {"Version": __version__, "Context": "default", "Debug": ctx.options["debug"]}


def _client_lines(ctx: Context) -> list[str]:
    debug = str(ctx.options["debug"]).lower()
    return ["Client:", f" Version:    {__version__}", " Context:    default",
            f" Debug Mode: {debug}"]  # fmt: skip


def _formatted(template: str, info: Info) -> str:
    if template == "json":
        from boxwood.client import jsonwire

        return jsonwire.dumps(info).decode()
    from boxwood.cli.format import render_object
    from boxwood.cli.template import TemplateError

    try:
        return render_object(template, info)
    except TemplateError as error:
        raise template_failure(error) from error


def server_lines(info: Info, product: str) -> list[str]:
    """The engine's part, line by line, in Docker's order and words."""
    return [
        *_counts(info),
        f"Server Version: {info.get('ServerVersion', '')}",
        f"Storage Driver: {info.get('Driver', '')}",
        *(f" {name}: {value}" for name, value in info.get("DriverStatus") or ()),
        *_drivers(info),
        *_runtimes(info),
        *_security(info),
        *_machine(info),
        f"{product} Root Dir: {info.get('DockerRootDir', '')}",
        f"Debug Mode: {_bool(info.get('Debug'))}",
        *_labels(info),
        f"Experimental: {_bool(info.get('ExperimentalBuild'))}",
        *_registries(info),
        f"Live Restore Enabled: {_bool(info.get('LiveRestoreEnabled'))}",
        "",
    ]


def _bool(value: object) -> str:
    return str(bool(value)).lower()


def _counts(info: Info) -> list[str]:
    return [
        f"Containers: {info.get('Containers', 0)}",
        f" Running: {info.get('ContainersRunning', 0)}",
        f" Paused: {info.get('ContainersPaused', 0)}",
        f" Stopped: {info.get('ContainersStopped', 0)}",
        f"Images: {info.get('Images', 0)}",
    ]


def _drivers(info: Info) -> list[str]:
    plugins = info.get("Plugins") or {}
    lines = [f"Logging Driver: {info.get('LoggingDriver', '')}"]
    if info.get("CgroupDriver"):
        lines.append(f"Cgroup Driver: {info['CgroupDriver']}")
    if info.get("CgroupVersion"):
        lines.append(f"Cgroup Version: {info['CgroupVersion']}")
    lines.append("Plugins:")
    kinds = ["Volume", "Network", *(["Authorization"] if plugins.get("Authorization") else [])]
    return lines + [f" {kind}: {' '.join(plugins.get(kind) or [])}" for kind in (*kinds, "Log")]


def _runtimes(info: Info) -> list[str]:
    names = sorted(info.get("Runtimes") or {})
    lines = [f"Swarm: {(info.get('Swarm') or {}).get('LocalNodeState', 'inactive')}"]
    if names:
        lines += [f"Runtimes: {' '.join(names)}", f"Default Runtime: {info.get('DefaultRuntime')}"]
    if info.get("InitBinary"):
        lines.append(f"Init Binary: {info['InitBinary']}")
    for title, key in (("containerd", "ContainerdCommit"), ("runc", "RuncCommit"),
                       ("init", "InitCommit")):  # fmt: skip
        if info.get(key) is not None and info.get("OSType") == "linux":
            lines.append(f"{title} version: {info[key].get('ID', '')}")
    return lines


def _security(info: Info) -> list[str]:
    options = info.get("SecurityOptions") or []
    lines = ["Security Options:"] if options else []
    for option in options:
        parts = dict(part.partition("=")[::2] for part in option.split(","))
        lines.append(f" {parts.pop('name', option)}")
        lines += [f"  {key.capitalize()}: {value}" for key, value in parts.items()]
    return lines


def _machine(info: Info) -> list[str]:
    from boxwood.cli.format import human_size_binary

    return [
        f"Kernel Version: {info.get('KernelVersion', '')}",
        f"Operating System: {info.get('OperatingSystem', '')}",
        f"OSType: {info.get('OSType', '')}",
        f"Architecture: {info.get('Architecture', '')}",
        f"CPUs: {info.get('NCPU', 0)}",
        f"Total Memory: {human_size_binary(info.get('MemTotal', 0))}",
        f"Name: {info.get('Name', '')}",
        f"ID: {info.get('ID', '')}",
    ]


def _labels(info: Info) -> list[str]:
    labels = info.get("Labels") or []
    return ["Labels:", *(f" {label}" for label in labels)] if labels else []


def _registries(info: Info) -> list[str]:
    config = info.get("RegistryConfig") or {}
    ranges = config.get("InsecureRegistryCIDRs") or []
    insecure = [
        name for name, entry in (config.get("IndexConfigs") or {}).items() if not entry["Secure"]
    ]
    lines = ["Insecure Registries:"] if ranges or insecure else []
    lines += [f" {name}" for name in (*sorted(insecure), *ranges)]
    mirrors = config.get("Mirrors") or []
    return lines + (["Registry Mirrors:", *(f" {mirror}" for mirror in mirrors)] if mirrors else [])


COMMAND = Command(run, "Display system-wide information", "[OPTIONS]", (FORMAT,), most=0)
