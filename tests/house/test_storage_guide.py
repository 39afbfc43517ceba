"""docs/storage-drivers.md: its driver grows into the example, its code runs, its words are true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from boxwood.drivers.storage import StorageDriver
from tests.support.guides import grown, marked
from tests.support.needs import need_root
from tests.support.paths import ROOT
from tests.support.strangers import install_package

PAGE = (ROOT / "docs/storage-drivers.md").read_text()
PICTURE = ROOT / "docs/storage-life.svg"
EXAMPLE = ROOT / "examples/storage-plain"
MARKED = marked(PAGE)


def test_the_pieces_are_the_example() -> None:
    """To the letter, and its package's description too."""
    pieces = [text for mark, text in MARKED if mark == "piece"]
    assert grown(pieces) == (EXAMPLE / "boxwood_plain.py").read_text()
    (toml,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert toml == (EXAMPLE / "pyproject.toml").read_text()


def test_all_code_is_marked() -> None:
    """None that no test runs."""
    assert len(MARKED) == PAGE.count("```python\n")
    assert {mark for mark, _ in MARKED} == {"piece", "try", "kit"}


@pytest.mark.root
def test_each_step_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried after a step works with the pieces up to it, one after the other."""
    need_root()
    monkeypatch.chdir(tmp_path)
    pieces: list[str] = []
    names: dict[str, object] = {}
    tried = 0
    for mark, text in MARKED:
        if mark == "piece":
            pieces.append(text)
            exec(compile(grown(pieces), "boxwood_plain.py", "exec"), names)
        elif mark == "try":
            exec(compile(text, f"try {tried}", "exec"), names)
            tried += 1
    assert tried >= 4


@pytest.mark.root
def test_the_class_for_the_kit(tmp_path: Path) -> None:
    """It is collected, and finds the driver by its name."""
    need_root()
    (kit,) = (text for mark, text in MARKED if mark == "kit")
    (tmp_path / "test_plain.py").write_text(kit)
    install_package(tmp_path, EXAMPLE)
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "LifeLaws or siblings or view"]
    done = subprocess.run(
        [sys.executable, *words, "test_plain.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_every_method_it_names_is_there() -> None:
    """In the tables of calls and of overrides."""
    rows = re.findall(r"^\| (.*?) \| (.*?) \|$", PAGE, re.MULTILINE)
    calls = {name for row in rows for cell in row for name in re.findall(r"`([a-z_]+)`", cell)}
    known = {"prepare", "erofs", "overlay", "export"}  # the last three are no methods
    assert {"prepare", "unpack_target", "opened", "sync"} <= calls
    assert [name for name in calls - known if not hasattr(StorageDriver, name)] == []


def test_the_picture_is_legible_anywhere() -> None:
    """Hand-written, with words for those who cannot see it, in the colours of the reader."""
    text = PICTURE.read_text()
    tree = ET.fromstring(text)
    spaced = "{http://www.w3.org/2000/svg}"
    assert tree.find(f"{spaced}title") is not None
    assert tree.find(f"{spaced}desc") is not None
    assert "prefers-color-scheme: dark" in text
    assert "var(" not in text, "rsvg-convert and other programs draw all of it black"
    shown = {(element.text or "").strip() for element in tree.iter(f"{spaced}text")}
    assert {"active", "committed", "view", "prepare", "commit", "remove", "cleanup"} <= shown
    assert f"]({PICTURE.name})" in PAGE
