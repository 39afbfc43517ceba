"""`boxwood bench storage`, for real: fresh file systems, nothing left, clear refusals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

from tests.support.needs import need_program, need_root
from tests.support.paths import ROOT, clean_environment

COMMAND = (sys.executable, "-m", "boxwood", "bench", "storage")
SCHEMA = ROOT / "runtime/boxwood/bench/schema.json"


def _bench(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "--folder", folder, *words],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=100,
    )


def _mounts_below(folder: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if str(folder) in line]


@pytest.mark.root
def test_quick_run(tmp_path: Path) -> None:
    need_root()
    need_program("mkfs.ext4")
    room, out = tmp_path / "room", tmp_path / "out"
    room.mkdir()
    out.mkdir()
    words = ["--quick", "--rounds", "1", "--driver", "overlay", "--driver", "vfs", "--seed", "4"]
    kept = ["--json", str(out / "a.json"), "--html", str(out / "a.html")]
    done = _bench(room, *words, "--fs", "tmpfs,ext4", *kept)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no progress where there is no terminal
    report = json.loads((out / "a.json").read_text())
    jsonschema.validate(report, json.loads(SCHEMA.read_text()))
    assert [result["error"] for result in report["results"] if result["error"]] == []
    assert {result["subject"] for result in report["results"]} == {
        f"{driver} on {place}" for driver in ("overlay", "vfs") for place in ("tmpfs", "ext4")
    }
    room_of = {
        result["subject"]: result["median"]
        for result in report["results"]
        if result["scenario"] == "space"
    }
    # A plain copy of everything takes more room than what has changed.
    assert room_of["overlay on ext4"] < room_of["vfs on ext4"]
    assert "<svg" in (out / "a.html").read_text()
    assert list(room.iterdir()) == []
    assert _mounts_below(room) == []


@pytest.mark.root
def test_driver_that_cannot_work_here_is_left_out_with_its_sentence(tmp_path: Path) -> None:
    need_root()
    out = tmp_path / "a.json"
    done = _bench(
        tmp_path, "--quick", "--rounds", "1", "--driver", "btrfs", "--fs", "tmpfs", "--json",
        str(out),
    )  # fmt: skip
    assert done.returncode == 1
    (left,) = json.loads(out.read_text())["left_out"]
    assert left["subject"] == "btrfs on tmpfs"
    assert "btrfs" in left["cause"]
    assert f"Left out: btrfs on tmpfs: {left['cause']}" in done.stdout


@pytest.mark.root
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    need_root()
    words = [*COMMAND, "--folder", tmp_path, "--quick", "--driver", "vfs", "--fs", "tmpfs"]
    process = subprocess.Popen(
        words, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        deadline = time.monotonic() + 30
        while not any("/places/" in line for line in _mounts_below(tmp_path)):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, number)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, output
    assert output.strip() == b""
    assert _mounts_below(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.root
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--driver", "nonesuch"], "bench: --driver nonesuch: not installed"),
        (["--fs", "fat"], "bench: --fs fat: not one of"),
        (["--compare", "/nonesuch.json"], "bench: /nonesuch.json: No such file"),
        (["--json", "/nonesuch/a.json"], "its folder is not there"),
        (["--rounds", "-1"], "not a number of rounds"),
    ],
)
def test_refusals(tmp_path: Path, words: list[str], said: str) -> None:
    need_root()
    done = _bench(tmp_path, *words)
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
