"""Restart policies, health checks, logs and what is removed by itself."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.fields.box import Api, Box
from tests.integration.fields.claims import shows
from tests.support.engine import Engine
from tests.support.needs import until

pytestmark = pytest.mark.root

MS = 1_000_000


def events(api: Api, box: Box, since: float) -> list[str]:
    """The actions of the container's events from a time on."""
    query = f"?since={since:.6f}&until={time.time():.6f}"
    query += "&filters=" + json.dumps({"container": [box.id]}).replace('"', "%22").replace(" ", "")
    body = api.engine.api("GET", f"/events{query}").body
    return [json.loads(line)["Action"] for line in body.splitlines()]


@shows("HostConfig.RestartPolicy", "RestartPolicy.Name", "RestartPolicy.MaximumRetryCount")
def test_on_failure_counts_and_backs_off(api: Api) -> None:
    began = time.time()
    policy = {"Name": "on-failure", "MaximumRetryCount": 2}
    with api.living("sh", "-c", "date +%s.%N; exit 3", host={"RestartPolicy": policy}) as box:
        assert box.wait() == 3
        shown = box.inspect()
        assert shown["RestartCount"] == 2
        assert shown["State"]["Status"] == "exited"
        found = events(api, box, began - 1)
        assert found.count("start") == found.count("die") == 3
        assert time.time() - began > 0.3, "100 ms, then 200 ms"
    with api.living("true", host={"RestartPolicy": policy}) as box:
        assert box.wait() == 0
        assert box.inspect()["RestartCount"] == 0, "it did not fail"
    for wrong in ({"Name": "nonsense"}, {"Name": "always", "MaximumRetryCount": 1}):
        assert "restart policy" in api.refused(host={"RestartPolicy": wrong})


def test_always_until_it_is_stopped(api: Api) -> None:
    with api.living("sh", "-c", "exit 0", host={"RestartPolicy": {"Name": "always"}}) as box:
        until(lambda: box.inspect()["RestartCount"] >= 2, "it was restarted twice")
        api.ok("POST", f"/containers/{box.id}/stop")
        state = until(lambda: (s := box.inspect()["State"])["Status"] == "exited" and s, "stopped")
        count = box.inspect()["RestartCount"]
        time.sleep(0.5)
        assert box.inspect()["RestartCount"] == count
        assert state["Running"] is False
    with api.living("sleep", "600", host={"RestartPolicy": {"Name": "no"}}) as box:
        api.ok("POST", f"/containers/{box.id}/kill")
        assert box.wait() == 137
        assert box.inspect()["RestartCount"] == 0


POLICIES = {
    "always": "always",
    "always-stopped": "always",
    "failure": "on-failure",
    "no": "no",
    "unless": "unless-stopped",
    "unless-stopped": "unless-stopped",
}


def test_policies_across_a_restart_of_the_daemon(make_engine: Callable[..., Engine]) -> None:
    """Whatever died with the machine comes back, but for what somebody had stopped."""
    engine = make_engine("--live-restore=false")
    api = Api(engine)
    try:
        for name, policy in POLICIES.items():
            host = {"NetworkMode": "none", "RestartPolicy": {"Name": policy}}
            body = {"Image": "busybox", "Cmd": ["sleep", "600"], "StopSignal": "SIGKILL"}
            made = api.ok("POST", f"/containers/create?name={name}", body | {"HostConfig": host})
            assert made["Warnings"] == []
            api.ok("POST", f"/containers/{name}/start")
        for name in ("unless-stopped", "always-stopped"):
            api.ok("POST", f"/containers/{name}/stop?t=0")
        api.reconnect()
        engine.stop()
        engine.start()

        def running() -> set[str]:
            listed = api.ok("GET", "/containers/json")
            return {one["Names"][0][1:] for one in listed}

        until(lambda: {"always", "unless", "always-stopped"} <= running(), "they came back")
        time.sleep(0.3)
        assert running() - {"failure"} == {"always", "unless", "always-stopped"}
    finally:
        api.connection.close()


def probe(test: list[str], **more: Any) -> dict[str, Any]:
    quick = {"Interval": 60 * MS, "Timeout": 2000 * MS, "Retries": 2}
    return {"Healthcheck": {"Test": test} | quick | more}


def health(box: Box) -> dict[str, Any]:
    document = box.inspect()["State"]["Health"]
    assert isinstance(document, dict)
    return document


