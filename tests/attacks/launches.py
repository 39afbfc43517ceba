"""Attacks on the launch: each answers whether it has succeeded on the ground that it is given.

`@attack(bites=..., holds=...)` names the defence. Each entry of ``bites`` is a build without these
guards, on which the attack must succeed; each of ``holds`` one that lacks a guard and stands all
the same, because another lock is behind it.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import socket
import sys
import threading
from collections.abc import Callable
from typing import NamedTuple

from boxwood.errors import BoxwoodError
from boxwood.execution.shim import Client, Shim
from boxwood_ext import program as bxp
from boxwood_ext import protocol
from tests.attacks.ground import SECRET, Ground, edited, execute, replaced
from tests.integration.launch import programs
from tests.integration.launch.programs import container

Guards = tuple[str, ...]
PRIVATE = bxp.MS_PRIVATE
IN_ROOT = "paths.c: RESOLVE_IN_ROOT"


class Attack(NamedTuple):
    """One attack, the builds it succeeds on, and the builds that stand without a guard."""

    run: Callable[[Ground], bool]
    bites: tuple[Guards, ...]
    holds: tuple[Guards, ...]


ATTACKS: dict[str, Attack] = {}


def attack(
    bites: tuple[Guards, ...], holds: tuple[Guards, ...] = ()
) -> Callable[[Callable[[Ground], bool]], Callable[[Ground], bool]]:
    """Enter the function in ATTACKS."""

    def enter(run: Callable[[Ground], bool]) -> Callable[[Ground], bool]:
        ATTACKS[run.__name__] = Attack(run, bites, holds)
        return run

    return enter


def bare(*items: programs.Item) -> bytes:
    """A program of these operations alone on the attached root, which then fails to run."""
    return bxp.encode([
        ("namespaces", programs.NAMESPACES),
        ("propagation", bxp.MS_REC | bxp.MS_SLAVE),
        ("root", 0),
        *items,
        ("command", ["/nothing/there"]),
        ("exec",),
    ])  # fmt: skip


def script(text: str, **more: object) -> bytes:
    """The default container that runs this shell text."""
    return container(["sh", "-c", text], **more)  # type: ignore[arg-type]


# Paths


@attack(bites=((IN_ROOT,),))
def a_link_of_the_image_leads_out(ground: Ground) -> bool:
    """CVE-2026-41579, CVE-2025-24965, CVE-2019-18837: what is made through it is made inside.

    An absolute link: one that climbs with dots ends at the root whatever is asked of openat2, for
    the root lies over "/" when the operations run.
    """
    (ground.tree / "evil").symlink_to(ground.outside)
    # Without a slash in front: the weakened build would take that for the host's own root.
    ground.launch(
        bare(
            ("mkdir", "evil/folder", 0o755, 0, 0),
            ("mknod", "evil/node", 0o10644, 0, 0, 0, 0),
            ("symlink", "x", "evil/link"),
        )
    )
    return {"folder", "node", "link"} <= set(os.listdir(ground.outside))


@attack(bites=(("paths.c: made by descriptor",),))
def a_racing_link_in_a_volume(ground: Ground) -> bool:
    """CVE-2021-30465, CVE-2024-45310: a directory is exchanged for a link between look and use."""
    volume = ground.tree / "vol"
    (volume / "a").mkdir(parents=True)
    (volume / "b").symlink_to(ground.outside)
    # The link leads somewhere inside, too, so that a launch does not end at the first look at it.
    (ground.tree / str(ground.outside).lstrip("/")).mkdir(parents=True)
    exchange = ctypes.CDLL(None, use_errno=True).renameat2
    names = (-100, bytes(volume / "a"), -100, bytes(volume / "b"), 2)  # RENAME_EXCHANGE
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            exchange(*names)

    racer = threading.Thread(target=swap)
    racer.start()
    try:
        for run in range(8):
            made = [("mkdir", f"/vol/a/{run}-{i}", 0o755, 0, 0) for i in range(800)]
            ground.launch(bare(*made))
            if len(os.listdir(ground.outside)) > 1:
                return True
    finally:
        stop.set()
        racer.join()
    return False


@attack(bites=(("mounts.c: source beneath its base",),))
def a_part_of_a_volume_is_a_link(ground: Ground) -> bool:
    """CVE-2022-23648's class: a path in a volume that the container made a link of the host's."""
    volume = ground.folder / "volume"
    volume.mkdir()
    (volume / "part").symlink_to(ground.outside)
    got = ground.launch(
        script(
            "cat /vol/marker",
            early=[("source_beneath", 9, str(volume), "part", 0)],
            extra=[("bind_fd", 9, "/vol", 0, 0, 0, PRIVATE)],
        )
    )
    return SECRET in got.out


@attack(bites=(("paths.c: bound of a path",),))
def a_path_longer_than_the_buffer(ground: Ground) -> bool:
    """CVE-2021-43784's class: a length that is believed. It must be an error, not a crash."""
    got = ground.launch(bare(("mkdir", "/" + "x/" * 40_000, 0o755, 0, 0)))
    assert got.failed is not None
    return (got.failed.operation, got.failed.errno) != ("mkdir", errno.ENAMETOOLONG)


