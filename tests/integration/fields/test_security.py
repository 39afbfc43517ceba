"""What a container may do: capabilities, devices, filters, hidden paths, namespaces."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.integration.fields.box import Api, Box
from tests.integration.fields.claims import shows

pytestmark = pytest.mark.root

DEFAULT = 0xA80425FB
SYS_TIME, MKNOD, CHOWN = 1 << 25, 1 << 27, 1 << 0


def bounding(api: Api, **host: object) -> int:
    words = api.sh("grep CapBnd /proc/self/status", host=host).split()
    return int(words[1], 16)


@shows("HostConfig.CapAdd", "HostConfig.CapDrop")
def test_capabilities(api: Api, default: Box) -> None:
    able = int(Path("/proc/self/status").read_text().split("CapBnd:")[1].split()[0], 16)
    assert bounding(api, CapAdd=["SYS_TIME"], CapDrop=["CAP_MKNOD"]) == (
        (DEFAULT | SYS_TIME & able) & ~MKNOD
    )
    assert bounding(api, CapDrop=["ALL"], CapAdd=["chown"]) == CHOWN
    assert bounding(api, CapAdd=["ALL"], CapDrop=["MKNOD"]) == able & ~MKNOD
    assert int(default.sh("grep CapBnd /proc/1/status").split()[1], 16) == DEFAULT
    assert "NONSENSE" in api.refused(host={"CapAdd": ["NONSENSE"]}).upper()


@shows("HostConfig.Privileged")
def test_privileged(api: Api, default: Box) -> None:
    script = (
        "grep Seccomp: /proc/self/status; (: >>/proc/sys/kernel/hostname) 2>&1; ls /dev | wc -l"
    )
    script += "; mkdir /m && mount -t tmpfs x /m && echo mounted; wc -c < /proc/timer_list"
    out = api.sh(script, host={"Privileged": True})
    assert "Seccomp:\t0" in out
    assert "mounted" in out
    assert "Read-only" not in out
    guarded = default.sh(script)
    assert "Seccomp:\t2" in guarded
    assert "mounted" not in guarded
    assert "Read-only" in guarded
    nodes = {entry.name for entry in Path("/dev").iterdir() if entry.is_block_device()}
    assert nodes <= set(api.sh("ls /dev", host={"Privileged": True}).split())


@shows("HostConfig.Devices", "DeviceMapping.PathOnHost", "DeviceMapping.PathInContainer")
@shows("DeviceMapping.CgroupPermissions")
def test_devices(api: Api, default: Box, tmp_path: Path) -> None:
    """A second /dev/zero (character device 1:5) is one that every machine has."""
    node = tmp_path / "zero"
    os.mknod(node, 0o600 | 0o020000, os.makedev(1, 5))
    device = {"PathOnHost": str(node), "PathInContainer": "/dev/mine"}
    read = "stat -c '%t:%T %F' /dev/mine; head -c 3 /dev/mine | wc -c"
    out = api.sh(read, host={"Devices": [device | {"CgroupPermissions": "rwm"}]})
    assert out.splitlines() == ["1:5 character special file", "3"]
    assert "No such file" in default.sh(read)
    # /dev/kmsg (1:11) is none of the default ones, so that the group's list decides
    kmsg = {"PathOnHost": "/dev/kmsg", "PathInContainer": "/dev/k"}
    script = "(: </dev/k) && echo r; (: >/dev/k) && echo w"

    def allowed(permissions: str) -> list[str]:
        host = {"Devices": [kmsg | {"CgroupPermissions": permissions}], "CapAdd": ["SYSLOG"]}
        return [line for line in api.sh(script, host=host).split() if len(line) == 1]

    assert allowed("rwm") == ["r", "w"]
    assert allowed("r") == ["r"]
    assert allowed("w") == ["w"]
    assert "bad" in api.refused(host={"Devices": [kmsg | {"CgroupPermissions": "bad"}]})
    with api.made("true", host={"Devices": [{"PathOnHost": "/dev/no-such"}]}) as box:
        answer = api.call("POST", f"/containers/{box.id}/start")
        assert "/dev/no-such" in answer.message


@shows("HostConfig.DeviceCgroupRules")
def test_device_rules(api: Api, default: Box) -> None:
    script = "mknod /tmp/k c 1 11 && (: >/tmp/k) && echo open"
    assert "open" in api.sh(script, host={"DeviceCgroupRules": ["c 1:11 rw"]})
    assert "not permitted" in api.sh(script, host={"DeviceCgroupRules": ["c 1:12 rw"]})
    assert "not permitted" in default.sh(script)
    assert "nonsense" in api.refused(host={"DeviceCgroupRules": ["nonsense"]})


def deny(*names: str) -> str:
    """A profile in Docker's form that allows all but these calls."""
    rule = {"names": list(names), "action": "SCMP_ACT_ERRNO"}
    return json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})


