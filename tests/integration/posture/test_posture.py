"""What a process finds inside: asked there, not in the document."""

from __future__ import annotations

import os
import re

import pytest

from boxwood.errors import InvalidArgument, NotFound, Unsupported
from boxwood.execution.spec import ResolvedUser, SandboxInfo, SpecMount
from boxwood.model.config import DeviceMapping, HostConfig, Ulimit
from boxwood_ext.launch import LaunchFailed
from tests.integration.posture.box import DEVICES, Box, driver, run, shell
from tests.support.needs import need

pytestmark = pytest.mark.root

DEFAULT_CAPS = 0xA80425FB
NONE = "none"
USER = ResolvedUser(uid=1000, gid=1000, groups=(29,), home="/home")
PRIVILEGED = HostConfig(network_mode=NONE, privileged=True)


@pytest.fixture(autouse=True)
def _root() -> None:
    need(os.geteuid() == 0, "root")


def status(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+):\s*(.*)$", text, re.MULTILINE))


def caps(**host: object) -> dict[str, str]:
    return status(run("cat", "/proc/self/status", host=HostConfig(network_mode=NONE, **host)).out)


def test_capabilities_seccomp_and_privileges_of_root() -> None:
    found = status(run("cat", "/proc/self/status").out)
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(found[name], 16) == DEFAULT_CAPS & _daemon_bounding()
    assert int(found["CapInh"], 16) == int(found["CapAmb"], 16) == 0
    assert (found["Seccomp"], found["NoNewPrivs"]) == ("2", "0")


def test_capabilities_of_a_user() -> None:
    found = status(run("cat", "/proc/self/status", user=USER).out)
    assert int(found["CapBnd"], 16) == DEFAULT_CAPS & _daemon_bounding()
    for name in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
        assert int(found[name], 16) == 0
    assert found["Uid"].split() == ["1000"] * 4
    assert found["Gid"].split() == ["1000"] * 4
    assert found["Groups"].split() == ["29", "1000"]
    assert found["Seccomp"] == "2"


def _daemon_bounding() -> int:
    with open("/proc/self/status") as file:
        return int(status(file.read())["CapBnd"], 16)


def test_capabilities_are_added_and_dropped() -> None:
    net_admin, chown = 1 << 12, 1 << 0
    assert int(caps(cap_add=("net_admin",))["CapEff"], 16) & net_admin
    assert not int(caps(cap_drop=("CAP_CHOWN",))["CapBnd"], 16) & chown
    assert int(caps(cap_drop=("ALL",))["CapBnd"], 16) == 0
    assert int(caps(cap_drop=("all",), cap_add=("CHOWN",))["CapEff"], 16) == chown
    assert int(caps(cap_add=("ALL",))["CapEff"], 16) == _daemon_bounding()


def test_privileged_opens_everything() -> None:
    pids = "/sys/fs/cgroup" + "/pids" * (driver().machine().cgroup_version == 1)
    out = shell(
        "cat /proc/self/status; grep -c . /proc/timer_list; test -w /proc/sys/kernel/hostname "
        "&& echo sysctl; ls -d /dev/kmsg; mount -t tmpfs none /tmp && echo mounted; "
        f"mkdir {pids}/y && rmdir {pids}/y && echo cgroup;"
        "probe unshare 0x10000000",
        host=PRIVILEGED,
    ).out
    found = status(out)
    assert int(found["CapEff"], 16) == _daemon_bounding()
    assert found["Seccomp"] == "0"
    for word in ("sysctl", "/dev/kmsg", "mounted", "cgroup"):
        assert word in out.splitlines()
    assert out.endswith("ok\n")


def test_only_three_descriptors() -> None:
    assert shell("ls /proc/1/fd; :").out.split() == ["0", "1", "2"]
    with Box("sleep", "60") as box:
        box.start()
        assert box.exec("sh", "-c", "ls /proc/$$/fd; :").out.split() == ["0", "1", "2"]


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/hostname",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
        "/sys/kernel/uevent_helper",
        "/sys/power/state",
        "/sys/fs/cgroup/cgroup.procs",
        "/sys/fs/cgroup/new",
    ],
)
def test_the_kernels_files_are_not_writable(path: str) -> None:
    answer = run("probe", "write", path).out.split(" ")[0]
    if answer == "2" and path.startswith("/proc/"):
        assert not os.path.exists(path), "the container lacks what the host has"
    elif answer == "2":
        # not a file of this kernel: then ask whether one can be made beside it
        assert "Read-only" in run("touch", f"{path.rpartition('/')[0]}/boxwood").err
    else:
        assert answer == "30", "EROFS"


