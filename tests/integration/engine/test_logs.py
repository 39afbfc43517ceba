"""`logs` of a real daemon: details, many megabytes, what else must go on meanwhile."""

from __future__ import annotations

import json
import subprocess
import time

from tests.support.engine import Engine

LINES = 200_000
PING_LIMIT = 0.25
"""Seconds that nobody else may wait: a block of 64 KiB takes a few ms; the rest is for slow CI."""


def test_details_are_the_attributes_that_were_asked_for(engine: Engine) -> None:
    engine.docker(
        "run", "--name", "detailed", "--log-opt", "labels=shelf,none", "--log-opt",
        "env-regex=^BO", "--log-opt", "tag={{.Name}}/{{.ID}}", "--label", "shelf=oak",
        "--label", "other=x", "-e", "BOOK=a b", "-e", "PEN=no", "busybox", "echo", "line",
    )  # fmt: skip
    found = engine.api("GET", "/containers/detailed/json").json()["Id"]
    wanted = f"BOOK=a+b,shelf=oak,tag=detailed%2F{found[:12]} line\n"
    assert engine.docker("logs", "--details", "detailed").stdout == wanted
    assert engine.docker("logs", "detailed").stdout == "line\n"
    path = engine.data_root / "containers" / found / f"{found}-json.log"
    assert json.loads(path.read_text())["attrs"]["shelf"] == "oak"
    engine.docker("rm", "detailed")


def test_a_large_log_holds_nobody_up(engine: Engine) -> None:
    script = f"i=0; while [ $i -lt {LINES // 100} ]; do cat /block; i=$((i+1)); done"
    lines = "".join(f"this is line {number} of a block of a hundred\\n" for number in range(100))
    engine.docker("run", "--name", "large", "--log-opt", "max-size=100m", "busybox", "sh", "-c",
                  f"printf '{lines}' > /block; {script}", stdout=subprocess.DEVNULL)  # fmt: skip
    reader = subprocess.Popen(
        ["curl", "-sN", "--unix-socket", str(engine.socket),
         "http://x/v1.43/containers/large/logs?stdout=1"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert reader.stdout is not None
    counter = subprocess.Popen(["grep", "-ac", "of a block"], stdin=reader.stdout,
                               stdout=subprocess.PIPE, text=True)  # fmt: skip
    reader.stdout.close()
    slowest, pings = 0.0, 0
    while reader.poll() is None:
        before = time.monotonic()
        assert engine.api("GET", "/_ping").status == 200
        slowest, pings = max(slowest, time.monotonic() - before), pings + 1
    assert counter.communicate(timeout=20)[0].strip() == str(LINES)
    assert pings > 3
    assert slowest < PING_LIMIT
    tail = engine.docker("logs", "--tail", "2", "large").stdout.splitlines()
    assert [line.split()[3] for line in tail] == ["98", "99"]
    engine.docker("rm", "large")
