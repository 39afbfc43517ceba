"""The engine that starts by itself: the embedded default of design.md section 4.

However many command lines find no engine at once, one of them starts one, under a lock in the
exec root; the others wait for the lock and then find it. The engine leaves the caller's session,
process group and cgroup, so that neither a closed terminal nor a stopped service takes it along.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import time

from boxwood.cli.errors import CliError
from boxwood.client.address import DEFAULT_EXEC_ROOT
from boxwood.client.errors import ConnectError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.context import Context

# An engine with many containers to take up again needs some seconds; one that needs more than
# this hangs.
START_TIMEOUT = 30.0
# How often the socket is tried meanwhile, in seconds.
POLL = 0.01
# How much of the end of the engine's log is shown when it did not come up, in bytes.
LOG_TAIL = 4096
# Tells the engine that nobody will stop it: it may go when it has been idle.
EMBEDDED = "BOXWOOD_EMBEDDED"
_CGROUPS = "/sys/fs/cgroup"


def start_engine(ctx: Context, exec_root: str = DEFAULT_EXEC_ROOT) -> None:
    """Start the default engine unless another has just done so, and wait until it answers.

    Raises CliError: it cannot be started here, or did not come up (with its log's end).
    """
    lock = _lock(ctx, exec_root)
    try:
        if _answers(ctx):
            return
        ctx.err(f"{ctx.prog}: no engine is running: starting one")
        log = os.path.join(exec_root, "daemon.log")
        _wait(ctx, _spawn(log), log)
    finally:
        os.close(lock)


def _lock(ctx: Context, exec_root: str) -> int:
    """The open lock file, locked: waits as long as another command line starts the engine."""
    path = os.path.join(exec_root, "autostart.lock")
    try:
        os.makedirs(exec_root, mode=0o711, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise CliError(
            f"Cannot connect to the {ctx.product} daemon: none is running, and it cannot be "
            f"started by this user: {path}: {error.strerror}"
        ) from error
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def _answers(ctx: Context) -> bool:
    client = ctx.new_client()
    try:
        client.connect()
    except ConnectError:
        return False
    finally:
        client.close()
    return True


def _spawn(log: str) -> int:
    """Start the engine as a grandchild in a session of its own; its pid.

    Two forks, so that it is no child of ours and no leader that could gain a terminal. This
    process has one thread, so forking it is safe.
    """
    read, write = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            grandchild = os.fork()
            if grandchild:
                os.write(write, str(grandchild).encode())
                os._exit(0)
            _become_engine(log)
        finally:
            os._exit(127)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read, "rb") as pipe:
        return int(pipe.read() or b"0")


def _become_engine(log: str) -> None:
    """In the grandchild: leave the cgroup, turn the streams to the log, and exec."""
    _leave_cgroups()
    os.chdir("/")
    os.umask(0o022)
    null = os.open(os.devnull, os.O_RDWR)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    environment = {**os.environ, EMBEDDED: "1"}
    # -P: the caller's folder is none to import from.
    argv = [sys.executable, "-P", "-m", "boxwood", "daemon"]
    os.execve(sys.executable, argv, environment)


def _leave_cgroups() -> None:
    """Move to the root of every hierarchy.

    Writing 0 to `tasks` moves the writer alone, which is 150 times cheaper than cgroup.procs
    (facts/kernel-floors.md); version 2 has only the latter. Where we may not, we stay.
    """
    for root in _hierarchies():
        for name in ("tasks", "cgroup.procs"):
            path = os.path.join(root, name)
            try:
                fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            except OSError:  # no hierarchy's root, or not ours to change
                continue
            try:
                os.write(fd, b"0")
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EPERM, errno.EBUSY, errno.EOPNOTSUPP):
                    raise
            finally:
                os.close(fd)
            break


def _hierarchies() -> list[str]:
    """Where the hierarchies are mounted: one of version 2, or one for each controller."""
    if os.path.exists(os.path.join(_CGROUPS, "cgroup.controllers")) or not os.path.isdir(_CGROUPS):
        return [_CGROUPS]
    paths = (os.path.join(_CGROUPS, name) for name in sorted(os.listdir(_CGROUPS)))
    return [path for path in paths if os.path.ismount(path)]


def _wait(ctx: Context, pid: int, log: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while not _answers(ctx):
        if not _alive(pid):
            raise CliError(
                f"{ctx.prog}: the engine ended at once; its log ends with:\n{_tail(log)}"
            )
        if time.monotonic() > deadline:
            raise CliError(
                f"{ctx.prog}: the engine (process {pid}) does not answer after "
                f"{START_TIMEOUT:.0f} s; its log ends with:\n{_tail(log)}"
            )
        time.sleep(POLL)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 0


def _tail(log: str) -> str:
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_TAIL))
            return file.read().decode("utf-8", "replace").strip() or "(empty)"
    except OSError as error:
        return f"({log}: {error.strerror})"
