"""The shim with real containers: streams, logs, execs, ends."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import resource
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from boxwood.errors import AlreadyExists, LaunchError, NotFound, Unavailable
from boxwood.execution.shim import Client, Shim, executable, read_exit_file, shim_path
from boxwood_ext import protocol
from tests.integration.launch.programs import container
from tests.support.needs import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

MANY = 20 << 20


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """Docker's multiplexed stream, taken apart."""
    found = []
    while data:
        size = int.from_bytes(data[4:8], "big")
        assert data[1:4] == b"\0\0\0"
        found.append((data[0], data[8 : 8 + size]))
        data = data[8 + size :]
    return found


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(("command", "code"), [
    ("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -9 $$; sleep 9", 137),
])  # fmt: skip
async def test_exit_status_is_on_disk_and_told(box: Any, command: str, code: int) -> None:
    made = box()
    # Process 1 is immune to its own SIGKILL, its child is not.
    program = container(["sh", "-c", f"(sh -c '{command}'); exit $?"])
    shim = await made.start(program)
    status = await shim.wait()
    assert status.code == code
    assert read_exit_file(made.config.exit_file) == status
    assert abs(status.finished_at - time.time_ns()) < 10e9


async def test_killed_by_a_signal(box: Any) -> None:
    made = box()
    shim = await made.start(container(["sleep", "100"]))
    await shim.signal(signal.SIGKILL)
    status = await shim.wait()
    assert (status.code, status.signal) == (137, 9)
    with pytest.raises(NotFound):
        await shim.signal(signal.SIGTERM)


@pytest.mark.parametrize(("argv", "errno_name"), [
    (["nope"], "ENOENT"), (["/nope"], "ENOENT"), (["/tmp"], "EISDIR"), (["/etc/plain"], "EACCES"),
    (["/etc/script"], "ENOEXEC"),
])  # fmt: skip
async def test_a_command_that_cannot_be_executed(
    box: Any, own_tree: Path, argv: list[str], errno_name: str
) -> None:
    import errno

    (own_tree / "etc/plain").write_text("no")
    (own_tree / "etc/script").write_text("no interpreter")
    (own_tree / "etc/script").chmod(0o755)
    made = box(tree=own_tree)
    with pytest.raises(LaunchError) as caught:
        await made.start(container(argv))
    assert caught.value.operation == "exec"
    assert caught.value.target == argv[0]
    assert caught.value.errno == getattr(errno, errno_name)


async def test_failed_start_leaves_the_client_to_the_caller(box: Any, wire: Any) -> None:
    made, line = box(), wire()
    with pytest.raises(LaunchError):
        await made.start(container(["nope"]), line.client)
    await made.end()
    os.write(line.client.fd, b"why")
    os.close(line.client.fd)
    assert await line.rest() == b"why"


async def test_output_is_framed_and_logged(box: Any, wire: Any) -> None:
    made, framed, raw = box(), wire(framed=True), wire(stderr=False)
    script = "echo out; sleep 0.05; echo err >&2; sleep 0.05; printf part"
    shim = await made.start(container(["sh", "-c", script]), framed.client, raw.client)
    await shim.wait()
    assert frames(await framed.rest()) == [(1, b"out\n"), (2, b"err\n"), (1, b"part")]
    assert await raw.rest() == b"out\npart"
    log = entries(made.data / "log")
    assert [(entry["log"], entry["stream"]) for entry in log] == [
        ("out\n", "stdout"), ("err\n", "stderr"), ("part", "stdout"),
    ]  # fmt: skip
    assert stat.S_IMODE((made.data / "log").stat().st_mode) & 0o137 == 0
    assert all(entry["time"].endswith("Z") for entry in log)


async def test_log_escapes_as_docker_does(box: Any, tmp_path: Path) -> None:
    made = box(log_attributes={"label": "x"})
    script = r"""printf 'a\tb<>&"\\\001\377\342\202\254\342\200\250\r\n' """
    shim = await made.start(container(["sh", "-c", script]))
    await shim.wait()
    line = (made.data / "log").read_text()
    expected = (r'{"log":"a\u0009b\u003c\u003e\u0026\"\\\u0001\ufffd' + "€"
                + r'\u2028\r\n","stream":"stdout","attrs":{"label":"x"},"time":"')  # fmt: skip
    assert line.startswith(expected)


