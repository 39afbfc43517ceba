"""What this machine can do: read once, when the driver is made."""

from __future__ import annotations

import os
import platform
import re
import resource
from pathlib import Path

from boxwood.drivers.isolation import CAPABILITIES, Machine
from boxwood_plugins.isolation.native import libseccomp
from boxwood_plugins.isolation.native.groups import Groups
from boxwood_plugins.isolation.native.groups1 import Groups1, discover
from boxwood_plugins.isolation.native.groups2 import Groups2

_NAMESPACES = {
    "mnt": "mount",
    "pid": "pid",
    "ipc": "ipc",
    "uts": "uts",
    "net": "network",
    "cgroup": "cgroup",
    "user": "user",
    "time": "time",
}
_RLIMITS = [
    f"RLIMIT_{name}"
    for name in """
        CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS MSGQUEUE NICE RTPRIO RTTIME SIGPENDING
    """.split()
]
# A file of the root or of a group whose presence says that the kernel can do it.
_FEATURES_V1 = {
    "swap": ("memory", "memory.memsw.limit_in_bytes"),
    "oom-kill-disable": ("memory", "memory.oom_control"),
    "swappiness": ("memory", "memory.swappiness"),
    "cpu-realtime": ("cpu", "cpu.rt_runtime_us"),
    "blkio-throttle": ("blkio", "blkio.throttle.read_bps_device"),
}
_CONTROLLERS_V2 = {"io": ("blkio",), "cpu": ("cpu", "cpuacct")}


def find_groups() -> Groups | None:
    """Return the control groups that are mounted: v1 controllers where there are any (a hybrid
    machine has them there), else v2; ``None``: neither."""
    mountinfo = Path("/proc/self/mountinfo").read_text()
    hierarchies = discover(mountinfo)
    if any("memory" in one.controllers or "pids" in one.controllers for one in hierarchies):
        return Groups1(hierarchies)
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return Groups2(before.split(" ")[4])
    return None


def probe(groups: Groups | None) -> Machine:
    """Read what there is."""
    controllers, features = _groups(groups)
    status = _status()
    capabilities = _names(int(status["CapBnd"], 16))
    effective = _names(int(status["CapEff"], 16))
    major, minor = re.findall(r"\d+", os.uname().release)[:2]
    return Machine(
        architecture=platform.machine(),
        kernel=(int(major), int(minor)),
        cpus=frozenset(os.sched_getaffinity(0)),
        nodes=_list(Path("/sys/devices/system/node/online")),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        cgroup_version=groups.version if groups else 0,
        controllers=controllers,
        features=features,
        namespaces=frozenset(
            name for file, name in _NAMESPACES.items() if os.path.exists(f"/proc/self/ns/{file}")
        ),
        capabilities=capabilities,
        may_raise_limits="CAP_SYS_RESOURCE" in effective,
        hard_limits=_hard_limits(),
        oom_score_adj=int(Path("/proc/self/oom_score_adj").read_text()),
        seccomp=libseccomp.missing() or _kernel_seccomp(status),
        apparmor=_says("/sys/module/apparmor/parameters/enabled", "Y"),
        selinux=os.path.exists("/sys/fs/selinux/enforce"),
    )


def _status() -> dict[str, str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _kernel_seccomp(status: dict[str, str]) -> str:
    return (
        "" if "Seccomp" in status else "the kernel has no seccomp filters (CONFIG_SECCOMP_FILTER)"
    )


def _names(mask: int) -> frozenset[str]:
    return frozenset(name for bit, name in enumerate(CAPABILITIES) if mask >> bit & 1)


def _hard_limits() -> dict[str, int]:
    """Return the hard limits; RLIMIT_LOCKS means nothing since Linux 2.4.25."""
    return {
        name: resource.getrlimit(getattr(resource, name))[1]
        for name in _RLIMITS
        if hasattr(resource, name)
    }


def _says(path: str, word: str) -> bool:
    try:
        return Path(path).read_text().strip() == word
    except OSError:
        return False


def _list(path: Path) -> frozenset[int]:
    """Read ``0-1,4``; a machine without the file has one node."""
    try:
        text = path.read_text().strip()
    except OSError:
        return frozenset((0,))
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def _groups(groups: Groups | None) -> tuple[frozenset[str], frozenset[str]]:
    if isinstance(groups, Groups1):
        return _groups1(groups)
    if groups is None:
        return frozenset(), frozenset()
    root = Path(groups.main())
    names = (root / "cgroup.controllers").read_text().split()
    controllers = {one for name in names for one in _CONTROLLERS_V2.get(name, (name,))}
    features = {"blkio-throttle", "blkio-weight", "blkio-weight-device"} if "io" in names else set()
    if "memory" in names and _swap_v2(root):
        features.add("swap")
    return frozenset(controllers | {"devices", "freezer"}), frozenset(features)


def _swap_v2(root: Path) -> bool:
    """The root has no such file: any group below it tells."""
    for entry in root.iterdir():
        if entry.is_dir() and (entry / "memory.max").exists():
            return (entry / "memory.swap.max").exists()
    return not Path("/proc/cmdline").read_text().count("swapaccount=0")


def _has_bfq() -> bool:
    """Whether the kernel has the scheduler: its files are in every group but the root."""
    return any("bfq" in path.read_text() for path in Path("/sys/block").glob("*/queue/scheduler"))


def _groups1(groups: Groups1) -> tuple[frozenset[str], frozenset[str]]:
    points = {name: one.point for one in groups.hierarchies for name in one.controllers}
    controllers = frozenset(name for name in points if not name.startswith("name="))
    features = {
        feature
        for feature, (controller, file) in _FEATURES_V1.items()
        if os.path.exists(f"{points.get(controller, '')}/{file}")
    }
    if "blkio" in points and (_has_bfq() or os.path.exists(f"{points['blkio']}/blkio.weight")):
        features |= {"blkio-weight", "blkio-weight-device"}
    return controllers, frozenset(features)
