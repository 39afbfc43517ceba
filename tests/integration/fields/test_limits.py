"""Limits, seen from inside the container's own control groups (version 1 here)."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.fields.box import Api, Box
from tests.integration.fields.claims import shows
from tests.support.needs import need

pytestmark = pytest.mark.root

MIB = 1 << 20
GROUPS = Path("/sys/fs/cgroup")


def version1(controller: str, file: str = "") -> None:
    """These tests read the files of version 1; tests/integration/cgroup2 has the others."""
    need((GROUPS / controller / file).exists(), f"cgroup v1: {controller} {file}")


def files(api: Api, controller: str, *names: str, **host: Any) -> list[str]:
    """The values of files of a container's own group, each on a line."""
    version1(controller)
    paths = " ".join(f"/sys/fs/cgroup/{controller}/{name}" for name in names)
    return api.sh(f"cat {paths}", host=host).splitlines()


@shows("HostConfig.Memory", "HostConfig.MemorySwap", "HostConfig.MemoryReservation")
def test_memory(api: Api) -> None:
    names = ("memory.limit_in_bytes", "memory.soft_limit_in_bytes", "memory.memsw.limit_in_bytes")
    limits = {"Memory": 64 * MIB, "MemoryReservation": 32 * MIB, "MemorySwap": 100 * MIB}
    sizes = [str(size * MIB) for size in (64, 32, 100)]
    assert files(api, "memory", *names, **limits) == sizes
    assert files(api, "memory", names[2], Memory=64 * MIB) == [str(128 * MIB)]
    unlimited = files(api, "memory", *names, MemorySwap=-1)
    assert all(int(value) > 1 << 60 for value in unlimited)


def test_memory_is_really_bounded(api: Api) -> None:
    """A shell variable that doubles: the kernel ends it, and we know why."""
    grow = "a=xxxxxxxxxxxxxxxx; while :; do a=$a$a; done"
    host = {"Memory": 16 * MIB, "MemorySwap": 16 * MIB}
    with api.living("sh", "-c", grow, host=host) as box:
        assert box.wait() == 137
        assert box.inspect()["State"]["OOMKilled"] is True


@shows("HostConfig.MemorySwappiness", "HostConfig.OomKillDisable")
def test_swappiness_and_the_killer(api: Api) -> None:
    version1("memory", "memory.oom_control")
    names = ("memory.swappiness", "memory.oom_control")
    asked = files(api, "memory", *names, Memory=64 * MIB, MemorySwappiness=13, OomKillDisable=True)
    assert asked[:2] == ["13", "oom_kill_disable 1"]
    assert files(api, "memory", *names)[1] == "oom_kill_disable 0"
    assert files(api, "memory", names[0], MemorySwappiness=0) == ["0"]


@shows("HostConfig.CpuShares", "HostConfig.CpuPeriod", "HostConfig.CpuQuota", "HostConfig.NanoCpus")
def test_cpu(api: Api) -> None:
    names = ("cpu.shares", "cpu.cfs_period_us", "cpu.cfs_quota_us")
    assert files(api, "cpu", *names) == ["1024", "100000", "-1"]
    asked = files(api, "cpu", *names, CpuShares=512, CpuPeriod=50000, CpuQuota=20000)
    assert asked == ["512", "50000", "20000"]
    assert files(api, "cpu", *names, NanoCpus=250_000_000)[1:] == ["100000", "25000"]


def test_cpu_is_really_bounded(api: Api) -> None:
    """A busy loop at a tenth of a processor: its own group counts what it was given."""
    version1("cpu")
    version1("cpuacct")
    usage = "cat /sys/fs/cgroup/cpuacct/cpuacct.usage"
    with api.living("sh", "-c", "while :; do :; done", host={"NanoCpus": 100_000_000}) as box:
        first, began = int(box.sh(usage)), time.monotonic()
        time.sleep(0.7)
        used = (int(box.sh(usage)) - first) / 1e9
        assert used < 0.35 * (time.monotonic() - began)


