"""Why a start or an exec failed, in Docker's words and exit codes.

The docker client derives its own exit status from these texts: ``executable file not found`` and
``no such file or directory`` are 127, ``permission denied`` and ``is a directory`` 126, anything
else 125. The codes here are what the daemon stores for the container.
"""

from __future__ import annotations

import errno
import os

from boxwood.errors import BoxwoodError, LaunchError

NOT_FOUND = 127
CANNOT_EXECUTE = 126
OTHER = 128

_EXEC = frozenset({"command", "exec"})
_MOUNTS = frozenset({"bind", "bind_fd", "mount", "source"})
_WRONG_KIND = (
    ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified "
    "host path exists and is the expected type"
)


def _reason(number: int) -> str:
    return os.strerror(number).lower() if number else "unknown error"


def describe(error: LaunchError) -> str:
    """Return what failed in the container, without what surrounds it."""
    reason = _reason(error.errno)
    target = error.target
    if error.operation in _EXEC:
        if error.errno == errno.ENOENT and "/" not in target:
            return f'exec: "{target}": executable file not found in $PATH'
        if error.errno == errno.ENOENT:
            return f'exec: "{target}": stat {target}: no such file or directory'
        return f'exec: "{target}": {reason}'
    if error.operation in ("cwd", "mkdir"):
        return f'chdir to cwd ("{target}") set in config.json failed: {reason}'
    if error.operation == "source_beneath":
        return f"cannot access path {target.replace(': ', '/', 1)}: {reason}"
    if error.operation in _MOUNTS:
        return f'error mounting "{target}" to rootfs: {error.operation}: {reason}'
    if error.operation:
        return (
            f"{error.operation}: {target}: {reason}" if target else f"{error.operation}: {reason}"
        )
    return str(error)


def code_of(error: LaunchError) -> int:
    """Return the exit code that stands for this failure."""
    if error.operation in _EXEC and error.errno == errno.ENOENT:
        return NOT_FOUND
    if error.errno in (errno.EACCES, errno.EISDIR, errno.ENOTDIR):
        return CANNOT_EXECUTE
    return OTHER


def start_failure(error: BaseException) -> tuple[str, int]:
    """Return the message and the container's exit code of a start that failed."""
    if not isinstance(error, LaunchError):
        if isinstance(error, BoxwoodError):
            return str(error), OTHER
        return f"start: {type(error).__name__}: {error}", OTHER
    text = (
        "failed to create task for container: failed to create shim task: OCI runtime create "
        f"failed: unable to start container process: {describe(error)}: unknown"
    )
    if error.errno == errno.EISDIR:
        text += ": permission denied"
    if error.operation in _MOUNTS and error.errno in (errno.ENOTDIR, errno.EISDIR):
        text += _WRONG_KIND
    return text, code_of(error)


def exec_failure(error: LaunchError) -> tuple[str, int]:
    """Return the message and the exit code of an exec that failed."""
    code = code_of(error)
    return (
        f"OCI runtime exec failed: exec failed: unable to start container process: "
        f"{describe(error)}: unknown",
        CANNOT_EXECUTE if code == OTHER else code,
    )
