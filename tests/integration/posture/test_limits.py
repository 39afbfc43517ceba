"""Control groups have the effect that was asked for, seen from inside and from the kernel."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from boxwood.drivers.isolation import TaskHandle
from boxwood.errors import Internal, NotFound
from boxwood.model.config import HostConfig, ThrottleDevice
from tests.integration.posture.box import Box, driver, run, shell
from tests.support.needs import need

pytestmark = pytest.mark.root

MIB = 1 << 20
V1 = {
    "memory": "memory.limit_in_bytes",
    "swap": "memory.memsw.limit_in_bytes",
    "low": "memory.soft_limit_in_bytes",
    "cpus": "cpuset.cpus",
    "pids": "pids.max",
}
V2 = {
    "memory": "memory.max",
    "swap": "memory.swap.max",
    "low": "memory.low",
    "cpus": "cpuset.cpus",
    "pids": "pids.max",
}


@pytest.fixture(autouse=True)
def _root() -> None:
    need(os.geteuid() == 0, "root")
    need(driver().machine().cgroup_version, "control groups")


def version() -> int:
    return driver().machine().cgroup_version


def value(controller: str, file: str) -> str:
    """Shell text that prints a file of the container's own group."""
    folder = f"/sys/fs/cgroup/{controller}" if version() == 1 else "/sys/fs/cgroup"
    return f"cat {folder}/{file};"


def host(**changes: object) -> HostConfig:
    return HostConfig(network_mode="none", cgroupns_mode="private", **changes)


def test_limits_as_the_container_sees_them() -> None:
    names = V1 if version() == 1 else V2
    asked = host(
        memory=64 * MIB,
        memory_swap=96 * MIB,
        memory_reservation=32 * MIB,
        cpuset_cpus="0",
        pids_limit=20,
    )
    with_swap = "swap" in driver().machine().features
    script = value("memory", names["memory"]) + value("memory", names["low"])
    script += value("cpuset", names["cpus"]) + value("pids", names["pids"])
    script += value("memory", names["swap"]) if with_swap else ""
    want = [str(64 * MIB), str(32 * MIB), "0", "20"]
    if with_swap:
        want.append(str((96 if version() == 1 else 32) * MIB))
    assert shell(script, host=asked).out.split() == want


def test_cpu_limits() -> None:
    asked = host(nano_cpus=500_000_000, cpu_shares=512)
    if version() == 1:
        script = (
            value("cpu", "cpu.cfs_quota_us")
            + value("cpu", "cpu.cfs_period_us")
            + value("cpu", "cpu.shares")
        )
        want = ["50000", "100000", "512"]
    else:
        script = value("cpu", "cpu.max") + value("cpu", "cpu.weight")
        want = ["50000", "100000", "20"]
    assert shell(script, host=asked).out.split() == want


def test_block_throttle() -> None:
    need(os.path.exists("/dev/loop0"), "/dev/loop0")
    # So much that it slows nobody: the root may lie on that very device.
    asked = host(blkio_device_read_bps=(ThrottleDevice(path="/dev/loop0", rate=1 << 30),))
    file = "blkio.throttle.read_bps_device" if version() == 1 else "io.max"
    assert "7:0" in shell(value("blkio", file), host=asked).out


def test_the_number_of_processes_is_bounded() -> None:
    assert int(run("probe", "forks", "50", host=host(pids_limit=10)).out) == 9


def test_too_much_memory_is_the_end_and_it_is_known_why() -> None:
    with Box("probe", "hog", "64", host=host(memory=16 * MIB, memory_swap=16 * MIB)) as box:
        assert box.run().code == 137
        assert driver().oom_killed(box.handle)
    with Box("true") as box:
        box.run()
        assert not driver().oom_killed(box.handle)


def test_pause_and_resume() -> None:
    with Box("sh", "-c", "while :; do :; done") as box:
        box.start()
        asyncio.run(driver().pause(box.handle))
        used = _cpu(box)
        time.sleep(0.05)
        assert _cpu(box) == used, "it runs on"
        asyncio.run(driver().pause(box.handle))
        asyncio.run(driver().resume(box.handle))
        asyncio.run(driver().resume(box.handle))
        end = time.monotonic() + 5
        while _cpu(box) == used:
            assert time.monotonic() < end, "it does not go on"
            time.sleep(0.001)
        asyncio.run(driver().pause(box.handle))
        asyncio.run(driver().delete(box.handle))


