"""Where things are: the checkout, the programs under test, room for what the tests make."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
BOXWOOD = BIN / "boxwood"
# The prefix of all that the tests make in shared folders.
PREFIX = "boxwood-test-"
# A variable in the environment of what a test run starts, with a value of the run's own: a daemon
# hands it to its shims.
MARK = "BOXWOOD_TEST_RUN"
# The folders that this run has made so far.
ROOMS: set[str] = set()


# In the order of preference: here and there /run is but a folder on the disk.
_MEMORY = ("/run", "/dev/shm")


def _in_memory(folder: str) -> bool:
    if not os.access(folder, os.W_OK):
        return False
    found = subprocess.run(
        ["stat", "--file-system", "--format=%T", folder], capture_output=True, text=True, check=True
    )
    return found.stdout.strip() == "tmpfs"


def make_room(purpose: str, *, memory: bool = False, parent: Path | None = None) -> Path:
    """Make an empty folder: on disk (snapshots need a real file system), or in memory.

    Args:
        purpose: a word for the name. It stays short: a unix socket's path has 107 bytes.
        memory: put it on a tmpfs where there is one, as exec roots are.
        parent: put it there.
    """
    default = next(filter(_in_memory, _MEMORY), "/var/tmp") if memory else "/var/tmp"
    folder = parent or os.environ.get("BOXWOOD_TEST_DIR", default)
    path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{purpose}-", dir=folder))
    ROOMS.add(str(path))
    return path


def clear_room(path: Path) -> None:
    """Remove a folder that `make_room` made, with all that is in it."""
    if not path.name.startswith(PREFIX):
        raise ValueError(f"not a room of ours: {path}")
    shutil.rmtree(path)


def clean_environment(**more: str) -> dict[str, str]:
    """Return the environment less what would lead a client to somebody else's engine."""
    unwanted = ("DOCKER_", "BOXWOOD_")
    kept = {k: v for k, v in os.environ.items() if k == MARK or not k.startswith(unwanted)}
    kept["PATH"] = f"{BIN}:{kept.get('PATH', '/usr/bin:/bin')}:/usr/sbin:/sbin"
    return kept | more
