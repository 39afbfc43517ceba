"""The container's config over the image's, and the checks that need no machine."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TypeVar

from boxwood.errors import InvalidArgument
from boxwood.execution.sandbox import HOST_GATEWAY, split_host
from boxwood.model.config import ContainerConfig, HealthConfig, HostConfig
from boxwood.model.signals import parse_signal
from boxwood.model.wire import replace

MIN_HEALTH_DURATION = 1_000_000
"""Nanoseconds: Docker's smallest interval, timeout and start period (1 ms)."""
_POLICIES = frozenset({"", "no", "always", "unless-stopped", "on-failure"})
_HOSTNAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,253}[a-zA-Z0-9])?\Z")


def merge(user: ContainerConfig, image: ContainerConfig) -> ContainerConfig:
    """Return the config that the container gets.

    Raises:
        InvalidArgument: there is nothing to run.
    """
    entrypoint, cmd = user.entrypoint, user.cmd
    if not entrypoint:
        if not cmd:
            cmd = image.cmd if entrypoint is None else cmd
        if entrypoint is None:
            entrypoint = image.entrypoint
            if entrypoint and not user.cmd:
                cmd = image.cmd
    if entrypoint == ("",):
        entrypoint = None
    if not entrypoint and not cmd:
        raise InvalidArgument("no command specified")
    return replace(
        user,
        user=user.user or image.user,
        exposed_ports=_union(image.exposed_ports, user.exposed_ports),
        env=_merge_env(user.env, image.env),
        labels=_union(image.labels, user.labels) or {},
        cmd=cmd,
        entrypoint=entrypoint,
        healthcheck=_merge_health(user.healthcheck, image.healthcheck),
        working_dir=user.working_dir or image.working_dir,
        volumes=_union(image.volumes, user.volumes),
        stop_signal=user.stop_signal or image.stop_signal,
        shell=user.shell or image.shell,
        on_build=user.on_build if user.on_build is not None else image.on_build,
    )


T = TypeVar("T")


def _union(image: dict[str, T] | None, user: dict[str, T] | None) -> dict[str, T] | None:
    if not image or not user:
        return user or image
    return {**image, **user}


def _merge_env(
    user: tuple[str, ...] | None, image: tuple[str, ...] | None
) -> tuple[str, ...] | None:
    if not user:
        return image
    names = {entry.partition("=")[0] for entry in user}
    return user + tuple(entry for entry in image or () if entry.partition("=")[0] not in names)


def _merge_health(user: HealthConfig | None, image: HealthConfig | None) -> HealthConfig | None:
    if user is None or image is None:
        return user or image
    return HealthConfig(
        test=user.test or image.test,
        interval=user.interval or image.interval,
        timeout=user.timeout or image.timeout,
        retries=user.retries or image.retries,
        start_period=user.start_period or image.start_period,
        start_interval=user.start_interval or image.start_interval,
    )


def command_of(config: ContainerConfig) -> tuple[str, tuple[str, ...]]:
    """Return the program and its arguments."""
    words = (*(config.entrypoint or ()), *(config.cmd or ()))
    return words[0], words[1:]


def check_config(config: ContainerConfig) -> None:
    """Check what does not depend on the host. Raises InvalidArgument in Docker's words."""
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidArgument(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute "
            "path"
        )
    if config.stop_signal:
        parse_signal(config.stop_signal)
    for entry in config.env or ():
        if not entry or entry.startswith("="):
            raise InvalidArgument(f"invalid environment variable: {entry}")
    if config.hostname and _HOSTNAME.match(config.hostname) is None:
        raise InvalidArgument(f"invalid hostname format: {config.hostname}")
    if config.healthcheck is not None:
        _check_health(config.healthcheck)
    texts = (*(config.cmd or ()), *(config.entrypoint or ()), *(config.env or ()))
    if any("\0" in text for text in texts):
        raise InvalidArgument("a NUL byte in an argument or in the environment")


def _check_health(health: HealthConfig) -> None:
    for name, value in (
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ):
        if value and value < MIN_HEALTH_DURATION:
            raise InvalidArgument(f"{name} in Healthcheck cannot be less than 1ms")
    if health.retries < 0:
        raise InvalidArgument("Retries in Healthcheck cannot be negative")
    kind = health.test[0] if health.test else "NONE"
    if kind not in ("", "NONE", "CMD", "CMD-SHELL"):
        raise InvalidArgument(f"Unknown healthcheck type in Test: {kind}")


def _check_addresses(host: HostConfig) -> None:
    """Check what goes into ``/etc/hosts`` and ``/etc/resolv.conf``. Raises InvalidArgument."""
    for entry in host.extra_hosts or ():
        _, address = split_host(entry)
        if address != HOST_GATEWAY and not _is_address(address):
            raise InvalidArgument(f'invalid IP address in add-host: "{address}"')
    for address in host.dns or ():
        if not _is_address(address):
            raise InvalidArgument(f'invalid IP address in Dns: "{address}"')


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def check_host(config: ContainerConfig, host: HostConfig) -> None:
    """Check restart policy, names and the contradictions of the network mode."""
    policy = host.restart_policy
    if policy.name not in _POLICIES:
        raise InvalidArgument(f"invalid restart policy: unknown policy '{policy.name}'")
    if policy.maximum_retry_count < 0:
        raise InvalidArgument("invalid restart policy: maximum retry count cannot be negative")
    if policy.maximum_retry_count and policy.name != "on-failure":
        raise InvalidArgument(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        )
    if host.auto_remove and policy.name not in ("", "no"):
        raise InvalidArgument("can't create 'AutoRemove' container with restart policy")
    _check_addresses(host)
    mode = host.network_mode
    joined, shared = mode.startswith("container:"), mode == "host"
    for wrong, text in (
        (joined and config.hostname, "hostname and the network mode"),
        (joined and host.links, "container type network can't be used with links. This would "
         "result in undefined behavior"),
        (shared and host.links, "host type networking can't be used with links. This would result "
         "in undefined behavior"),
        (joined and host.dns, "dns and the network mode"),
        (joined and host.extra_hosts, "custom host-to-IP mapping and the network mode"),
        (joined and (host.port_bindings or host.publish_all_ports),
         "port publishing and the container type network mode"),
        (joined and config.exposed_ports, "port exposing and the container type network mode"),
        (mode == "none" and host.links, "links and the network mode"),
    ):  # fmt: skip
        if wrong:
            raise InvalidArgument(f"conflicting options: {text}")
