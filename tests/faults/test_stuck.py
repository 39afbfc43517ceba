"""One container is stuck, or its shim is gone: nobody else notices, and it can be got rid of."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.faults.hungfs import hung_mount, server_of, until_asked
from tests.faults.scenario import groups_of
from tests.support.containers import create, start
from tests.support.containers import state_of as inspect_state
from tests.support.engine import Engine, running
from tests.support.http import Answer, UnixConnection
from tests.support.needs import need_root, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

BYSTANDER = 5.0
"""Seconds that a bystander's request may take before it counts as held up: far beyond what any of
them takes on a busy machine, and less than every bound on what is stuck."""
MANY = 16
"""As many jobs as the engine runs at once: were they all of one kind, nobody else's would run."""


@pytest.fixture(scope="module")
def engine_() -> Iterator[Engine]:
    """An engine of this module's own: its daemon is looked at for threads and killed."""
    need_root()
    server = Engine()
    with running(server):
        yield server


@pytest.fixture
def stuck(engine_: Engine) -> Iterator[Engine]:
    """It, without containers before and after; and as it should be."""
    assert engine_.api("GET", "/containers/json?all=1").json() == []
    yield engine_
    engine_.remove_containers()


state_of = partial(inspect_state, timeout=BYSTANDER)
"""The state that inspect shows, asked for as a bystander does."""


def execute(engine: Engine, key: str, *command: str, timeout: float = 30.0) -> Answer:
    """Run a command in a container and return what it wrote (framed)."""
    body = {"Cmd": command, "AttachStdout": True, "AttachStderr": True}
    made = engine.api("POST", f"/containers/{key}/exec", body, timeout=timeout).json()["Id"]
    return engine.api("POST", f"/exec/{made}/start", {"Detach": False}, timeout=timeout)


def check_bystander(engine: Engine, stuck: str, other: str) -> None:
    """Everything one does with ``other``, and looks at ``stuck``; nothing of it is held up."""
    listed = engine.api("GET", "/containers/json?all=1", timeout=BYSTANDER).json()
    assert {stuck, other} <= {entry["Id"] for entry in listed}
    state_of(engine, stuck)
    assert state_of(engine, other)["Running"]
    assert b"hello" in execute(engine, other, "echo", "hello", timeout=BYSTANDER).body
    path = f"/containers/{other}"
    assert engine.api("POST", f"{path}/stop?t=0", timeout=BYSTANDER).status == 204
    assert engine.api("POST", f"{path}/start", timeout=BYSTANDER).status == 204
    assert engine.api("POST", f"{path}/kill", timeout=BYSTANDER).status == 204
    assert engine.api("POST", f"{path}/start", timeout=BYSTANDER).status == 204


class Background:
    """Something that may hang, in a thread."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.result: Any = None
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._work()
        except (OSError, http.client.HTTPException) as error:
            self.result = error

    def join(self, seconds: float) -> Any:
        """Wait for its end and return what came of it."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"hangs on after {seconds} s"
        return self.result


def waiter(engine: Engine, key: str) -> Background:
    """Wait for the container's end; registered once this returns. The result is the document."""
    connection = UnixConnection(engine.socket, 60)
    connection.request("POST", f"/containers/{key}/wait")
    response = connection.getresponse()

    def read() -> bytes:
        with contextlib.closing(connection):
            return response.read()

    return Background(read)


def freezer_of(key: str) -> tuple[Path, str]:
    """Return the file that freezes a container's group, and the word for it."""
    for path, word in (
        (Path("/sys/fs/cgroup/freezer/boxwood", key, "freezer.state"), "FROZEN"),
        (Path("/sys/fs/cgroup/boxwood", key, "cgroup.freeze"), "1"),
    ):
        if path.exists():
            return path, word
    pytest.fail("the container has no group that can be frozen")


def freeze(key: str) -> None:
    """Freeze a container behind the engine's back."""
    path, word = freezer_of(key)
    path.write_text(word)
    until(lambda: path.read_text().strip() == word, "it is frozen")


