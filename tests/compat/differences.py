"""The differences between Debian's Docker and ours that are meant, each with its reason."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from pathlib import Path

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
    """One entry of the file: a hunk, where it may stand, and why."""

    scenario: str
    stream: str
    hunk: Hunk
    reason: str


def allowed(path: Path = FILE) -> list[Allowed]:
    """Read the file. An entry without a reason, or with a key of its own, is an error."""
    entries = []
    for table in tomllib.loads(path.read_text()).get("difference", []):
        unknown = table.keys() - {"scenario", "stream", "docker", "boxwood", "reason"}
        if unknown or not table["reason"].strip():
            raise ValueError(f"{path.name}: {table}: unknown keys {unknown} or no reason")
        hunk = Hunk(tuple(table["docker"]), tuple(table["boxwood"]))
        entries.append(Allowed(table["scenario"], table["stream"], hunk, table["reason"]))
    return entries


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
