"""A container's life as the engine tells it: states, events, waits, restarts, health."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from tests.support.engine import Engine
from tests.support.http import UnixConnection
from tests.support.needs import until

pytestmark = pytest.mark.root


def create(engine: Engine, *command: str, name: str = "", **body: Any) -> str:
    """Create a container without a network; ``host_config`` is merged in."""
    host = {"NetworkMode": "none", **body.pop("HostConfig", {})}
    where = f"/containers/create?name={name}" if name else "/containers/create"
    answer = engine.api(
        "POST", where, {"Image": "busybox", "Cmd": command, "HostConfig": host} | body
    )
    assert answer.status == 201, answer.body
    key: str = answer.json()["Id"]
    return key


def start(engine: Engine, key: str) -> None:
    answer = engine.api("POST", f"/containers/{key}/start")
    assert answer.status == 204, answer.body


def state(engine: Engine, key: str) -> dict[str, Any]:
    found: dict[str, Any] = engine.api("GET", f"/containers/{key}/json").json()["State"]
    return found


class Waiter(threading.Thread):
    """A client in ``/wait``; ``begun`` once the headers are there."""

    def __init__(self, engine: Engine, key: str, condition: str) -> None:
        super().__init__()
        self._connection = UnixConnection(engine.socket)
        self._connection.request("POST", f"/containers/{key}/wait?condition={condition}")
        self._response = self._connection.getresponse()
        self.answer: dict[str, Any] = {}
        self.start()

    def run(self) -> None:
        self.answer = json.loads(self._response.read())
        self._connection.close()


@pytest.fixture(autouse=True)
def nobody_left(engine: Engine) -> Iterator[None]:
    """Containers of a test go with it."""
    yield
    engine.remove_containers()


def test_states_and_codes(engine: Engine) -> None:
    key = create(engine, "sh", "-c", "exit 3")
    assert state(engine, key)["Status"] == "created"
    start(engine, key)
    assert engine.api("POST", f"/containers/{key}/wait").json() == {"StatusCode": 3, "Error": None}
    found = state(engine, key)
    assert (found["Status"], found["ExitCode"], found["Pid"]) == ("exited", 3, 0)
    assert found["StartedAt"] <= found["FinishedAt"]


def test_start_twice_and_stop_twice_are_not_modified(engine: Engine) -> None:
    key = create(engine, "sleep", "100")
    start(engine, key)
    assert engine.api("POST", f"/containers/{key}/start").status == 304
    assert engine.api("POST", f"/containers/{key}/stop?t=0").status == 204
    assert engine.api("POST", f"/containers/{key}/stop").status == 304


def test_waits_registered_before_the_start(engine: Engine) -> None:
    key = create(engine, "sh", "-c", "exit 4", HostConfig={"AutoRemove": True})
    waiters = [Waiter(engine, key, condition) for condition in ("next-exit", "removed")]
    at_once = engine.api("POST", f"/containers/{key}/wait?condition=not-running").json()
    assert at_once["StatusCode"] == 0
    start(engine, key)
    for waiter in waiters:
        waiter.join(10)
        assert waiter.answer["StatusCode"] == 4
    assert engine.api("GET", f"/containers/{key}/json").status == 404


def test_the_events_of_a_life_in_their_order(engine: Engine) -> None:
    since = time.time()
    key = create(engine, "true", name="lived", Labels={"a": "b"})
    start(engine, key)
    engine.api("POST", f"/containers/{key}/wait")
    assert engine.api("DELETE", f"/containers/{key}").status == 204
    answer = engine.api("GET", f"/events?since={since:.9f}&until={time.time():.9f}")
    events = [json.loads(line) for line in answer.body.splitlines()]
    mine = [
        event
        for event in events
        if key in (event["Actor"]["ID"], event["Actor"]["Attributes"].get("container"))
    ]
    assert [(event["Type"], event["Action"]) for event in mine] == [
        ("container", "create"),
        ("network", "connect"),
        ("container", "start"),
        ("container", "die"),
        ("network", "disconnect"),
        ("container", "destroy"),
    ]
    die = mine[3]["Actor"]["Attributes"]
    assert die == {
        "a": "b", "exitCode": "0", "execDuration": "0", "image": "busybox", "name": "lived",
    }  # fmt: skip


def test_a_restart_policy_with_a_bound(engine: Engine) -> None:
    policy = {"Name": "on-failure", "MaximumRetryCount": 2}
    key = create(engine, "sh", "-c", "echo run; exit 1", HostConfig={"RestartPolicy": policy})
    start(engine, key)
    until(lambda: state(engine, key)["Status"] == "exited", "the retries are used up")
    inspected = engine.api("GET", f"/containers/{key}/json").json()
    assert inspected["RestartCount"] == 2
    logs = engine.api("GET", f"/containers/{key}/logs?stdout=1").body
    assert logs.count(b"run\n") == 3


def test_the_delay_doubles_and_a_stop_ends_it(engine: Engine) -> None:
    key = create(engine, "date", "+%s%N", HostConfig={"RestartPolicy": {"Name": "always"}})
    start(engine, key)
    until(lambda: engine.api("GET", f"/containers/{key}/json").json()["RestartCount"] == 4, "4")
    assert engine.api("POST", f"/containers/{key}/stop").status == 204
    found = state(engine, key)
    assert (found["Status"], found["Restarting"]) == ("exited", False)
    answer = engine.api("GET", f"/events?since=1&until={time.time():.9f}")
    starts = [
        event["timeNano"] / 1e9
        for event in map(json.loads, answer.body.splitlines())
        if event["Actor"]["ID"] == key and event["Action"] == "start"
    ]
    gaps = [after - before for before, after in pairwise(starts)]
    for gap, least in zip(gaps, (0.1, 0.2, 0.4, 0.8), strict=False):
        assert least <= gap < least + 1.0
    time.sleep(0.3)
    assert state(engine, key)["Status"] == "exited"


def test_health(engine: Engine) -> None:
    check = {"Test": ["CMD-SHELL", "echo seen; test -e /ok"], "Interval": 50_000_000, "Retries": 2}
    key = create(engine, "sleep", "100", Healthcheck=check)
    start(engine, key)
    assert state(engine, key)["Health"]["Status"] == "starting"
    until(lambda: state(engine, key)["Health"]["Status"] == "unhealthy", "it is unhealthy")
    entry = state(engine, key)["Health"]["Log"][0]
    assert (entry["ExitCode"], entry["Output"]) == (1, "seen\n")
    run_exec(engine, key, "touch", "/ok")
    until(lambda: state(engine, key)["Health"]["Status"] == "healthy", "it is healthy")
    assert state(engine, key)["Health"]["FailingStreak"] == 0


def test_a_probe_that_hangs_is_a_failure(engine: Engine) -> None:
    check = {"Test": ["CMD", "sleep", "60"], "Interval": 50_000_000, "Timeout": 100_000_000}
    key = create(engine, "sleep", "100", Healthcheck=check)
    start(engine, key)
    until(lambda: state(engine, key)["Health"]["Log"], "a probe has ended")
    entry = state(engine, key)["Health"]["Log"][0]
    assert entry["ExitCode"] == -1
    assert entry["Output"].startswith("Health check exceeded timeout (100ms)")


def run_exec(engine: Engine, key: str, *command: str, **body: Any) -> dict[str, Any]:
    """Run an exec to its end and return its inspect object."""
    config = {"Cmd": command, **body}
    exec_id = engine.api("POST", f"/containers/{key}/exec", config).json()["Id"]
    assert engine.api("POST", f"/exec/{exec_id}/start", {"Detach": True}).status == 200
    until(lambda: not engine.api("GET", f"/exec/{exec_id}/json").json()["Running"], "it ended")
    found: dict[str, Any] = engine.api("GET", f"/exec/{exec_id}/json").json()
    return found


def test_exec_keeps_its_code_and_runs_once(engine: Engine) -> None:
    key = create(engine, "sleep", "100")
    assert engine.api("POST", f"/containers/{key}/exec", {"Cmd": ["true"]}).status == 409
    start(engine, key)
    found = run_exec(engine, key, "sh", "-c", "exit 7")
    assert (found["ExitCode"], found["ContainerID"]) == (7, key)
    again = engine.api("POST", f"/exec/{found['ID']}/start", {"Detach": True})
    assert again.status == 409
    assert engine.api("POST", "/exec/nope/start", {"Detach": True}).status == 404


def test_pause_refuses_exec_and_a_stop_ends_it(engine: Engine) -> None:
    key = create(engine, "sleep", "100")
    start(engine, key)
    assert engine.api("POST", f"/containers/{key}/pause").status == 204
    assert engine.api("POST", f"/containers/{key}/pause").status == 409
    answer = engine.api("POST", f"/containers/{key}/exec", {"Cmd": ["true"]})
    assert answer.message == f"Container {key} is paused, unpause the container before exec"
    assert engine.api("POST", f"/containers/{key}/stop?t=1").status == 204
    assert state(engine, key)["Status"] == "exited"


def test_names_are_taken_and_given_back(engine: Engine) -> None:
    first = create(engine, "true", name="taken")
    answer = engine.api("POST", "/containers/create?name=taken", {"Image": "busybox"})
    assert answer.status == 409
    assert answer.message == (
        f'Conflict. The container name "/taken" is already in use by container "{first}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )
    assert engine.api("POST", "/containers/taken/rename?name=other").status == 204
    create(engine, "true", name="taken")
    assert engine.api("POST", "/containers/other/rename?name=taken").status == 409


def test_what_joins_shares(engine: Engine) -> None:
    base = create(engine, "sleep", "100", Hostname="donor", HostConfig={"IpcMode": "shareable"})
    mode = f"container:{base}"
    key = create(
        engine,
        "sh",
        "-c",
        "hostname; cat /etc/hostname; ps | grep -c 'sleep 100'; touch /dev/shm/mark",
        HostConfig={"NetworkMode": mode, "IpcMode": mode, "PidMode": mode},
    )
    refused = engine.api("POST", f"/containers/{key}/start")
    assert refused.status == 409
    assert "non running container" in refused.message
    start(engine, base)
    start(engine, key)
    engine.api("POST", f"/containers/{key}/wait")
    body = engine.api("GET", f"/containers/{key}/logs?stdout=1").body
    assert [line[8:] for line in body.splitlines()][:2] == [b"donor", b"donor"]
    assert run_exec(engine, base, "test", "-e", "/dev/shm/mark")["ExitCode"] == 0


def test_an_oom_kill_is_seen(engine: Engine) -> None:
    greedy = "a=x; while true; do a=$a$a; done"
    key = create(engine, "sh", "-c", greedy, HostConfig={"Memory": 16 << 20})
    start(engine, key)
    assert engine.api("POST", f"/containers/{key}/wait", timeout=60).json()["StatusCode"] == 137
    assert state(engine, key)["OOMKilled"] is True


def test_anonymous_volumes_go_with_v_and_seeding_keeps_owners(engine: Engine) -> None:
    key = create(engine, "ls", "-ln", "/etc/passwd", Volumes={"/etc": {}})
    start(engine, key)
    engine.api("POST", f"/containers/{key}/wait")
    volume = engine.api("GET", f"/containers/{key}/json").json()["Mounts"][0]["Name"]
    assert b"/etc/passwd" in engine.api("GET", f"/containers/{key}/logs?stdout=1").body
    answer = engine.api("DELETE", f"/volumes/{volume}")
    assert answer.status == 409
    assert answer.message == f"remove {volume}: volume is in use - [{key}]"
    assert engine.api("DELETE", f"/containers/{key}?v=1").status == 204
    assert engine.api("GET", f"/volumes/{volume}").status == 404


def test_a_client_that_goes_away_does_not_cancel_the_stop(engine: Engine) -> None:
    key = create(engine, "sleep", "100")
    start(engine, key)
    connection = UnixConnection(engine.socket)
    connection.request("POST", f"/containers/{key}/stop?t=1")
    time.sleep(0.2)
    connection.close()
    until(lambda: state(engine, key)["Status"] == "exited", "it is stopped all the same")


def test_many_side_by_side(engine: Engine) -> None:
    codes: list[int] = []

    def one(number: int) -> None:
        key = create(engine, "sh", "-c", f"exit {number}")
        start(engine, key)
        codes.append(engine.api("POST", f"/containers/{key}/wait").json()["StatusCode"])
        assert engine.api("DELETE", f"/containers/{key}").status == 204

    threads = [threading.Thread(target=one, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == list(range(32))


def test_a_failed_start_leaves_nothing_and_says_why(engine: Engine) -> None:
    key = create(engine, "nosuch")
    answer = engine.api("POST", f"/containers/{key}/start")
    assert answer.status == 400
    assert 'exec: "nosuch": executable file not found in $PATH' in answer.message
    found = state(engine, key)
    assert (found["Status"], found["ExitCode"]) == ("created", 127)
    assert found["Error"] == answer.message
    assert not (engine.exec_root / "containers" / key).exists()


def test_an_unknown_network_is_not_a_missing_image(engine: Engine) -> None:
    """The docker client pulls the image when a create answers 404, whatever was missing."""
    refused = engine.docker("run", "--rm", "--network", "nowhere", "busybox", "true", check=False)
    assert refused.returncode == 125
    assert "network nowhere not found" in refused.stderr
    assert "Unable to find image" not in refused.stderr