def test_frozen_from_outside(stuck: Engine) -> None:
    """Its processes cannot even die; the others' requests are answered, and it can be stopped."""
    key, other = start(stuck, "sleep", "1000"), start(stuck, "sleep", "1000")
    freeze(key)
    hanging = Background(lambda: execute(stuck, key, "true", timeout=100))
    time.sleep(0.3)
    check_bystander(stuck, key, other)
    answer = stuck.api("POST", f"/containers/{key}/stop?t=0", timeout=25)
    assert answer.status == 204, answer.body
    assert state_of(stuck, key)["ExitCode"] == 137
    hanging.join(10)
    assert stuck.api("POST", f"/containers/{key}/start", timeout=25).status == 204


def test_frozen_and_removed_by_force(stuck: Engine) -> None:
    """`rm -f` gets rid of it too."""
    key = start(stuck, "sleep", "1000")
    freeze(key)
    assert stuck.api("DELETE", f"/containers/{key}?force=1", timeout=25).status == 204


@pytest.fixture
def hung(room: Path) -> Iterator[Path]:
    """A mounted file system whose server answers nothing."""
    point = room / "hung"
    point.mkdir()
    with hung_mount(point):
        yield point


def hung_volume(engine: Engine, path: Path) -> str:
    """Make a volume that lies on the hung file system; nobody looks there before a start."""
    options = {"type": "none", "o": "bind", "device": str(path)}
    answer = engine.api("POST", "/volumes/create", {"DriverOpts": options})
    assert answer.status == 201, answer.body
    name: str = answer.json()["Name"]
    return name


def test_hung_source_of_a_bind(stuck: Engine, hung: Path) -> None:
    """Starts hang in the file system and fail, many at once; nobody else's does."""
    other = start(stuck, "sleep", "1000")
    keys = [create(stuck, "true", host={"Binds": [f"{hung}/deep:/mnt"]}) for _ in range(MANY)]
    starting = [
        Background(partial(stuck.api, "POST", f"/containers/{key}/start", timeout=60))
        for key in keys
    ]
    until_asked(hung)
    check_bystander(stuck, keys[0], other)
    failed = starting[0].join(30)
    assert failed.status >= 400
    assert f"{hung}/deep" in failed.message
    for each in starting:
        assert each.join(60).status >= 400
    assert not state_of(stuck, keys[0])["Running"]


@pytest.mark.parametrize(
    ("copy", "how"),
    [("", "stop?t=1"), ("", "remove"), (":nocopy", "kill")],
)
def test_a_start_that_hangs_is_ended(stuck: Engine, hung: Path, copy: str, how: str) -> None:
    """While it launches, or fills the volume: who wants it stopped does not wait for it, and is
    told what it hung in."""
    other = start(stuck, "sleep", "1000")
    name = hung_volume(stuck, hung / "deep")
    key = create(stuck, "true", host={"Binds": [f"{name}:/mnt{copy}"]})
    starting = Background(lambda: stuck.api("POST", f"/containers/{key}/start", timeout=60))
    until_asked(hung)
    check_bystander(stuck, key, other)
    if how == "remove":
        assert stuck.api("DELETE", f"/containers/{key}?force=1", timeout=30).status == 204
    else:
        # It does not run, so that is what the stop says; it has not waited for the file system.
        assert stuck.api("POST", f"/containers/{key}/{how}", timeout=30).status in (304, 409)
    failed = starting.join(30)
    assert failed.status >= 400
    assert f"{hung}/deep" in failed.message
    if how != "remove":
        assert f"{hung}/deep" in state_of(stuck, key)["Error"]
    stuck.api("DELETE", f"/containers/{key}?force=1", timeout=BYSTANDER)
    assert stuck.api("DELETE", f"/volumes/{name}?force=1", timeout=BYSTANDER).status == 204
    # What even SIGKILL does not end is cleaned up once it has ended by itself.
    os.kill(server_of(hung), signal.SIGKILL)
    until(lambda: not groups_of([{key}]), "its control groups are gone", seconds=20)


def test_a_process_that_cannot_be_killed(stuck: Engine, hung: Path) -> None:
    """The stop is bounded and names the process; once the file system is gone, all is well."""
    other = start(stuck, "sleep", "1000")
    # Binding what lies above it asks nothing of it.
    key = start(stuck, "ls", "/mnt/hung/deep", host={"Binds": [f"{hung.parent}:/mnt"]})
    pid = state_of(stuck, key)["Pid"]
    until(lambda: "request" in Path(f"/proc/{pid}/wchan").read_text(), "it waits for an answer")
    check_bystander(stuck, key, other)
    answer = stuck.api("POST", f"/containers/{key}/stop?t=0", timeout=60)
    assert answer.status == 500
    assert f"process {pid} (ls) waits in" in answer.message
    check_bystander(stuck, key, other)
    os.kill(server_of(hung), signal.SIGKILL)
    until(lambda: not state_of(stuck, key)["Running"], "it has ended", seconds=15)
    assert state_of(stuck, key)["ExitCode"] == 137


