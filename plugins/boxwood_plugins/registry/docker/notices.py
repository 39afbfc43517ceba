"""What a registry says beside its answers: ``Warning`` headers, for who waits for the operation."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from contextvars import ContextVar

LIMIT, MOST = 500, 10
"""Characters of a text, and texts in one operation."""

_WARNING = re.compile(r'299\s+\S+\s+"((?:[^"\\]|\\.)*)"', re.ASCII)
_listener: ContextVar[Callable[[str], object] | None] = ContextVar("listener", default=None)


@asynccontextmanager
async def heard_by(listener: Callable[[str], object]) -> AsyncIterator[None]:
    """``async with heard_by(listener):`` in this task and its children; each text once."""
    heard: set[str] = set()

    def once(text: str) -> None:
        if text not in heard and len(heard) < MOST:
            heard.add(text)
            listener(text)

    token = _listener.set(once)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(headers: Iterable[str]) -> None:
    """Pass on the texts of ``Warning`` headers (RFC 7234 5.5; distribution-spec "Warnings")."""
    listener = _listener.get()
    if listener is None:
        return
    for text in _WARNING.findall(", ".join(headers)):
        plain = re.sub(r"\\(.)", r"\1", text)
        listener("Warning: " + "".join(char for char in plain if char.isprintable())[:LIMIT])
