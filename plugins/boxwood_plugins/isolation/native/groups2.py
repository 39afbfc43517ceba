"""Control groups, version 2: one tree. A process is born in its group (CLONE_INTO_CGROUP)."""

from __future__ import annotations

import os

from boxwood.drivers.isolation import Document
from boxwood.errors import BoxwoodError, Internal, Unavailable
from boxwood_plugins.isolation.native import device_filter, device_rules
from boxwood_plugins.isolation.native.groups import (
    Groups,
    close_all,
    read,
    read_number,
    read_pairs,
    remove_tree,
    write,
)

# v1's range for shares and blkio weights, and v2's for weights; the document speaks v1.
_SHARES, _BLKIO, _WEIGHTS = (2, 262_144), (10, 1000), (1, 10_000)
_THROTTLES = (
    ("throttleReadBpsDevice", "rbps"),
    ("throttleWriteBpsDevice", "wbps"),
    ("throttleReadIOPSDevice", "riops"),
    ("throttleWriteIOPSDevice", "wiops"),
)
_IO_STATS = (
    ("io_service_bytes_recursive", (("rbytes", "read"), ("wbytes", "write"))),
    ("io_serviced_recursive", (("rios", "read"), ("wios", "write"))),
)


def scale(value: int, source: tuple[int, int]) -> int:
    """Bring a weight from v1's range to v2's, as runc does."""
    low, high = source
    first, last = _WEIGHTS
    value = min(max(value, low), high)
    return first + (value - low) * (last - first) // (high - low)