@pytest.mark.parametrize("user", [None, USER])
def test_no_mount_no_user_namespace(user: ResolvedUser | None) -> None:
    assert run("probe", "mount", "/tmp", user=user).out.startswith("1 ")
    assert run("probe", "umount", "/proc", user=user).out.startswith("1 ")
    for flag in ("0x10000000", "0x20000", "0x40000000"):
        assert run("probe", "unshare", flag, user=user).out.startswith("1 ")
    assert run("probe", "clone3", user=user).out.startswith("38 ")


def test_an_unknown_system_call_is_not_there_rather_than_forbidden() -> None:
    assert run("probe", "syscall", "999").out.startswith("38 ")


def test_no_block_device_can_be_read() -> None:
    out = shell(
        "probe mknod /tmp/b 7 0; probe open /tmp/b; probe mknodc /tmp/f 10 229; probe open /tmp/f"
    ).out
    assert [line.split()[0] for line in out.splitlines()] == ["ok", "1", "ok", "1"]


def test_exactly_dockers_devices() -> None:
    assert run("ls", "/dev").out.split() == DEVICES
    assert (
        shell("echo x >/dev/null; head -c 4 /dev/zero | od -An -c; echo y >/dev/full").out.split()
        == ["\\0"] * 4
    )


def test_a_terminal_has_a_console() -> None:
    with Box("sleep", "60", config={"tty": True}) as box:
        box.start()
        assert "console" in box.exec("ls", "/dev").out.split()
        assert box.terminal is not None
        os.close(box.terminal)


@pytest.mark.parametrize(
    "path", ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts"]
)
def test_masked_files_are_empty(path: str) -> None:
    if not os.path.exists(path):
        pytest.skip(f"the kernel has no {path}")
    found = shell(f"cat {path}; stat -c %t:%T {path}")
    assert found.out == "1:3\n"


def test_masked_directories_are_empty_and_read_only() -> None:
    found = shell("ls -A /sys/firmware; touch /sys/firmware/x")
    assert found.out == ""
    assert "Read-only" in found.err


def test_lists_of_paths_replace_the_defaults() -> None:
    host = HostConfig(network_mode=NONE, masked_paths=(), readonly_paths=())
    assert (
        shell(
            "test -c /proc/timer_list || echo open; probe write /proc/sys/kernel/hostname",
            host=host,
        ).out
        == "open\nok\n"
    )
    host = HostConfig(network_mode=NONE, masked_paths=("/etc/passwd", "/home"))
    assert shell("cat /etc/passwd; ls /home", host=host).out == ""
    host = HostConfig(network_mode=NONE, security_opt=("systempaths=unconfined",))
    assert shell("probe write /proc/sys/kernel/hostname", host=host).out == "ok\n"


def test_init_is_process_one_and_keeps_the_exit_code() -> None:
    found = shell(
        "cat /proc/1/cmdline | tr '\\0' ' '; exit 7", host=HostConfig(network_mode=NONE, init=True)
    )
    assert found.code == 7
    assert found.out.startswith("/sbin/docker-init -- ")
    found = shell(
        "sleep 0 & exec sleep 0.01; echo never", host=HostConfig(network_mode=NONE, init=True)
    )
    assert found.code == 0


def test_process_one_and_its_namespaces() -> None:
    links = shell("echo $$; for ns in /proc/self/ns/*; do readlink $ns; done").out.split()
    assert links[0] == "1"
    assert len(links) > 6
    own = {os.readlink(f"/proc/self/ns/{name}") for name in ("mnt", "pid", "ipc", "uts", "net")}
    assert own.isdisjoint(links)


@pytest.mark.parametrize(
    ("field", "name"),
    [("pid_mode", "pid"), ("ipc_mode", "ipc"), ("uts_mode", "uts"), ("network_mode", "net")],
)
def test_host_namespaces(field: str, name: str) -> None:
    host = HostConfig(**{"network_mode": NONE, field: "host"})
    assert run("readlink", f"/proc/self/ns/{name}", host=host).out.strip() == os.readlink(
        f"/proc/self/ns/{name}"
    )


def test_a_private_cgroup_namespace_shows_no_path() -> None:
    found = run(
        "cat", "/proc/self/cgroup", host=HostConfig(network_mode=NONE, cgroupns_mode="private")
    )
    assert {line.rpartition(":")[2] for line in found.out.split()} <= {"/"}


def test_joined_namespaces() -> None:
    shareable = HostConfig(network_mode=NONE, ipc_mode="shareable")
    with Box("sleep", "60", host=shareable) as first:
        first.start()
        paths = {
            kind: f"/proc/{first.pid}/ns/{file}"
            for kind, file in (("pid", "pid"), ("ipc", "ipc"), ("network", "net"))
        }
        host = HostConfig(
            network_mode="container:x", pid_mode="container:x", ipc_mode="container:x"
        )
        first.exec("touch", "/dev/shm/shared")
        found = shell(
            "for ns in pid ipc net; do readlink /proc/self/ns/$ns; done; ls /dev/shm; pidof sleep",
            host=host,
            sandbox=SandboxInfo(namespaces=paths, shm=f"/proc/{first.pid}/root/dev/shm"),
        )
        assert found.out.split() == [*(os.readlink(path) for path in paths.values()), "shared", "1"]


