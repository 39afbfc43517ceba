"""What the daemon and its workers say to each other: MessagePack in datagrams."""

from __future__ import annotations

from typing import Any

import msgspec

MESSAGE_LIMIT = 128 << 10
"""Bytes of a request or an answer: a datagram must fit the socket's buffer (212,992 here)."""


class Request(msgspec.Struct, frozen=True):
    """What a child is asked to do."""

    job: str
    arguments: dict[str, Any]


class Answer(msgspec.Struct, frozen=True):
    """What a child says: a result, or an error by the name of its class."""

    result: dict[str, Any] | None = None
    error: str = ""
    message: str = ""