def test_hung_source_does_not_keep_the_daemon_alive(stuck: Engine, hung: Path) -> None:
    """No thread of the daemon's waits there: it could not even be killed, nor started anew."""
    other = start(stuck, "sleep", "1000")
    body = {
        "Image": "busybox",
        "HostConfig": {
            "NetworkMode": "none",
            "Mounts": [{"Type": "bind", "Source": f"{hung}/deep", "Target": "/mnt"}],
        },
    }
    asking = Background(lambda: stuck.api("POST", "/containers/create", body, timeout=60))
    until_asked(hung)
    threads = Path("/proc", str(stuck.pid), "task").iterdir()
    assert not [path for path in threads if "\nState:\tD" in (path / "status").read_text()]
    stuck.restart()
    asking.join(10)
    assert state_of(stuck, other)["Running"]
    answer = stuck.api("POST", "/containers/create", body, timeout=60)
    assert answer.status >= 400
    assert f"{hung}/deep" in answer.message


def shim_of(engine: Engine, key: str) -> int:
    """Return the process id of a container's shim."""
    status = Path("/proc", str(state_of(engine, key)["Pid"]), "status").read_text()
    found = int(status.split("PPid:")[1].split()[0])
    assert (Path("/proc") / str(found) / "comm").read_text().strip() == "boxwood-shim"
    return found


def is_gone(pid: int) -> bool:
    """Whether there is no such process, or only its remains."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return "\nState:\tZ" in Path("/proc", str(pid), "status").read_text()
    return True


def test_a_shim_is_killed(stuck: Engine) -> None:
    """The container is dead, with an error; all of it is cleaned up; it can be started again."""
    key = start(stuck, "sh", "-c", "echo begun; sleep 1000 & sleep 1000")
    attached = Background(
        lambda: stuck.api("POST", f"/containers/{key}/attach?stream=1&stdout=1", timeout=60)
    )
    executing = Background(lambda: execute(stuck, key, "sleep", "1000", timeout=60))
    waiting = waiter(stuck, key)
    path = f"/containers/{key}/json"
    until(lambda: stuck.api("GET", path).json()["ExecIDs"], "something runs in it")
    pid = state_of(stuck, key)["Pid"]
    group = Path("/sys/fs/cgroup/pids/boxwood", key, "cgroup.procs")
    pids = [int(text) for text in group.read_text().split()] if group.exists() else [pid]
    os.kill(shim_of(stuck, key), signal.SIGKILL)
    result = json.loads(waiting.join(20))
    assert result["StatusCode"] == 255
    assert result["Error"]["Message"]
    attached.join(20)
    executing.join(20)
    state = state_of(stuck, key)
    assert (state["Status"], state["ExitCode"], state["Pid"]) == ("exited", 255, 0)
    assert "shim" in state["Error"]
    until(lambda: all(is_gone(pid) for pid in pids), "its processes are gone")
    assert not groups_of([{key}])
    assert not (stuck.exec_root / "containers" / key).exists()
    assert stuck.api("POST", f"/containers/{key}/start").status == 204
    assert state_of(stuck, key)["Error"] == ""
    assert b"hello" in execute(stuck, key, "echo", "hello").body


def test_a_shim_is_killed_while_no_daemon_runs(stuck: Engine) -> None:
    """The next daemon finds it so, and settles it."""
    key = start(stuck, "sleep", "1000")
    pid, shim = state_of(stuck, key)["Pid"], shim_of(stuck, key)
    stuck.kill()
    os.kill(shim, signal.SIGKILL)
    stuck.start()
    state = state_of(stuck, key)
    assert (state["Status"], state["ExitCode"]) == ("exited", 255)
    assert "shim" in state["Error"]
    until(lambda: is_gone(pid), "its process is gone")
    assert stuck.api("POST", f"/containers/{key}/start").status == 204