# Descriptors and /proc


def _working_directories(ground: Ground) -> bool:
    for number in range(3, 24):
        code = replaced(
            script("ls -a; cat marker"), "cwd", ("cwd", f"/proc/self/fd/{number}", 0, 0, 0)
        )
        if SECRET in ground.launch(code).out:
            return True
    return False


@attack(
    bites=(("payload.c: cwd beneath the root", "payload.c: cwd is inside"),),
    holds=(("payload.c: cwd beneath the root",), ("payload.c: cwd is inside",)),
)
def a_leaked_directory_as_working_directory(ground: Ground) -> bool:
    """CVE-2024-21626: the shim has a folder of the host open while the container is made."""
    return _working_directories(ground)


@attack(
    bites=(("message.c: MSG_CMSG_CLOEXEC", "payload.c: close_range"),),
    holds=(("message.c: MSG_CMSG_CLOEXEC",), ("payload.c: close_range",)),
)
def a_leaked_descriptor_in_the_payload(ground: Ground) -> bool:
    """CVE-2024-21626: what the engine handed to the launch, still open in the payload."""
    host = os.open(ground.outside, os.O_RDONLY)
    try:
        got = ground.launch(script("cat /proc/self/fd/*/marker"), host)
    finally:
        os.close(host)
    return SECRET in got.out


@attack(
    bites=(("launch.c: not dumpable", "launch.c: not dumpable before the clone"),),
    holds=(("launch.c: not dumpable",), ("launch.c: not dumpable before the clone",)),
)
def the_container_looks_into_an_exec_that_begins(ground: Ground) -> bool:
    """CVE-2019-5736, CVE-2024-21626: /proc/PID/fd of our own copy, seen from inside.

    The launch of the exec is held at a full pipe after it has given its capabilities up: before,
    the kernel itself forbids the look.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)

    def hang(items: list[programs.Item]) -> None:
        at = [item[0] for item in items].index("capabilities")
        items.insert(at + 1, ("cgroup_tasks", 1))

    seen = ""

    async def during(shim: Shim) -> None:
        nonlocal seen
        held = asyncio.create_task(
            execute(shim, "held", edited(programs.joining(["true"]), hang), writing)
        )
        await ground.writing()
        look = "for p in /proc/[0-9]*; do cat $p/fd/*/marker; done 2>/dev/null"
        seen = await execute(shim, "look", programs.joining(["sh", "-c", look]))
        os.set_blocking(reading, False)
        while not held.done():
            try:
                os.read(reading, 1 << 16)
            except BlockingIOError:
                pass
            await asyncio.sleep(0.02)
        await held

    try:
        ground.launch(container(["sleep", "100"]), during=during)
    finally:
        os.close(reading)
        os.close(writing)
    return SECRET in seen


@attack(
    bites=(("kernel.c: private procfs", "kernel.c: RESOLVE_NO_XDEV"),),
    holds=(("kernel.c: private procfs",), ("kernel.c: RESOLVE_NO_XDEV",)),
)
def a_file_of_proc_over_another(ground: Ground) -> bool:
    """CVE-2025-52881, CVE-2019-16884: our own write is redirected to another file of procfs."""
    decoy = ("bind", "/proc/sys/kernel/domainname", "/proc/sys/kernel/hostname", 0, 0, 0, PRIVATE)
    code = script("cat /proc/sys/kernel/domainname", extra=[decoy])
    code = replaced(code, "sysctl", ("sysctl", "kernel.hostname", "redirected"))
    return ground.launch(code).out == "redirected\n"


@attack(
    bites=(
        ("kernel.c: private procfs", "kernel.c: RESOLVE_NO_XDEV", "kernel.c: PROC_SUPER_MAGIC"),
    ),
    holds=(("kernel.c: private procfs", "kernel.c: RESOLVE_NO_XDEV"),),
)
def a_file_of_a_volume_over_proc(ground: Ground) -> bool:
    """CVE-2023-28642, CVE-2019-19921: what we set is caught by a file of the container's."""
    catch = ground.outside / "catch"
    catch.touch()
    decoy = ("bind", str(catch), "/proc/sys/kernel/hostname", 0, 0, 0, PRIVATE)
    code = replaced(script("true", extra=[decoy]), "sysctl", ("sysctl", "kernel.hostname", "x"))
    ground.launch(code)
    return catch.read_text() == "x"


