"""Every error that Boxwood raises on purpose.

Each class owns its HTTP status (Docker's, facts/docker-api.md section 1) and the exit code that
a command of ours ends with when the error reaches the top. A test forbids gaps and duplicates
among the exit codes. Messages read ``operation: object: cause`` unless a client matches Docker's
exact words.
"""

from __future__ import annotations

from typing import ClassVar


class BoxwoodError(Exception):
    """Base of all errors; never raised itself."""

    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1


class Internal(BoxwoodError):
    """A bug of ours or a kernel answer that nothing explains."""

    exit_code = 10


class InvalidArgument(BoxwoodError):
    """The request itself is wrong: syntax, range, contradiction."""

    status = 400
    exit_code = 11


class Unauthenticated(BoxwoodError):
    """Nobody said who they are, or not convincingly."""

    status = 401
    exit_code = 12


class PermissionDenied(BoxwoodError):
    """Known, and not allowed (also: a predefined object that may not be touched)."""

    status = 403
    exit_code = 13


class NotFound(BoxwoodError):
    """The named object does not exist."""

    status = 404
    exit_code = 14


class AlreadyExists(BoxwoodError):
    """The name or key is taken."""

    status = 409
    exit_code = 15


class Conflict(BoxwoodError):
    """The object is in a state in which this cannot be done."""

    status = 409
    exit_code = 16


class NotModified(BoxwoodError):
    """Already so (start of a running container). Answered 304 without a body."""

    status = 304
    exit_code = 17


class TooLarge(BoxwoodError):
    """A budget was passed: body, archive, entries, ratio."""

    status = 413
    exit_code = 18


class Unsupported(BoxwoodError):
    """Not implemented by this engine or driver."""

    status = 501
    exit_code = 19


class Unavailable(BoxwoodError):
    """Would work, but not now or not on this machine; says what is missing."""

    status = 503
    exit_code = 20


class DeadlineExceeded(BoxwoodError):
    """Took longer than the caller or a bound of ours allowed."""

    exit_code = 21


class Cancelled(BoxwoodError):
    """The only one who waited went away."""

    exit_code = 22


class ResourceExhausted(BoxwoodError):
    """Disk, inodes, memory, pids: something is full."""

    exit_code = 23


class DataLoss(BoxwoodError):
    """Stored bytes are not what was stored (digest, truncated record)."""

    exit_code = 24


class PluginError(BoxwoodError):
    """A plugin raised, failed to load or broke its contract; the message names it."""

    exit_code = 25


class LaunchError(BoxwoodError):
    """A launch program failed.

    Attributes:
        operation: name of the operation in the program (``mount``, ``exec``, ...).
        target: the object it worked on (a path, a limit, a capability), may be empty.
        errno: the kernel's answer, a positive number.
    """

    status = 400
    exit_code = 26

    def __init__(self, message: str, operation: str = "", target: str = "", errno: int = 0) -> None:
        super().__init__(message)
        self.operation = operation
        self.target = target
        self.errno = errno
