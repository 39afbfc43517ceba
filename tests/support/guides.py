"""Pages that build an example up piece by piece, and whose code is run."""

from __future__ import annotations

import re


def marked(page: str) -> list[tuple[str, str]]:
    """Return mark and text of each block of Python, below its ``<!-- MARK -->``, in order."""
    return re.findall(r"^<!-- (\w+) -->\n```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def grown(pieces: list[str]) -> str:
    """Put the pieces together as a formatter would: one blank line in a class, two outside."""
    text = pieces[0]
    for piece in pieces[1:]:
        text += ("\n" if piece.startswith(" ") else "\n\n") + piece
    return text
