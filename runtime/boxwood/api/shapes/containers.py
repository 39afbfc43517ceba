"""Containers as the API shows them: the entry of a list and the whole of ``inspect``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from boxwood.api.shapes import text
from boxwood.execution.spec import mounts
from boxwood.model import times
from boxwood.model.container import (
    DEAD,
    PAUSED,
    RESTARTING,
    Container,
    Health,
    MountPoint,
    State,
)
from boxwood.model.place import endpoint, split_link

Object = dict[str, Any]

_UNSHOWN = ("options", "subpath", "anonymous")
"""Keys of a mount that are ours alone."""


def summary(container: Container, now: int) -> Object:
    """Return the entry of ``GET /containers/json``; ``now`` in nanoseconds since the epoch."""
    networks = endpoints(container)
    return {
        "Id": container.id,
        "Names": [f"/{container.name}"],
        "Image": container.image_ref,
        "ImageID": container.image_id,
        "Command": text.command(container),
        "Created": container.created_at // times.SECOND,
        "Ports": ports_of(container),
        "Labels": container.config.labels or {},
        "State": container.state.status,
        "Status": text.status(container, now),
        "HostConfig": {"NetworkMode": container.host_config.network_mode},
        "NetworkSettings": {"Networks": networks},
        "Mounts": _mounts(container),
    }


def ports_of(container: Container) -> list[Object]:
    """Return the ports that are published, and those that are only exposed."""
    if not _shows_ports(container):
        return []
    found: list[Object] = [
        {
            "IP": port.host_ip,
            "PrivatePort": port.port,
            "PublicPort": port.host_port,
            "Type": port.protocol,
        }
        for port in container.sandbox.ports
    ]
    published = {port.key for port in container.sandbox.ports}
    for key in container.config.exposed_ports or {}:
        number, _, protocol = key.partition("/")
        if number.isdigit() and f"{number}/{protocol or 'tcp'}" not in published:
            found.append({"PrivatePort": int(number), "Type": protocol or "tcp"})
    return found


def _shows_ports(container: Container) -> bool:
    mode = container.host_config.network_mode
    own = mode not in ("host", "none") and not mode.startswith("container:")
    return own and container.state.running


def inspect(container: Container, details: Mapping[str, Any]) -> Object:
    """Return the answer of ``GET /containers/{id}/json``, newest shape, without sizes."""
    return {
        "Id": container.id,
        "Created": times.rfc3339(container.created_at),
        "Path": container.path,
        "Args": list(container.args),
        "State": state(container.state),
        "Image": container.image_id,
        "ResolvConfPath": details.get("ResolvConfPath", ""),
        "HostnamePath": details.get("HostnamePath", ""),
        "HostsPath": details.get("HostsPath", ""),
        "LogPath": details.get("LogPath", ""),
        "Name": f"/{container.name}",
        "RestartCount": container.state.restart_count,
        "Driver": container.storage_driver,
        "Platform": container.platform,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": details.get("ExecIDs") or None,
        "HostConfig": host_config(container),
        "GraphDriver": {
            "Name": container.storage_driver,
            "Data": details.get("GraphDriver") or None,
        },
        "Mounts": _mounts(container),
        "Config": config(container),
        "NetworkSettings": network_settings(container, details),
    }


def state(value: State) -> Object:
    """Return the ``State`` object."""
    shown: Object = {
        "Status": value.status,
        "Running": value.running or value.status == RESTARTING,
        "Paused": value.status == PAUSED,
        "Restarting": value.status == RESTARTING,
        "OOMKilled": value.oom_killed,
        "Dead": value.status == DEAD,
        "Pid": value.pid,
        "ExitCode": value.exit_code,
        "Error": value.error,
        "StartedAt": times.rfc3339(value.started_at),
        "FinishedAt": times.rfc3339(value.finished_at),
    }
    if value.health is not None:
        shown["Health"] = health(value.health)
    return shown


def health(value: Health) -> Object:
    """Return the ``Health`` object."""
    shown: Object = msgspec.to_builtins(value)
    shown["Log"] = list(shown.get("Log") or ())
    return shown


def config(container: Container) -> Object:
    """Return ``Config``; what Docker leaves out when it is empty is left out."""
    shown: Object = msgspec.to_builtins(container.config)
    for name in _OMITTED:
        if not shown.get(name):
            shown.pop(name, None)
    shown["Labels"] = shown.get("Labels") or {}
    return shown


def host_config(container: Container) -> Object:
    """Return ``HostConfig``; what Docker leaves out when it is empty is left out."""
    shown: Object = msgspec.to_builtins(container.host_config)
    for name in _HOST_OMITTED:
        if not shown[name] and shown[name] is not False:
            del shown[name]
    if "Mounts" in shown:
        shown["Mounts"] = [_dense(entry) for entry in shown["Mounts"]]
    if container.host_config.links:
        shown["Links"] = [_link(container, text) for text in container.host_config.links]
    shown["ConsoleSize"] = shown["ConsoleSize"] or [0, 0]
    # What was not asked for is shown as what it became.
    host = container.host_config
    shown["MaskedPaths"] = list(mounts.masked(host, (), unmask=False)) or host.masked_paths
    shown["ReadonlyPaths"] = list(mounts.readonly(host, unmask=False)) or host.readonly_paths
    return shown


def _link(container: Container, text: str) -> str:
    """Return a link as Docker shows it: ``/target:/container/alias``."""
    target, alias = split_link(text)
    return f"/{target}:/{container.name}/{alias}"


_HOST_OMITTED = ("Annotations", "Init", "Mounts", "StorageOpt", "Sysctls", "Tmpfs")
_OMITTED = (
    "ArgsEscaped",
    "ExposedPorts",
    "Healthcheck",
    "NetworkDisabled",
    "Shell",
    "StopSignal",
    "StopTimeout",
)


def _mounts(container: Container) -> list[Object]:
    """Return ``Mounts``: the record's, and each tmpfs of ``--mount``, by destination."""
    shown = [mount(point) for point in container.mounts]
    for request in container.host_config.mounts or ():
        if request.type == "tmpfs":
            shown.append(  # noqa: PERF401  a row of its own reads better
                {
                    "Type": "tmpfs",
                    "Source": "",
                    "Destination": request.target,
                    "Mode": "",
                    "RW": not request.read_only,
                    "Propagation": "",
                }
            )
    return sorted(shown, key=lambda one: str(one["Destination"]))