async def test_long_lines_are_cut_at_16_kib(box: Any) -> None:
    made = box()
    script = "dd if=/dev/zero bs=40000 count=1 2>/dev/null; echo; echo next"
    shim = await made.start(container(["sh", "-c", script]))
    await shim.wait()
    sizes = [len(entry["log"]) for entry in entries(made.data / "log")]
    assert sizes == [16384, 16384, 40000 - 2 * 16384 + 1, 5]


async def test_log_rotates(box: Any) -> None:
    made = box(log_max_size=10_000, log_max_files=3)
    shim = await made.start(container(["seq", "100000", "101999"]))
    await shim.wait()
    names = sorted(path.name for path in made.data.iterdir() if path.name.startswith("log"))
    assert names == ["log", "log.1", "log.2"]
    for name in names[1:]:
        assert 10_000 <= (made.data / name).stat().st_size < 10_200
    found = [entry["log"] for name in reversed(names) for entry in entries(made.data / name)]
    assert found == [f"{number}\n" for number in range(102000 - len(found), 102000)]


async def test_a_log_that_cannot_rotate_grows_on(box: Any) -> None:
    """The new file cannot be made: nothing is lost, and it is tried again."""
    made = box(log_max_size=1000, log_max_files=2, open_stdin=True)
    blocked = made.data / "log.new"
    blocked.mkdir()
    ours, theirs = socket.socketpair()
    with ours:
        await made.start(container(["cat"]), Client(fd=theirs.detach(), stdin=True))
        ours.sendall(b"".join(b"%d\n" % number for number in range(100)))
        until(lambda: len(entries(made.data / "log")) == 100, "all is in one file")
        assert not (made.data / "log.1").exists()
        blocked.rmdir()
        ours.sendall(b"100\n")
        until((made.data / "log.1").exists, "it is rotated")
        until(lambda: bool(entries(made.data / "log")), "the log goes on")
    found = [entry["log"] for name in ("log.1", "log") for entry in entries(made.data / name)]
    assert found == [f"{number}\n" for number in range(101)]
    assert not blocked.exists()


async def test_twenty_megabytes_through_both_ways(box: Any, wire: Any) -> None:
    made = box(open_stdin=True, stdin_once=True, log_path=None)
    line = wire(stdin=True)
    shim = await made.start(container(["cat"]), line.client)
    data = os.urandom(1 << 20) * 20
    sending = asyncio.create_task(line.send(data))
    seen, digest = 0, hashlib.sha256()
    while seen < MANY:
        piece = await line.receive(1 << 20)
        seen += len(piece)
        digest.update(piece)
    await sending
    line.socket.shutdown(1)
    assert await line.rest() == b""
    assert digest.digest() == hashlib.sha256(data).digest()
    assert (await shim.wait()).code == 0


async def test_half_close_ends_the_input_and_not_the_output(box: Any, wire: Any) -> None:
    made = box(open_stdin=True, stdin_once=True)
    line = wire(stdin=True, preread=b"first ")
    await made.start(container(["sh", "-c", "cat; echo end"]), line.client)
    await line.send(b"second ")
    line.socket.shutdown(1)
    assert await line.rest() == b"first second end\n"


async def test_input_stays_open_without_stdin_once(box: Any, wire: Any) -> None:
    made = box(open_stdin=True)
    one, two = wire(stdin=True, stdout=False, stderr=False), wire(stdin=True)
    shim = await made.start(container(["cat"]), one.client)
    await one.send(b"one\n")
    one.socket.shutdown(1)
    await shim.attach(two.client)
    await two.send(b"two\n")
    assert (await two.until(b"two\n")).endswith(b"two\n")
    assert shim.running


async def test_no_input_is_the_null_device(box: Any, wire: Any) -> None:
    made, line = box(), wire()
    await made.start(container(["sh", "-c", "cat; readlink /proc/self/fd/0"]), line.client)
    assert await line.rest() == b"/dev/null\n"