@shows("ContainerConfig.Healthcheck", "HealthConfig.Test", "HealthConfig.Interval")
@shows("HealthConfig.Retries")
def test_health_there_and_back(api: Api, default: Box) -> None:
    began = time.time()
    test = ["CMD-SHELL", "echo probe $A; test -e /tmp/well"]
    config = probe(test, Interval=150 * MS) | {"Env": ["A=7"]}
    with api.living(config=config) as box:
        assert health(box)["Status"] == "starting"
        box.sh("touch /tmp/well")
        until(lambda: health(box)["Status"] == "healthy", "it is healthy")
        box.sh("rm /tmp/well")
        until(lambda: health(box)["Status"] == "unhealthy", "it is unhealthy")
        assert health(box)["FailingStreak"] >= 2
        entry = health(box)["Log"][-1]
        assert entry["ExitCode"] == 1
        assert entry["Output"] == "probe 7\n"
        box.sh("touch /tmp/well")
        until(lambda: health(box)["Status"] == "healthy", "it is healthy again")
        until(lambda: len(health(box)["Log"]) == 5, "five entries")
        time.sleep(0.4)
        assert len(health(box)["Log"]) == 5, "and never more"
        found = [one for one in events(api, box, began - 1) if one.startswith("health_status")]
        assert found == [f"health_status: {word}" for word in ("healthy", "unhealthy", "healthy")]
        starts = [entry["Start"] for entry in health(box)["Log"]]
        assert starts == sorted(starts)
    assert "Health" not in default.inspect()["State"]
    with api.living(config=probe(["NONE"])) as box:
        assert "Health" not in box.inspect()["State"]
    assert "healthcheck" in api.refused(config=probe(["NONSENSE", "x"])).lower()
    assert "1ms" in api.refused(config=probe(["CMD", "true"], Interval=5))


@shows("HealthConfig.Timeout")
def test_a_probe_that_takes_too_long(api: Api) -> None:
    with api.living(config=probe(["CMD", "sleep", "77"], Timeout=100 * MS, Retries=1)) as box:
        until(lambda: health(box)["Status"] == "unhealthy", "it is unhealthy")
        entry = health(box)["Log"][0]
        assert entry["ExitCode"] == -1
        assert "exceeded timeout (100ms)" in entry["Output"]
        until(lambda: len(health(box)["Log"]) == 5, "five of them ran")
        assert box.sh("ps").count("sleep 77") <= 1, "those that took too long were ended"


@shows("HealthConfig.StartPeriod", "HealthConfig.StartInterval")
def test_failures_at_the_start_do_not_count(api: Api) -> None:
    grace = {"StartPeriod": 700 * MS, "StartInterval": 50 * MS, "Interval": 100 * MS, "Retries": 1}
    with api.living(config=probe(["CMD", "false"], **grace)) as box:
        began = time.monotonic()
        until(lambda: len(health(box)["Log"]) >= 3, "three probes failed")
        if time.monotonic() - began < 0.6:
            assert health(box)["Status"] == "starting"
        until(lambda: health(box)["Status"] == "unhealthy", "the period is over")
        assert time.monotonic() - began > 0.5
    slow = {"StartPeriod": 60_000 * MS, "StartInterval": 50 * MS, "Interval": 60_000 * MS}
    with api.living(config=probe(["CMD", "false"], **slow)) as box:
        until(lambda: len(health(box)["Log"]) >= 2, "probes come at the interval of the start")
        assert health(box)["Status"] == "starting"


@shows("ContainerConfig.Shell")
def test_the_shell_of_a_health_check(api: Api) -> None:
    config = probe(["CMD-SHELL", "hello"]) | {"Shell": ["/bin/echo", "my-shell"]}
    with api.living(config=config) as box:
        until(lambda: health(box)["Log"], "a probe has run")
        assert health(box)["Log"][0]["Output"] == "my-shell hello\n"


@shows("HostConfig.AutoRemove")
def test_it_removes_itself_and_its_anonymous_volumes(api: Api) -> None:
    config = {"Volumes": {"/anon": {}}}
    api.ok("POST", "/volumes/create", {"Name": "fields-kept"})
    try:
        host = {"AutoRemove": True, "Binds": ["fields-kept:/kept"]}
        with api.living(config=config, host=host) as box:
            points = {one["Destination"]: one["Name"] for one in box.inspect()["Mounts"]}
            api.ok("POST", f"/containers/{box.id}/kill")
            until(lambda: api.call("GET", f"/containers/{box.id}/json").status == 404, "removed")
        assert api.call("GET", f"/volumes/{points['/anon']}").status == 404
        assert api.call("GET", "/volumes/fields-kept").status == 200
    finally:
        api.ok("DELETE", "/volumes/fields-kept")
    policy = {"AutoRemove": True, "RestartPolicy": {"Name": "always"}}
    assert "AutoRemove" in api.refused(host=policy)


def log_of(api: Api, box: Box) -> Path:
    return Path(api.engine.data_root, "containers", box.id, f"{box.id}-json.log")


@pytest.fixture
def chatter() -> str:
    """Shell text that writes 64 KB in short lines."""
    line = "x" * 63
    return f"i=0; while [ $i -lt 1000 ]; do echo {line}; i=$((i+1)); done"


