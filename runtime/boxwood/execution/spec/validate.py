"""What of a create request makes no sense, or cannot be had on this machine.

Docker's words where a client may match them. A thing that the machine cannot do and that does not
change what a program may rely on is a warning (and is not done); everything else is an error:
nothing is ignored in silence.
"""

from __future__ import annotations

from collections.abc import Callable

from boxwood.drivers.isolation import Machine
from boxwood.errors import InvalidArgument
from boxwood.execution.spec import (
    capabilities,
    devices,
    limits,
    mounts,
    namespaces,
    security,
)
from boxwood.model import egress
from boxwood.model.config import ContainerConfig, HostConfig, Ulimit

MIN_MEMORY = 6 * 1024 * 1024
"""Bytes; below it the kernel kills a container before its first instruction."""
_NANO = 1_000_000_000
_RESERVED = "boxwood."


def validate_host_config(
    config: ContainerConfig,
    host_config: HostConfig,
    machine: Machine,
    ulimits: dict[str, Ulimit] | None = None,
) -> list[str]:
    """Check everything that the spec will be built from; return warnings.

    Args:
        ulimits: the daemon's defaults by short name.

    Raises:
        InvalidArgument: in Docker's words.
    """
    warnings: list[str] = []
    for check in _CHECKS:
        check(config, host_config, machine, warnings)
    merged = limits.merge_ulimits(host_config.ulimits, ulimits or {})
    warnings += limits.rlimits(merged, machine)[1]
    warnings += limits.oom_score_adj(host_config.oom_score_adj, machine)[1]
    return warnings


