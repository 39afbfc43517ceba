"""The daemon ends, or there are two: who holds the roots, and what becomes of containers."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.engine import Engine
from tests.support.needs import until

pytestmark = pytest.mark.root

Make = Callable[..., Engine]


def start(engine: Engine, *command: str) -> str:
    """Make a container and start it; returns its id."""
    body = {"Image": "busybox", "Cmd": command, "HostConfig": {"NetworkMode": "none"}}
    key: str = engine.api("POST", "/containers/create", body).json()["Id"]
    assert engine.api("POST", f"/containers/{key}/start").status == 204
    return key


def is_there(pid: int) -> bool:
    """Whether a process lives."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def second(engine: Engine, room: Path, *, share: str) -> subprocess.CompletedProcess[str]:
    """Start another daemon that shares one root of the engine, and see how it ends."""
    roots = {"--data-root": room / "data", "--exec-root": room / "exec"}
    roots[share] = engine.data_root if share == "--data-root" else engine.exec_root
    return subprocess.run(
        [
            *(engine.program, "daemon", "-H", f"unix://{room}/b.sock"),
            *(str(word) for pair in roots.items() for word in pair),
        ],
        env=engine.environment(),
        capture_output=True,
        text=True,
        timeout=20,
    )


@pytest.mark.parametrize("share", ["--data-root", "--exec-root"])
def test_the_second_daemon_refuses(engine: Engine, room: Path, share: str) -> None:
    """It says so in one sentence, and the first has noticed nothing."""
    ended = second(engine, room, share=share)
    assert ended.returncode not in (0, 1)
    (line,) = ended.stderr.strip().splitlines()
    root = engine.data_root if share == "--data-root" else engine.exec_root
    assert str(root) in line
    assert "another Boxwood daemon is using it" in line
    assert engine.api("GET", "/_ping").status == 200


def test_what_a_killed_daemon_leaves_is_no_obstacle(make_engine: Make) -> None:
    """Lock files, its socket and its pid file: the next daemon starts at once."""
    engine = make_engine(busybox=False)
    engine.kill()
    assert (engine.data_root / "lock").exists()
    assert engine.socket.exists()
    assert (engine.exec_root / "daemon.pid").exists()
    engine.start()
    assert (engine.exec_root / "daemon.pid").read_text().strip() == str(engine.pid)


def test_live_restore(make_engine: Make) -> None:
    """The default: told to end, the daemon leaves its containers alone; the next has them."""
    engine = make_engine()
    key = start(engine, "sleep", "1000")
    pid = engine.api("GET", f"/containers/{key}/json").json()["State"]["Pid"]
    assert engine.stop() == 0
    assert is_there(pid)
    engine.start()
    state = engine.api("GET", f"/containers/{key}/json").json()["State"]
    assert (state["Status"], state["Pid"]) == ("running", pid)
    assert engine.api("POST", f"/containers/{key}/stop?t=0").status == 204


def test_an_end_meanwhile_is_found_out(make_engine: Make) -> None:
    """The exit status of what ends while no daemon runs is the one it ended with."""
    engine = make_engine()
    key = start(engine, "sh", "-c", "trap 'exit 9' TERM; while true; do sleep 0.05; done")
    pid = engine.api("GET", f"/containers/{key}/json").json()["State"]["Pid"]
    assert engine.stop() == 0
    os.kill(pid, signal.SIGTERM)
    until(lambda: not is_there(pid), "it has ended")
    engine.start()
    state = engine.api("GET", f"/containers/{key}/json").json()["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 9)


def test_without_live_restore(make_engine: Make) -> None:
    """Told to end, the daemon stops its containers first, and knows their status afterwards."""
    engine = make_engine("--live-restore=false", "--shutdown-timeout=1")
    trapping = start(engine, "sh", "-c", "trap 'exit 7' TERM; while true; do sleep 0.05; done")
    deaf = start(engine, "sleep", "1000")
    pids = [
        engine.api("GET", f"/containers/{key}/json").json()["State"]["Pid"]
        for key in (trapping, deaf)
    ]
    assert engine.stop() == 0
    assert not [pid for pid in pids if is_there(pid)]
    assert not list((engine.exec_root / "containers").iterdir())
    engine.start()
    for key, code in ((trapping, 7), (deaf, 137)):
        state = engine.api("GET", f"/containers/{key}/json").json()["State"]
        assert (state["Status"], state["ExitCode"]) == ("exited", code)