@shows("HostConfig.LogConfig", "LogConfig.Type", "LogConfig.Config")
def test_logs(api: Api, chatter: str) -> None:
    with api.living("echo", "kept", host={"LogConfig": {"Type": "json-file"}}) as box:
        box.wait()
        assert b"kept" in box.logs().body
        record = json.loads(log_of(api, box).read_text().splitlines()[0])
        assert (record["log"], record["stream"]) == ("kept\n", "stdout")
        assert "attrs" not in record
    with api.living("echo", "lost", host={"LogConfig": {"Type": "none"}}) as box:
        box.wait()
        assert box.logs().status in (400, 500, 501)
        assert not log_of(api, box).exists()
    rotated = {"Type": "json-file", "Config": {"max-size": "16k", "max-file": "3"}}
    with api.living("sh", "-c", chatter, host={"LogConfig": rotated}) as box:
        assert box.wait() == 0
        sizes = [one.stat().st_size for one in log_of(api, box).parent.glob("*-json.log*")]
        assert len(sizes) == 3
        assert max(sizes) < 20_000
    assert "no-such" in api.refused(host={"LogConfig": {"Type": "no-such"}})
    for option, value in (("nonsense", "1"), ("tag", "{{.Nonsense}}"), ("mode", "sometimes")):
        wrong = {"Type": "json-file", "Config": {option: value}}
        assert value in api.refused(host={"LogConfig": wrong}) or option == "nonsense"


def test_attributes_of_log_lines(api: Api) -> None:
    options = {
        "labels": "colour",
        "env": "STAGE,NONE",
        "env-regex": "^OS_",
        "tag": "t-{{.Name}}/{{ .ID }}",
    }
    config = {"Labels": {"colour": "blue", "other": "1"}, "Env": ["STAGE=test", "OS_A=1", "B=2"]}
    host = {"LogConfig": {"Type": "json-file", "Config": options}}
    with api.living("echo", "x", config=config, host=host) as box:
        box.wait()
        record = json.loads(log_of(api, box).read_text())
        name = box.inspect()["Name"][1:]
        tag = f"t-{name}/{box.id[:12]}"
        want = {"colour": "blue", "STAGE": "test", "OS_A": "1", "tag": tag}
        assert record["attrs"] == want
        details = box.logs("&details=1").body.decode(errors="replace")
        assert "colour=blue" in details


def test_an_explicit_driver_is_rotated_by_the_daemons_default(api: Api) -> None:
    with api.made("true", host={"LogConfig": {"Type": "json-file", "Config": {}}}) as box:
        assert box.inspect()["HostConfig"]["LogConfig"]["Config"]["max-size"] == "10m"


def test_no_probe_while_it_is_paused(api: Api) -> None:
    with api.living(config=probe(["CMD", "date"])) as box:
        until(lambda: health(box)["Log"], "a probe has run")
        api.ok("POST", f"/containers/{box.id}/pause")
        time.sleep(0.1)  # one that was under way when it was frozen
        before = health(box)["Log"]
        time.sleep(0.3)
        assert health(box)["Log"] == before
        api.ok("POST", f"/containers/{box.id}/unpause")
        until(lambda: health(box)["Log"] != before, "they go on")


def test_life_goes_on_after_the_daemon_was_killed(make_engine: Callable[..., Engine]) -> None:
    """Back-off, health checks, AutoRemove and stop signals: all of it is in the records."""
    engine = make_engine()
    api = Api(engine)
    always = {"RestartPolicy": {"Name": "always"}}
    try:
        with (
            api.living("sh", "-c", "sleep 0.05; exit 1", host=always) as failing,
            api.living(config=probe(["CMD-SHELL", "test -e /tmp/well"])) as watched,
            api.made("sleep", "0.3", host={"AutoRemove": True},
                     config={"Volumes": {"/anon": {}}}) as brief,
        ):  # fmt: skip
            until(lambda: failing.inspect()["RestartCount"] >= 3, "it is in its back-off")
            watched.sh("touch /tmp/well")
            until(lambda: health(watched)["Status"] == "healthy", "it is healthy")
            volume = brief.inspect()["Mounts"][0]["Name"]
            pid = watched.pid
            brief.start()
            api.reconnect()
            engine.kill()
            time.sleep(0.4)
            engine.start()
            before = failing.inspect()["RestartCount"]
            assert before >= 3
            until(lambda: failing.inspect()["RestartCount"] > before, "it is restarted again")
            assert watched.pid == pid
            watched.sh("rm /tmp/well")
            until(lambda: health(watched)["Status"] == "unhealthy", "it is still watched")
            until(lambda: api.call("GET", f"/containers/{brief.id}/json").status == 404, "removed")
            until(lambda: api.call("GET", f"/volumes/{volume}").status == 404, "its volume too")
    finally:
        api.connection.close()
