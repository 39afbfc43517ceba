"""What the README shows is run: its first five minutes, and its whole driver."""

from __future__ import annotations

import re

import pytest

from tests.support.engine import Engine, running
from tests.support.needs import need_program, need_root
from tests.support.paths import ROOT, clear_room, make_room
from tests.support.strangers import install_package

pytestmark = pytest.mark.root

README = ROOT / "README.md"
EXAMPLE = ROOT / "examples" / "storage-plain" / "boxwood_plain.py"
# A driver should fit on a page.
DRIVER_LINES = 40


def blocks(language: str) -> list[str]:
    """Return the code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)


def test_first_five_minutes(clean_engine: Engine) -> None:
    """Every line of the shell blocks succeeds, one after the other."""
    need_program("docker")
    lines = [line for block in blocks("sh") for line in block.splitlines() if line]
    assert len(lines) > 15
    # The README's reader has the engine of the default socket; the test has one of its own.
    lines = [line.replace("unix:///run/boxwood/boxwood.sock", clean_engine.host) for line in lines]
    script = "\n".join(f"echo '+ {number}'; {line}" for number, line in enumerate(lines))
    done = clean_engine.run("bash", "-e", "-c", script, check=False, cwd=ROOT, timeout=100)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.count("hello\n") >= 2
    assert "hello world" in done.stdout
    assert "running since" in done.stdout
    assert "kept" in done.stdout


def test_driver_is_the_example() -> None:
    """The README shows the example package's file, to the letter, and it is short."""
    (shown,) = blocks("python")
    assert shown == EXAMPLE.read_text()
    assert len([line for line in shown.splitlines() if line]) <= DRIVER_LINES


def test_driver_runs_a_container() -> None:
    """An engine on the example driver runs containers, and keeps them apart."""
    need_root()
    folder = make_room("plugin")
    try:
        install_package(folder, EXAMPLE.parent)
        engine = Engine("--storage-driver", "plain", variables={"PYTHONPATH": str(folder)})
        with running(engine):
            assert engine.api("GET", "/info").json()["Driver"] == "plain"
            run = ("run", "--rm", "--network", "none", "busybox", "sh", "-c")
            assert engine.cli(*run, "echo works; echo x >/mark").stdout == "works\n"
            assert engine.cli(*run, "ls /mark", check=False).returncode == 1
    finally:
        clear_room(folder)