async def test_a_client_that_does_not_read_holds_nothing_up(box: Any, wire: Any) -> None:
    made, slow, fast = box(), wire(), wire()
    script = "dd if=/dev/zero bs=1M count=8 2>/dev/null"
    shim = await made.start(container(["sh", "-c", script]), slow.client, fast.client)
    assert len(await fast.rest()) == 8 << 20
    assert (await shim.wait()).code == 0
    # What was kept for it meanwhile is all there, and in memory is little of it.
    assert len(await slow.rest()) == 8 << 20


async def test_a_lone_slow_client_paces_an_exec(box: Any, wire: Any) -> None:
    made = box()
    await made.start(container(["sleep", "100"]))
    line = wire()
    await made.exec("e", ["dd", "if=/dev/zero", "bs=1M", "count=200"], line.client)
    await asyncio.sleep(0.3)
    spilled = [link for link in _links(_shim_pid(made.shim)) if "deleted" in link]
    assert not spilled
    seen = 0
    while piece := await line.receive(1 << 20):
        seen += len(piece)
    assert seen >= 200 << 20


def _links(pid: int) -> list[str]:
    folder = f"/proc/{pid}/fd"
    return [os.readlink(f"{folder}/{name}") for name in os.listdir(folder)]


def _shim_pid(shim: Shim | None) -> int:
    assert shim is not None
    status = Path(f"/proc/{shim.pid}/status").read_text()
    return int(status.split("PPid:")[1].split()[0])


async def test_output_without_listener_is_thrown_away(box: Any) -> None:
    made = box(log_path=None)
    shim = await made.start(
        container(["dd", "if=/dev/zero", "of=/dev/stdout", "bs=1M", "count=50"])
    )
    assert (await asyncio.wait_for(shim.wait(), 20)).code == 0


# ---- terminals


async def test_terminal_size_echo_and_resize(box: Any, wire: Any) -> None:
    made = box(tty=True, open_stdin=True, size=(24, 80))
    line = wire(stdin=True)
    shim = await made.start(
        container(["sh", "-c", "stty size; tty; read x; stty size; read x"], tty=True), line.client
    )
    assert b"24 80" in await line.until(b"/dev/pts/0\r\n")
    await shim.resize(None, 50, 132)
    await line.send(b"\n")
    await line.until(b"50 132")
    await line.send(b"\n")
    await line.rest()
    assert (await shim.wait()).code == 0


async def test_detach_keys_leave_the_container_running(box: Any, wire: Any) -> None:
    made = box(tty=True, open_stdin=True)
    line, second = wire(stdin=True), wire(stdin=True)
    shim = await made.start(container(["cat"], tty=True), line.client)
    await line.send(b"\x10x\n")
    await line.until(b"^Px\r\n\x10x\r\n")  # its echo, and what cat says
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    shim.on_detach = told.set_result
    await line.send(b"\x10\x11")
    await line.rest()
    assert await asyncio.wait_for(told, 5) == ""
    assert shim.running
    await shim.attach(second.client)
    await second.send(b"again\n")
    await second.until(b"again\r\nagain\r\n")


async def test_without_a_terminal_no_byte_is_a_key(box: Any, wire: Any) -> None:
    made = box(open_stdin=True, stdin_once=True)
    line = wire(stdin=True)
    await made.start(container(["cat"]), line.client)
    await line.send(b"a\x10\x11b")
    line.socket.shutdown(1)
    assert await line.rest() == b"a\x10\x11b"


# ---- execs


async def test_exec_code_is_known_before_the_stream_ends(box: Any, wire: Any) -> None:
    made = box()
    shim = await made.start(container(["sleep", "100"]))
    line = wire(framed=True)
    await made.exec("e", ["sh", "-c", "echo hi; exit 7"], line.client)
    known: list[int] = []
    shim.exec_wait("e").add_done_callback(lambda done: known.append(done.result().code))
    assert frames(await line.rest()) == [(1, b"hi\n")]
    assert known == [7]


