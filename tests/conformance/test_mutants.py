"""The storage kit is tested itself: it must catch faults that were planted in good drivers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.mutants import MUTANTS
from tests.support.needs import need_root
from tests.support.paths import ROOT

CAUGHT_AT_LEAST = 0.9


@pytest.mark.timeout(600)
def test_mutants_are_caught(tmp_path: Path) -> None:
    """Nine of ten, and at least twenty are planted; those that are not caught are named."""
    need_root()
    assert len(MUTANTS) >= 20
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider"]
    command += [f"--boxwood-report={report}", "--timeout=60", "tests/conformance/mutants.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr
    laws = json.loads(report.read_text())["laws"]
    caught = {law["suite"].removeprefix("Test") for law in laws if law["outcome"] == "failed"}
    missed = sorted(MUTANTS.keys() - caught)
    assert len(missed) <= len(MUTANTS) * (1 - CAUGHT_AT_LEAST), f"not caught: {missed}"
    print(f"{len(MUTANTS) - len(missed)} of {len(MUTANTS)} mutants are caught; not: {missed}")
