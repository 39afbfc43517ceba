"""Clients that do not read, come and go in thousands, or leave something running behind."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.load.footprint import at_rest, memory_of, settled
from tests.support.containers import start, state_of
from tests.support.engine import Engine, running
from tests.support.needs import need_root, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

ALLOWANCE = 1536
"""KiB of the daemon's memory: as for the runs."""
SHIM_ALLOWANCE = 256
"""KiB of a shim's memory: what it queues for clients before it spills to disk, less than once."""
TALK = 12 << 20
"""Bytes that the talkative container writes: far beyond what sockets and queues hold."""


@pytest.fixture(scope="module")
def served() -> Iterator[Engine]:
    """An engine of this module's own, warm."""
    need_root()
    server = Engine()
    with running(server):
        for _ in range(3):
            key = start(server, "sleep", "1000")
            execute(server, key, "true")
            server.remove_containers()
        # Once for the buffers that the allocator then keeps.
        unread_clients(server)
        server.remove_containers()
        yield server


@pytest.fixture
def patient(served: Engine) -> Iterator[Engine]:
    """It, without containers before and after, and holding what it held before."""
    before = at_rest(served)
    yield served
    served.remove_containers()
    left = settled(served, before, ALLOWANCE)
    assert not left, "left by the clients:\n  " + "\n  ".join(left)


def make_exec(engine: Engine, key: str, *command: str, **more: Any) -> str:
    """Make an exec; returns its id."""
    body = {"Cmd": command, "AttachStdout": True, "AttachStderr": True} | more
    answer = engine.api("POST", f"/containers/{key}/exec", body)
    assert answer.status == 201, answer.body
    made: str = answer.json()["Id"]
    return made


def execute(engine: Engine, key: str, *command: str) -> bytes:
    """Run a command in a container to its end; returns what it wrote, framed."""
    made = make_exec(engine, key, *command)
    return engine.api("POST", f"/exec/{made}/start", {"Detach": False}).body


@contextlib.contextmanager
def asking(engine: Engine, method: str, path: str, body: bytes = b"") -> Iterator[socket.socket]:
    """Send a request and do not read the answer. Its buffer is as small as the kernel allows."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        connection.settimeout(20)
        connection.connect(str(engine.socket))
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body)
        yield connection


def shim_of(engine: Engine, key: str) -> int:
    """Return the process id of a container's shim."""
    status = Path(f"/proc/{state_of(engine, key)['Pid']}/status").read_text()
    return int(status.split("PPid:")[1].split()[0])


def test_nobody_reads(patient: Engine) -> None:
    """Attach, logs and events unread: the container, its log and everybody else go on."""
    unread_clients(patient)


def unread_clients(patient: Engine) -> None:
    """Have clients of all kinds that never read while a container talks, and see it through."""
    script = f"read x; yes 0123456789abcdef | head -c {TALK}; echo; echo done; exec sleep 1000"
    key = start(
        patient,
        *("sh", "-c", script),
        OpenStdin=True,
        host={"LogConfig": {"Type": "json-file", "Config": {"max-size": "0"}}},
    )
    memory = memory_of(patient.pid), memory_of(shim_of(patient, key))
    attach = f"/containers/{key}/attach?stream=1&stdout=1&stderr=1"
    with contextlib.ExitStack() as unread:
        for _ in range(5):
            unread.enter_context(asking(patient, "POST", attach))
            unread.enter_context(
                asking(patient, "GET", f"/containers/{key}/logs?stdout=1&follow=1")
            )
            unread.enter_context(asking(patient, "GET", "/events"))
        with asking(patient, "POST", f"/containers/{key}/attach?stream=1&stdin=1") as input_:
            input_.sendall(b"go\n")
            log = patient.data_root / "containers" / key / f"{key}-json.log"
            until(lambda: _tail(log).endswith(b"done\\n"), "all of it is in the log", seconds=60)
            for _ in range(300):
                patient.api("POST", f"/containers/{key}/rename?name=a")
                patient.api("POST", f"/containers/{key}/rename?name=b")
            assert b"hello" in execute(patient, key, "echo", "hello")
            assert memory_of(patient.pid) < memory[0] + 4 * ALLOWANCE
            assert memory_of(shim_of(patient, key)) < memory[1] + 16 * SHIM_ALLOWANCE
            assert patient.api("POST", f"/containers/{key}/stop?t=0").status == 204
    numbers = patient.api("GET", f"/containers/{key}/logs?stdout=1&tail=1").body
    assert numbers.endswith(b"done\n")