async def test_exec_input_and_terminal(box: Any, wire: Any) -> None:
    made = box()
    shim = await made.start(container(["sleep", "100"]))
    line, terminal = wire(stdin=True), wire(stdin=True)
    await made.exec("in", ["cat"], line.client, open_stdin=True)
    await made.exec("tty", ["sh", "-c", "tty; stty size"], terminal.client, tty=True,
                    size=(10, 20))  # fmt: skip
    await line.send(b"to the end")
    line.socket.shutdown(1)
    assert await line.rest() == b"to the end"
    assert await terminal.rest() == b"/dev/pts/0\r\n10 20\r\n"
    assert (await shim.exec_wait("tty")).code == 0


async def test_exec_sees_the_container_and_two_have_names(box: Any, wire: Any) -> None:
    made = box()
    await made.start(container(["sleep", "100"]))
    line = wire()
    script = "cat /proc/1/cmdline /proc/sys/kernel/hostname; grep Cap /proc/self/status"
    await made.exec("a", ["sh", "-c", script], line.client)
    out = await line.rest()
    assert out.startswith(b"sleep\x00100\x00boxwood-test\nCapInh:\t0000000000000000\n")
    assert out.count(b"00000000a80425fb") == 3
    await made.exec("b", ["sleep", "5"], detach=True)
    with pytest.raises(AlreadyExists):
        await made.exec("b", ["sleep", "5"], detach=True)


async def test_exec_that_fails_is_forgotten(box: Any, wire: Any) -> None:
    made, line = box(), wire()
    await made.start(container(["sleep", "100"]))
    with pytest.raises(LaunchError) as caught:
        await made.exec("e", ["nope"], line.client)
    assert (caught.value.operation, caught.value.target) == ("exec", "nope")
    os.close(line.client.fd)
    assert await line.rest() == b""
    again = wire()
    await made.exec("e", ["echo", "fine"], again.client)
    assert await again.rest() == b"fine\n"


async def test_what_an_exec_leaves_behind_pins_nothing(box: Any, wire: Any) -> None:
    made, line = box(), wire()
    shim = await made.start(container(["sleep", "100"]))
    began = time.monotonic()
    await made.exec("e", ["sh", "-c", "echo x; sleep 50 &"], line.client)
    assert await line.rest() == b"x\n"
    assert (await shim.exec_wait("e")).code == 0
    assert time.monotonic() - began < 3


async def test_execs_end_with_the_container(box: Any, wire: Any) -> None:
    made, line = box(), wire()
    shim = await made.start(container(["sleep", "100"], pid_namespace=False))
    pid = await made.exec("e", ["sleep", "100"], line.client)
    await shim.signal(9)
    assert (await shim.exec_wait("e")).code == 137
    assert await line.rest() == b""
    assert not os.path.exists(f"/proc/{pid}")


# ---- daemons that come and go

DAEMON = """
    import asyncio, sys
    from pathlib import Path
    from boxwood.execution.shim import Client, Shim, ShimConfig
    from tests.integration.launch import programs

    async def main(tree, run, data):
        config = ShimConfig(id="box", directory=run, exit_file=data / "exit",
                            log_path=data / "log")
        shim = await Shim.spawn(config)
        script = "i=0; while test $i -lt 400; do echo line $i; i=$((i+1)); sleep 0.01; done; exit 5"
        with programs.detached(tree) as root:
            await shim.start(programs.container(["sh", "-c", script]), [root])
        print(shim.pid, flush=True)
        await asyncio.sleep(100)

    asyncio.run(main(*map(Path, sys.argv[1:])))
"""


def start_and_kill_daemon(*paths: Path) -> int:
    """The pid of the container that it left behind."""
    command = [sys.executable, "-c", textwrap.dedent(DAEMON), *paths]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as daemon:
        assert daemon.stdout is not None
        pid = int(daemon.stdout.readline())
        daemon.kill()
    return pid


async def test_survives_the_daemon(tree: Path, tmp_path: Path) -> None:
    run, data = tmp_path / "run", tmp_path / "data"
    run.mkdir()
    data.mkdir()
    pid = start_and_kill_daemon(tree, run, data)
    shim = await Shim.adopt(run)
    assert shim is not None
    assert (shim.pid, shim.config.id, shim.running) == (pid, "box", True)
    await shim.disconnect()
    shim = await Shim.adopt(run)
    assert shim is not None
    status = await asyncio.wait_for(shim.wait(), 30)
    assert status.code == 5
    assert [entry["log"] for entry in entries(data / "log")] == [f"line {i}\n" for i in range(400)]
    await shim.close()
    until(lambda: not (run / "shim.sock").exists(), "the shim is gone")
    assert await Shim.adopt(run) is None
    assert read_exit_file(data / "exit") == status