def _dense(value: object) -> object:
    """Return an object without its empty fields, all the way down."""
    if not isinstance(value, dict):
        return value
    kept = {name: _dense(field) for name, field in value.items()}
    return {name: field for name, field in kept.items() if field not in (None, "", False, 0)}


def mount(point: MountPoint) -> Object:
    """Return one of ``Mounts``."""
    shown: Object = msgspec.to_builtins(point)
    for name in _UNSHOWN:
        shown.pop(name, None)
    for name in ("Name", "Driver"):
        if not shown[name]:
            del shown[name]
    return shown


def endpoints(container: Container) -> Object:
    """Return ``NetworkSettings.Networks``."""
    return {name: msgspec.to_builtins(endpoint(container, name)) for name in container.networks}


def network_settings(container: Container, details: Mapping[str, Any]) -> Object:
    """Return ``NetworkSettings``; maps are there even when empty."""
    running = container.state.running
    ports: Object = {}
    if _shows_ports(container):
        ports = dict.fromkeys(container.config.exposed_ports or {})
    for port in container.sandbox.ports:
        bound = {"HostIp": port.host_ip, "HostPort": str(port.host_port)}
        ports[port.key] = [*(ports.get(port.key) or ()), bound]
    return {
        "SandboxID": details.get("SandboxID", "") if running else "",
        "SandboxKey": details.get("SandboxKey", "") if running else "",
        "Ports": ports,
        "Networks": endpoints(container),
    }