@attack(bites=(("kernel.c: dots in a sysctl",),))
def a_sysctl_that_climbs(ground: Ground) -> bool:
    """CVE-2025-52881's class: a name that leaves sys/ writes elsewhere in procfs."""
    code = replaced(
        script("cat /proc/1/coredump_filter"), "sysctl", ("sysctl", "../1/coredump_filter", "0x7f")
    )
    return ground.launch(code).out == "0000007f\n"


@attack(bites=(("mounts.c: no links under proc and sysfs",),))
def a_link_where_proc_goes(ground: Ground) -> bool:
    """CVE-2019-19921, CVE-2023-27561: /proc is a link, so what guards it guards another place."""
    (ground.tree / "proc").rmdir()
    (ground.tree / "proc").symlink_to("/evil")
    (ground.tree / "evil").mkdir()
    return "proc /evil proc" in ground.launch(script("cat /evil/mounts")).out


# Devices


def _masked(tree_file: str, null: programs.Item) -> bytes:
    code = script(
        "echo owned > /etc/secret; head -c 1 /etc/secret | wc -c; cat /proc/sys/kernel/hostname",
        extra=[("mask", tree_file)],
    )
    return replaced(code, "mknod", null)


@attack(bites=(("nodes.c: the null device by number",),))
def another_device_for_dev_null(ground: Ground) -> bool:
    """CVE-2025-31133: what covers a masked file is not the null device."""
    (ground.tree / "etc/secret").write_text("x")
    zero = ("mknod", "/dev/null", 0o20666, 1, 5, 0, 0)
    return ground.launch(_masked("/etc/secret", zero), stdin=True).out.startswith("1\n")


@attack(
    bites=(("nodes.c: the null device by number", "nodes.c: the null device without links"),),
    holds=(("nodes.c: the null device without links",), ("nodes.c: the null device by number",)),
)
def a_link_for_dev_null(ground: Ground) -> bool:
    """CVE-2025-31133: /dev/null is a link to a file of /proc, which the mask makes writable."""
    (ground.tree / "etc/secret").write_text("x")
    link = ("symlink", "/proc/sys/kernel/hostname", "/dev/null")
    return "owned" in ground.launch(_masked("/etc/secret", link), stdin=True).out


@attack(bites=(("terminal.c: ptmx without links",),))
def a_link_for_ptmx(ground: Ground) -> bool:
    """CVE-2025-52565: the terminal comes from another devpts, here the host's."""

    def change(items: list[programs.Item]) -> None:
        at = next(i for i, item in enumerate(items) if item[:2] == ("mount", "devpts"))
        items[at : at + 1] = [
            ("mkdir", "/dev/pts", 0o755, 0, 0),
            ("bind", "/dev/pts", "/dev/other", 0, 0, 0, PRIVATE),
            ("symlink", "../other/ptmx", "/dev/pts/ptmx"),
        ]

    code = edited(container(["stat", "-c", "%d", "/dev/console"], tty=True), change)
    return ground.launch(code, tty=True).out.strip() == str(os.stat("/dev/pts").st_dev)


