"""Archives from and to files: what `load`, `import`, `save` and `export` share."""

from __future__ import annotations

import os
import sys

from boxwood.cli.errors import CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from boxwood.client.client import Response

# One read of an archive: large enough that a chunk's own cost vanishes.
PIECE = 1024 * 1024
STDIN, STDOUT = 0, 1


def read_pieces(path: str | None) -> Iterator[bytes]:
    """The bytes of the file, or of stdin for None. Raises CliError when it cannot be opened."""
    if path is None:
        return _pieces(STDIN)
    if os.path.isdir(path):
        raise CliError(f"read {path}: is a directory")
    try:
        return _pieces(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise CliError(f"open {path}: {(error.strerror or '').lower()}") from error


def _pieces(fd: int) -> Iterator[bytes]:
    while piece := os.read(fd, PIECE):
        yield piece


def check_output(path: str | None, what: str, of: str) -> None:
    """Refuse to print an archive to a terminal, and what no file can be. Raises CliError.

    Before the engine is asked: `what` is to be done, and `of` what.
    """
    if not path:
        if os.isatty(STDOUT):
            raise CliError(
                f"cowardly refusing to {what} to a terminal. Use the -o flag or redirect"
            )
        return
    folder = os.path.dirname(path) or "."
    cause = ""
    if os.path.isdir(path):
        cause = "cannot write to a directory"
    elif not os.path.isdir(folder):
        cause = f"invalid output path: stat {folder}: no such file or directory"
    if cause:
        raise CliError(f"failed to {what} {of}: {cause}")


def remove_when_interrupted(remove: Callable[[], None]) -> None:
    """Have an interrupt end the process after `remove` alone, wherever its threads are by then.

    An interrupt ends it at once otherwise, and what was unfinished would stay.
    """
    import signal
    import threading

    numbers = (signal.SIGINT, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def wait() -> None:
        number = signal.sigwait(numbers)
        try:
            remove()
        finally:
            os._exit(128 + number)

    threading.Thread(target=wait, daemon=True).start()


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass  # it has its name by now


def write_answer(response: Response, path: str | None) -> None:
    """Write a body to the file, which appears when it is whole, or to stdout."""
    if not path:
        sys.stdout.flush()
        for piece in response.pieces():
            _write(STDOUT, piece)
        return
    partial = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}")
    if os.path.exists(path) and not os.path.isfile(path):
        partial = path  # a device or a pipe is written itself
    if partial != path:
        remove_when_interrupted(lambda: _unlink(partial))
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        for piece in response.pieces():
            _write(fd, piece)
        if partial != path:
            os.rename(partial, path)
    except BaseException:
        if partial != path:
            os.unlink(partial)
        raise
    finally:
        os.close(fd)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