@shows("HostConfig.CpuRealtimePeriod", "HostConfig.CpuRealtimeRuntime")
def test_real_time(api: Api) -> None:
    """Where the kernel has it; a group gets of it only what the one above it has been given."""
    asked = {"CpuRealtimePeriod": 500_000, "CpuRealtimeRuntime": 0}
    if not (GROUPS / "cpu/cpu.rt_runtime_us").exists():
        assert "real-time" in api.refused(host=asked)
        return
    names = ("cpu.rt_period_us", "cpu.rt_runtime_us")
    assert files(api, "cpu", *names) == ["1000000", "0"]
    assert files(api, "cpu", *names, **asked) == ["500000", "0"]
    more = asked | {"CpuRealtimeRuntime": 600_000}
    assert "cannot be higher" in api.refused(host=more)
    with api.made("true", host=asked | {"CpuRealtimeRuntime": 1000}) as box:
        answer = api.call("POST", f"/containers/{box.id}/start")
        shown = answer.status == 204 or "cpu.rt_runtime_us" in answer.message
        assert shown, answer.body


@shows("HostConfig.CpusetCpus", "HostConfig.CpusetMems")
def test_cpusets(api: Api, default: Box) -> None:
    version1("cpuset")
    need(os.cpu_count() != 1, "two processors")
    status = "grep -E '(Cpus|Mems)_allowed_list' /proc/self/status"
    asked = api.sh(status, host={"CpusetCpus": "1", "CpusetMems": "0"})
    assert asked.split()[1::2] == ["1", "0"]
    assert default.sh(status).split()[1] != "1"
    assert "not available" in api.refused(host={"CpusetCpus": "4000"})


@shows("HostConfig.PidsLimit")
def test_pids(api: Api, default: Box) -> None:
    version1("pids")
    forks = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; echo all"
    bounded = api.run("sh", "-c", forks, host={"PidsLimit": 5})
    assert "can't fork" in bounded.err
    assert "all" not in bounded.out
    assert files(api, "pids", "pids.max", PidsLimit=5) == ["5"]
    assert files(api, "pids", "pids.max", PidsLimit=-1) == ["max"]
    assert default.sh("cat /sys/fs/cgroup/pids/pids.max") == "max\n"


def disk() -> tuple[str, str]:
    """A whole disk of this machine: its path and its number as control groups write it."""
    for entry in sorted(Path("/sys/block").iterdir()):
        path = Path("/dev", entry.name)
        if path.exists() and not entry.name.startswith(("loop", "ram", "zram")):
            status = path.stat()
            assert stat.S_ISBLK(status.st_mode)
            return str(path), f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    need(False, "a disk")
    raise AssertionError


@shows(
    "HostConfig.BlkioDeviceReadBps",
    "HostConfig.BlkioDeviceWriteBps",
    "HostConfig.BlkioDeviceReadIOps",
    "HostConfig.BlkioDeviceWriteIOps",
    "ThrottleDevice.Path",
    "ThrottleDevice.Rate",
)
def test_block_throttles(api: Api) -> None:
    version1("blkio")
    path, number = disk()
    kinds = {"ReadBps": 1, "WriteBps": 2, "ReadIOps": 3, "WriteIOps": 4}
    asked = {
        f"BlkioDevice{kind}": [{"Path": path, "Rate": MIB * rate}] for kind, rate in kinds.items()
    }
    names = [
        f"blkio.throttle.{way}_{unit}_device"
        for unit in ("bps", "iops")
        for way in ("read", "write")
    ]
    assert files(api, "blkio", *names) == []
    want = [f"{number} {MIB * rate}" for rate in kinds.values()]
    assert files(api, "blkio", *names, **asked) == want
    missing = [{"Path": "/dev/no-such-disk", "Rate": 1}]
    with api.made("true", host={"BlkioDeviceReadBps": missing}) as box:
        answer = api.call("POST", f"/containers/{box.id}/start")
        assert answer.status >= 400
        assert "/dev/no-such-disk" in answer.message


