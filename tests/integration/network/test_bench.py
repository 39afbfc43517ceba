"""`boxwood bench network`, for real: a host of its own, nothing left, clear refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from tests.support.needs import need_root
from tests.support.paths import ROOT, clean_environment

COMMAND = (sys.executable, "-m", "boxwood", "bench", "network")
SCHEMA = ROOT / "runtime/boxwood/bench/schema.json"
TRAFFIC = {"latency", "transfer", "connections"}


def _bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words], env=clean_environment(), capture_output=True, text=True, timeout=100
    )


@pytest.mark.root
def test_quick_run(tmp_path: Path) -> None:
    """Each driver's scenarios are measured; what cannot run is left out with its sentence."""
    need_root()
    words = ["--quick", "--rounds", "1", "--seed", "4"]
    for driver in ("bridge", "host", "macvlan", "none", "cni"):
        words += ["--driver", driver]
    done = _bench(*words, "--json", f"{tmp_path}/a.json", "--html", f"{tmp_path}/a.html")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    report = json.loads((tmp_path / "a.json").read_text())
    jsonschema.validate(report, json.loads(SCHEMA.read_text()))
    assert [result["error"] for result in report["results"] if result["error"]] == []
    scenarios: dict[str, set[str]] = {}
    for result in report["results"]:
        scenarios.setdefault(result["subject"], set()).add(result["scenario"])
    alone = {"attach", "detach", "at-once", *TRAFFIC}
    assert scenarios == {
        "host": TRAFFIC,
        "macvlan": alone,
        "bridge": alone | {f"port-{name}" for name in TRAFFIC},
    }
    left_out = {one["subject"]: one["cause"] for one in report["left_out"]}
    assert left_out["none"] == "it connects nothing that could be measured"
    assert "conflist" in left_out["cni"]
    assert "<svg" in (tmp_path / "a.html").read_text()


@pytest.mark.root
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--driver", "nosuch"], "--driver nosuch: not installed; there are bridge, "),
        (["--rounds", "-1"], "--rounds -1: not a number of rounds"),
        (["--json", "/nosuch/x.json"], "/nosuch/x.json: its folder is not there"),
    ],
)
def test_what_is_wrong_is_said_first(words: list[str], sentence: str) -> None:
    need_root()
    done = _bench(*words)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
