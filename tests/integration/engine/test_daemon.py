"""The daemon as a process: locks, signals, configuration, what it leaves when it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from boxwood import daemon
from boxwood.configuration import Configuration
from tests.support.engine import Engine
from tests.support.needs import until
from tests.support.paths import BOXWOOD

pytestmark = pytest.mark.root

Maker = Callable[..., Engine]


def run_daemon(*flags: object) -> subprocess.CompletedProcess[str]:
    """Run a daemon that is expected to end at once."""
    words = [str(flag) for flag in flags]
    return subprocess.run(
        [str(BOXWOOD), "daemon", *words], capture_output=True, text=True, timeout=30, check=False
    )


def sleeper(engine: Engine, **host: Any) -> str:
    body = {
        "Image": "busybox",
        "Cmd": ["sleep", "1000"],
        "HostConfig": {"NetworkMode": "none", **host},
    }
    key: str = engine.api("POST", "/containers/create", body).json()["Id"]
    assert engine.api("POST", f"/containers/{key}/start").status == 204
    return key


def pid_of(engine: Engine, key: str) -> int:
    found: int = engine.api("GET", f"/containers/{key}/json").json()["State"]["Pid"]
    return found


def test_a_second_daemon_on_a_root_refuses(make_engine: Maker) -> None:
    engine = make_engine(busybox=False)
    other = engine.exec_root / "other"
    done = run_daemon("--data-root", engine.data_root, "--exec-root", other)
    assert done.returncode == 16
    assert "another Boxwood daemon is using it" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = run_daemon("--data-root", engine.data_root, "--exec-root", engine.exec_root)
    assert done.returncode == 16
    assert engine.api("GET", "/_ping").status == 200


def test_containers_live_on_after_sigterm(make_engine: Maker) -> None:
    engine = make_engine()
    key = sleeper(engine)
    pid = pid_of(engine, key)
    assert engine.stop() == 0
    os.kill(pid, 0)
    assert not engine.socket.exists()
    assert not (engine.exec_root / "daemon.pid").exists()
    engine.start()
    assert pid_of(engine, key) == pid


def test_containers_are_stopped_if_so_configured(make_engine: Maker) -> None:
    engine = make_engine("--live-restore=false", "--shutdown-timeout", "1")
    key = sleeper(engine)
    always = sleeper(engine, RestartPolicy={"Name": "always"})
    unless = sleeper(engine, RestartPolicy={"Name": "unless-stopped"})
    left = sleeper(engine, RestartPolicy={"Name": "unless-stopped"})
    assert engine.api("POST", f"/containers/{left}/stop?t=0").status == 204
    pid = pid_of(engine, key)
    assert engine.stop() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    engine.start()
    assert engine.api("GET", f"/containers/{key}/json").json()["State"]["ExitCode"] == 137
    until(lambda: pid_of(engine, always), "what always runs is started again")
    until(lambda: pid_of(engine, unless), "and what nobody stopped")
    assert pid_of(engine, left) == 0


def test_a_reload_takes_what_it_can(make_engine: Maker) -> None:
    engine = make_engine(busybox=False, start=False)
    path = engine.exec_root / "daemon.json"
    path.write_text("{}")
    engine.flags = ("--config-file", str(path))
    engine.start()
    path.write_text(json.dumps({"labels": ["a=b"], "debug": True}))
    since = time.time()
    os.kill(engine.pid, signal.SIGHUP)
    until(lambda: engine.api("GET", "/info").json()["Labels"] == ["a=b"], "the label is there")
    assert engine.api("GET", "/info").json()["Debug"] is True
    answer = engine.api("GET", f"/events?since={since:.9f}&until={time.time():.9f}")
    assert json.loads(answer.body)["Action"] == "reload"
    path.write_text(json.dumps({"no-such": 1}))
    os.kill(engine.pid, signal.SIGHUP)
    until(lambda: "no-such: unknown key" in engine.log, "the mistake is logged")
    assert engine.api("GET", "/info").json()["Labels"] == ["a=b"]


def test_streams_do_not_hold_up_the_end(make_engine: Maker) -> None:
    engine = make_engine()
    key = sleeper(engine)
    watchers = [
        subprocess.Popen(
            ["curl", "-sN", "--unix-socket", str(engine.socket), f"http://x{path}"],
            stdout=subprocess.DEVNULL,
        )
        for path in ("/events", f"/containers/{key}/logs?stdout=1&follow=1")
    ]
    time.sleep(0.3)
    before = time.monotonic()
    assert engine.stop() == 0
    assert time.monotonic() - before < 3
    for watcher in watchers:
        watcher.wait(5)
    engine.start()


def test_it_goes_when_it_is_idle(make_engine: Maker) -> None:
    engine = make_engine(start=False)
    path = engine.exec_root / "daemon.json"
    path.write_text(json.dumps({"idle-timeout": 1}))
    engine.flags = ("--config-file", str(path))
    engine.start()
    assert engine.process is not None
    assert engine.process.wait(15) == 0
    engine.process = None


def test_it_stays_while_anything_runs_and_goes_after_it(make_engine: Maker) -> None:
    engine = make_engine(start=False)
    path = engine.exec_root / "daemon.json"
    path.write_text(json.dumps({"idle-timeout": 1}))
    engine.flags = ("--config-file", str(path))
    engine.start()
    assert engine.process is not None
    engine.add_busybox()
    body = {"Image": "busybox", "Cmd": ["sleep", "5"], "HostConfig": {"NetworkMode": "none"}}
    key = engine.api("POST", "/containers/create", body).json()["Id"]
    engine.api("POST", f"/containers/{key}/start")
    with pytest.raises(subprocess.TimeoutExpired):
        engine.process.wait(3.5)
    assert engine.process.wait(15) == 0
    assert "nothing to do for 1 s: ending" in engine.log
    engine.process = None
    engine.start()
    state = engine.api("GET", f"/containers/{key}/json").json()["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 0)
    engine.remove_containers()


def test_one_that_the_command_line_started_goes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody will stop it; what the configuration says counts more."""
    monkeypatch.setenv(daemon.EMBEDDED, "1")
    assert daemon._embedded(Configuration()).idle_timeout == daemon.EMBEDDED_IDLE
    assert daemon.EMBEDDED not in os.environ, "a container's engine hands it on to nobody"
    assert daemon._embedded(Configuration()).idle_timeout == 0
    monkeypatch.setenv(daemon.EMBEDDED, "1")
    assert daemon._embedded(Configuration(idle_timeout=7)).idle_timeout == 7


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--bogus-key-file",), "unknown flag"),
        (("-H", "tcp://127.0.0.1:0"), "would be root on this machine"),
        (("-H", "bogus://x"), "want unix://, fd:// or tcp://"),
        (("-H", "fd://"), "no socket was passed"),
        (("--storage-driver", "nope"), "nope"),
        (("--default-runtime", "nope"), "nope"),
        (("--config-file", "/nope.json"), "no such file"),
    ],
)
def test_what_cannot_work_is_one_sentence(
    make_engine: Maker, flags: tuple[str, ...], words: str
) -> None:
    engine = make_engine(busybox=False, start=False)
    done = run_daemon("--data-root", engine.data_root, "--exec-root", engine.exec_root, *flags)
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_the_socket_is_for_its_group_alone(make_engine: Maker) -> None:
    engine = make_engine("--group", "daemon", busybox=False)
    found = engine.socket.stat()
    assert found.st_mode & 0o777 == 0o660
    import grp

    assert found.st_gid == grp.getgrnam("daemon").gr_gid


def test_nothing_is_open_to_others(make_engine: Maker) -> None:
    engine = make_engine()
    sleeper(engine)
    for root in (engine.data_root, engine.exec_root / "containers"):
        assert root.stat().st_mode & 0o007 == 0
