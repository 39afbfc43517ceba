"""Attacks, each of a class that has broken other engines, and what stops it here.

Each test names its defence. Where that is an operation of the launch program the same attack is
made again on a program without it, and must succeed: so the test can fail, and the operation is
what it is there for. Where it is a property of the interpreter itself (how it resolves a path)
there is no program without it; then the test shows that what is attacked is really there.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from boxwood.errors import BoxwoodError, InvalidArgument
from boxwood.execution.spec import ResolvedUser, SpecMount
from boxwood.execution.worker_users import lookup_user
from boxwood.model.config import HostConfig
from boxwood_ext import program
from boxwood_ext.launch import LaunchFailed
from tests.integration.posture.box import Box, Ops, Weaken, driver, drop, run, shell
from tests.support.needs import need

pytestmark = pytest.mark.root

USER = ResolvedUser(uid=1000, gid=1000, home="/home")
DAC_OVERRIDE, SYS_ADMIN = 1, 21
AF_ALG, AF_VSOCK = 38, 40
SOCK_SEQPACKET = 5


@pytest.fixture(autouse=True)
def _root() -> None:
    need(os.geteuid() == 0, "root")


def change(name: str, **values: program.Value) -> Weaken:
    """Give arguments of every operation ``name`` other values."""
    fields = [field for field, _ in program.BY_NAME[name].args]

    def weaken(ops: Ops) -> Ops:
        return [
            program.Op(
                name, tuple(values.get(f, v) for f, v in zip(fields, op.values, strict=True))
            )
            if op.name == name
            else op
            for op in ops
        ]

    return weaken


def file_capabilities(path: str, *, permitted: int = 0, inheritable: int = 0) -> None:
    """Set security.capability, version 2, with the effective bit (capabilities(7))."""
    value = struct.pack("<IIIII", 0x0200_0001, permitted, inheritable, 0, 0)
    os.setxattr(path, "security.capability", value)


def test_inheritable_capabilities() -> None:
    """CVE-2022-24769 and its kin. Defence: ``capabilities`` with nothing inheritable."""

    def image(root: Path) -> None:
        grab = root / "usr" / "bin" / "busybox"
        grab.write_bytes((root / "bin" / "busybox").read_bytes())
        grab.chmod(0o755)
        file_capabilities(str(grab), inheritable=1 << DAC_OVERRIDE)
        secret = root / "etc" / "secret"
        secret.write_text("secret\n")
        secret.chmod(0o600)

    given = 1 << DAC_OVERRIDE
    both = given | 1 << SYS_ADMIN  # the filter is loaded between the two operations

    def weak(ops: Ops) -> Ops:
        return change("capabilities", effective=both, permitted=both, inheritable=given)(ops)

    attack = {"image": image, "user": USER}
    assert run("/usr/bin/busybox", "cat", "/etc/secret", **attack).out == ""
    assert run("/usr/bin/busybox", "cat", "/etc/secret", weaken=weak, **attack).out == "secret\n"


def test_the_bounding_set_holds_against_file_capabilities() -> None:
    """Defence: ``bounding``: the image's own files cannot give what the container may not have."""

    def image(root: Path) -> None:
        file_capabilities(str(root / "bin" / "probe"), permitted=1 << SYS_ADMIN)

    attack = {
        "image": image,
        "user": USER,
        "host": HostConfig(network_mode="none", security_opt=("seccomp=unconfined",)),
    }
    with pytest.raises(
        LaunchFailed
    ) as failed:  # the kernel refuses an effective bit it cannot keep
        run("probe", "mount", "/tmp", **attack)
    assert failed.value.operation == "exec"
    weak = change("bounding", mask=(1 << 41) - 1)
    assert run("probe", "mount", "/tmp", weaken=weak, **attack).out == "ok\n"


def test_masked_paths_of_proc() -> None:
    """moby's /proc leaks. Defence: ``mask``."""
    assert run("cat", "/proc/timer_list").out == ""
    assert "now at" in run("cat", "/proc/timer_list", weaken=drop("mask")).out


def test_read_only_paths_of_proc() -> None:
    """Defence: ``readonly``."""
    attack = ("probe", "write", "/proc/sys/kernel/core_pattern")
    assert run(*attack).out.startswith("30 ")
    assert run(*attack, weaken=drop("readonly")).out == "ok\n"