class Groups2(Groups):
    """See the module."""

    version = 2

    def __init__(self, point: str) -> None:
        self._point = point

    def main(self) -> str:
        return self._point

    def binds(self, path: str) -> None:
        """The hierarchy is mounted anew: it shows what the cgroup namespace allows."""

    def create(self, path: str, resources: Document) -> list[int]:
        directory = self._point + path
        fds: list[int] = []
        try:
            self._make_parents(path.rpartition("/")[0])
            # One that is there (a daemon died) would keep its device program beside the new one,
            # and both would have to allow. With a process in it, it stays.
            remove_tree(directory)
            os.makedirs(directory, 0o755, exist_ok=True)
            fds = self.enter(path)
            self.update(path, resources)
            if resources.get("devices") is not None:
                device_filter.attach(fds[0], device_rules.settle(resources["devices"]))
        except OSError as error:
            close_all(fds)
            self.discard(path)
            raise Internal(f"cgroup: {path}: {error.strerror}") from error
        except BoxwoodError:
            close_all(fds)
            self.discard(path)
            raise
        return fds

    def enter(self, path: str) -> list[int]:
        return [os.open(self._point + path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]

    def _make_parents(self, parent: str) -> None:
        """Make the groups above a container's and hand every controller down through them."""
        directory = self._point
        self._delegate(directory)
        for part in parent.strip("/").split("/"):
            if not part:
                continue
            directory = f"{directory}/{part}"
            if not os.path.isdir(directory):
                os.mkdir(directory, 0o755)
            self._delegate(directory)

    @staticmethod
    def _delegate(directory: str) -> None:
        """Enable what is not enabled below. One that cannot be is missing below, no more: a
        real-time process outside its group keeps the cpu controller away, for one."""
        have = set(read(f"{directory}/cgroup.controllers").split())
        enabled = set(read(f"{directory}/cgroup.subtree_control").split())
        for name in sorted(have - enabled):
            try:
                write(f"{directory}/cgroup.subtree_control", f"+{name}")
            except Internal:
                continue

    def update(self, path: str, resources: Document) -> None:
        directory = self._point + path
        for name, value in _limits(resources):
            if name.startswith("memory.swap") and not os.path.exists(f"{directory}/{name}"):
                continue  # swap is not counted here; the machine's features say so
            write(f"{directory}/{name}", value)
        self._block_io(directory, resources.get("blockIO") or {})

    @staticmethod
    def _block_io(directory: str, limits: Document) -> None:
        weight = limits.get("weight")
        if weight:
            if os.path.exists(f"{directory}/io.bfq.weight"):
                write(f"{directory}/io.bfq.weight", weight)
            elif os.path.exists(f"{directory}/io.weight"):
                write(f"{directory}/io.weight", f"default {scale(weight, _BLKIO)}")
        for device in limits.get("weightDevice") or ():
            if os.path.exists(f"{directory}/io.weight"):
                numbers = f"{device['major']}:{device['minor']}"
                write(f"{directory}/io.weight", f"{numbers} {scale(device['weight'], _BLKIO)}")
        for key, word in _THROTTLES:
            for device in limits.get(key) or ():
                numbers = f"{device['major']}:{device['minor']}"
                write(f"{directory}/io.max", f"{numbers} {word}={device['rate']}")

    def directories(self, path: str) -> list[str]:
        directory = self._point + path
        return [directory] if os.path.isdir(directory) else []

    def kill(self, path: str) -> bool:
        """One write kills all at once (Linux 5.14); before that, one by one."""
        directory = self._point + path
        try:
            if not read_pairs(f"{directory}/cgroup.events").get("populated"):
                return False
            write(f"{directory}/cgroup.kill", 1)
            return True
        except Internal as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
        return super().kill(path)

    def freeze(self, path: str) -> None:
        write(f"{self._point}{path}/cgroup.freeze", 1)

    def thaw(self, path: str) -> None:
        if os.path.isdir(self._point + path):
            write(f"{self._point}{path}/cgroup.freeze", 0)

    def frozen(self, path: str) -> bool:
        return bool(read_pairs(f"{self._point}{path}/cgroup.events").get("frozen"))

    def oom_kills(self, path: str) -> int:
        return read_pairs(f"{self._point}{path}/memory.events").get("oom_kill", 0)

    def stats(self, path: str) -> Document:
        directory = self._point + path
        if not os.path.isdir(directory):
            raise Unavailable(f"stats: {path}: the group is gone")
        cpu = read_pairs(f"{directory}/cpu.stat")
        memory = read_pairs(f"{directory}/memory.stat")
        return {
            "cpu_stats": {
                "cpu_usage": {
                    "total_usage": cpu.get("usage_usec", 0) * 1000,
                    "usage_in_kernelmode": cpu.get("system_usec", 0) * 1000,
                    "usage_in_usermode": cpu.get("user_usec", 0) * 1000,
                },
                "throttling_data": {
                    "periods": cpu.get("nr_periods", 0),
                    "throttled_periods": cpu.get("nr_throttled", 0),
                    "throttled_time": cpu.get("throttled_usec", 0) * 1000,
                },
            },
            "memory_stats": {
                "usage": read_number(f"{directory}/memory.current"),
                "limit": read_number(f"{directory}/memory.max"),
                "stats": memory,
            },
            "pids_stats": {
                "current": read_number(f"{directory}/pids.current"),
                "limit": read_number(f"{directory}/pids.max"),
            },
            "blkio_stats": _io_stats(f"{directory}/io.stat"),
        }


def _limits(resources: Document) -> list[tuple[str, str | int]]:
    """Return (file, value) of the plain limits."""
    memory, cpu = resources.get("memory") or {}, resources.get("cpu") or {}
    found: list[tuple[str, str | int]] = []
    if memory.get("limit") is not None:
        found.append(("memory.max", _or_max(memory["limit"])))
    if memory.get("swap") is not None:
        found.append(("memory.swap.max", _swap(memory["swap"], memory.get("limit", 0))))
    if memory.get("reservation") is not None:
        found.append(("memory.low", _or_max(memory["reservation"])))
    if cpu.get("shares"):
        found.append(("cpu.weight", scale(cpu["shares"], _SHARES)))
    if cpu.get("quota") or cpu.get("period"):
        quota = cpu.get("quota") or -1
        found.append(("cpu.max", f"{_or_max(quota)} {cpu.get('period') or 100_000}"))
    for key, file in (("cpus", "cpuset.cpus"), ("mems", "cpuset.mems")):
        if cpu.get(key):
            found.append((file, cpu[key]))
    pids = (resources.get("pids") or {}).get("limit")
    if pids is not None:
        found.append(("pids.max", _or_max(pids)))
    pages = resources.get("hugepageLimits") or ()
    found.extend((f"hugetlb.{limit['pageSize']}.max", limit["limit"]) for limit in pages)
    unified = resources.get("unified") or {}
    found.extend((_plain(file), value) for file, value in unified.items())
    return found


def _plain(file: str) -> str:
    if "/" in file or not file:
        raise Unavailable(f"cgroup: {file}: not the name of a limit")
    return file


def _or_max(value: int) -> str | int:
    return "max" if value < 0 else value


def _swap(both: int, memory: int) -> str | int:
    """The document has memory and swap together, v2 swap alone."""
    return "max" if both < 0 else max(both - memory, 0)


def _io_stats(path: str) -> Document:
    """Read io.stat: ``major:minor rbytes=1 wbytes=2 ...`` for each device."""
    try:
        text = read(path)
    except OSError:
        return {}
    result: dict[str, list[Document]] = {key: [] for key, _ in _IO_STATS}
    for line in text.splitlines():
        device, *fields = line.split()
        values = dict(field.split("=", 1) for field in fields if "=" in field)
        major, _, minor = device.partition(":")
        if not minor.isdecimal():
            continue
        for key, words in _IO_STATS:
            result[key] += [
                {
                    "major": int(major),
                    "minor": int(minor),
                    "op": operation,
                    "value": int(values.get(word, 0)),
                }
                for word, operation in words
            ]
    return result
