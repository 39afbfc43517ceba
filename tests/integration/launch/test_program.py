"""The interpreter against attacks: pain.md part B, one test for each class that it touches.

Each attack that depends on one guard is also run on a program without that guard, where it must
bite: a test that cannot fail shows nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import threading
from pathlib import Path

import pytest

from boxwood_ext import launch
from boxwood_ext import program as bxp
from tests.integration.launch import programs
from tests.integration.launch.programs import container

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]


def outcome(tree: Path, program: bytes) -> tuple[int, str]:
    """Run a program on the tree: its exit status and what it wrote."""
    reading, writing = os.pipe()
    try:
        with programs.detached(tree) as root:
            _, pidfd, _ = launch.run_program(program, [root], [-1, writing, writing])
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    with os.fdopen(reading) as output:
        text = output.read()
    status = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
    assert status is not None
    return status.si_status, text


def failure(tree: Path, program: bytes) -> launch.LaunchFailed:
    with pytest.raises(launch.LaunchFailed) as caught:
        outcome(tree, program)
    return caught.value


def replaced(program: bytes, name: str, *items: programs.Item, first: bool = True) -> bytes:
    """The program with its operation of that name replaced."""
    ops: list[programs.Item] = []
    done = False
    for op in bxp.decode(program):
        if op.name == name and not (done and first):
            ops += items
            done = True
        else:
            ops.append((op.name, *op.values))
    return bxp.encode(ops)


def test_default_posture(tree: Path) -> None:
    script = (
        "grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status; ls /proc/self/fd | wc -l; "
        "pwd; ls /proc/acpi | wc -l; (echo 1 > /proc/sys/kernel/hostname) 2>/dev/null || echo ro"
    )
    code, text = outcome(tree, container(["sh", "-c", script], cwd="/new/folder"))
    lines = text.split("\n")
    assert code == 0
    assert [line.split()[1] for line in lines[:5]] == [
        "0" * 16, "00000000a80425fb", "00000000a80425fb", "00000000a80425fb", "0" * 16,
    ]  # fmt: skip
    assert lines[5:] == ["4", "/new/folder", "0", "ro", ""]  # 0..2 and ls's own


def test_nothing_of_it_shows_on_the_host(tree: Path) -> None:
    reading, writing = os.pipe()
    with programs.detached(tree) as root:
        # While it runs: its root is attached in its own namespace only.
        _, pidfd, _ = launch.run_program(container(["cat"]), [root], [reading, writing, writing])
    inside = Path(f"/proc/{_pid_of(pidfd)}/mountinfo").read_text()
    assert str(tree) in inside
    assert str(tree) not in Path("/proc/self/mountinfo").read_text()
    os.close(writing)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
    os.close(reading)


def _pid_of(pidfd: int) -> int:
    text = Path(f"/proc/self/fdinfo/{pidfd}").read_text()
    return int(text.split("Pid:")[1].split()[0])


def test_programs_leave_nothing_open(tree: Path) -> None:
    outcome(tree, container(["true"]))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        outcome(tree, container(["true"]))
        failure(tree, container(["nope"]))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_user_without_capabilities(tree: Path) -> None:
    script = "id -u; grep CapEff /proc/self/status; echo again > /dev/stdout"
    _, text = outcome(tree, container(["sh", "-c", script], uid=1000))
    assert text == "1000\nCapEff:\t0000000000000000\nagain\n"


def test_descriptors_of_the_caller_do_not_leak(tree: Path) -> None:
    # CVE-2024-21626: a descriptor that is not even close-on-exec.
    leaked = os.open("/", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    try:
        _, text = outcome(tree, container(["sh", "-c", "ls /proc/self/fd"]))
        # Shown to bite: the same without close_range is what exec would leave open.
        assert os.get_inheritable(leaked)
    finally:
        os.close(leaked)
    assert text.split() == ["0", "1", "2", "3"]


@pytest.mark.parametrize("number", [3, 5, 8, 13])
def test_working_directory_through_a_descriptor(tree: Path, number: int) -> None:
    # CVE-2024-21626
    failed = failure(tree, container(["true"], cwd=f"/proc/self/fd/{number}"))
    assert failed.operation == "cwd"
    assert failed.errno in (errno.ELOOP, errno.ENOENT, errno.EINVAL)


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_kernel_file_systems_are_not_mounted_behind_links(own_tree: Path, name: str) -> None:
    # CVE-2019-19921, CVE-2023-27561
    (own_tree / name).rmdir()
    (own_tree / name).symlink_to("tmp")
    failed = failure(own_tree, container(["true"]))
    assert (failed.operation, failed.target, failed.errno) == ("mount", f"/{name}", errno.ELOOP)


def test_mask_with_a_false_null_device(own_tree: Path) -> None:
    # CVE-2025-31133: the image's own /dev/null is a link to something dangerous.
    program = container(["true"], extra=[("mask", "/etc/secret")])
    (own_tree / "etc/secret").write_text("x")
    link = ("symlink", "/proc/sys/kernel/core_pattern", "/dev/null")
    attacked = replaced(program, "mknod", link)
    failed = failure(own_tree, attacked)
    assert failed.operation == "mask"
    assert failed.errno in (errno.ELOOP, errno.ENODEV)
    other = replaced(program, "mknod", ("mknod", "/dev/null", 0o20666, 1, 5, 0, 0))
    assert failure(own_tree, other).errno == errno.ENODEV


def test_console_with_a_false_ptmx(own_tree: Path) -> None:
    # CVE-2025-52565: /dev/pts is the image's, its ptmx a link out.
    program = container(["true"], tty=True)
    ops: list[programs.Item] = [
        (op.name, *op.values)
        for op in bxp.decode(program)
        if not (op.name == "mount" and op.values[0] == "devpts")
    ]
    at = next(i for i, op in enumerate(ops) if op[0] == "console")
    ops[at:at] = [("mkdir", "/dev/pts", 0o755, 0, 0), ("symlink", "/dev/tty", "/dev/pts/ptmx")]
    failed = failure(own_tree, bxp.encode(ops))
    assert (failed.operation, failed.errno) == ("console", errno.ELOOP)
    ops[at + 1] = ("mknod", "/dev/pts/ptmx", 0o20666, 5, 2, 0, 0)
    assert failure(own_tree, bxp.encode(ops)).errno in (errno.ENODEV, errno.ENOENT)


def test_links_in_the_image_never_lead_out(own_tree: Path, tmp_path: Path) -> None:
    # CVE-2026-41579: what is made through an image's links is made inside.
    outside = tmp_path / "outside"
    outside.mkdir()
    (own_tree / "evil").symlink_to(outside)
    (own_tree / "up").symlink_to("../../../../../.." + str(outside))
    source = tmp_path / "source"
    source.write_text("bound")
    extra = [
        ("mkdir", "/evil/folder", 0o755, 0, 0),
        ("mknod", "/up/node", 0o10644, 0, 0, 0, 0),
        ("symlink", "x", "/evil/link"),
        ("bind", str(source), "/up/file", 0, 0, 0, bxp.MS_PRIVATE),
        ("mount", "tmpfs", "tmpfs", "/evil/mounted", 0, 0, bxp.MS_PRIVATE, []),
    ]
    code, text = outcome(own_tree, container(["sh", "-c", "cat /up/file"], extra=extra))
    assert (code, text) == (0, "bound")
    assert not list(outside.iterdir())
    inside = own_tree / str(outside).lstrip("/")
    assert {path.name for path in inside.iterdir()} == {"folder", "node", "link", "file", "mounted"}


def test_racing_links_in_a_shared_volume(own_tree: Path, tmp_path: Path) -> None:
    # CVE-2021-30465, CVE-2024-45310: a second container swaps the destination meanwhile.
    volume, outside = tmp_path / "volume", tmp_path / "outside"
    (volume / "real").mkdir(parents=True)
    outside.mkdir()
    stop = threading.Event()

    (volume / "a").mkdir()
    (volume / "b").symlink_to(outside)
    exchange = ctypes.CDLL(None, use_errno=True).renameat2
    names = (-100, bytes(volume / "a"), -100, bytes(volume / "b"), 2)  # RENAME_EXCHANGE

    def swap() -> None:
        while not stop.is_set():
            assert exchange(*names) == 0

    racer = threading.Thread(target=swap)
    racer.start()
    extra = [
        ("bind", str(volume), "/vol", 0, 0, 0, bxp.MS_PRIVATE),
        ("bind", "/dev/null", "/vol/a/file", 0, 0, 0, bxp.MS_PRIVATE),
        ("mkdir", "/vol/a/made", 0o755, 0, 0),
    ]
    program = container(["true"], extra=extra)
    try:
        for _ in range(60):
            # Refused for what it met is as good as done inside.
            with contextlib.suppress(launch.LaunchFailed):
                outcome(own_tree, program)
    finally:
        stop.set()
        racer.join()
    assert not list(outside.iterdir())


def test_sealed_program() -> None:
    from boxwood.execution.shim import executable

    fd = executable()
    with pytest.raises(OSError) as caught:
        os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_TRUNC)
    assert caught.value.errno in (errno.EPERM, errno.ETXTBSY)
    with pytest.raises(PermissionError):
        os.pwrite(fd, b"x", 0)


def test_read_only_binds_reach_submounts(own_tree: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    flags = bxp.F_RECURSIVE | bxp.F_ATTR_RECURSIVE
    early = [("source", 9, str(source), bxp.F_RECURSIVE)]
    extra = [
        ("bind", str(source), "/shallow", bxp.F_RECURSIVE, bxp.ATTR_RDONLY, 0, bxp.MS_PRIVATE),
        ("bind_fd", 9, "/deep", flags, bxp.ATTR_RDONLY, 0, bxp.MS_PRIVATE),
    ]
    script = "for d in shallow deep; do touch /$d/sub/x 2>/dev/null && echo $d; done; true"
    _, text = outcome(own_tree, container(["sh", "-c", script], early=early, extra=extra))
    assert text == ""


def test_read_only_root(own_tree: Path) -> None:
    extra = [("attr", "/", 0, bxp.ATTR_RDONLY, 0, 0)]
    script = "touch /x 2>/dev/null || echo ro; touch /dev/shm/x && echo rw"
    _, text = outcome(own_tree, container(["sh", "-c", script], extra=extra))
    assert text == "ro\nrw\n"


def test_tmpfs_takes_the_mode_of_what_it_covers(own_tree: Path) -> None:
    (own_tree / "run").mkdir(mode=0o750)
    mounts = [
        ("mount", "tmpfs", "tmpfs", path, 0, 0, bxp.MS_PRIVATE, []) for path in ("/run", "/tmp")
    ]
    _, text = outcome(own_tree, container(["stat", "-c", "%a", "/run", "/tmp"], extra=mounts))
    assert text == "750\n1777\n"


def test_seccomp_filters(tree: Path) -> None:
    import struct

    # Load the number; mkdir(83) fails with EPERM; everything else passes.
    rules = [(0x20, 0, 0, 0), (0x15, 0, 1, 83), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7FFF0000)]
    code = b"".join(struct.pack("<HBBI", *rule) for rule in rules)
    program = container(["sh", "-c", "mkdir /tmp/x; grep Seccomp: /proc/self/status"])
    guarded = replaced(program, "exec", ("no_new_privileges",), ("seccomp", code, 0), ("exec",))
    _, text = outcome(tree, guarded)
    assert text.endswith("Seccomp:\t2\n")


def test_dangling_links_are_followed_inside(own_tree: Path, tmp_path: Path) -> None:
    (own_tree / "var").mkdir()
    (own_tree / "var/run").symlink_to("/run")
    source = tmp_path / "docker.sock"
    source.write_text("sock")
    extra = [("bind", str(source), "/var/run/docker.sock", 0, 0, 0, bxp.MS_PRIVATE)]
    _, text = outcome(own_tree, container(["cat", "/run/docker.sock"], extra=extra))
    assert text == "sock"


@pytest.mark.parametrize(("item", "number"), [
    (("bind", "/no/such/source", "/x", 0, 0, 0, 0), errno.ENOENT),
    (("mount", "nosuchfs", "x", "/x", 0, 0, 0, []), errno.ENODEV),
    (("mount", "tmpfs", "x", "/x", 0, 0, 0, ["size=banana"]), errno.EINVAL),
    (("sysctl", "no.such.name", "1"), errno.ENOENT),
    (("sysctl", "../1/oom_score_adj", "1"), errno.EINVAL),
    (("rlimit", 99, 1, 1), errno.EINVAL),
    (("bind_fd", 77, "/x", 0, 0, 0, 0), errno.EBADF),
    (("uid", 4294967295, 0), errno.EINVAL),
    (("gid", 4294967296, ), errno.EINVAL),
    (("mkdir", "/bin/busybox/x", 0o755, 0, 0), errno.ENOTDIR),
])  # fmt: skip
def test_failures_name_operation_and_errno(tree: Path, item: programs.Item, number: int) -> None:
    failed = failure(tree, container(["true"], extra=[item]))
    assert (failed.operation, failed.errno) == (item[0], number)


def test_root_without_propagation_is_refused(tree: Path) -> None:
    program = replaced(container(["true"]), "propagation")
    assert failure(tree, program).operation == "root"


def test_user_namespace(tree: Path) -> None:
    program = bxp.encode([
        ("namespaces", bxp.CLONE_NEWUSER | bxp.CLONE_NEWPID),
        ("uid_map", "0 100000 1000\n"), ("gid_map", "0 100000 1000\n"),
        ("stdio", 0), ("gid", 0), ("uid", 0, 0),
        ("env", ["PATH=/bin:/usr/bin"]), ("command", ["cat", "/proc/self/uid_map"]), ("exec",),
    ])  # fmt: skip
    code, text = outcome(tree, program)
    assert (code, text.split()) == (0, ["0", "100000", "1000"])


@pytest.mark.parametrize(("guard", "script", "guarded", "open_"), [
    ("readonly", "echo x > /proc/sys/kernel/hostname && cat /proc/sys/kernel/hostname", "", "x\n"),
    ("mask", "cat /proc/timer_list /proc/keys | head -c 1 | wc -c", "0\n", "1\n"),
    ("bounding", "grep -c 00000000a80425fb /proc/self/status", "3\n", "0\n"),
    ("hostname", "cat /proc/sys/kernel/hostname", "boxwood-test\n", None),
])  # fmt: skip
def test_each_guard_is_what_guards(
    tree: Path, guard: str, script: str, guarded: str, open_: str | None
) -> None:
    """Without the operation the attack bites: so with it, it is the operation that stops it."""
    program = container(["sh", "-c", f"({script}) 2>/dev/null; true"])
    weakened = replaced(program, guard, first=False)
    assert outcome(tree, program)[1] == guarded
    text = outcome(tree, weakened)[1]
    assert text != guarded
    assert open_ is None or text == open_