@attack(bites=(("terminal.c: console without links",),))
def a_link_for_the_console(ground: Ground) -> bool:
    """CVE-2025-52565: the terminal is bound over a file of /proc instead of /dev/console."""
    link = ("symlink", "/proc/sys/kernel/hostname", "/dev/console")
    code = container(["cat", "/proc/mounts"], tty=True, extra=[link])
    return "devpts /proc/sys/kernel/hostname " in ground.launch(code, tty=True).out


# Who the process is


@attack(bites=(("posture.c: setgroups",),))
def the_engines_own_groups(ground: Ground) -> bool:
    """CVE-2022-36109, CVE-2022-2989, CVE-2023-25173: supplementary groups that were left."""
    before = os.getgroups()
    os.setgroups([*before, 4242])
    try:
        return "4242" in ground.launch(container(["id", "-G"], uid=1000)).out
    finally:
        os.setgroups(before)


@attack(bites=(("posture.c: bound of an id",),))
def ids_that_wrap_to_root(ground: Ground) -> bool:
    """CVE-2024-40635: 2^32 is 0 again, and 2^32 - 1 means "leave it" to the system call."""
    for number in (2**32, 2**32 - 1):
        code = replaced(script("id -u"), "uid", ("uid", number, 1))
        if ground.launch(code).out == "0\n":
            return True
    return False


# The shim's socket and its execs

STRANGER = """
import os, socket, sys
os.setgid(65534); os.setuid(65534)
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])
sys.exit(42 if s.recv(100) else 0)
"""


@attack(bites=(("message.c: SO_PEERCRED",),))
def a_stranger_talks_to_the_shim(ground: Ground) -> bool:
    """CVE-2020-15257: another user reaches the shim's socket, whatever its mode is."""
    answered = False

    async def during(shim: Shim) -> None:
        nonlocal answered
        path = ground.run / "shim.sock"
        path.chmod(0o666)
        for parent in path.parents:
            if ground.folder == parent or ground.folder in parent.parents:
                parent.chmod(0o711)
        # By a descriptor: the folders above are closed to a stranger.
        folder = os.open(ground.run, os.O_PATH)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", STRANGER, f"/proc/self/fd/{folder}/shim.sock",
                pass_fds=(folder,),
            )  # fmt: skip
            answered = await process.wait() == 42
        finally:
            os.close(folder)

    ground.launch(container(["sleep", "100"]), during=during)
    return answered


@attack(bites=(("shim.h: EXEC_DRAIN",),))
def a_child_left_behind_holds_the_output(ground: Ground) -> bool:
    """CVE-2022-23471, CVE-2022-31030, CVE-2025-64329: an exec whose pipes somebody keeps."""
    held = False

    async def during(shim: Shim) -> None:
        nonlocal held
        code = programs.joining(["sh", "-c", "echo x; sleep 100 &"])
        try:
            async with asyncio.timeout(3):
                assert await execute(shim, "e", code) == "x\n"
                await shim.exec_wait("e")
        except TimeoutError:
            held = True

    ground.launch(container(["sleep", "100"]), during=during)
    return held


@attack(bites=(("shim.c: an exec that is over is freed",),))
def execs_use_the_shim_up(ground: Ground) -> bool:
    """CVE-2022-31030, CVE-2026-53495: what an exec cost stays after it, until none is possible."""
    used_up = False

    async def during(shim: Shim) -> None:
        nonlocal used_up
        code = programs.joining(["true"])
        try:
            for number in range(protocol.MAX_TASKS + 8):
                await execute(shim, f"e{number}", code)
                await shim.exec_wait(f"e{number}")
        except BoxwoodError:
            used_up = True

    ground.launch(container(["sleep", "100"]), during=during)
    return used_up


@attack(bites=(("shim_client.c: a client that left is closed",),))
def attachments_use_the_shim_up(ground: Ground) -> bool:
    """CVE-2022-23471, CVE-2025-64329: clients that attach and leave."""
    used_up = False

    async def during(shim: Shim) -> None:
        nonlocal used_up
        for _ in range(protocol.MAX_CLIENTS + 8):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                try:
                    await shim.attach(Client(fd=theirs.fileno()))
                except BoxwoodError:
                    used_up = True
                    return
                theirs.detach()

    ground.launch(container(["sleep", "100"]), during=during)
    return used_up