def test_names_environment_user_and_directory() -> None:
    found = shell(
        "hostname; cat /proc/sys/kernel/domainname; pwd; stat -c %u:%a .;"
        "echo $HOME $A ${TERM:-no}; umask",
        config={
            "hostname": "here",
            "domainname": "example.org",
            "working_dir": "/new/dir",
            "env": ("A=1",),
        },
    )
    assert found.out.split() == [
        "here",
        "example.org",
        "/new/dir",
        "0:755",
        "/root",
        "1",
        "no",
        "0022",
    ]


def test_sysctls() -> None:
    host = HostConfig(
        network_mode=NONE, sysctls={"kernel.msgmax": "4096", "net.ipv4.ip_forward": "1"}
    )
    found = shell(
        "cd /proc/sys; cat kernel/msgmax net/ipv4/ip_forward net/ipv4/ip_unprivileged_port_start",
        host=host,
    )
    assert found.out.split() == ["4096", "1", "0"]


def test_rlimits_within_what_the_daemon_has() -> None:
    limits = (Ulimit(name="nofile", soft=64, hard=128), Ulimit(name="core", soft=0, hard=0))
    host = HostConfig(network_mode=NONE, ulimits=limits)
    assert shell("ulimit -Sn; ulimit -Hn; ulimit -c", host=host).out.split() == ["64", "128", "0"]
    host = HostConfig(
        network_mode=NONE, ulimits=(Ulimit(name="nofile", soft=1 << 20, hard=1 << 20),)
    )
    most = driver().machine().hard_limits["RLIMIT_NOFILE"]
    want = str(1 << 20 if driver().machine().may_raise_limits else min(most, 1 << 20))
    assert shell("ulimit -Hn", host=host).out.strip() == want
    # Fewer open files than the launch itself has.
    few = HostConfig(network_mode=NONE, ulimits=(Ulimit(name="nofile", soft=4, hard=4),))
    assert shell("ulimit -Hn", host=few).out.strip() == "4"


def test_read_only_root_tmpfs_and_shm() -> None:
    host = HostConfig(
        network_mode=NONE,
        readonly_rootfs=True,
        tmpfs={"/run": "size=1m,mode=700"},
        shm_size=1 << 20,
    )
    found = shell(
        "touch /x; touch /run/x /dev/shm/x && df -k /run /dev/shm | awk '{print $2}';"
        "stat -c %a /run; grep ' /run ' /proc/mounts",
        host=host,
    )
    assert "Read-only" in found.err
    assert found.out.split()[:4] == ["1K-blocks", "1024", "1024", "700"]
    for option in ("nosuid", "nodev", "noexec"):
        assert option in found.out


def test_binds_read_only_recursive_and_with_propagation(tmp_path) -> None:
    (tmp_path / "file").write_text("hello\n")
    where = str(tmp_path)
    mounts = (
        SpecMount(destination="/data", source=where, options=("rbind", "rro", "rprivate")),
        SpecMount(destination="/rw", source=where, options=("rbind",)),
        SpecMount(destination="/one", source=f"{where}/file", options=("bind", "ro")),
    )
    found = shell("cat /data/file /one; touch /data/x; echo x >/one; touch /rw/made", mounts=mounts)
    assert found.out == "hello\nhello\n"
    assert found.err.count("Read-only") == 2
    assert (tmp_path / "made").exists()


def test_devices_of_the_host(tmp_path) -> None:
    need(os.path.exists("/dev/loop-control"), "/dev/loop-control")
    mapping = DeviceMapping(
        path_on_host="/dev/loop-control", path_in_container="/dev/mine", cgroup_permissions="r"
    )
    host = HostConfig(network_mode=NONE, devices=(mapping,))
    found = shell(
        "stat -c %t:%T /dev/mine; probe open /dev/mine; probe write /dev/mine", host=host
    ).out.splitlines()
    assert found[:2] == ["a:ed", "ok"]
    assert found[2].startswith("1 ")
    host = HostConfig(network_mode=NONE, device_cgroup_rules=("c 10:237 rwm",))
    assert shell("probe mknodc /dev/mine 10 237; probe open /dev/mine", host=host).out == "ok\nok\n"


def test_oom_score() -> None:
    host = HostConfig(network_mode=NONE, oom_score_adj=500)
    assert run("cat", "/proc/self/oom_score_adj", host=host).out.strip() == "500"


