"""A machine and containers for tests that need no kernel."""

from __future__ import annotations

from typing import Any

from boxwood.drivers.isolation import Machine
from boxwood.execution.spec.capabilities import NAMES
from boxwood.model.config import ContainerConfig, HostConfig
from boxwood.model.container import Container

CONTROLLERS = "memory cpu cpuacct cpuset pids devices blkio hugetlb freezer"
FEATURES = "swap oom-kill-disable swappiness blkio-weight blkio-weight-device blkio-throttle"


def make_machine(**changes: Any) -> Machine:
    values: dict[str, Any] = {
        "architecture": "x86_64",
        "kernel": (6, 1),
        "cpus": frozenset((0, 1)),
        "nodes": frozenset((0,)),
        "memory": 1 << 30,
        "cgroup_version": 1,
        "controllers": frozenset(CONTROLLERS.split()),
        "features": frozenset(FEATURES.split()),
        "namespaces": frozenset("mount pid ipc uts network cgroup user time".split()),
        "capabilities": frozenset(NAMES),
        "may_raise_limits": True,
        "hard_limits": {},
        "oom_score_adj": 0,
    }
    return Machine(**{**values, **changes})


def make_container(host: HostConfig | None = None, **config: Any) -> Container:
    return Container(
        id="c" * 64,
        name="test",
        created_at=0,
        image_id="sha256:" + "0" * 64,
        image_ref="busybox",
        path="sh",
        args=("-c", "true"),
        config=ContainerConfig(**{"hostname": "cccccccccccc", **config}),
        host_config=host or HostConfig(network_mode="none"),
        networks={},
        storage_driver="overlay",
        snapshot_key="c" * 64,
    )
