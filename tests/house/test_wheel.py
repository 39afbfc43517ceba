"""The wheel: what is in it, and that it runs where nothing of the checkout can be seen."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import Engine, running
from tests.support.needs import need_root
from tests.support.paths import ROOT, clear_room, make_room

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def wheel() -> Path:
    """The wheel, as `./dev wheel` builds it."""
    done = subprocess.run(
        [ROOT / "dev", "wheel"], capture_output=True, text=True, check=False, timeout=400
    )
    assert done.returncode == 0, done.stderr
    return ROOT / done.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def elsewhere(wheel: Path) -> Iterator[Path]:
    """An empty virtual environment outside the checkout, with the wheel installed in it."""
    room = make_room("wheel")
    try:
        base = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
        subprocess.run([base, "-m", "venv", room / "venv"], check=True, timeout=120)
        pip = [room / "venv/bin/python", "-m", "pip", "--disable-pip-version-check", "-q"]
        done = subprocess.run(
            [*pip, "install", wheel], capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        yield room / "venv" / "bin"
    finally:
        clear_room(room)


def test_contents(wheel: Path) -> None:
    """Code, stubs, the shim and the units are in it; sources to compile and tests are not."""
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in (
        "boxwood/py.typed",
        "boxwood/systemd/boxwood.service",
        "boxwood/systemd/boxwood.socket",
        "boxwood_ext/bin/boxwood-shim",
        "boxwood_ext/tar.pyi",
        "boxwood_plugins/storage/overlay.py",
    ):
        assert wanted in names
    unwanted = [n for n in names if n.endswith((".c", ".h", ".pyx")) or n.startswith("tests")]
    assert unwanted == []
    compiled = [n for n in names if n.endswith(".so")]
    sources = list((ROOT / "ext/boxwood_ext").glob("*.pyx"))
    assert len(compiled) == len(sources) > 0


def test_shim_may_be_run(elsewhere: Path) -> None:
    """Installed, the shim is an executable file."""
    (shim,) = elsewhere.parent.glob("lib/python3*/site-packages/boxwood_ext/bin/boxwood-shim")
    assert shim.stat().st_mode & 0o111 == 0o111


def test_runs_a_container(elsewhere: Path) -> None:
    """With the checkout hidden behind an empty folder, an engine runs a container."""
    need_root()
    hide = f"mount -t tmpfs -o ro hidden '{ROOT}' && exec \"$@\""
    before = ("unshare", "--mount", "sh", "-c", hide, "hide")
    engine = Engine(program=elsewhere / "boxwood", before=before)
    with running(engine):
        done = engine.run(
            *before, engine.program, "run", "--rm", "--network", "none", "busybox", "echo", "there"
        )
        assert done.stdout == "there\n"