def test_no_new_privileges_and_profiles() -> None:
    def asked(*options: str) -> dict[str, str]:
        host = HostConfig(network_mode=NONE, security_opt=options)
        return status(run("cat", "/proc/self/status", host=host).out)

    assert asked("no-new-privileges")["NoNewPrivs"] == "1"
    assert asked("no-new-privileges=true")["Seccomp"] == "2"
    assert asked("seccomp=unconfined")["Seccomp"] == "0"
    custom = """{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}"""
    host = HostConfig(network_mode=NONE, security_opt=(f"seccomp={custom}",))
    assert "No space left" in run("mkdir", "/x", host=host).err


def test_a_strict_profile_need_not_allow_what_stands_above_it() -> None:
    # What stands above the filter in the program (users, groups, bounding set) is not its matter.
    text = """{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["setgroups","setresgid",
    "setresuid","mount","chdir","fchdir","umask","prlimit64"],"action":"SCMP_ACT_ERRNO"}]}"""
    host = HostConfig(network_mode=NONE, security_opt=(f"seccomp={text}",))
    assert run("echo", "fine", host=host, user=USER).out == "fine\n"


def test_exec_has_the_posture_of_the_container() -> None:
    with Box("sleep", "60", host=HostConfig(network_mode=NONE, cap_drop=("CHOWN",))) as box:
        box.start()
        found = status(box.exec("cat", "/proc/self/status").out)
        assert int(found["CapEff"], 16) == DEFAULT_CAPS & _daemon_bounding() & ~1
        assert (int(found["CapInh"], 16), found["Seccomp"]) == (0, "2")
        found = status(box.exec("cat", "/proc/self/status", user=USER).out)
        assert int(found["CapEff"], 16) == int(found["CapInh"], 16) == 0
        assert found["Groups"].split() == ["29", "1000"]
        privileged = status(box.exec("cat", "/proc/self/status", privileged=True).out)
        assert int(privileged["CapEff"], 16) == _daemon_bounding()
        own = box.exec("cat", "/proc/self/cgroup").out
        assert own == box.exec("cat", "/proc/1/cgroup").out
        assert box.exec(
            "sh", "-c", "echo $FOO; pwd; exit 5", env=("FOO=x",), working_dir="/tmp"
        ) == (5, "x\n/tmp\n", "")


def test_exec_into_what_is_gone() -> None:
    with Box("true") as box:
        box.start()
        box.wait()
        with pytest.raises(NotFound):
            box.exec("true")
        box.pid = os.getpid()  # somebody else's by now
        with pytest.raises(NotFound):
            box.exec("true")
        box.pid = 0


def test_a_missing_command_and_directory_name_the_operation() -> None:
    for args, errno in ((("nonsense",), 2), (("/etc/passwd",), 13)):
        with Box(*args) as box, pytest.raises(LaunchFailed) as failed:
            box.start()
        assert failed.value.errno == errno
        assert failed.value.operation in ("command", "exec")


def test_a_user_namespace_of_its_own() -> None:
    def edit(spec) -> None:
        spec["linux"]["namespaces"].append({"type": "user"})
        for key in ("uidMappings", "gidMappings"):
            spec["linux"][key] = [{"containerID": 0, "hostID": 0, "size": 65536}]
        for key in ("seccomp", "sysctl"):
            del spec["linux"][key]

    found = shell("cat /proc/self/uid_map; readlink /proc/self/ns/user", edit=edit)
    assert found.out.split()[:3] == ["0", "0", "65536"]
    assert found.out.split()[3] != os.readlink("/proc/self/ns/user")


def test_a_mount_of_ones_own_over_sys() -> None:
    mounts = (SpecMount(destination="/sys", source="/sys", options=("rbind", "ro")),)
    assert shell("ls -d /sys/kernel", mounts=mounts).out == "/sys/kernel\n"


def test_mounts_over_proc_are_refused() -> None:
    for mount in (
        SpecMount(destination="/proc", source="/tmp", options=("bind",)),
        SpecMount(destination="/proc/self/attr", source="/tmp", options=("bind",)),
        SpecMount(destination="/proc", type="tmpfs"),
    ):
        with Box("true", mounts=(mount,)) as box, pytest.raises(InvalidArgument):
            box.start()


def test_a_time_namespace_where_it_is_asked() -> None:
    need("time" in driver().machine().namespaces, "time namespaces")

    def edit(spec) -> None:
        spec["linux"]["namespaces"].append({"type": "time"})

    own = run("readlink", "/proc/self/ns/time", edit=edit).out.strip()
    assert own
    assert own != os.readlink("/proc/self/ns/time")


def test_time_offsets_are_refused_rather_than_forgotten() -> None:
    def edit(spec) -> None:
        spec["linux"]["timeOffsets"] = {"boottime": {"secs": 5}}

    with Box("true", edit=edit) as box, pytest.raises(Unsupported):
        box.start()