def test_control_groups_are_not_writable_from_inside() -> None:
    """CVE-2023-25809, CVE-2022-0492. Defence: the read-only attribute of the mounts' operations."""
    first = driver().machine().cgroup_version == 1
    folder = "/sys/fs/cgroup/pids" if first else "/sys/fs/cgroup"
    script = f"mkdir {folder}/mine && echo broke out || :"
    assert shell(script).out == ""
    if first:
        weak = change("bind", attr_set=program.ATTR_NOSUID)
    else:
        weak = _writable_cgroup2
    assert shell(script, weaken=weak).out == "broke out\n"


def _writable_cgroup2(ops: Ops) -> Ops:
    return [
        program.Op("mount", (*op.values[:4], program.ATTR_NOSUID, *op.values[5:]))
        if op.values[:1] == ("cgroup2",)
        else op
        for op in ops
    ]


@pytest.mark.parametrize("number", [*range(3, 16), 100])
def test_a_leaked_descriptor_as_working_directory(number: int) -> None:
    """CVE-2024-21626. Defence: ``cwd`` (no magic links, and a look whether it is inside)."""
    with Box("ls", config={"working_dir": f"/proc/self/fd/{number}"}) as box:
        with pytest.raises(LaunchFailed) as failed:
            box.start()
        assert failed.value.operation == "cwd"
    with Box("sleep", "60") as box:
        box.start()
        with pytest.raises(LaunchFailed) as failed:
            box.exec("ls", working_dir=f"/proc/self/fd/{number}")
        assert failed.value.operation == "cwd"


def test_the_hosts_tree_is_gone(tmp_path: Path) -> None:
    """Defence: ``pivot``."""
    attack = ("/bin/busybox", "ls", "-d", str(tmp_path))
    assert run(*attack).out == ""
    assert run(*attack, weaken=drop("pivot", "cwd")).out == f"{tmp_path}\n"


def symlinked(name: str, target: str):
    """An image that has a symbolic link where a mount goes."""

    def image(root: Path) -> None:
        (root / name).rmdir()
        (root / name).symlink_to(target)
        (root / "evil").mkdir()
        (root / "evil" / "self").mkdir()

    return image


@pytest.mark.parametrize(("name", "kind"), [("proc", "proc"), ("sys", "sysfs"), ("dev", "tmpfs")])
def test_symbolic_links_where_the_kernels_file_systems_go(name: str, kind: str) -> None:
    """CVE-2019-19921, CVE-2023-27561, CVE-2026-41579. Defence: ``mount`` with no_symlinks."""
    attack = symlinked(name, "/evil")
    with Box("true", image=attack) as box:
        with pytest.raises(LaunchFailed) as failed:
            box.start()
        assert (failed.value.operation, failed.value.target) == ("mount", f"/{name}")
    # without the flag: what tells of the kernel is refused by the interpreter all the same, /dev
    # goes where the image wants it
    if kind != "tmpfs":
        with Box("true", image=attack, weaken=_followed) as box, pytest.raises(LaunchFailed):
            box.start()
    else:
        weak = lambda ops: drop("mask")(_followed(ops))  # noqa: E731
        assert " /evil tmpfs " in run("cat", "/proc/mounts", image=attack, weaken=weak).out


def _followed(ops: Ops) -> Ops:
    return [
        program.Op(
            "mount", (*op.values[:3], int(op.values[3]) & ~program.F_NO_SYMLINKS, *op.values[4:])
        )
        if op.name == "mount"
        else op
        for op in ops
    ]


def test_the_image_sends_devices_to_the_host(tmp_path: Path) -> None:
    """CVE-2026-41579: /dev -> a directory of the host. Defence: resolution beneath the root."""

    def image(root: Path) -> None:
        (root / "dev").rmdir()
        (root / "dev").symlink_to(f"/../../../../../../../..{tmp_path}")

    for weaken in (None, _followed):
        try:
            run("true", image=image, weaken=weaken)
        except LaunchFailed:
            pass
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("link", ["../../../../../../../..{}", "/../..{}", "{}"])
def test_a_mount_through_links_of_the_image_stays_inside(tmp_path: Path, link: str) -> None:
    """CVE-2021-30465, CVE-2019-18837, CVE-2024-45310. Defence: resolution beneath the root."""

    def image(root: Path) -> None:
        (root / "data").symlink_to(link.format(tmp_path))

    mounts = (SpecMount(destination="/data/made/here", source="/etc", options=("rbind", "ro")),)
    found = shell("ls -d /data/made/here/passwd", image=image, mounts=mounts)
    assert found.out == "/data/made/here/passwd\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["/proc/sys/kernel/core_pattern", "/etc/passwd", "/dev/zero"])
