"""The kits of storage, network and registry drivers are tested themselves.

They must catch faults that were planted in good drivers.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import mutants, network_mutants, registry_mutants
from tests.support.needs import need_root
from tests.support.paths import ROOT

CAUGHT_AT_LEAST = 0.9


IN_A_SHORT_RUN = 10
"""Mutants that a run without `--soak` tries, others each time: all of them take half a minute."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "module", [mutants, network_mutants, registry_mutants], ids=["storage", "network", "registry"]
)
def test_mutants_are_caught(module: Any, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Nine of ten, and at least twenty are planted; those that are not caught are named."""
    need_root()
    planted = module.MUTANTS
    assert len(planted) >= 20
    tried = sorted(planted)
    if not request.config.getoption("--soak"):
        tried = random.sample(tried, IN_A_SHORT_RUN)
    report = tmp_path / "report.json"
    # Mutants leave things behind: mounts go with a namespace of their own.
    command = ["unshare", "--mount", sys.executable, "-m", "pytest", "-q", "--tb=no"]
    command += ["-p", "no:cacheprovider", f"--boxwood-report={report}", "--timeout=60"]
    file = f"tests/conformance/{module.__name__.rpartition('.')[2]}.py"
    command += [f"{file}::Test{name}" for name in tried]
    # With CI set, pytest shows differences whole: of a layer's bytes that takes minutes.
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment
    )
    # 3: what is left behind was seen.
    assert done.returncode in (1, 3), done.stdout[-3000:] + done.stderr
    assert report.exists(), done.stdout[-3000:] + done.stderr[-3000:]
    laws = json.loads(report.read_text())["laws"]
    caught = {law["suite"].removeprefix("Test") for law in laws if law["outcome"] == "failed"}
    missed = sorted(set(tried) - caught)
    assert len(missed) <= len(tried) * (1 - CAUGHT_AT_LEAST), f"not caught: {missed}"
    print(f"{len(tried) - len(missed)} of {len(tried)} mutants are caught; not: {missed}")
