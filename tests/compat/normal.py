"""Brings the output of two engines to a form in which only real differences are left."""

from __future__ import annotations

import re

DURATION = re.compile(
    r"\b(Less than a second|About an? (?:second|minute|hour)|\d+ (?:second|minute|hour)s?)( ago)?"
)
TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?Z| ?[+-]\d\d:?\d\d( UTC)?)?")
# The zero of the clocks says "never": that is not to be confused with a time.
NEVER = "0001-01-01T00:00:00Z"
HEX = re.compile(r"\b[0-9a-f]{64}\b|\b(?=[0-9a-f]*[a-f])(?=[0-9a-f]*\d)[0-9a-f]{12}\b")
GAP = re.compile(r" {2,}")
# The docker client says so when what it was to resize had ended before: a race of its own.
TOO_LATE = re.compile(r"^failed to resize tty, using default size\r?\n", re.MULTILINE)

# Docker's word on the machine's sysctl, which is not always the same.
FORWARDING = re.compile(
    r"^WARNING: IPv4 forwarding is disabled\. Networking will not work\.\r?\n", re.MULTILINE
)


class Normaliser:
    """One per run of a scenario: it remembers which ids it has met, and in which order."""

    def __init__(self, replaced: dict[str, str]) -> None:
        """Take the strings (paths, mostly) that stand for something, longest first."""
        self._replaced = sorted(replaced.items(), key=lambda pair: -len(pair[0]))
        self._ids: list[str] = []

    def __call__(self, text: str) -> list[str]:
        """Return the lines of the text, without what differs from run to run."""
        for old, new in self._replaced:
            text = text.replace(old, new)
        text = FORWARDING.sub("", TOO_LATE.sub("", text)).replace(NEVER, "<never>")
        text = TIME.sub("<time>", text)
        text = DURATION.sub("<while>", text)
        text = HEX.sub(self._name, text)
        return [GAP.sub("  ", line).rstrip(" ") for line in text.splitlines()]

    def _name(self, match: re.Match[str]) -> str:
        """Number an id; the short form of one gets the number of the long."""
        found = match.group()
        for number, known in enumerate(self._ids):
            if known.startswith(found) or found.startswith(known):
                self._ids[number] = max(known, found, key=len)
                return f"<id {number}>"
        self._ids.append(found)
        return f"<id {len(self._ids) - 1}>"
