"""Limits of a container: ``HostConfig`` to OCI ``linux.resources``."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from boxwood.drivers.isolation import Document
from boxwood.errors import InvalidArgument
from boxwood.model.config import HostConfig, ThrottleDevice, WeightDevice

# Microseconds: the period that --cpus is a share of (the kernel's own default).
CPU_PERIOD = 100_000
_NANO = 1_000_000_000

_THROTTLES = (
    ("throttleReadBpsDevice", "blkio_device_read_bps"),
    ("throttleWriteBpsDevice", "blkio_device_write_bps"),
    ("throttleReadIOPSDevice", "blkio_device_read_iops"),
    ("throttleWriteIOPSDevice", "blkio_device_write_iops"),
)


def build(host_config: HostConfig, device_rules: list[Document]) -> Document:
    """Return ``linux.resources``; only what was asked for is in it.

    Raises:
        InvalidArgument: a block device that is not there.
    """
    result: Document = {"devices": device_rules}
    for name, part in (
        ("memory", _memory(host_config)),
        ("cpu", _cpu(host_config)),
        ("blockIO", _block_io(host_config)),
    ):
        if part:
            result[name] = part
    if host_config.pids_limit:
        result["pids"] = {"limit": max(host_config.pids_limit, -1)}
    return result


def _memory(config: HostConfig) -> Document:
    """A limit without a word on swap allows as much swap again, as Docker has it."""
    part: Document = {}
    if config.memory > 0:
        part["limit"] = config.memory
        part["swap"] = config.memory_swap or 2 * config.memory
    elif config.memory_swap < 0:
        part["swap"] = -1
    if config.memory_reservation > 0:
        part["reservation"] = config.memory_reservation
    if config.memory_swappiness is not None and config.memory_swappiness >= 0:
        part["swappiness"] = config.memory_swappiness
    if config.oom_kill_disable:
        part["disableOOMKiller"] = True
    return part


def _cpu(config: HostConfig) -> Document:
    part: Document = {}
    if config.nano_cpus > 0:
        part["period"] = CPU_PERIOD
        part["quota"] = config.nano_cpus * CPU_PERIOD // _NANO
    for name, value in (
        ("shares", config.cpu_shares),
        ("period", config.cpu_period),
        ("quota", config.cpu_quota),
        ("realtimePeriod", config.cpu_realtime_period),
        ("realtimeRuntime", config.cpu_realtime_runtime),
        ("cpus", config.cpuset_cpus),
        ("mems", config.cpuset_mems),
    ):
        if value:
            part[name] = value
    return part


def _block_io(config: HostConfig) -> Document:
    part: Document = {}
    if config.blkio_weight:
        part["weight"] = config.blkio_weight
    if config.blkio_weight_device:
        part["weightDevice"] = [_weight(device) for device in config.blkio_weight_device]
    for name, field in _THROTTLES:
        devices: Iterable[ThrottleDevice] | None = getattr(config, field)
        if devices:
            part[name] = [_throttle(device) for device in devices]
    return part


def _weight(device: WeightDevice) -> Document:
    major, minor = _block_device(device.path)
    return {"major": major, "minor": minor, "weight": device.weight}


def _throttle(device: ThrottleDevice) -> Document:
    major, minor = _block_device(device.path)
    return {"major": major, "minor": minor, "rate": device.rate}


def _block_device(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise InvalidArgument(f"{path}: {(error.strerror or '').lower()}") from error
    if not stat.S_ISBLK(status.st_mode):
        raise InvalidArgument(f"{path}: not a block device")
    return os.major(status.st_rdev), os.minor(status.st_rdev)
