"""The launch program's interpreter (``ext/c/launch.c``), for tests and tools, and the start of a
shim. The engine itself launches through the shim, which runs the same code.

Descriptors in stay the caller's; descriptors out are close-on-exec and become the caller's. The
GIL is let go while a process is made.
"""

from collections.abc import Sequence

class LaunchFailed(OSError):
    """An operation of a program failed: which (its name and index), on what, and errno."""

    operation: str
    target: str
    index: int

def check_program(program: bytes, slots: int = 0) -> bool:
    """Would the interpreter accept these bytes? (The twin of program.decode; for fuzzing.)"""

def begin_program(
    program: bytes, fds: Sequence[int] = (), stdio: Sequence[int] = (-1, -1, -1)
) -> tuple[int, int, int]:
    """Start a program: (pid, pidfd, report). The report is for read_report.

    ``stdio``: what the operation ``stdio`` makes 0..2; -1: the container's /dev/null.

    Raises LaunchFailed when the process could not be made, ValueError for too many descriptors.
    """

def read_report(report: int) -> int | bool | None:
    """Next news: None: none yet; True: the payload runs; a number: the terminal's descriptor.

    Raises LaunchFailed for an operation that failed (the process ends by itself), OSError.
    """

def run_program(
    program: bytes,
    fds: Sequence[int] = (),
    stdio: Sequence[int] = (-1, -1, -1),
    timeout: float = 30.0,
) -> tuple[int, int, int | None]:
    """Start a program and wait until its payload runs: (pid, pidfd, terminal or None).

    Raises LaunchFailed, TimeoutError (``timeout`` seconds without news); the process is gone then.
    """

def spawn_shim(
    executable: int, fds: Sequence[int], args: Sequence[bytes] = (b"boxwood-shim",)
) -> tuple[int, int]:
    """Run ``executable`` (a descriptor) in a new session with ``fds`` as 3, 4, ...: (pid, pidfd).

    ``args``: its arguments, its name first, four at most.

    0..2 are /dev/null, the environment is empty, everything else is closed. clone(VM|VFORK): the
    price does not depend on this process's size. Raises OSError, ValueError.
    """
