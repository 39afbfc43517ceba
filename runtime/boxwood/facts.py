"""What the engine says of itself and of the machine: ``info``, ``version``, ``doctor``."""

from __future__ import annotations

import glob
import os
import platform
import shutil
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from boxwood import __version__
from boxwood.drivers import manager
from boxwood.model import times
from boxwood.registries import shown_proxy
from boxwood.services.networks.makers import drivers_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxwood.engine import Engine

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def machine_masked_paths() -> tuple[str, ...]:
    """Return what to hide besides the usual: files that tell how hot which processor gets."""
    return tuple(sorted(glob.glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle")))


def version() -> dict[str, Any]:
    """Return the object of ``GET /version`` without the versions of the API."""
    uname = platform.uname()
    details = {
        "Arch": _architecture(),
        "KernelVersion": uname.release,
        "Os": "linux",
        "GitCommit": "",
        # There is no Go here; some clients refuse an answer without this key.
        "GoVersion": "none",
        "PythonVersion": platform.python_version(),
        "BuildTime": "",
        "Experimental": "false",
    }
    return {
        "Platform": {"Name": "Boxwood"},
        "Components": [{"Name": "Engine", "Version": __version__, "Details": dict(details)}],
        "Version": __version__,
        "GitCommit": "",
        "GoVersion": "none",
        "Os": "linux",
        "Arch": _architecture(),
        "KernelVersion": uname.release,
        "BuildTime": "",
    }


def _architecture() -> str:
    machine = platform.machine()
    return _MACHINES.get(machine, machine)


def info(engine: Engine) -> dict[str, Any]:
    """Return the object of ``GET /info``."""
    config = engine.config
    driver = engine.isolation(config.default_runtime)
    machine = driver.machine()
    described = driver.describe()
    features, controllers = machine.features, machine.controllers
    return {
        "ID": engine.id,
        **engine.containers.counts(),
        "Images": len(engine.images.list()),
        "Driver": engine.storage_choice.name,
        "DriverStatus": [
            *(list(pair) for pair in engine.storage.describe()),
            ["Chosen", engine.storage_choice.reason],
        ],
        "Plugins": {
            "Volume": _names("volume"),
            "Network": drivers_of(_names("network")),
            "Authorization": None,
            "Log": _names("log"),
        },
        "MemoryLimit": "memory" in controllers,
        "SwapLimit": "swap" in features,
        "CpuCfsPeriod": "cpu" in controllers,
        "CpuCfsQuota": "cpu" in controllers,
        "CPUShares": "cpu" in controllers,
        "CPUSet": "cpuset" in controllers,
        "PidsLimit": "pids" in controllers,
        "OomKillDisable": "oom-kill-disable" in features,
        "IPv4Forwarding": True,
        "Debug": config.debug,
        "NFd": len(os.listdir("/proc/self/fd")),
        "NGoroutines": 0,
        "SystemTime": times.rfc3339(times.now()),
        "LoggingDriver": config.log_driver,
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": str(machine.cgroup_version),
        "NEventsListener": engine.events.subscribers,
        "KernelVersion": platform.release(),
        "OperatingSystem": _operating_system(),
        "OSVersion": _os_release().get("VERSION_ID", ""),
        "OSType": "linux",
        "Architecture": platform.machine(),
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": _registries(engine),
        "NCPU": len(machine.cpus),
        "MemTotal": machine.memory,
        "GenericResources": None,
        "DockerRootDir": config.data_root,
        "HttpProxy": shown_proxy(config.proxies.http_proxy or os.environ.get("HTTP_PROXY", "")),
        "HttpsProxy": shown_proxy(config.proxies.https_proxy or os.environ.get("HTTPS_PROXY", "")),
        "NoProxy": config.proxies.no_proxy or os.environ.get("NO_PROXY", ""),
        "Name": platform.node(),
        "Labels": list(config.labels),
        "ExperimentalBuild": False,
        "ServerVersion": __version__,
        "Runtimes": {name: {"path": name} for name in (*_names("isolation"), *config.runtimes)},
        "DefaultRuntime": config.default_runtime,
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": False,
            "Error": "",
            "RemoteManagers": None,
        },
        "LiveRestoreEnabled": config.live_restore,
        "Isolation": "",
        "InitBinary": "boxwood-shim",
        "ContainerdCommit": {"ID": ""},
        "RuncCommit": {"ID": ""},
        "InitCommit": {"ID": ""},
        "SecurityOptions": _security(described, machine.seccomp, machine.apparmor),
        "DefaultAddressPools": None,
        "Warnings": _warnings(engine),
        "Boxwood": {key: _plain(value) for key, value in described.items()},
    }


def _names(kind: str) -> list[str]:
    return [found.name for found in _available(kind)]


@cache
def _available(kind: str) -> tuple[manager.PluginInfo, ...]:
    return tuple(manager.available(kind))


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, set | frozenset) else value


