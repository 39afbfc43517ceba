"""The body of ``POST /containers/create``: decoding, rules of versions, fields not honoured."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from boxwood.api import decode, fields
from boxwood.errors import InvalidArgument
from boxwood.model.config import (
    ContainerConfig,
    EndpointSettings,
    HostConfig,
    MountRequest,
    NetworkingConfig,
    PortBinding,
)
from boxwood.model.wire import replace


class CreateBody(NamedTuple):
    """The body, decoded and changed as the client's version wants it."""

    config: ContainerConfig
    host_config: HostConfig
    networking: NetworkingConfig
    warnings: list[str]


def decode_create(value: Any, minor: int, default_network: str = "bridge") -> CreateBody:
    """Return the create body of a client that speaks API 1.``minor``.

    ``default_network`` is that of a container which asks for none.

    Raises:
        InvalidArgument: a field is of a wrong type or refused, or contradicts the version.
    """
    if not isinstance(value, dict):
        raise InvalidArgument("invalid JSON: body: want object")
    if not value:
        raise InvalidArgument("config cannot be empty in order to create a container")
    config = decode.convert(value, ContainerConfig)
    host = decode.convert(_part(value, "HostConfig"), HostConfig, "HostConfig")
    networking = decode.convert(
        _part(value, "NetworkingConfig"), NetworkingConfig, "NetworkingConfig"
    )
    warnings: list[str] = []
    config = _config_rules(config, minor)
    host = _host_rules(host, minor, default_network)
    networking = _network_rules(networking, minor)
    networking = _legacy_mac(_part(value, "MacAddress"), networking, host, minor, warnings)
    _check_fields(host, networking, warnings)
    return CreateBody(config, host, networking, warnings)


def _part(value: dict[str, Any], name: str) -> Any:
    if name in value:
        return value[name]
    folded = name.casefold()
    return next((item for key, item in value.items() if key.casefold() == folded), None)


# Rules of versions, in the order of the versions.


def _config_rules(config: ContainerConfig, minor: int) -> ContainerConfig:
    check = config.healthcheck
    if check is not None and minor < 44 and check.start_interval:
        config = replace(config, healthcheck=replace(check, start_interval=0))
    return config


def _host_rules(host: HostConfig, minor: int, default_network: str) -> HostConfig:
    changes: dict[str, Any] = {}
    if minor < 40 and not host.ipc_mode:
        changes["ipc_mode"] = "shareable"
    # Zero and less mean no limit, and are shown as none set.
    if host.pids_limit is not None and host.pids_limit <= 0:
        changes["pids_limit"] = None
    if host.memory_swappiness == -1:
        changes["memory_swappiness"] = None
    if minor < 43 and host.annotations:
        changes["annotations"] = None
    if host.network_mode in ("", "default"):
        changes["network_mode"] = default_network
    if host.port_bindings:
        changes["port_bindings"] = {
            port: bindings or (PortBinding(),) for port, bindings in host.port_bindings.items()
        }
    if host.mounts:
        changes["mounts"] = tuple(_mount_rules(mount, minor) for mount in host.mounts)
    return replace(host, **changes) if changes else host


def _mount_rules(mount: MountRequest, minor: int) -> MountRequest:
    if mount.type == "image" and minor < 48:
        raise InvalidArgument('Mount type "image" needs API version 1.48 or newer')
    volume, bind = mount.volume_options, mount.bind_options
    if volume is not None and volume.subpath and minor < 45:
        raise InvalidArgument("VolumeOptions.Subpath needs API version 1.45 or newer")
    if bind is not None and minor < 44:
        # Read-only binds of older clients never were recursive.
        mount = replace(
            mount,
            bind_options=replace(
                bind,
                create_mountpoint=bind.create_mountpoint and minor >= 42,
                non_recursive=bind.non_recursive and minor >= 40,
                read_only_non_recursive=mount.read_only,
                read_only_force_recursive=False,
            ),
        )
    return mount


def _network_rules(networking: NetworkingConfig, minor: int) -> NetworkingConfig:
    endpoints = networking.endpoints_config or {}
    if minor < 44 and len(endpoints) > 1:
        names = ", ".join(sorted(endpoints))
        raise InvalidArgument(f"container cannot be connected to network endpoints: {names}")
    if "default" in endpoints:
        renamed = {"default": "bridge"}
        endpoints = {renamed.get(name, name): at for name, at in endpoints.items()}
    return replace(networking, endpoints_config=endpoints)


def _legacy_mac(
    address: Any,
    networking: NetworkingConfig,
    host: HostConfig,
    minor: int,
    warnings: list[str],
) -> NetworkingConfig:
    """Move the old container-wide ``MacAddress`` to the endpoint of the network mode."""
    if not address:
        return networking
    if not isinstance(address, str):
        raise InvalidArgument("invalid JSON: MacAddress: want string")
    if minor >= 52:
        raise InvalidArgument(
            "container-wide MAC address no longer supported; use endpoint-specific MAC address"
        )
    endpoints = dict(networking.endpoints_config or {})
    endpoint = endpoints.get(host.network_mode) or EndpointSettings()
    if endpoint.mac_address not in ("", address):
        raise InvalidArgument(
            "the container-wide MAC address must match the endpoint-specific MAC address for the "
            "main network, or be left empty"
        )
    endpoints[host.network_mode] = replace(endpoint, mac_address=address)
    if minor >= 44:
        warnings.append(
            "The container-wide MacAddress field is deprecated: give it in EndpointsConfig"
        )
    return replace(networking, endpoints_config=endpoints)


# Fields that are not honoured.


def _check_fields(host: HostConfig, networking: NetworkingConfig, warnings: list[str]) -> None:
    if host.device_requests:
        first = host.device_requests[0]
        wanted = " ".join("[" + " ".join(group) + "]" for group in first.capabilities or ())
        raise InvalidArgument(
            f'could not select device driver "{first.driver}" with capabilities: [{wanted}]'
        )
    _apply("HostConfig", host, "HostConfig", warnings)
    for index, mount in enumerate(host.mounts or ()):
        _apply("Mount", mount, f"HostConfig.Mounts.{index}", warnings)
    for name, endpoint in (networking.endpoints_config or {}).items():
        if endpoint is not None:
            _apply("EndpointSettings", endpoint, f"EndpointsConfig.{name}", warnings)


def _apply(table: str, value: msgspec.Struct, where: str, warnings: list[str]) -> None:
    for name, attribute, rule in _watched(table, type(value)):
        found = getattr(value, attribute)
        if not _is_set(found) or found in rule.accepted:
            continue
        if rule.state == fields.REFUSED:
            raise InvalidArgument(f"{where}.{name}: {rule.text}")
        warning = f"{where}.{name}: {rule.text}"
        if warning not in warnings:
            warnings.append(warning)


_watch_cache: dict[str, list[tuple[str, str, fields.Rule]]] = {}


def _watched(table: str, cls: type[msgspec.Struct]) -> list[tuple[str, str, fields.Rule]]:
    """The fields of a table whose rule does something: JSON name, attribute, rule."""
    if table not in _watch_cache:
        attributes = {field.encode_name: field.name for field in msgspec.structs.fields(cls)}
        _watch_cache[table] = [
            (name, attributes[name], rule)
            for name, rule in fields.TABLE[table].items()
            if rule.state in (fields.REFUSED, fields.WARNED)
        ]
    return _watch_cache[table]


def _is_set(value: object) -> bool:
    if isinstance(value, msgspec.Struct):
        return any(_is_set(getattr(value, name)) for name in value.__struct_fields__)
    return bool(value)