def _memory(_: ContainerConfig, host: HostConfig, machine: Machine, warnings: list[str]) -> None:
    if host.memory and host.memory < MIN_MEMORY:
        raise InvalidArgument("Minimum memory limit allowed is 6MB")
    if host.memory > 0 and "memory" not in machine.controllers:
        warnings.append(
            "Your kernel does not support memory limit capabilities or the cgroup is not mounted. "
            "Limitation discarded."
        )
    if host.memory > 0 and host.memory_swap > 0 and "swap" not in machine.features:
        warnings.append(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. "
            "Memory limited without swap."
        )
    if host.memory > 0 and 0 < host.memory_swap < host.memory:
        raise InvalidArgument(
            "Minimum memoryswap limit should be larger than memory limit, see usage"
        )
    if host.memory == 0 and host.memory_swap > 0:
        raise InvalidArgument(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    if 0 < host.memory_reservation < MIN_MEMORY:
        raise InvalidArgument("Minimum memory reservation allowed is 6MB")
    if 0 < host.memory < host.memory_reservation:
        raise InvalidArgument(
            "Minimum memory limit can not be less than memory reservation limit, see usage"
        )


def _swappiness(
    _: ContainerConfig, host: HostConfig, machine: Machine, warnings: list[str]
) -> None:
    value = host.memory_swappiness
    if value is not None and value != -1:
        if not 0 <= value <= 100:
            raise InvalidArgument(f"Invalid value: {value}, valid memory swappiness range is 0-100")
        if "swappiness" not in machine.features:
            warnings.append(
                "Your kernel does not support memory swappiness capabilities or the cgroup is not "
                "mounted. Memory swappiness discarded."
            )
    if host.oom_kill_disable:
        if "oom-kill-disable" not in machine.features:
            warnings.append(
                "Your kernel does not support OomKillDisable. OomKillDisable discarded."
            )
        elif host.memory == 0:
            warnings.append(
                "OOM killer is disabled for the container, but no memory limit is set, this can "
                "result in the system running out of resources."
            )


def _cpu(_: ContainerConfig, host: HostConfig, machine: Machine, warnings: list[str]) -> None:
    if host.nano_cpus > 0 and host.cpu_period > 0:
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if host.nano_cpus > 0 and host.cpu_quota > 0:
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    count = len(machine.cpus)
    if host.nano_cpus < 0 or host.nano_cpus > count * _NANO or 0 < host.nano_cpus < _NANO // 100:
        raise InvalidArgument(
            f"range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available"
        )
    if host.cpu_shares < 0:
        raise InvalidArgument(
            f"invalid CPU shares ({host.cpu_shares}): value must be a positive integer"
        )
    if host.cpu_period and not 1000 <= host.cpu_period <= 1_000_000:
        raise InvalidArgument(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if 0 < host.cpu_quota < 1000:
        raise InvalidArgument("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if (host.cpu_shares or host.cpu_quota or host.nano_cpus) and "cpu" not in machine.controllers:
        warnings.append(
            "Your kernel does not support CPU shares or the cgroup is not mounted. "
            "Shares discarded."
        )
    if (host.cpu_realtime_period or host.cpu_realtime_runtime) and (
        "cpu-realtime" not in machine.features
    ):
        raise InvalidArgument("Your kernel does not support CPU real-time scheduler")
    if 0 < host.cpu_realtime_period < host.cpu_realtime_runtime:
        raise InvalidArgument("cpu real-time runtime cannot be higher than cpu real-time period")


def _cpusets(_: ContainerConfig, host: HostConfig, machine: Machine, warnings: list[str]) -> None:
    for what, text, available in (
        ("CPUs", host.cpuset_cpus, machine.cpus),
        ("memory nodes", host.cpuset_mems, machine.nodes),
    ):
        if not text:
            continue
        field = "cpuset cpus" if what == "CPUs" else "cpuset mems"
        wanted = parse_set(text, f"Invalid value {text} for {field}: invalid format: {text}")
        if not wanted <= available:
            shown = format_set(available)
            raise InvalidArgument(
                f"Requested {what} are not available - requested {text}, available: {shown}"
            )
        if "cpuset" not in machine.controllers:
            warnings.append(
                "Your kernel does not support cpuset or the cgroup is not mounted. "
                "Cpuset discarded."
            )


def parse_set(text: str, message: str) -> frozenset[int]:
    """Read ``0-2,7``.

    Raises:
        InvalidArgument: with ``message``. Numbers above 8191 (the kernel's bound) are refused too,
            so that a range cannot fill the memory.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, separator, last = part.strip().partition("-")
        last = last if separator else first
        if not (first.isdecimal() and last.isdecimal()) or not int(first) <= int(last) <= 8191:
            raise InvalidArgument(message)
        found.update(range(int(first), int(last) + 1))
    return frozenset(found)


def format_set(numbers: frozenset[int]) -> str:
    """Return ``0-2,7`` of a set."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def _pids(_: ContainerConfig, host: HostConfig, machine: Machine, warnings: list[str]) -> None:
    if host.pids_limit and host.pids_limit > 0 and "pids" not in machine.controllers:
        warnings.append(
            "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. "
            "PIDs limit discarded."
        )


def _block_io(_: ContainerConfig, host: HostConfig, machine: Machine, warnings: list[str]) -> None:
    weights = [host.blkio_weight, *(device.weight for device in host.blkio_weight_device or ())]
    if any(weight and not 10 <= weight <= 1000 for weight in weights):
        raise InvalidArgument("Range of blkio weight is from 10 to 1000")
    throttles = (
        host.blkio_device_read_bps,
        host.blkio_device_write_bps,
        host.blkio_device_read_iops,
        host.blkio_device_write_iops,
    )
    for asked, feature, what in (
        (host.blkio_weight, "blkio-weight", "Block I/O weight"),
        (host.blkio_weight_device, "blkio-weight-device", "Block I/O weight_device"),
        (any(throttles), "blkio-throttle", "Block I/O throttling"),
    ):
        if asked and feature not in machine.features:
            warnings.append(
                f"Your kernel does not support {what} or the cgroup is not mounted. "
                f"{what} discarded."
            )


def _security(_: ContainerConfig, host: HostConfig, machine: Machine, warnings: list[str]) -> None:
    options = security.of(host)
    security.seccomp_profile(options, privileged=host.privileged, default=None)
    if options.apparmor not in ("", security.UNCONFINED) and not machine.apparmor:
        raise InvalidArgument(
            f"apparmor={options.apparmor}: AppArmor is not enabled on this machine"
        )
    if any(label not in ("disable", "") for label in options.labels) and not machine.selinux:
        warnings.append("SELinux is not enabled on this machine. Labels discarded.")
    capabilities.granted(host, machine)
    if host.privileged:
        # granted() does not look at the lists then, a typing mistake in them is one all the same
        capabilities.normalize(host.cap_add or (), "CapAdd", machine)
        capabilities.normalize(host.cap_drop or (), "CapDrop", machine)


def _namespaces(config: ContainerConfig, host: HostConfig, machine: Machine, _: list[str]) -> None:
    namespaces.check(host)
    modes = namespaces.modes(host, machine)
    if host.cgroupns_mode == namespaces.PRIVATE and "cgroup" not in machine.namespaces:
        raise InvalidArgument("cgroup namespace: private: the kernel has none")
    limits.check_sysctls(host.sysctls or {}, namespaces.private(modes))
    if host.uts_mode == namespaces.HOST and (config.hostname or config.domainname):
        raise InvalidArgument("conflicting options: hostname and the UTS mode")


def _limits(_: ContainerConfig, host: HostConfig, __: Machine, ___: list[str]) -> None:
    limits.check_ulimits(host.ulimits)
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidArgument(
            f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]"
        )
    if host.shm_size < 0:
        raise InvalidArgument("SHM size can not be less than 0")


def _devices(_: ContainerConfig, host: HostConfig, __: Machine, warnings: list[str]) -> None:
    for rule in host.device_cgroup_rules or ():
        devices.parse_rule(rule)
    for mapping in host.devices or ():
        devices.check_mapping(mapping)
        if host.privileged and mapping.cgroup_permissions not in ("", "rwm"):
            warnings.append(
                f"Custom {mapping.cgroup_permissions} permissions for device "
                f"{mapping.path_on_host} are ignored in privileged mode"
            )
    if host.device_requests:
        request = host.device_requests[0]
        wanted = " ".join(f"[{' '.join(names)}]" for names in request.capabilities or ())
        raise InvalidArgument(
            f'could not select device driver "{request.driver}" with capabilities: [{wanted}]'
        )


def _paths(_: ContainerConfig, host: HostConfig, __: Machine, ___: list[str]) -> None:
    for path, options in (host.tmpfs or {}).items():
        if not path.startswith("/"):
            raise InvalidArgument(f"invalid mount path: '{path}' mount path must be absolute")
        mounts.tmpfs(path, options)
    for path in (*(host.masked_paths or ()), *(host.readonly_paths or ())):
        if not path.startswith("/"):
            raise InvalidArgument(f"invalid path: '{path}': must be absolute")


def _foreign(_: ContainerConfig, host: HostConfig, __: Machine, ___: list[str]) -> None:
    """What only Windows has."""
    if host.io_maximum_bandwidth:
        raise InvalidArgument("invalid QoS settings: linux does not support Maximum IO Bandwidth")
    if host.io_maximum_iops:
        raise InvalidArgument("invalid QoS settings: linux does not support Maximum IO IOps")


def _life(_: ContainerConfig, host: HostConfig, __: Machine, ___: list[str]) -> None:
    policy = host.restart_policy.name
    if host.auto_remove and policy not in ("", "no"):
        raise InvalidArgument("can't create 'AutoRemove' container with restart policy")
    for name in host.annotations or {}:
        if not name:
            raise InvalidArgument(
                "invalid Annotations: the empty string is not permitted as an annotation key"
            )
        if name.startswith(_RESERVED) and name != egress.KEY:
            raise InvalidArgument(f"annotation {name}: names below {_RESERVED} are reserved")
    if host.isolation not in ("", "default"):
        raise InvalidArgument(f'invalid isolation "{host.isolation}" on linux')
    if host.cgroup_parent and ".." in host.cgroup_parent.split("/"):
        raise InvalidArgument(f"cgroup parent {host.cgroup_parent}: has a ..")


_CHECKS: tuple[Callable[[ContainerConfig, HostConfig, Machine, list[str]], None], ...] = (
    _memory,
    _swappiness,
    _cpu,
    _cpusets,
    _pids,
    _block_io,
    _limits,
    _namespaces,
    _security,
    _devices,
    _paths,
    _foreign,
    _life,
)