async def test_killed_shim_takes_its_container_along(box: Any) -> None:
    made = box()
    shim = await made.start(container(["sleep", "100"]))
    await made.exec("e", ["sleep", "100"], detach=True)
    os.kill(_shim_pid(shim), signal.SIGKILL)
    with pytest.raises(Unavailable):
        await shim.wait()
    with pytest.raises(Unavailable):
        await shim.exec_wait("e")
    until(lambda: not os.path.exists(f"/proc/{shim.pid}"), "the container's process is gone")
    made.shim = None


def mount_id(fdinfo: str) -> str:
    """Which mount a descriptor is on (proc(5), fdinfo)."""
    return fdinfo.split("mnt_id:")[1].split(maxsplit=1)[0]


async def test_the_shim_holds_the_root_to_its_own_end(box: Any) -> None:
    """Whoever lets go last unmounts: that is not to be the container, whose end would wait."""
    shim = await box().start(container(["sleep", "100"]))
    root = os.open(f"/proc/{shim.pid}/root", os.O_PATH)
    try:
        wanted = mount_id(Path(f"/proc/self/fdinfo/{root}").read_text())
    finally:
        os.close(root)
    infos = Path(f"/proc/{_shim_pid(shim)}/fdinfo").iterdir()
    assert wanted in {mount_id(info.read_text()) for info in infos}


async def test_the_root_is_not_held_for_a_slow_client(box: Any, wire: Any) -> None:
    """The container's next start mounts the same upper directory."""
    slow = wire()
    script = "dd if=/dev/zero bs=1M count=8 2>/dev/null"
    shim = await box().start(container(["sh", "-c", script]), slow.client)
    pid, root = _shim_pid(shim), os.open(f"/proc/{shim.pid}/root", os.O_PATH)
    try:
        wanted = mount_id(Path(f"/proc/self/fdinfo/{root}").read_text())
    finally:
        os.close(root)

    def held() -> bool:
        for info in Path(f"/proc/{pid}/fdinfo").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                if mount_id(info.read_text()) == wanted:
                    return True
        return False

    assert (await shim.wait()).code == 0
    await asyncio.to_thread(until, lambda: not held(), "the root is let go")
    assert len(await slow.rest()) == 8 << 20