def _cpu(box: Box) -> int:
    return int(driver().stats(box.handle)["cpu_stats"]["cpu_usage"]["total_usage"])


def test_statistics_and_processes() -> None:
    with Box(
        "sh",
        "-c",
        "sleep 60 & head -c 4000000 /dev/urandom >/tmp/x; sleep 60",
        host=host(memory=64 * MIB),
    ) as box:
        box.start()
        end = time.monotonic() + 10
        while len(driver().processes(box.handle)) != 3 and time.monotonic() < end:
            time.sleep(0.005)
        assert box.pid in driver().processes(box.handle)
        found = driver().stats(box.handle)
        assert found["pids_stats"]["current"] == 3
        assert found["memory_stats"]["limit"] == 64 * MIB
        assert 0 < found["memory_stats"]["usage"] <= 64 * MIB
        assert found["cpu_stats"]["cpu_usage"]["total_usage"] > 0


def test_update_up_and_down() -> None:
    names = V1 if version() == 1 else V2
    with Box("sleep", "60", host=host(memory=64 * MIB)) as box:
        box.start()
        for limit in (128, 32, 256):
            resources = {
                "memory": {"limit": limit * MIB, "swap": limit * MIB},
                "pids": {"limit": limit},
            }
            driver().update(box.handle, resources)
            found = box.exec(
                "sh", "-c", value("memory", names["memory"]) + value("pids", "pids.max")
            )
            assert found.out.split() == [str(limit * MIB), str(limit)]


def test_delete_kills_removes_and_is_idempotent() -> None:
    with Box(
        "sh",
        "-c",
        "trap '' TERM; sleep 60 & sleep 60 & wait",
        host=HostConfig(network_mode="none", pid_mode="host"),
    ) as box:
        box.start()
        assert box.id in driver().walk()
        assert driver().adopt(box.handle)
        asyncio.run(driver().delete(box.handle))
        assert driver().processes(box.handle) == []
        assert box.id not in driver().walk()
        assert not driver().adopt(box.handle)
        asyncio.run(driver().delete(box.handle))
        with pytest.raises(NotFound):
            box.exec("true")


def test_delete_of_what_was_only_prepared_and_groups_made_inside() -> None:
    with Box("true") as box:
        groups = driver()._groups
        assert groups is not None
        for fd in groups.create(f"/boxwood/{box.id}", {}):
            os.close(fd)
        for directory in groups.directories(f"/boxwood/{box.id}"):
            os.makedirs(f"{directory}/a/b")
        asyncio.run(driver().delete(TaskHandle(id=box.id)))
        assert groups.directories(f"/boxwood/{box.id}") == []


def test_parents_that_somebody_has_removed_are_made_again() -> None:
    groups = driver()._groups
    assert groups is not None
    parent, path = "/boxwood/fleeting", f"/boxwood/fleeting/{'a' * 64}"
    for _ in range(2):
        for fd in groups.create(path, {"pids": {"limit": 5}}):
            os.close(fd)
        for fd in groups.create(path, {"pids": {"limit": 6}}):  # again: it is taken as it is
            os.close(fd)
        assert all(os.path.isdir(directory) for directory in groups.directories(path))
        groups.discard(path)
        for directory in groups.directories(parent):
            os.rmdir(directory)


def test_a_prepare_that_fails_leaves_nothing() -> None:
    def edit(spec) -> None:
        spec["linux"]["resources"]["cpu"] = {"cpus": "4000"}

    with Box("true", edit=edit) as box:
        with pytest.raises(Internal, match="cpuset"):
            box.start()
        assert box.id not in driver().walk()


def test_a_parent_of_ones_own() -> None:
    asked = HostConfig(network_mode="none", cgroup_parent="boxwood/nested", cgroupns_mode="host")
    with Box("cat", "/proc/self/cgroup", host=asked) as box:
        assert f"/boxwood/nested/{box.id}" in box.run().out
        assert box.id in driver().walk()
    groups = driver()._groups
    assert groups is not None
    for directory in groups.directories("/boxwood/nested"):
        os.rmdir(directory)
