"""docs/registry-transports.md: its transport grows into the example, and its code runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.guides import grown, marked
from tests.support.paths import ROOT

PAGE = (ROOT / "docs/registry-transports.md").read_text()
EXAMPLE = ROOT / "examples/registry-http"
MARKED = marked(PAGE)


def test_the_pieces_are_the_example() -> None:
    """To the letter, and its package's description too."""
    pieces = [text for mark, text in MARKED if mark == "piece"]
    assert grown(pieces) == (EXAMPLE / "boxwood_http.py").read_text()
    (toml,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert toml == (EXAMPLE / "pyproject.toml").read_text()
    assert len(MARKED) == PAGE.count("```python\n")


def test_each_step_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried after a step works with the pieces up to it."""
    monkeypatch.chdir(tmp_path)
    pieces: list[str] = []
    names: dict[str, object] = {}
    for number, (mark, text) in enumerate(MARKED):
        if mark == "piece":
            pieces.append(text)
            exec(compile(grown(pieces), "boxwood_http.py", "exec"), names)
        else:
            assert mark == "try"
            exec(compile(text, f"try {number}", "exec"), names)
