"""`plugin test`: what it says of a good driver, of a bad one, and of none."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.support.needs import need_root
from tests.support.paths import BOXWOOD

BAD = """
from boxwood.drivers.hookspecs import hookimpl
from boxwood.drivers.log import LogDriver

@hookimpl
def log_driver(name, options):
    return None
"""


def graded(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    need_root()
    environment = {**os.environ, "PYTHONPATH": str(path or "")}
    return subprocess.run(
        [BOXWOOD, "plugin", "test", *arguments],
        capture_output=True, text=True, env=environment, check=False, timeout=100,
    )  # fmt: skip


def test_a_good_driver() -> None:
    """All laws hold: grade A, by groups, exit code 0."""
    done = graded("--kind", "volume", "local")
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("volume local: grade A: ")
    assert " hold\n" in done.stdout


def test_a_network_driver() -> None:
    """A network's own options are given with a prefix."""
    done = graded("--kind", "network", "macvlan", "--opt", "network.macvlan_mode=nonsense")
    assert done.returncode == 1
    assert "requested macvlan mode 'nonsense' is not valid" in done.stdout
    done = graded("--kind", "network", "macvlan", "--opt", "network.macvlan_mode=bridge")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("network macvlan: grade B: ")


def test_options_reach_the_driver() -> None:
    """`--opt` is given to the driver; laws that it leaves out make a B."""
    done = graded("--kind", "log", "json-file", "--opt", "max-size=1m")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("log json-file: grade ")
    done = graded("--kind", "log", "json-file", "--opt", "nonsense=1")
    assert done.returncode == 1
    assert "nonsense" in done.stdout


def test_a_transport() -> None:
    """A registry transport; without a place to push to only what needs none is tried."""
    done = graded("--kind", "registry", "docker")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("registry docker: grade B: ")
    assert "no place to push to" in done.stdout


def test_a_bad_driver(tmp_path: Path) -> None:
    """Each law that does not hold has a line with its reason; exit code 1."""
    (tmp_path / "boxwood_bad.py").write_text(BAD)
    metadata = tmp_path / "boxwood_bad-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: boxwood-bad\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[boxwood.log]\nbad = boxwood_bad\n")
    done = graded("--kind", "log", "bad", path=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("log bad: grade F: 0 of ")
    assert "  failed: test_" in done.stdout


def test_no_driver() -> None:
    """One sentence for what cannot be tested."""
    for arguments, words in (
        (["nosuch"], "plugin test: nosuch: no storage driver"),
        (["--kind", "x", "vfs"], "plugin test: x: no such kind"),
        (["--root", "/nosuch/folder", "vfs"], "plugin test: /nosuch/folder: no such folder"),
    ):
        done = graded(*arguments)
        assert done.returncode == 1
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
