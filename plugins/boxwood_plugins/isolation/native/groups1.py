"""Control groups, version 1: a tree of directories for each controller (or a few together).

A process gets in by writing ``0`` to the open ``tasks`` file itself, while it is single-threaded:
0.06 ms for all of them. Moving it from outside through ``cgroup.procs`` waits for an RCU grace
period, some 10 ms each when the machine is idle.
"""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from boxwood.drivers.isolation import Document
from boxwood.errors import Internal, Unavailable
from boxwood_plugins.isolation.native import device_rules
from boxwood_plugins.isolation.native.groups import (
    Groups,
    close_all,
    read,
    read_number,
    read_pairs,
    write,
)

# Limits by controller: (path in OCI resources, file). Order counts: memory before memory+swap.
_FILES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "memory": (
        ("memory", "limit", "memory.limit_in_bytes"),
        ("memory", "swap", "memory.memsw.limit_in_bytes"),
        ("memory", "reservation", "memory.soft_limit_in_bytes"),
        ("memory", "swappiness", "memory.swappiness"),
    ),
    "cpu": (
        ("cpu", "shares", "cpu.shares"),
        ("cpu", "period", "cpu.cfs_period_us"),
        ("cpu", "quota", "cpu.cfs_quota_us"),
        ("cpu", "realtimePeriod", "cpu.rt_period_us"),
        ("cpu", "realtimeRuntime", "cpu.rt_runtime_us"),
    ),
    "cpuset": (("cpu", "cpus", "cpuset.cpus"), ("cpu", "mems", "cpuset.mems")),
    "pids": (("pids", "limit", "pids.max"),),
}
# Files that some kernels do not have; the machine's features say so to whoever asks beforehand.
_MAY_LACK = frozenset(("memory.memsw.limit_in_bytes", "memory.swappiness"))
_THROTTLES = (
    ("throttleReadBpsDevice", "blkio.throttle.read_bps_device"),
    ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device"),
    ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device"),
    ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device"),
)
_BLKIO_STATS = (
    ("io_service_bytes_recursive", "blkio.throttle.io_service_bytes_recursive"),
    ("io_serviced_recursive", "blkio.throttle.io_serviced_recursive"),
)


class Hierarchy(NamedTuple):
    """One mounted tree."""

    point: str
    controllers: frozenset[str]
    """``name=systemd`` for a named one."""


def discover(mountinfo: str) -> list[Hierarchy]:
    """Return the v1 hierarchies that are mounted whole, in the order of proc(5) mountinfo."""
    found: dict[frozenset[str], Hierarchy] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, (kind, _, options) = before.split(" "), after.split(" ")[:3]
        if kind != "cgroup":
            continue
        names = frozenset(options.split(",")) - {"rw", "ro", "xattr", "noprefix", "clone_children"}
        names = frozenset(name for name in names if not name.startswith("release_agent="))
        if "rw" in fields[5].split(",") and names not in found:
            found[names] = Hierarchy(fields[4], names)
    return list(found.values())