@shows("HostConfig.SecurityOpt")
def test_security_options(api: Api, default: Box) -> None:
    def out(script: str, *options: str) -> str:
        return api.sh(script, host={"SecurityOpt": list(options)})

    make = "mkdir /tmp/d && echo made"
    assert "not permitted" in out(make, f"seccomp={deny('mkdir', 'mkdirat')}")
    assert "made" in out(make, f"seccomp={deny('chroot')}")
    status = "grep -E 'Seccomp:|NoNewPrivs' /proc/self/status"
    assert out(status, "seccomp=unconfined").split() == ["NoNewPrivs:", "0", "Seccomp:", "0"]
    assert out(status, "no-new-privileges").split() == ["NoNewPrivs:", "1", "Seccomp:", "2"]
    assert out(status, "no-new-privileges=false").split()[1] == "0"
    assert default.sh(status).split() == ["NoNewPrivs:", "0", "Seccomp:", "2"]
    masked = "wc -c </proc/timer_list; (: >>/proc/sys/kernel/hostname)"
    assert "Read-only" not in out(masked, "systempaths=unconfined")
    assert "Read-only" in default.sh(masked)
    for option in ("nonsense", "nonsense=1", "seccomp={", "apparmor=no-such-profile"):
        message = api.refused(host={"SecurityOpt": [option]})
        assert option.partition("=")[0].split("{")[0] in message, message


@shows("HostConfig.MaskedPaths", "HostConfig.ReadonlyPaths")
def test_paths_null_and_empty(api: Api) -> None:
    """Null means Docker's own lists, an empty list means none."""

    def effects(host: dict[str, object]) -> tuple[bool, bool]:
        script = "wc -l </proc/interrupts; (: >>/proc/sys/kernel/hostname)"
        out = api.sh(script, host=host)
        return int(out.split()[0]) == 0, "Read-only" in out

    assert effects({}) == (True, True)
    assert effects({"MaskedPaths": None, "ReadonlyPaths": None}) == (True, True)
    assert effects({"MaskedPaths": []}) == (False, True)
    assert effects({"ReadonlyPaths": []}) == (True, False)
    own = {"MaskedPaths": ["/etc/passwd"], "ReadonlyPaths": ["/home"]}
    out = api.sh("wc -c </etc/passwd; touch /home/x", host=own)
    assert out.startswith("0\n")
    assert "Read-only" in out
    with api.made("true") as box:
        shown = box.inspect()["HostConfig"]
        assert "/proc/kcore" in shown["MaskedPaths"]
        assert "/proc/sys" in shown["ReadonlyPaths"]
    with api.made("true", host={"MaskedPaths": []}) as box:
        assert box.inspect()["HostConfig"]["MaskedPaths"] == []


@shows("HostConfig.ReadonlyRootfs")
def test_read_only_root(api: Api, default: Box) -> None:
    script = "touch /x && echo written; touch /dev/shm/x && echo shm"
    out = api.sh(script, host={"ReadonlyRootfs": True})
    assert "Read-only" in out
    assert "written" not in out
    assert "shm" in out
    assert "written" in default.sh(script)


def namespace(box: Box, name: str) -> str:
    return box.sh(f"readlink /proc/self/ns/{name}").strip()


@shows("HostConfig.PidMode", "HostConfig.IpcMode", "HostConfig.UTSMode", "HostConfig.CgroupnsMode")
def test_the_hosts_namespaces(api: Api, default: Box) -> None:
    for field, name in (
        ("PidMode", "pid"), ("IpcMode", "ipc"), ("UTSMode", "uts"), ("CgroupnsMode", "cgroup")
    ):  # fmt: skip
        with api.living(host={field: "host"}) as box:
            assert namespace(box, name) == os.readlink(f"/proc/self/ns/{name}"), field
    for name in ("pid", "ipc", "uts"):
        assert namespace(default, name) != os.readlink(f"/proc/self/ns/{name}")
    with api.living(host={"CgroupnsMode": "private"}) as box:
        assert namespace(box, "cgroup") != os.readlink("/proc/self/ns/cgroup")
        assert all(line.endswith(":/") for line in box.sh("cat /proc/1/cgroup").split())
    for field in ("PidMode", "IpcMode", "UTSMode", "CgroupnsMode"):
        assert "nonsense" in api.refused(host={field: "nonsense"})


def test_another_containers_namespaces(api: Api, default: Box) -> None:
    with api.living(host={"IpcMode": "shareable"}) as first:
        joined = f"container:{first.id}"
        with api.living(host={"PidMode": joined, "IpcMode": joined}) as second:
            assert namespace(second, "pid") == namespace(first, "pid")
            assert namespace(second, "ipc") == namespace(first, "ipc")
            first.sh("echo shared >/dev/shm/word")
            assert second.sh("cat /dev/shm/word") == "shared\n"
            assert namespace(second, "uts") != namespace(first, "uts")
        with api.made("true", host={"IpcMode": f"container:{default.id}"}) as box:
            answer = api.call("POST", f"/containers/{box.id}/start")
            assert "non-shareable IPC" in answer.message
    with api.living(host={"IpcMode": "none"}) as box:
        assert "/dev/shm" not in box.sh("cat /proc/mounts")
    assert "no-such" in api.refused(host={"PidMode": "container:no-such"})


@shows("HostConfig.Runtime")
def test_runtime(api: Api) -> None:
    with api.made("true") as box:
        name = box.inspect()["HostConfig"]["Runtime"]
    assert name
    with api.living(host={"Runtime": name}) as box:
        assert box.status == "running"
    assert "no-such" in api.refused(host={"Runtime": "no-such"})