def cpu_ticks(pid: int) -> int:
    """What a process has used of the processor (proc_pid_stat(5), utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


async def test_a_daemon_that_finds_no_descriptor_free_is_served_later(box: Any) -> None:
    """The shim waits; it does not ask for the same connection without end."""
    made = box()
    shim = await made.start(container(["sleep", "100"]))
    pid = _shim_pid(shim)
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir(f"/proc/{pid}/fd"))
    free = [n for n in range(highest) if not os.path.exists(f"/proc/{pid}/fd/{n}")]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (min([highest + 1, *free]), hard))
    before = cpu_ticks(pid)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as waiting:
        waiting.connect(str(made.run / "shim.sock"))
        await asyncio.sleep(1)
        assert cpu_ticks(pid) - before < 20
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        waiting.settimeout(5)
        assert waiting.recv(65536)
    await shim.disconnect()
    made.shim = await Shim.adopt(made.run)


@pytest.mark.skipif("BOXWOOD_SANITIZE" in os.environ, reason="the sanitizer has its own")
async def test_own_memory_is_small(box: Any) -> None:
    made = box()
    shim = await made.start(container(["sleep", "100"]))
    await asyncio.sleep(0.3)  # what the start touched is let go of after it is reported
    rollup = Path(f"/proc/{_shim_pid(shim)}/smaps_rollup").read_text()
    sizes = {line.split()[0]: int(line.split()[1]) for line in rollup.splitlines()[1:]}
    # The text is one memfd's, which every shim shares; what is its own is what it wrote to.
    assert sizes["Pss_Anon:"] < 128, rollup
    assert sizes["Pss:"] < 500, rollup


@pytest.mark.skipif("BOXWOOD_SANITIZE" in os.environ, reason="needs the static program")
async def test_a_payload_whose_interpreter_is_its_own_program(box: Any, own_tree: Path) -> None:
    # CVE-2019-5736: at exec, /proc/self/exe still is the shim's program. It runs from a sealed
    # memfd, called by hand it does nothing, and the file that it came from is never reachable.
    (own_tree / "bin/evil").write_text("#!/proc/self/exe\n")
    (own_tree / "bin/evil").chmod(0o755)
    before = shim_path().read_bytes()
    made = box(tree=own_tree)
    shim = await made.start(container(["/bin/evil"]))
    assert (await shim.wait()).code == 2
    assert shim_path().read_bytes() == before
    assert os.readlink(f"/proc/self/fd/{executable()}").startswith("/memfd:")


async def test_nonsense_on_the_socket_is_hung_up_on(box: Any) -> None:
    made = box()
    shim = await made.start(container(["sleep", "100"]))
    await shim.disconnect()
    source = random.Random(5)
    good = [protocol.encode("signal", 1, "none", 0), protocol.encode("resize", 2, "", 1, 2),
            protocol.encode("exited", "", 0, 0, 0), protocol.encode("quit", 3),
            protocol.encode("task", 4, "name", 0, 0), protocol.encode("start", 5, ""),
            protocol.encode("attach", 6, "", 0, b"", b""), b""]  # fmt: skip
    for _ in range(400):
        data = bytearray(source.choice(good))
        for _ in range(source.randrange(3)):
            if data:
                data[source.randrange(len(data))] = source.randrange(256)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
            stranger.connect(str(made.run / "shim.sock"))
            with contextlib.suppress(OSError):
                stranger.send(data)
                stranger.send(source.randbytes(source.randrange(300)))
    made.shim = await Shim.adopt(made.run)
    assert made.shim is not None
    assert (made.shim.pid, made.shim.running) == (shim.pid, True)


async def test_only_the_owner_may_connect(box: Any) -> None:
    made = box()
    await made.start(container(["sleep", "100"]))
    path = made.run / "shim.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o666)  # SO_PEERCRED holds even then
    for parent in path.parents:
        if not parent.stat().st_mode & stat.S_IXOTH:
            parent.chmod(0o711)
    script = (
        "import os, socket, sys; os.setgid(65534); os.setuid(65534);"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect(sys.argv[1]);"
        "sys.exit(len(s.recv(100)))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, path)
    assert await process.wait() == 0


async def test_many_clients_and_resizes_leave_nothing(box: Any) -> None:
    made = box(tty=True, open_stdin=True)
    shim = await made.start(container(["cat"], tty=True))
    pid = _shim_pid(shim)
    seen = []
    for _ in range(3):
        for i in range(60):
            ours, theirs = socket.socketpair()
            await shim.attach(Client(fd=theirs.detach(), stdin=True))
            await shim.resize(None, 10 + i, 80)
            ours.close()
        await asyncio.sleep(0.1)
        seen.append(len(os.listdir(f"/proc/{pid}/fd")))
    assert seen[0] == seen[1] == seen[2]


async def test_a_shim_that_is_never_started_ends_with_the_daemon(box: Any, wire: Any) -> None:
    made, line = box(open_stdin=True), wire(stdin=True)
    shim = await Shim.spawn(made.config)
    await shim.attach(line.client)
    assert (made.run / "shim.sock").exists()
    await shim.disconnect()
    assert await line.rest() == b""
    until(lambda: not (made.run / "shim.sock").exists(), "the shim is gone")


async def test_a_spare_is_used_and_replaced(box: Any) -> None:
    Shim.prewarm()
    spare = Shim._spare.process
    assert spare is not None
    try:
        shim = await box().start(container(["sleep", "100"]))
        assert _shim_pid(shim) == spare.pid
        await asyncio.to_thread(
            until, lambda: Shim._spare.process not in (None, spare), "a new spare"
        )
        assert Shim._spare.process is not None
        pid = Shim._spare.process.pid
    finally:
        Shim.drop_spare()
    await asyncio.to_thread(os.waitpid, pid, 0)  # ends by itself