def _registries(engine: Engine) -> dict[str, Any]:
    insecure = list(engine.config.insecure_registries)
    return {
        "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"],
        "IndexConfigs": {
            "docker.io": {
                "Name": "docker.io",
                "Mirrors": list(engine.config.registry_mirrors),
                "Secure": True,
                "Official": True,
            },
            **{
                name: {"Name": name, "Mirrors": [], "Secure": False, "Official": False}
                for name in insecure
            },
        },
        "Mirrors": list(engine.config.registry_mirrors),
    }


def _security(described: dict[str, Any], seccomp: str, apparmor: bool) -> list[str]:
    found = ["name=apparmor"] if apparmor else []
    if not seccomp:
        found.append("name=seccomp,profile=builtin")
    if described.get("cgroup_version") == 2:
        found.append("name=cgroupns")
    return found


def _warnings(engine: Engine) -> list[str]:
    machine = engine.isolation(engine.config.default_runtime).machine()
    found = [
        f"WARNING: No {controller} cgroup support"
        for controller in ("memory", "cpu", "cpuset", "pids", "devices", "freezer")
        if controller not in machine.controllers
    ]
    if machine.seccomp:
        found.append(f"WARNING: No seccomp: {machine.seccomp}")
    if not machine.may_raise_limits:
        found.append(
            "WARNING: The engine lacks CAP_SYS_RESOURCE: resource limits are clamped to its own"
        )
    return found


@cache
def _os_release() -> dict[str, str]:
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                pairs = (line.strip().partition("=") for line in file if "=" in line)
                return {key: value.strip("\"'") for key, _, value in pairs}
        except OSError:
            continue
    return {}


def _operating_system() -> str:
    return _os_release().get("PRETTY_NAME", "Linux")


async def doctor(engine: Engine) -> list[dict[str, str]]:
    """Return checks: ``name``, ``state`` (``ok``, ``warn``, ``fail``), ``detail``, ``advice``."""
    found = list(_checks(engine))
    for driver in engine.networks.drivers():
        found += [
            _check(f"network {driver.name}", one.state, one.detail, one.advice)
            for one in await driver.examine()
        ]
    return found


def _checks(engine: Engine) -> Iterator[dict[str, str]]:
    config = engine.config
    machine = engine.isolation(config.default_runtime).machine()
    yield _check("engine", "ok", f"{__version__}, Python {sys.version.split()[0]}")
    yield _check("kernel", "ok", platform.release())
    chosen = engine.storage_choice
    yield _check("storage", "ok", f"{chosen.name} in {config.data_root} ({chosen.reason})")
    if machine.cgroup_version:
        controllers = " ".join(sorted(machine.controllers))
        yield _check("cgroups", "ok", f"v{machine.cgroup_version}: {controllers}")
    else:
        yield _check(
            "cgroups", "fail", "none is mounted writable", "mount cgroup2 on /sys/fs/cgroup"
        )
    if machine.seccomp:
        yield _check("seccomp", "fail", machine.seccomp, "install libseccomp2")
    else:
        yield _check("seccomp", "ok", "filters can be compiled and loaded")
    if machine.may_raise_limits:
        yield _check("limits", "ok", "may be raised")
    else:
        yield _check("limits", "warn", "clamped to the engine's own: it lacks CAP_SYS_RESOURCE")
    found = shutil.which("mount")
    state = "ok" if found else "warn"
    yield _check("mount", state, found or "missing: needed for volumes with a type")
    try:
        usage = shutil.disk_usage(config.data_root)
        state = "ok" if usage.free > 1 << 30 else "warn"
        yield _check("disk", state, f"{usage.free >> 20} MiB free in {config.data_root}")
    except OSError as error:
        yield _check("disk", "fail", f"{config.data_root}: {error.strerror}")
    for kind in manager.kinds():
        for plugin in manager.available(kind):
            if plugin.error:
                yield _check(f"plugin {kind}/{plugin.name}", "warn", plugin.error)


def _check(name: str, state: str, detail: str, advice: str = "") -> dict[str, str]:
    return {"name": name, "state": state, "detail": detail, "advice": advice}