def _tail(path: Path) -> bytes:
    """Return the text of the last line of a json-file log."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = file.read().splitlines()
    if not lines:
        return b""
    with contextlib.suppress(ValueError):
        return json.dumps(json.loads(lines[-1])["log"]).strip('"').encode()
    return b""


def test_attaching_and_resizing(patient: Engine, soak: bool) -> None:
    """Each leaves nothing: neither in the daemon nor in the shim."""
    key = start(patient, "sh", "-c", "exec sleep 1000", Tty=True, OpenStdin=True)
    shim = shim_of(patient, key)

    def cycles(count: int) -> None:
        attach = f"/containers/{key}/attach?stream=1&stdin=1&stdout=1"
        for number in range(count):
            with asking(patient, "POST", attach) as connection:
                assert connection.recv(4096).startswith(b"HTTP/1.1 101")
                size = f"h={number % 50 + 1}&w={number % 80 + 1}"
                assert patient.api("POST", f"/containers/{key}/resize?{size}").status == 200

    cycles(50)
    descriptors = until(lambda: _settled_descriptors(shim), "the shim has closed them")
    memory, daemon = memory_of(shim), memory_of(patient.pid)
    cycles(10000 if soak else 500)
    until(lambda: _descriptors(shim) <= descriptors, "the shim's descriptors are as before")
    assert memory_of(shim) <= memory + SHIM_ALLOWANCE
    assert memory_of(patient.pid) <= daemon + ALLOWANCE


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _settled_descriptors(pid: int) -> int:
    """Return their number once it has not changed for a moment, else 0."""
    before = _descriptors(pid)
    time.sleep(0.5)
    return before if _descriptors(pid) == before else 0


def test_an_exec_that_leaves_something_behind(patient: Engine) -> None:
    """What it started holds its output: the client gets its end all the same, and its status."""
    key = start(patient, "sleep", "1000")
    made = make_exec(patient, key, "sh", "-c", "echo begun; sleep 1000 & exit 5")
    body = patient.api("POST", f"/exec/{made}/start", {"Detach": False}, timeout=30).body
    assert b"begun\n" in body
    found = patient.api("GET", f"/exec/{made}/json").json()
    assert (found["Running"], found["ExitCode"]) == (False, 5)
    # It lives on, as a process of the container's.
    assert b"sleep 1000\n" in execute(patient, key, "ps", "-o", "args")
    assert patient.api("POST", f"/containers/{key}/stop?t=0").status == 204
    assert state_of(patient, key)["ExitCode"] == 137


def test_more_execs_than_are_kept(patient: Engine, soak: bool) -> None:
    """The records of those that have ended make room; what is kept of each is little."""
    key = start(patient, "sleep", "1000")
    count = 3000 if soak else 1100
    for number in range(count):
        made = make_exec(patient, key, "true")
        if number % (1 if soak else 10) == 0:
            answer = patient.api("POST", f"/exec/{made}/start", {"Detach": True})
            assert answer.status == 200, answer.body


def test_a_terminal_that_goes_away(patient: Engine) -> None:
    """`docker run -it` whose terminal is closed: the container lives on, and can be stopped."""
    outside, inside = pty.openpty()
    import subprocess

    with subprocess.Popen(
        [*("docker", "run", "-it", "--network", "none", "busybox", "sh")],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        env=patient.environment(),
        start_new_session=True,
    ) as client:
        os.close(inside)
        until(lambda: b"#" in os.read(outside, 4096), "the prompt is there")
        client.kill()
        client.wait()
    os.close(outside)
    (entry,) = patient.api("GET", "/containers/json").json()
    assert patient.api("POST", f"/containers/{entry['Id']}/stop?t=0").status == 204
