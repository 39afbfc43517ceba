"""What the daemon and its workers say to each other: MessagePack in datagrams."""

from __future__ import annotations

from typing import Any

import msgspec

MESSAGE_LIMIT = 128 << 10
"""Bytes of a request or an answer: a datagram must fit the socket's buffer (212,992 here)."""

HOST_DIRECTORY = "host_directory"
"""An argument of any job: a directory of the host, by path, that the worker opens before it is
confined and has as its last descriptor. For one that may hang: the daemon must not open it."""

READ_ONLY = "read-only"
"""All that PermissionDenied of ``untar_tree`` says: whose it is, the caller knows."""


class Request(msgspec.Struct, frozen=True):
    """What a child is asked to do."""

    job: str
    arguments: dict[str, Any]


class Answer(msgspec.Struct, frozen=True):
    """What a child says: a result, or an error by the name of its class."""

    result: dict[str, Any] | None = None
    error: str = ""
    message: str = ""
