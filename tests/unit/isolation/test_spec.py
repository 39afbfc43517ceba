"""What the engine asks an isolation driver for: the OCI document, and what it refuses to ask."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import pytest

from boxwood.errors import InvalidArgument
from boxwood.execution.spec import (
    ResolvedUser,
    SandboxInfo,
    SpecDefaults,
    SpecMount,
    build_exec_process,
    build_spec,
    cgroups_path,
    validate_host_config,
)
from boxwood.execution.spec.limits import INFINITY
from boxwood.execution.spec.process import merge_env
from boxwood.execution.spec.validate import format_set, parse_set
from boxwood.model.config import (
    ContainerConfig,
    DeviceMapping,
    DeviceRequest,
    HostConfig,
    MountRequest,
    RestartPolicy,
    ThrottleDevice,
    TmpfsOptions,
    Ulimit,
    WeightDevice,
)
from tests.support.paths import ROOT
from tests.unit.isolation.values import make_container, make_machine

SCHEMAS = ROOT.parent / "shared" / "data" / "runtime-spec"
MIB = 1 << 20


def build(
    host: HostConfig | None = None, machine: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    config = more.pop("config", {})
    defaults = more.pop("defaults", {})
    found = build_spec(
        make_container(host, **config),
        user=more.pop("user", ResolvedUser()),
        daemon=SpecDefaults(machine=make_machine(**(machine or {})), **defaults),
        **more,
    )
    return dict(json.loads(msgspec.json.encode(found)))


def mount(spec: dict[str, Any], destination: str) -> dict[str, Any]:
    (found,) = [one for one in spec["mounts"] if one["destination"] == destination]
    return dict(found)


def validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    if not SCHEMAS.exists():
        pytest.skip("the runtime-spec schemas (shared/data) are not on this machine")
    from referencing import Registry
    from referencing.jsonschema import DRAFT4

    resources = []
    for path in SCHEMAS.glob("*.json"):
        resource = DRAFT4.create_resource(json.loads(path.read_text()))
        resources += [(name, resource) for name in (path.name, resource.id()) if name]
    schema = json.loads((SCHEMAS / "config-schema.json").read_text())
    return jsonschema.Draft4Validator(schema, registry=Registry().with_resources(resources))


HOSTS = [
    HostConfig(network_mode="none"),
    HostConfig(network_mode="host", pid_mode="host", ipc_mode="host", uts_mode="host"),
    HostConfig(privileged=True, cgroupns_mode="private"),
    HostConfig(
        memory=64 * MIB,
        memory_swap=-1,
        memory_reservation=32 * MIB,
        memory_swappiness=10,
        oom_kill_disable=True,
        nano_cpus=500_000_000,
        cpu_shares=100,
        cpuset_cpus="0",
        cpuset_mems="0",
        pids_limit=-1,
        blkio_weight=100,
        ulimits=(Ulimit(name="nofile", soft=-1, hard=-1),),
        sysctls={"net.core.somaxconn": "1"},
        annotations={"a": "b"},
        init=True,
        readonly_rootfs=True,
        tmpfs={"/run": ""},
        security_opt=("no-new-privileges", "seccomp=unconfined"),
        device_cgroup_rules=("c 1:* rw", "a *:* m"),
        masked_paths=(),
        readonly_paths=("/x",),
        oom_score_adj=7,
    ),
    HostConfig(devices=(DeviceMapping(path_on_host="/dev/zero", path_in_container="/dev/z"),)),
]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("tty", [False, True])
def test_the_document_meets_the_specification(host: HostConfig, tty: bool) -> None:
    config = {"tty": tty, "domainname": "example.org", "working_dir": "/x"}
    spec = build(msgspec.structs.replace(host, console_size=(24, 80)), config=config)
    check = validator()
    errors = [f"{list(e.absolute_path)}: {e.message}" for e in check.iter_errors(spec)]
    assert errors == []
    spec["linux"]["resources"]["devices"][0]["access"] = 5
    assert list(check.iter_errors(spec)), "the schemas are not followed into their parts"


def test_it_is_quick() -> None:
    import time

    container, daemon = make_container(), SpecDefaults(machine=make_machine())
    build_spec(container, user=ResolvedUser(), daemon=daemon)
    best = float("inf")
    for _ in range(50):
        start = time.perf_counter()
        build_spec(container, user=ResolvedUser(), daemon=daemon)
        best = min(best, time.perf_counter() - start)
    assert best < 0.0005


def test_environment_order_and_precedence() -> None:
    spec = build(
        config={"env": ("A=1", "PATH=/mine", "B=2"), "tty": True}, user=ResolvedUser(home="/root")
    )
    assert spec["process"]["env"] == [
        "PATH=/mine",
        "HOSTNAME=cccccccccccc",
        "TERM=xterm",
        "A=1",
        "B=2",
        "HOME=/root",
    ]
    assert build(config={"env": ("HOME=/x",)})["process"]["env"][-1] == "HOME=/x"
    assert merge_env(["A=1", "B=2"], ["A", "B=3", "C"]) == ["B=3"]


def test_user_groups_and_capabilities() -> None:
    process = build(user=ResolvedUser(uid=5, gid=6, groups=(7, 6)))["process"]
    assert process["user"] == {"uid": 5, "gid": 6, "additionalGids": [6, 7]}
    assert set(process["capabilities"]) == {"bounding", "effective", "permitted"}
    assert len(process["capabilities"]["bounding"]) == 14


def test_capabilities_that_the_daemon_lacks_are_not_given() -> None:
    few = {"capabilities": frozenset(("CAP_CHOWN", "CAP_SYS_ADMIN"))}
    assert build(machine=few)["process"]["capabilities"]["bounding"] == ["CAP_CHOWN"]
    given = build(HostConfig(privileged=True), machine=few)["process"]["capabilities"]["bounding"]
    assert given == ["CAP_CHOWN", "CAP_SYS_ADMIN"]


def test_namespaces_by_mode_and_version() -> None:
    def kinds(spec: dict[str, Any]) -> set[str]:
        return {one["type"] for one in spec["linux"]["namespaces"]}

    assert kinds(build()) == {"mount", "pid", "ipc", "uts", "network"}
    assert "cgroup" in kinds(build(machine={"cgroup_version": 2}))
    assert "cgroup" in kinds(build(defaults={"cgroupns_mode": "private"}))
    host = HostConfig(network_mode="host", pid_mode="host", ipc_mode="host", uts_mode="host")
    spec = build(host)
    assert kinds(spec) == {"mount"}
    assert "hostname" not in spec
    assert "sysctl" not in spec["linux"]


def test_namespaces_that_are_joined() -> None:
    host = HostConfig(network_mode="container:a", pid_mode="container:a", ipc_mode="container:a")
    paths = {"network": "/n", "pid": "/p", "ipc": "/i"}
    spec = build(host, sandbox=SandboxInfo(namespaces=paths, shm="/host/shm"))
    assert {"type": "network", "path": "/n"} in spec["linux"]["namespaces"]
    assert mount(spec, "/dev/shm")["source"] == "/host/shm"
    assert "sysctl" not in spec["linux"], "another's network namespace is not reconfigured"
    with pytest.raises(InvalidArgument):
        build(host)


def test_defaults_give_way_to_the_containers_own_mounts() -> None:
    mine = [
        SpecMount(destination="/dev/shm", source="/a"),
        SpecMount(destination="/a/b/c", source="/b"),
        SpecMount(destination="/a", source="/c"),
    ]
    places = [one["destination"] for one in build(mounts=mine)["mounts"]]
    assert places.count("/dev/shm") == 1
    assert places[-3:] == ["/a", "/dev/shm", "/a/b/c"]
    places = [
        one["destination"]
        for one in build(mounts=[SpecMount(destination="/dev", source="/dev")])["mounts"]
    ]
    assert not [place for place in places if place.startswith("/dev/")]


def test_shm_tmpfs_and_files() -> None:
    assert "size=67108864" in mount(build(), "/dev/shm")["options"]
    assert "size=5" in mount(build(HostConfig(shm_size=5)), "/dev/shm")["options"]
    assert not [
        m for m in build(HostConfig(ipc_mode="none"))["mounts"] if m["destination"] == "/dev/shm"
    ]
    options = mount(build(HostConfig(tmpfs={"/t": "exec,size=1m"})), "/t")["options"]
    assert options == ["nosuid", "nodev", "exec", "size=1m"]
    request = MountRequest(
        type="tmpfs",
        target="/m",
        read_only=True,
        tmpfs_options=TmpfsOptions(size_bytes=9, mode=0o700),
    )
    options = mount(build(HostConfig(mounts=(request,))), "/m")["options"]
    assert options[-3:] == ["ro", "mode=700", "size=9"]
    sandbox = SandboxInfo(hosts="/h", resolv_conf="/r", hostname_file="/n")
    assert mount(build(sandbox=sandbox), "/etc/hosts")["source"] == "/h"
    mine = [SpecMount(destination="/etc/hosts", source="/mine")]
    assert mount(build(sandbox=sandbox, mounts=mine), "/etc/hosts")["source"] == "/mine"


def test_privileged_opens_what_is_closed() -> None:
    spec = build(HostConfig(privileged=True))
    assert "ro" not in mount(spec, "/sys")["options"]
    assert "ro" not in mount(spec, "/sys/fs/cgroup")["options"]
    assert spec["linux"]["maskedPaths"] == spec["linux"]["readonlyPaths"] == []
    assert "seccomp" not in spec["linux"]
    assert spec["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert (
        "ro"
        not in mount(build(HostConfig(security_opt=("writable-cgroups=true",))), "/sys/fs/cgroup")[
            "options"
        ]
    )


def test_masked_paths_of_the_machine_and_null_against_empty() -> None:
    thermal = "/sys/devices/system/cpu/cpu0/thermal_throttle"
    spec = build(defaults={"masked_paths": (thermal,)})
    assert thermal in spec["linux"]["maskedPaths"]
    assert build(HostConfig(masked_paths=()))["linux"]["maskedPaths"] == []
    assert build(HostConfig(privileged=True, masked_paths=("/a",)))["linux"]["maskedPaths"] == [
        "/a"
    ]


def test_resources() -> None:
    def resources(**host: Any) -> dict[str, Any]:
        return dict(build(HostConfig(**host))["linux"]["resources"])

    assert set(resources()) == {"devices"}
    assert resources(memory=8 * MIB)["memory"] == {"limit": 8 * MIB, "swap": 16 * MIB}
    assert resources(memory=8 * MIB, memory_swap=-1)["memory"]["swap"] == -1
    assert resources(nano_cpus=1_500_000_000)["cpu"] == {"period": 100_000, "quota": 150_000}
    assert resources(pids_limit=-5)["pids"] == {"limit": -1}
    assert "pids" not in resources(pids_limit=0)
    assert resources(oom_kill_disable=True)["memory"] == {"disableOOMKiller": True}
    with pytest.raises(InvalidArgument):
        resources(blkio_device_read_bps=(ThrottleDevice(path="/dev/null", rate=1),))


def test_devices() -> None:
    mapping = DeviceMapping(
        path_on_host="/dev/null", path_in_container="/dev/mine", cgroup_permissions="r"
    )
    linux = build(HostConfig(devices=(mapping,)))["linux"]
    (device,) = linux["devices"]
    assert (device["path"], device["type"], device["major"], device["minor"]) == (
        "/dev/mine",
        "c",
        1,
        3,
    )
    assert linux["resources"]["devices"][-1]["access"] == "r"
    with pytest.raises(InvalidArgument, match="error gathering device information"):
        build(HostConfig(devices=(DeviceMapping(path_on_host="/dev/boxwood"),)))
    with pytest.raises(InvalidArgument, match="not a device node"):
        build(HostConfig(devices=(DeviceMapping(path_on_host="/etc/passwd"),)))


def test_limits_are_clamped_to_what_the_daemon_may_give() -> None:
    limits = (Ulimit(name="nofile", soft=100, hard=1 << 20), Ulimit(name="core", soft=-1, hard=-1))
    host = HostConfig(ulimits=limits)
    assert {r["type"]: r["hard"] for r in build(host)["process"]["rlimits"]} == {
        "RLIMIT_NOFILE": 1 << 20,
        "RLIMIT_CORE": INFINITY,
    }
    poor = {"may_raise_limits": False, "hard_limits": {"RLIMIT_NOFILE": 1000}, "oom_score_adj": 5}
    (_, nofile) = build(host, machine=poor)["process"]["rlimits"]
    assert nofile == {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 1000}
    warnings = validate_host_config(
        ContainerConfig(), msgspec.structs.replace(host, oom_score_adj=-500), make_machine(**poor)
    )
    assert len(warnings) == 2
    assert build(HostConfig(oom_score_adj=-500), machine=poor)["process"]["oomScoreAdj"] == 5


def test_daemon_defaults() -> None:
    defaults = {
        "ulimits": {"nofile": Ulimit(name="nofile", soft=1, hard=2)},
        "init": True,
        "no_new_privileges": True,
    }
    spec = build(defaults=defaults)
    assert spec["process"]["rlimits"] == [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}]
    assert spec["process"]["noNewPrivileges"] is True
    assert spec["annotations"] == {"boxwood.init": "true"}
    host = HostConfig(init=False, security_opt=("no-new-privileges=false",))
    assert "annotations" not in build(host, defaults=defaults)
    assert build(host, defaults=defaults)["process"]["noNewPrivileges"] is False
    assert "seccomp" not in build(defaults={"unconfined": True})["linux"]


@pytest.mark.parametrize(
    ("parent", "path"),
    [
        ("/boxwood", "/boxwood/x"),
        ("a/b/", "/a/b/x"),
        ("/../../a", "/a/x"),
        ("", "/x"),
        ("a.slice", "/a.slice/x"),
    ],
)
def test_cgroup_parents_stay_in_the_hierarchy(parent: str, path: str) -> None:
    assert cgroups_path(parent, "x") == path


def test_a_cached_profile_is_not_shared_between_containers() -> None:
    first, second = build_spec_raw(), build_spec_raw()
    first["linux"]["seccomp"]["syscalls"].clear()
    assert second["linux"]["seccomp"]["syscalls"]
    assert build_spec_raw()["linux"]["seccomp"]["syscalls"]


def build_spec_raw() -> dict[str, Any]:
    return build_spec(
        make_container(), user=ResolvedUser(), daemon=SpecDefaults(machine=make_machine())
    )


def test_exec_process() -> None:
    class Request:
        cmd = ("a", "b")
        env = ("X=1", "A=2")
        tty = True
        privileged = False
        working_dir = ""

    container = make_container(env=("A=1",), working_dir="/w")
    spec = build_spec(container, user=ResolvedUser(), daemon=SpecDefaults(machine=make_machine()))
    process = build_exec_process(
        container, spec, Request(), ResolvedUser(uid=3, gid=4, home="/h"), make_machine()
    )
    assert process["env"][-4:] == ["TERM=xterm", "A=2", "X=1", "HOME=/h"]
    assert (process["cwd"], process["args"]) == ("/w", ("a", "b"))
    assert process["capabilities"] == spec["process"]["capabilities"]
    assert process["user"]["uid"] == 3


REFUSED = {
    "Minimum memory limit allowed is 6MB": {"memory": MIB},
    "Minimum memory limit allowed is 6M": {"memory": -5},
    "Minimum memoryswap limit should be larger": {"memory": 8 * MIB, "memory_swap": 7 * MIB},
    "You should always set the Memory limit": {"memory_swap": 7 * MIB},
    "Minimum memory reservation allowed is 6MB": {"memory_reservation": 1},
    "can not be less than memory reservation": {"memory": 8 * MIB, "memory_reservation": 9 * MIB},
    "valid memory swappiness range is 0-100": {"memory_swappiness": 101},
    "Nano CPUs and CPU Period cannot both be set": {"nano_cpus": 1, "cpu_period": 5000},
    "Nano CPUs and CPU Quota cannot both be set": {"nano_cpus": 1, "cpu_quota": 5000},
    "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs": {"nano_cpus": 3_000_000_000},
    "CPU cfs period can not be less than 1ms": {"cpu_period": 1},
    "CPU cfs quota can not be less than 1ms": {"cpu_quota": 1},
    "does not support CPU real-time": {"cpu_realtime_runtime": 1},
    "Requested CPUs are not available - requested 0-7, available: 0-1": {"cpuset_cpus": "0-7"},
    "Invalid value x for cpuset cpus": {"cpuset_cpus": "x"},
    "Invalid value 0-99999999 for cpuset cpus": {"cpuset_cpus": "0-99999999"},
    "Requested memory nodes are not available": {"cpuset_mems": "3"},
    "Range of blkio weight is from 10 to 1000": {"blkio_weight": 9},
    "blkio weight is from": {
        "blkio_weight_device": (WeightDevice(path="/dev/loop0", weight=5000),)
    },
    'unknown capability: "CAP_NONSENSE"': {"cap_add": ("nonsense",)},
    'invalid CapDrop: unknown capability: "CAP_X"': {"cap_drop": ("X",), "privileged": True},
    'sysctl "kernel.core_pattern" is not in a separate kernel namespace': {
        "sysctls": {"kernel.core_pattern": "x"}
    },
    'sysctl "net.a" not allowed in host network namespace': {
        "sysctls": {"net.a": "1"},
        "network_mode": "host",
    },
    "not allowed in the host ipc": {"sysctls": {"kernel.shmmax": "1"}, "ipc_mode": "host"},
    'sysctl "net/../kernel/core_pattern": not a name': {
        "sysctls": {"net/../kernel/core_pattern": "x"}
    },
    "invalid ulimit type: nonsense": {"ulimits": (Ulimit(name="nonsense"),)},
    "ulimit soft limit must be less": {"ulimits": (Ulimit(name="nofile", soft=2, hard=1),)},
    "invalid PID mode: nonsense": {"pid_mode": "nonsense"},
    "invalid PID mode: container:": {"pid_mode": "container:"},
    "invalid IPC mode: x": {"ipc_mode": "x"},
    "invalid UTS mode: container:a": {"uts_mode": "container:a"},
    "invalid user namespace mode: private": {"userns_mode": "private"},
    "invalid cgroup namespace mode: x": {"cgroupns_mode": "x"},
    'invalid --security-opt 1: "nonsense"': {"security_opt": ("nonsense",)},
    'invalid --security-opt 2: "a=b"': {"security_opt": ("a=b",)},
    "no-new-privileges=maybe": {"security_opt": ("no-new-privileges=maybe",)},
    "Decoding seccomp profile failed": {"security_opt": ("seccomp={",)},
    "AppArmor is not enabled": {"security_opt": ("apparmor=mine",)},
    "range for oom score adj": {"oom_score_adj": 1001},
    "SHM size can not be less than 0": {"shm_size": -1},
    "invalid device cgroup rule format: 'x'": {"device_cgroup_rules": ("x",)},
    "invalid device mode: z": {
        "devices": (DeviceMapping(path_on_host="/dev/null", cgroup_permissions="z"),)
    },
    'could not select device driver "" with capabilities: [[gpu]]': {
        "device_requests": (DeviceRequest(capabilities=(("gpu",),)),)
    },
    'invalid tmpfs option ["nonsense"]': {"tmpfs": {"/a": "nonsense"}},
    "mount path must be absolute": {"tmpfs": {"a": ""}},
    "can't create 'AutoRemove' container with restart policy": {
        "auto_remove": True,
        "restart_policy": RestartPolicy(name="always"),
    },
    "linux does not support Maximum IO Bandwidth": {"io_maximum_bandwidth": 1},
    "linux does not support Maximum IO IOps": {"io_maximum_iops": 1},
    "are reserved": {"annotations": {"boxwood.init": "true"}},
    "has a ..": {"cgroup_parent": "/a/../b"},
    'invalid isolation "hyperv"': {"isolation": "hyperv"},
}


@pytest.mark.parametrize("words", REFUSED)
def test_refused_in_dockers_words(words: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        validate_host_config(ContainerConfig(), HostConfig(**REFUSED[words]), make_machine())
    assert words in str(refused.value)


def test_what_a_poor_machine_cannot_do_is_said() -> None:
    poor = make_machine(controllers=frozenset(), features=frozenset())
    host = HostConfig(
        memory=8 * MIB,
        memory_swap=9 * MIB,
        memory_swappiness=5,
        oom_kill_disable=True,
        cpu_shares=5,
        cpuset_cpus="0",
        pids_limit=5,
        blkio_weight=50,
        blkio_device_read_bps=(ThrottleDevice(path="/dev/loop0", rate=1),),
    )
    warnings = validate_host_config(ContainerConfig(), host, poor)
    assert len(warnings) == 9
    assert len(set(warnings)) == 9
    assert validate_host_config(ContainerConfig(), host, make_machine()) == []


def test_sets_of_numbers() -> None:
    for text, numbers in (("0", {0}), ("0-2,5", {0, 1, 2, 5}), ("1, 3", {1, 3})):
        assert parse_set(text, "") == frozenset(numbers)
    for text in ("", "-", "2-1", "a", "1,", "0-9000"):
        with pytest.raises(InvalidArgument):
            parse_set(text, "")
    for numbers in itertools.chain.from_iterable(
        itertools.combinations(range(6), n) for n in range(1, 7)
    ):
        assert parse_set(format_set(frozenset(numbers)), "") == frozenset(numbers)
