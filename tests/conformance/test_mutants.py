"""The storage kit is tested itself: it must catch faults that were planted in good drivers."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.mutants import MUTANTS
from tests.support.needs import need_root
from tests.support.paths import ROOT

CAUGHT_AT_LEAST = 0.9


IN_A_SHORT_RUN = 16
"""Mutants that a run without `--soak` tries, others each time: all of them take half a minute."""


@pytest.mark.timeout(600)
def test_mutants_are_caught(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Nine of ten, and at least twenty are planted; those that are not caught are named."""
    need_root()
    assert len(MUTANTS) >= 20
    tried = sorted(MUTANTS)
    if not request.config.getoption("--soak"):
        tried = random.sample(tried, IN_A_SHORT_RUN)
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider"]
    command += [f"--boxwood-report={report}", "--timeout=60"]
    command += [f"tests/conformance/mutants.py::Test{name}" for name in tried]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr
    laws = json.loads(report.read_text())["laws"]
    caught = {law["suite"].removeprefix("Test") for law in laws if law["outcome"] == "failed"}
    missed = sorted(set(tried) - caught)
    assert len(missed) <= len(tried) * (1 - CAUGHT_AT_LEAST), f"not caught: {missed}"
    print(f"{len(tried) - len(missed)} of {len(tried)} mutants are caught; not: {missed}")
