"""The first-party drivers pass the kits that strangers' pass."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from boxwood.testing.isolation import IsolationSuite
from boxwood.testing.log import LogSuite
from boxwood.testing.volume import VolumeSuite
from tests.support.needs import need_root


@pytest.fixture(autouse=True)
def _root() -> None:
    need_root()


class TestNative(IsolationSuite):
    driver_name = "native"


class TestLocalVolumes(VolumeSuite):
    driver_name = "local"


class TestJsonFile(LogSuite):
    driver_name = "json-file"
    rotation = {"max-size": "1m", "max-file": "3"}  # noqa: RUF012


class TestNoLog(LogSuite):
    driver_name = "none"


@pytest.mark.parametrize(
    ("kind", "name"),
    [("isolation", "native"), ("network", "none"), ("volume", "local"), ("log", "json-file")],
)
def test_the_command_of_the_docs(kind: str, name: str, tmp_path: Path) -> None:
    """Each kit runs from the command line against a driver by name."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += [f"--boxwood-{kind}={name}", "--pyargs", f"boxwood.testing.{kind}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "no --boxwood" not in done.stdout
