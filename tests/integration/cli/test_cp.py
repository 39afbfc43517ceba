"""`cp` of ours beside the stock client's, on one engine: the same files, the same statuses."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.normal import Normaliser
from tests.compat.test_scenarios import SCENARIOS
from tests.support.engine import Engine
from tests.support.paths import BOXWOOD, ROOT, clear_room, make_room

pytestmark = pytest.mark.root


@pytest.fixture
def ours() -> Iterator[Path]:
    """A folder in which `docker` is our command line."""
    room = make_room("ours")
    (room / "docker").symlink_to(BOXWOOD)
    yield room
    clear_room(room)


def play(engine: Engine, path: str) -> tuple[list[str], int]:
    """Run the scenario of copying; its output and status."""
    engine.remove_containers()
    folder = make_room("scenario")
    try:
        done = engine.run(
            *("sh", SCENARIOS / "cp.sh"),
            cwd=folder,
            env={"LC_ALL": "C", "TZ": "UTC", "PATH": path},
            check=False,
        )
    finally:
        engine.remove_containers()
        shutil.rmtree(folder)
    return Normaliser({str(folder): "<folder>", str(ROOT): "<root>"})(done.stdout), done.returncode


def test_the_same_as_the_stock_client(engine: Engine, ours: Path) -> None:
    """All of `docker cp`'s rules for sources and destinations."""
    path = engine.environment()["PATH"]
    assert play(engine, f"{ours}:{path}") == play(engine, path)


def test_what_is_refused_leaves_nothing(clean_engine: Engine, tmp_path: Path) -> None:
    """A copy that fails half way takes back what it has put beside its target."""
    clean_engine.docker("create", "--name", "box", "--network", "none", "busybox")
    done = clean_engine.cli("cp", "box:/bin/missing", tmp_path / "x", check=False)
    assert done.returncode == 1
    assert "Could not find the file /bin/missing in container box" in done.stderr
    done = clean_engine.cli("cp", "-L", "box:/bin/missing", tmp_path / "x", check=False)
    assert "Could not find the file /bin/missing in container box" in done.stderr
    done = clean_engine.cli("cp", "box:/etc", tmp_path / "no" / "x", check=False)
    assert done.returncode == 1
    assert list(tmp_path.iterdir()) == []
    clean_engine.cli("cp", "box:/etc/passwd", tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
