"""A kit's results as data: which law held, which did not, and the grade that this makes.

Written by ``pytest --boxwood-report=FILE`` as JSON; ``boxwood plugin test`` shows it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

_ORDER = {"passed": 0, "skipped": 1, "failed": 2}
_WORDS = 300
"""Characters of a failure's reason that are kept."""


class Reporter:
    """Collects results while pytest runs."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._laws: dict[str, dict[str, Any]] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note each law: its group, and what it says."""
        for item in session.items:
            function = getattr(item, "function", None)
            owner = getattr(function, "__qualname__", "").partition(".")[0]
            group = re.sub(r"(Laws|Suite)$", "", owner).lower() or "other"
            text = (getattr(function, "__doc__", None) or "").strip().partition("\n")[0]
            suite = getattr(getattr(item, "cls", None), "__name__", "")
            self._laws[item.nodeid] = {
                "suite": suite, "law": item.name, "group": group, "says": text,
                "outcome": "passed", "why": "", "seconds": 0.0,
            }  # fmt: skip

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the worst of a law's parts."""
        law = self._laws[report.nodeid]
        law["seconds"] += report.duration
        if _ORDER[report.outcome] > _ORDER[law["outcome"]]:
            law["outcome"] = report.outcome
            law["why"] = _reason(report)

    def pytest_sessionfinish(self) -> None:
        """Write the file."""
        laws = list(self._laws.values())
        self._file.write_text(json.dumps({"grade": grade(laws), "laws": laws}, indent=1))


def _reason(report: pytest.TestReport) -> str:
    """Return in one line why a law was left out or did not hold."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        text = str(crash.message)
    elif isinstance(report.longrepr, tuple):
        text = report.longrepr[2].removeprefix("Skipped: ")
    else:
        text = str(report.longrepr)
    line = text.strip().partition("\n")[0]
    return re.sub(r"^AssertionError: ", "", line)[:_WORDS]


def grade(laws: list[dict[str, Any]]) -> str:
    """Return A (every law was tried and held) to F.

    B: laws were left out; C: one in fifty does not hold; D: one in ten; F: more, or none was
    tried.
    """
    tried = [law for law in laws if law["outcome"] != "skipped"]
    failed = sum(law["outcome"] == "failed" for law in tried)
    if not tried:
        return "F"
    if not failed:
        return "A" if len(tried) == len(laws) else "B"
    share = failed / len(tried)
    return "C" if share <= 0.02 else "D" if share <= 0.1 else "F"
