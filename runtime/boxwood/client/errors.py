"""What can go wrong between the client and an engine."""

from __future__ import annotations


class ClientError(Exception):
    """Root of the client's errors."""


class ConnectError(ClientError):
    """No connection could be made.

    `reason` is one of ``missing`` (no socket, or nobody listens), ``permission``,
    ``not-a-socket``, ``timeout`` and ``other``; `detail` is the system's own text.
    """

    def __init__(self, address: str, reason: str, detail: str) -> None:
        super().__init__(f"connect: {address}: {detail}")
        self.address = address
        self.reason = reason
        self.detail = detail


class ProtocolError(ClientError):
    """The peer broke HTTP/1.1, closed too early, or answered what no engine answers."""


class ApiError(ClientError):
    """The engine answered with an error status.

    `status` is the HTTP status, `message` the text of the answer's ``message`` field.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
