"""`boxwood bench registry`, for real: every transport on a place of its own, nothing left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from tests.support.needs import need_program
from tests.support.paths import ROOT, clean_environment

COMMAND = (sys.executable, "-m", "boxwood", "bench", "registry")
SCHEMA = ROOT / "runtime/boxwood/bench/schema.json"


def bench(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the bench to its end."""
    return subprocess.run(
        [*COMMAND, *words],
        env=clean_environment(**more),
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.mark.root
def test_quick_run(tmp_path: Path) -> None:
    """Each transport's scenarios are measured; what has no place is left out with its sentence."""
    need_program("docker-registry")
    words = ["--quick", "--rounds", "1", "--seed", "4"]
    done = bench(
        *words, "--json", f"{tmp_path}/a.json", "--html", f"{tmp_path}/a.html", TMPDIR=str(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    report = json.loads((tmp_path / "a.json").read_text())
    jsonschema.validate(report, json.loads(SCHEMA.read_text()))
    assert [result["error"] for result in report["results"] if result["error"]] == []
    scenarios: dict[str, set[str]] = {}
    for result in report["results"]:
        scenarios.setdefault(result["subject"], set()).add(result["scenario"])
    ways = {"push", "resolve", "fetch", "pull"}
    ours = ("docker", "oci", "oci-archive", "docker-archive", "dir")
    assert {name: scenarios[name] for name in ours} == dict.fromkeys(ours, ways)
    left_out = {one["subject"]: one["cause"] for one in report["left_out"]}
    assert left_out["debootstrap"] == "no place of its kind can be made here"
    assert "<svg" in (tmp_path / "a.html").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "a.json"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--driver", "nosuch"], "--driver nosuch: not installed; there are debootstrap, dir, "),
        (["--rounds", "-1"], "--rounds -1: not a number of rounds"),
        (["--json", "/nosuch/x.json"], "/nosuch/x.json: its folder is not there"),
    ],
)
def test_what_is_wrong_is_said_first(words: list[str], sentence: str) -> None:
    done = bench(*words)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_nothing_to_measure() -> None:
    """A transport that there is no place for is said to be left out."""
    done = bench("--quick", "--rounds", "1", "--driver", "debootstrap")
    assert done.returncode == 1
    assert "Left out: debootstrap: no place of its kind can be made here" in done.stdout