class Groups1(Groups):
    """See the module."""

    version = 1

    def __init__(self, hierarchies: list[Hierarchy]) -> None:
        self.hierarchies = hierarchies
        self._by_controller = {
            name: hierarchy.point for hierarchy in hierarchies for name in hierarchy.controllers
        }
        # Descriptors of the parents: a group is then made and opened without walking the path.
        self._parents: dict[str, list[int]] = {}

    def main(self) -> str:
        """The pids controller, since it is in every kernel since 4.3; else the first there is."""
        return self._by_controller.get("pids", self.hierarchies[0].point)

    def create(self, path: str, resources: Document) -> list[int]:
        fresh = not os.path.isdir(self.main() + path)
        tasks: list[int] = []
        try:
            try:
                tasks = self._enter(path, make=True)
            except FileNotFoundError:
                # somebody has removed the parents whose descriptors we kept
                close_all(self._parents.pop(path.rpartition("/")[0], ()))
                tasks = self._enter(path, make=True)
            self._limit(path, resources, fresh=fresh)
        except OSError as error:
            close_all(tasks)
            self.discard(path)
            raise Internal(f"cgroup: {path}: {error.strerror}") from error
        except Internal:
            close_all(tasks)
            self.discard(path)
            raise
        return tasks

    def enter(self, path: str) -> list[int]:
        return self._enter(path, make=False)

    def _enter(self, path: str, *, make: bool) -> list[int]:
        """Open the ``tasks`` files of a group in every hierarchy, or none of them."""
        parent, _, name = path.rpartition("/")
        tasks: list[int] = []
        try:
            tasks.extend(_enter(point, name, make=make) for point in self._open_parents(parent))
        except OSError:
            close_all(tasks)
            raise
        return tasks

    def _open_parents(self, parent: str) -> list[int]:
        """Return a directory descriptor of the parent in each hierarchy; they stay ours."""
        known = self._parents.get(parent)
        if known is not None:
            return known
        opened: list[int] = []
        try:
            for hierarchy in self.hierarchies:
                directory = hierarchy.point + parent
                if not os.path.isdir(directory):
                    self._make_parent(hierarchy, parent)
                opened.append(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError as error:
            close_all(opened)
            raise Unavailable(f"cgroup: {parent}: {error.strerror}") from error
        self._parents[parent] = opened
        return opened

    @staticmethod
    def _make_parent(hierarchy: Hierarchy, parent: str) -> None:
        """Make a parent. A cpuset is empty at first: what it lacks it takes from above, and its
        children from it by themselves."""
        directory = hierarchy.point
        for part in parent.strip("/").split("/"):
            above, directory = directory, f"{directory}/{part}"
            if not part or os.path.isdir(directory):
                continue
            os.mkdir(directory, 0o755)
            if "cpuset" in hierarchy.controllers:
                for name in ("cpuset.cpus", "cpuset.mems"):
                    if not read(f"{directory}/{name}").strip():
                        write(f"{directory}/{name}", read(f"{above}/{name}").strip())
                write(f"{directory}/cgroup.clone_children", 1)

    def update(self, path: str, resources: Document) -> None:
        self._limit(path, resources, fresh=False)

    def _limit(self, path: str, resources: Document, *, fresh: bool) -> None:
        for controller, files in _FILES.items():
            point = self._by_controller.get(controller)
            if point is None or not any(resources.get(part) for part, _, _ in files):
                continue
            wanted = [
                (file, resources[part][key])
                for part, key, file in files
                if resources.get(part, {}).get(key) is not None
            ]
            _set(point + path, wanted, fresh=fresh)
        if (resources.get("memory") or {}).get("disableOOMKiller") is not None:
            self._oom_control(path, off=bool(resources["memory"]["disableOOMKiller"]))
        if resources.get("blockIO"):
            self._block_io(path, resources["blockIO"])
        for limit in resources.get("hugepageLimits") or ():
            self._file(
                "hugetlb", path, f"hugetlb.{limit['pageSize']}.limit_in_bytes", limit["limit"]
            )
        if resources.get("devices") is not None:
            self._devices(path, resources["devices"])

    def _file(self, controller: str, path: str, name: str, value: str | int) -> None:
        point = self._by_controller.get(controller)
        if point is not None:
            write(f"{point}{path}/{name}", value)

    def _oom_control(self, path: str, *, off: bool) -> None:
        self._file("memory", path, "memory.oom_control", int(off))

    def _block_io(self, path: str, limits: Document) -> None:
        point = self._by_controller.get("blkio")
        if point is None:
            return
        directory = point + path
        if limits.get("weight"):
            _write_first(directory, "weight", str(limits["weight"]))
        for device in limits.get("weightDevice") or ():
            numbers = f"{device['major']}:{device['minor']}"
            if has_weights(device["major"], device["minor"]):
                _write_first(directory, "weight_device", f"{numbers} {device['weight']}")
        for key, name in _THROTTLES:
            for device in limits.get(key) or ():
                numbers = f"{device['major']}:{device['minor']}"
                write(f"{directory}/{name}", f"{numbers} {device['rate']}")

    def _devices(self, path: str, rules: list[Document]) -> None:
        point = self._by_controller.get("devices")
        if point is None:
            raise Unavailable(
                "cgroup: devices: the controller is not mounted: mount -t cgroup -o devices"
            )
        files: dict[str, int] = {}
        try:
            for name, line in device_rules.lines(device_rules.settle(rules)):
                fd = files.get(name)
                if fd is None:
                    fd = files[name] = os.open(f"{point}{path}/{name}", os.O_WRONLY | os.O_CLOEXEC)
                os.write(fd, line)
        except OSError as error:
            raise Internal(f"cgroup: {path}: devices: {error.strerror}") from error
        finally:
            close_all(files.values())

    def directories(self, path: str) -> list[str]:
        return [
            hierarchy.point + path
            for hierarchy in self.hierarchies
            if os.path.isdir(hierarchy.point + path)
        ]

    def binds(self, path: str) -> list[tuple[str, str]]:
        """Every hierarchy under the name it has on the host; a link for each controller of a
        shared one (``cpu -> cpu,cpuacct``)."""
        made: list[tuple[str, str]] = []
        for hierarchy in self.hierarchies:
            name = hierarchy.point.rpartition("/")[2]
            made.append((name, hierarchy.point + path))
            if len(hierarchy.controllers) > 1:
                made += [(one, name) for one in sorted(hierarchy.controllers) if one != name]
        return made

    def freeze(self, path: str) -> None:
        if "freezer" not in self._by_controller:
            raise Unavailable("pause: the freezer controller is not mounted")
        self._file("freezer", path, "freezer.state", "FROZEN")

    def thaw(self, path: str) -> None:
        point = self._by_controller.get("freezer")
        if point is not None and os.path.isdir(point + path):
            write(f"{point}{path}/freezer.state", "THAWED")

    def frozen(self, path: str) -> bool:
        point = self._by_controller.get("freezer", "")
        return read(f"{point}{path}/freezer.state").strip() == "FROZEN"

    def oom_kills(self, path: str) -> int:
        point = self._by_controller.get("memory", "")
        return read_pairs(f"{point}{path}/memory.oom_control").get("oom_kill", 0)

    def stats(self, path: str) -> Document:
        at = {name: point + path for name, point in self._by_controller.items()}
        result: Document = {}
        if "cpuacct" in at:
            result["cpu_stats"] = _cpu_stats(at["cpuacct"], at.get("cpu", ""))
        if "memory" in at:
            result["memory_stats"] = _memory_stats(at["memory"])
        if "pids" in at:
            result["pids_stats"] = {
                "current": read_number(f"{at['pids']}/pids.current"),
                "limit": read_number(f"{at['pids']}/pids.max"),
            }
        if "blkio" in at:
            result["blkio_stats"] = {
                key: _blkio(f"{at['blkio']}/{name}") for key, name in _BLKIO_STATS
            }
        return result


def has_weights(major: int, minor: int) -> bool:
    """Whether the scheduler of a disk knows weights: BFQ, or the CFQ of kernels before 5.0."""
    try:
        scheduler = read(f"/sys/dev/block/{major}:{minor}/queue/scheduler")
    except OSError:
        return False
    return "[bfq]" in scheduler or "[cfq]" in scheduler


def _enter(parent: int, name: str, *, make: bool) -> int:
    """Open ``tasks`` of the group ``name`` below an open parent, making the group first."""
    if make:
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            pass  # prepared before, by us or by a daemon that died
    return os.open(f"{name}/tasks", os.O_WRONLY | os.O_CLOEXEC, dir_fd=parent)


def _write_first(directory: str, stem: str, value: str) -> None:
    """Write to the file of the scheduler that is there: CFQ's name, or BFQ's. None: the machine's
    features have said so."""
    for prefix in ("blkio.", "blkio.bfq."):
        if os.path.exists(f"{directory}/{prefix}{stem}"):
            write(f"{directory}/{prefix}{stem}", value)
            return


def _set(directory: str, wanted: list[tuple[str, str | int]], *, fresh: bool) -> None:
    """Write limits. When a bound is raised, memory+swap must be raised before memory."""
    files = [(file, value) for file, value in wanted if _has(directory, file)]
    values = dict(files)
    memory, both = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
    if not fresh and memory in values and both in values:
        now = read_number(f"{directory}/{both}")
        if int(values[both]) < 0 or int(values[both]) > now:
            files.sort(key=lambda item: item[0] != both)
    for file, value in files:
        _write_limit(directory, file, value)


def _write_limit(directory: str, file: str, value: str | int) -> None:
    if file == "pids.max" and int(value) < 0:
        value = "max"
    try:
        write(f"{directory}/{file}", value)
    except Internal as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno == errno.EBUSY and "memory" in file:
            used = read_number(f"{directory}/memory.usage_in_bytes")
            raise Internal(
                f"cgroup: {file}: {value}: below what is in use ({used} bytes)"
            ) from error
        raise


def _has(directory: str, file: str) -> bool:
    return file not in _MAY_LACK or os.path.exists(f"{directory}/{file}")


def _cpu_stats(cpuacct: str, cpu: str) -> Document:
    """Nanoseconds; cpuacct.stat counts in ticks of USER_HZ, 100 a second everywhere."""
    ticks = read_pairs(f"{cpuacct}/cpuacct.stat")
    per_cpu: list[int] = []
    try:
        per_cpu = [int(value) for value in read(f"{cpuacct}/cpuacct.usage_percpu").split()]
    except OSError:
        per_cpu = []
    throttled = read_pairs(f"{cpu}/cpu.stat") if cpu else {}
    return {
        "cpu_usage": {
            "total_usage": read_number(f"{cpuacct}/cpuacct.usage"),
            "percpu_usage": per_cpu,
            "usage_in_kernelmode": ticks.get("system", 0) * 10_000_000,
            "usage_in_usermode": ticks.get("user", 0) * 10_000_000,
        },
        "throttling_data": {
            "periods": throttled.get("nr_periods", 0),
            "throttled_periods": throttled.get("nr_throttled", 0),
            "throttled_time": throttled.get("throttled_time", 0),
        },
    }


def _memory_stats(directory: str) -> Document:
    return {
        "usage": read_number(f"{directory}/memory.usage_in_bytes"),
        "max_usage": read_number(f"{directory}/memory.max_usage_in_bytes"),
        "failcnt": read_number(f"{directory}/memory.failcnt"),
        "limit": read_number(f"{directory}/memory.limit_in_bytes"),
        "stats": read_pairs(f"{directory}/memory.stat"),
    }


def _blkio(path: str) -> list[Document]:
    """Read lines of ``major:minor operation value``; the total line has no device."""
    try:
        text = read(path)
    except OSError:
        return []
    found = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 3 and ":" in fields[0]:
            major, minor = fields[0].split(":")
            found.append(
                {"major": int(major), "minor": int(minor), "op": fields[1], "value": int(fields[2])}
            )
    return found
