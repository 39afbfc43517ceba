"""Many containers running at once: each answer takes the work of one, and all of them end."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.load.footprint import at_rest, settled
from tests.load.runs import connected
from tests.support.engine import Engine, running
from tests.support.needs import need_root

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

ALLOWANCE = 3072
"""KiB that the daemon may keep: its allocator does not give back all that so many records took."""
TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module")
def crowd(soak: bool) -> Iterator[tuple[Engine, int]]:
    """An engine, and how many containers it is to bear."""
    need_root()
    server = Engine()
    with running(server):
        yield server, 200 if soak else 40


def start_one(engine: Engine, number: int) -> str:
    """Make and start one that runs until it is stopped; returns its id."""
    with connected(engine) as api:
        body = {
            "Image": "busybox",
            "Cmd": ["sh", "-c", f"echo number {number}; exec sleep 1000"],
            "Labels": {"number": str(number)},
            "HostConfig": {"NetworkMode": "none"},
        }
        status, answer = api.ask("POST", "/containers/create", body)
        assert status == 201, answer
        key: str = json.loads(answer)["Id"]
        status, answer = api.ask("POST", f"/containers/{key}/start")
        assert status == 204, answer
        return key


def opened_by(engine: Engine, path: str) -> int:
    """Return the system calls (reads and writes) that a request costs the daemon."""
    before = _calls(engine)
    assert engine.api("GET", path).status == 200
    return _calls(engine) - before


def _calls(engine: Engine) -> int:
    found = dict(
        line.split(": ") for line in Path(f"/proc/{engine.pid}/io").read_text().splitlines()
    )
    return int(found["syscr"]) + int(found["syscw"])


def test_a_crowd(crowd: tuple[Engine, int]) -> None:
    """They all run; `ps` and `inspect` cost no call more than with one; they all stop."""
    engine, count = crowd
    one = start_one(engine, 0)
    engine.api("GET", "/containers/json")
    listing = min(opened_by(engine, "/containers/json") for _ in range(3))
    looking = min(opened_by(engine, f"/containers/{one}/json") for _ in range(3))
    assert engine.api("DELETE", f"/containers/{one}?force=1").status == 204

    before = at_rest(engine)
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda number: start_one(engine, number), range(count)))
    found = {entry["Id"]: entry for entry in engine.api("GET", "/containers/json").json()}
    assert set(keys) <= set(found)
    assert all(found[key]["State"] == "running" for key in keys)
    # The records are in memory: what grows is the length of the answer, a write for each 64 KiB.
    assert min(opened_by(engine, "/containers/json") for _ in range(3)) <= listing + count // 20
    assert min(opened_by(engine, f"/containers/{keys[-1]}/json") for _ in range(3)) <= looking
    for number in (0, count // 2, count - 1):
        log = engine.api("GET", f"/containers/{keys[number]}/logs?stdout=1").body
        assert log.endswith(f"number {number}\n".encode())

    # Live restore: a new daemon finds them all.
    pids = {
        key: engine.api("GET", f"/containers/{key}/json").json()["State"]["Pid"] for key in keys
    }
    engine.restart()
    for key in keys:
        state = engine.api("GET", f"/containers/{key}/json").json()["State"]
        assert (state["Status"], state["Pid"]) == ("running", pids[key])

    with ThreadPoolExecutor(16) as pool:
        stopped = pool.map(
            lambda key: engine.api("POST", f"/containers/{key}/stop?t=0", timeout=120).status, keys
        )
        assert set(stopped) == {204}
    engine.remove_containers()
    left = [
        words
        for words in settled(engine, before, ALLOWANCE)
        # Another daemon than before: its numbers are its own, but nothing of theirs is left.
        if not words.startswith(("descriptor", "memory", "threads", "processes below"))
    ]
    assert not left, "left by the crowd:\n  " + "\n  ".join(left)