def test_dev_null_is_swapped_before_the_masks(target: str) -> None:
    """CVE-2025-31133. Defence: ``mask`` looks at what it binds.

    The race is won for the attacker: /dev/null is made a link right before the masks.
    """

    def swapped(ops: Ops) -> Ops:
        kept = [op for op in ops if op[:1] != ("mknod",) or op.values[0] != "/dev/null"]
        place = [op.name for op in kept].index("mask")
        return [*kept[:place], program.Op("symlink", (target, "/dev/null")), *kept[place:]]

    with Box("true", weaken=swapped) as box:
        with pytest.raises(LaunchFailed) as failed:
            box.start()
        assert failed.value.operation == "mask"


def test_a_mount_over_proc_does_not_catch_our_writes() -> None:
    """CVE-2025-52881. Defence: ``sysctl`` writes through a procfs of its own, not through /proc."""

    def covered(ops: Ops) -> Ops:
        place = [op.name for op in ops].index("sysctl")
        decoy = [
            program.Op("mount", ("tmpfs", "x", "/proc", 0, 0, 0, ())),
            program.Op("mkdir", ("/proc/sys/kernel", 0o755, 0, 0)),
        ]
        return [
            *ops[:place],
            *decoy,
            program.Op("sysctl", ("kernel.hostname", "real")),
            *ops[place:],
        ]

    assert (
        run("hostname", weaken=lambda ops: drop("hostname", "mask", "readonly")(covered(ops))).out
        == "real\n"
    )


def test_supplementary_groups_of_the_daemon() -> None:
    """CVE-2022-2989, CVE-2022-36109. Defence: ``groups``."""
    before = os.getgroups()
    os.setgroups([4242])
    try:
        assert "4242" not in run("id", user=USER).out
        assert "4242" in run("id", user=USER, weaken=drop("groups")).out
    finally:
        os.setgroups(before)


@pytest.mark.parametrize("family", [AF_ALG, AF_VSOCK])
def test_sockets_that_reach_the_kernel_or_the_host(family: int) -> None:
    """CVE-2026-31431. Defence: ``seccomp``."""
    attack = ("probe", "family", str(family), str(SOCK_SEQPACKET))
    assert run(*attack).out.startswith("1 ")
    # without it the kernel is asked: it makes the socket, or says that it has no such family
    assert run(*attack, weaken=drop("seccomp")).out.split()[0] in ("ok", "97", "94")
    assert run("probe", "family", "2", "1").out == "ok\n"


def test_mount_without_the_filter_and_the_capability() -> None:
    """Defence in depth: ``seccomp``, ``bounding`` and ``capabilities`` each refuse it alone."""
    attack = ("probe", "unshare", "0x10000000")
    assert run(*attack).out.startswith("1 ")
    assert run(*attack, weaken=drop("seccomp")).out == "ok\n"


def test_our_own_program_cannot_be_overwritten() -> None:
    """CVE-2019-5736. Defence: the init is bound read-only; the shim runs from a sealed memfd."""
    host = HostConfig(network_mode="none", init=True, cap_add=("SYS_PTRACE",))
    with Box("sleep", "60", host=host) as box:
        box.start()
        assert box.exec("probe", "overwrite", "/proc/1/exe").out.split()[0] in ("30", "26")
        assert box.exec("probe", "write", "/sbin/docker-init").out.split()[0] in ("30", "26")

    def writable(ops: Ops) -> Ops:
        return [
            program.Op("bind", (*op.values[:3], 0, *op.values[4:]))
            if op.name == "bind" and op.values[1] == "/sbin/docker-init"
            else op
            for op in ops
        ]

    # not opened for writing here: it is the real one; that it is no longer refused is enough
    found = shell("grep docker-init /proc/mounts", host=host, weaken=writable)
    assert " ro," not in found.out
    assert found.out


@pytest.mark.parametrize(
    "user",
    ["1000x", "-1", "4294967296", "2147483648", "1000:-1", "1000:5x", "0x0", "+1", " 1", "１"],
)
def test_users_that_are_no_users(user: str, tmp_path: Path) -> None:
    """CVE-2024-40635, CVE-2026-30892. Defence: strict numbers in ``lookup_user``."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    root = os.open(tmp_path, os.O_PATH)
    try:
        with pytest.raises(BoxwoodError):
            lookup_user({"user": user, "group_add": []}, [root])
    finally:
        os.close(root)


def test_strings_that_are_too_long_are_an_error_and_not_a_crash() -> None:
    """CVE-2021-43784. Defence: the bounds of the program's form."""
    for length in (5000, 70_000, 200_000):
        with (
            Box("true", config={"working_dir": "/" + "x" * length}) as box,
            pytest.raises((LaunchFailed, InvalidArgument)),
        ):
            box.start()