@shows("HostConfig.BlkioWeight", "HostConfig.BlkioWeightDevice")
@shows("WeightDevice.Path", "WeightDevice.Weight")
def test_block_weights(api: Api, default: Box) -> None:
    version1("blkio")
    found = default.sh("cd /sys/fs/cgroup/blkio; ls blkio*.weight").split()
    need(found, "a scheduler with weights")
    name = found[0]
    assert files(api, "blkio", name) == ["100"]
    assert files(api, "blkio", name, BlkioWeight=300) == ["300"]
    path, number = disk()
    device = [{"Path": path, "Weight": 200}]
    scheduler = Path(f"/sys/dev/block/{number}/queue/scheduler").read_text()
    with api.living(host={"BlkioWeightDevice": device}) as box:
        if "[bfq]" in scheduler:
            assert f"{number} 200" in box.sh(f"cat /sys/fs/cgroup/blkio/{name}_device")
        else:
            assert any(path in warning for warning in box.warnings), box.warnings


@shows("HostConfig.CgroupParent")
def test_the_parent_group(api: Api, default: Box) -> None:
    version1("pids")
    lines = "grep pids /proc/self/cgroup"
    try:
        with api.living(host={"CgroupParent": "/boxwood/fields-test"}) as box:
            assert box.sh(lines).strip().endswith(f":/boxwood/fields-test/{box.id}")
            assert "fields-test" not in default.sh(lines)
            own = Path(f"/sys/fs/cgroup/pids/boxwood/fields-test/{box.id}/cgroup.procs")
            assert str(box.pid) in own.read_text().split()
        assert not own.exists()
    finally:
        for group in GROUPS.glob("*/boxwood/fields-test"):
            group.rmdir()


@shows("HostConfig.Ulimits", "Ulimit.Name", "Ulimit.Soft", "Ulimit.Hard")
def test_ulimits(api: Api, default: Box) -> None:
    asked = [{"Name": "nofile", "Soft": 100, "Hard": 200}, {"Name": "core", "Soft": 0, "Hard": 0}]
    out = api.sh("ulimit -Sn; ulimit -Hn; ulimit -Hc", host={"Ulimits": asked})
    assert out.split() == ["100", "200", "0"]
    assert default.sh("ulimit -Sn") != "100\n"
    assert "invalid ulimit" in api.refused(host={"Ulimits": [{"Name": "nonsense", "Soft": 1}]})


@shows("HostConfig.OomScoreAdj")
def test_oom_score(api: Api, default: Box) -> None:
    assert api.sh("cat /proc/self/oom_score_adj", host={"OomScoreAdj": 345}) == "345\n"
    assert default.sh("cat /proc/self/oom_score_adj") != "345\n"


@shows("HostConfig.ShmSize")
def test_shared_memory(api: Api, default: Box) -> None:
    size = "df -k /dev/shm | tail -1"
    assert api.sh(size, host={"ShmSize": 8 * MIB}).split()[1] == "8192"
    assert default.sh(size).split()[1] == "65536"


@shows("HostConfig.Sysctls")
def test_kernel_parameters(api: Api, default: Box) -> None:
    names = ("kernel.shm_rmid_forced", "net.ipv4.ip_forward", "kernel.msgmax")
    show = "cat " + " ".join(f"/proc/sys/{name.replace('.', '/')}" for name in names)
    asked = dict(zip(names, ("1", "1", "4096"), strict=True))
    assert api.sh(show, host={"Sysctls": asked}).split() == ["1", "1", "4096"]
    assert default.sh(show).split() != ["1", "1", "4096"]
    assert "vm.swappiness" in api.refused(host={"Sysctls": {"vm.swappiness": "1"}})
