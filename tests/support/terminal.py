"""Run a command on a terminal of its own, typing lines at its prompts.

As a program: `python -m tests.support.terminal [--prompt TEXT] COMMAND...` types each line of its
standard input when the output ends with the prompt, prints what the command wrote to the terminal,
and ends with the command's status.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time
from collections.abc import Sequence

ROWS, COLUMNS = 24, 80
SECONDS = 30.0


def run(
    command: Sequence[str], lines: Sequence[bytes], prompt: bytes, *, seconds: float = SECONDS
) -> tuple[int, bytes]:
    """Run the command on a terminal of 24 rows and 80 columns.

    Args:
        command: the program and its arguments.
        lines: what is typed, each with its line end; one at each prompt.
        prompt: what the output ends with when a line may be typed.
        seconds: the time after which TimeoutError is raised.

    Returns:
        The exit status (128 + N for a signal), and all that came to the terminal.
    """
    pid, master = pty.fork()
    if pid == 0:
        try:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
            os.execvp(command[0], list(command))
        except OSError as error:
            os.write(2, f"{command[0]}: {error}\n".encode())
            os._exit(127)
    try:
        output = _talk(master, list(lines), prompt, time.monotonic() + seconds)
    except TimeoutError:
        os.kill(pid, 9)
        raise
    finally:
        os.close(master)
        _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return (128 - code if code < 0 else code), output


def _talk(master: int, lines: list[bytes], prompt: bytes, end: float) -> bytes:
    """Read until the other side hangs up, typing the lines at the prompts."""
    output = bytearray()
    answered = 0
    while True:
        ready, _, _ = select.select([master], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            raise TimeoutError(f"on the terminal so far: {bytes(output)!r}")
        try:
            piece = os.read(master, 65536)
        except OSError:  # EIO: the last process has closed the terminal
            return bytes(output)
        if not piece:
            return bytes(output)
        output += piece
        if lines and len(output) > answered and output.endswith(prompt):
            answered = len(output)
            os.write(master, lines.pop(0))


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompt", default="# ")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    lines = sys.stdin.buffer.read().splitlines(keepends=True)
    status, output = run(options.command, lines, options.prompt.encode())
    sys.stdout.buffer.write(output)
    return status


if __name__ == "__main__":
    sys.exit(main())
