"""``./dev test``: what fails runs once more and is named; what always fails, or much, fails."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.needs import need_root
from tests.support.paths import ROOT

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

HEAD = """
import pathlib
import pytest
HERE = pathlib.Path(__file__).parent
"""
ONCE = """
def test_once():
    mark = HERE / "mark"
    seen = mark.exists()
    mark.touch()
    assert seen
"""
ALWAYS = """
def test_always():
    assert False
"""
MANY = """
@pytest.mark.parametrize("which", range(4))
def test_once(which):
    mark = HERE / f"mark{which}"
    seen = mark.exists()
    mark.touch()
    assert seen
"""


@pytest.mark.parametrize(
    ("source", "status", "named"),
    [(ONCE, 0, True), (ONCE + ALWAYS, 1, True), (MANY, 1, False)],
    ids=["unsteady", "always", "many"],
)
def test_what_fails_runs_once_more(tmp_path: Path, source: str, status: int, named: bool) -> None:
    """Up to three failures are tried again; the run's status is that of the second try."""
    need_root()
    file = tmp_path / "test_it.py"
    file.write_text(HEAD + source)
    done = subprocess.run(
        [ROOT / "dev", "test", "-q", "-p", "no:asyncio", "-c", "/dev/null",
         f"--rootdir={ROOT}", str(file)],
        env=os.environ | {"BOXWOOD_FRESH": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    assert ("UNSTEADY?" in done.stderr) == named
