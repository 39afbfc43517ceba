"""Programs of the host that fetch and unpack packages; none of theirs is run by them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING

from boxwood.errors import DeadlineExceeded, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 1800.0
_TAIL = 600
_CONSEQUENCES = ("E: apt download failed", "E: mmdebstrap failed")
"""What mmdebstrap says after apt has said why."""


class Tools:
    """Runs them in a folder of their own, which is their TMPDIR too."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    async def read(self, *command: str) -> str:
        """Run a program and return what it printed.

        Raises:
            Unavailable: it is not installed, or failed: with the end of what it said.
            DeadlineExceeded: after :data:`SECONDS`.
        """
        environment = {
            name: value
            for name, value in os.environ.items()
            if name.lower().endswith("_proxy") or name == "APT_CONFIG"
        }
        environment |= {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
        environment |= {"TMPDIR": str(self.directory), "HOME": "/nonexistent"}
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment,
                cwd=self.directory,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise Unavailable(
                f"debootstrap: {command[0]} is needed: install the packages mmdebstrap and apt"
            ) from error
        try:
            async with asyncio.timeout(SECONDS):
                out, err = await process.communicate()
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"debootstrap: {command[0]}: not done after {SECONDS} s"
            ) from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode:
            raise Unavailable(f"debootstrap: {command[0]}: {_said(err or out)}")
        return out.decode(errors="replace")


def _said(output: bytes) -> str:
    """Return the errors of what apt and its like have said, or the end of all of it."""
    lines = output.decode(errors="replace").splitlines()
    errors = [
        line.removeprefix("E: ")
        for line in lines
        if line.startswith("E: ") and not line.startswith(_CONSEQUENCES)
    ]
    return "; ".join(errors or lines[-5:])[:_TAIL]
