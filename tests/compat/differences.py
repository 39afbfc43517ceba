"""The differences between Debian's Docker and ours that are meant, each with its reason."""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("allowed-differences.toml")


@dataclass(frozen=True)
class Hunk:
    """Neighbouring lines that differ: Docker's and ours, normalised."""

    docker: tuple[str, ...]
    boxwood: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"  docker  | {line}" for line in self.docker]
        return "\n".join(lines + [f"  boxwood | {line}" for line in self.boxwood])


@dataclass(frozen=True)
class Allowed:
    """One `[[difference]]`: a hunk, where it may stand, and why."""

    scenario: str
    stream: str
    hunk: Hunk
    reason: str


@dataclass(frozen=True)
class Words:
    """One `[[words]]`: what is said in other words, in every scenario, and why."""

    docker: re.Pattern[str]
    boxwood: re.Pattern[str]
    shown: str
    reason: str

    def theirs(self, line: str) -> str:
        """Return a line of Docker's with the common form instead of its words."""
        return self.boxwood.sub(self.shown, self.docker.sub(self.shown, line))

    def ours(self, line: str) -> str:
        """Return a line of ours with the common form; Docker's words stay, and differ."""
        return self.boxwood.sub(self.shown, line)


def _tables(path: Path, name: str, keys: set[str]) -> list[dict[str, Any]]:
    """Read the tables of one kind. One without a reason, or with other keys, is an error."""
    tables = tomllib.loads(path.read_text()).get(name, [])
    for table in tables:
        if table.keys() != keys | {"reason"} or not table["reason"].strip():
            raise ValueError(f"{path.name}: {table}: wrong keys or no reason")
    return tables


def allowed(path: Path = FILE) -> list[Allowed]:
    """Read the differences of single scenarios."""
    return [
        Allowed(
            table["scenario"],
            table["stream"],
            Hunk(tuple(table["docker"]), tuple(table["boxwood"])),
            table["reason"],
        )
        for table in _tables(path, "difference", {"scenario", "stream", "docker", "boxwood"})
    ]


def words(path: Path = FILE) -> list[Words]:
    """Read the differences of words."""
    return [
        Words(
            re.compile(table["docker"]),
            re.compile(table["boxwood"]),
            table["shown"],
            table["reason"],
        )
        for table in _tables(path, "words", {"docker", "boxwood", "shown"})
    ]


def hunks(docker: list[str], boxwood: list[str]) -> list[Hunk]:
    """Return where the two texts differ, in order."""
    matcher = difflib.SequenceMatcher(None, docker, boxwood, autojunk=False)
    found = []
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag == "equal":
            continue
        theirs, ours = docker[a:b], boxwood[c:d]
        if len(theirs) == len(ours):  # line by line, so that an entry is about one thing
            pairs = zip(theirs, ours, strict=True)
            found += [Hunk((one,), (other,)) for one, other in pairs if one != other]
        else:
            found.append(Hunk(tuple(theirs), tuple(ours)))
    return found
