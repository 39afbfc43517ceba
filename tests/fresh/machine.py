"""A fresh Debian machine to walk through: a minimal tree, entered as a machine of its own.

It has this kernel, this machine's way to its package sources, and nothing else of it. What runs in
it has mount, process, IPC and host name spaces of its own, so nothing outlives a command.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.needs import need_program
from tests.support.networks import DEFAULT, clear_networks
from tests.support.paths import ROOT, clean_environment, clear_room, make_room

RELEASE = "bookworm"
# How this machine reaches its package sources: settings and keys, not packages.
SETTINGS = (
    "/etc/apt",
    "/etc/hosts",
    "/etc/pip.conf",
    "/etc/resolv.conf",
    "/usr/share/keyrings",
)
# Whom this machine trusts. In the tree it has a name of its own, and the variables that speak of it
# are changed to that: the package ca-certificates writes the usual file anew when it is installed.
TRUSTED = "/etc/ssl/certs/ca-certificates.crt"
TRUSTED_THERE = "/etc/trusted-by-the-machine.crt"
# Run in the new namespaces; $1 is the tree, the rest is the command. The old root is let go of, so
# that the tree really is the root of all that runs, as on a machine.
ENTER = r"""
set -e
tree=$1; shift
mount --make-rprivate /
mount --bind "$tree" "$tree"
mount -t proc proc "$tree/proc"
mount --rbind /sys "$tree/sys"
mount --rbind /dev "$tree/dev"
mount -t tmpfs run "$tree/run"
mount -t tmpfs tmp "$tree/tmp" -o mode=1777
for folder in $FRESH_FOLDERS; do
  mkdir -p "$tree$folder"
  mount --rbind "$folder" "$tree$folder"
  mount -o remount,bind,ro "$tree$folder"
done
hostname fresh
cd "$tree"
mkdir -p .old
pivot_root . .old
umount -l /.old
cd "$FRESH_CWD"
unset FRESH_FOLDERS FRESH_CWD
exec "$@"
"""


@dataclass(frozen=True)
class Walk:
    """One command in the fresh machine: how it ended, what it said, how long it took."""

    status: int
    stdout: str
    stderr: str
    seconds: float


def pip_settings() -> dict[str, str]:
    """Return pip's settings on this machine, as variables of the environment."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    settings = {k: v for k, v in os.environ.items() if k.startswith("PIP_")}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2].upper().replace("-", "_")
        words = value.strip("'\"").replace("\\n", " ").split()
        settings.setdefault(f"PIP_{key}", " ".join(words))
    return settings


def pip_folders(settings: dict[str, str]) -> list[str]:
    """Return the folders of this machine that pip's settings speak of, or point into."""
    folders = set()
    for name in re.findall(r"(?:^|\s|file://)(/[^\s'\"]+)", "\n".join(settings.values())):
        path = Path(name)
        if name == TRUSTED:
            continue
        # An index by PEP 503 is a folder `simple`, whose pages lead to files beside it.
        if path.is_file() or path.name == "simple":
            path = path.parent
        if path.is_dir():
            folders.add(str(path))
    return sorted(folders)


def copy_checkout(target: Path) -> None:
    """Copy what a clone of the checkout would hold, uncommitted changes included."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        source = ROOT / name
        if not source.exists() and not source.is_symlink():
            continue  # deleted, and not committed yet
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, copy, follow_symlinks=False)


class FreshMachine:
    """A minimal Debian tree with a clone of the checkout in it, at `home`."""

    home = "/root/boxwood"

    def __init__(self) -> None:
        self.room = make_room("fresh")
        self.tree = self.room / "tree"
        self._settings = pip_settings()
        self._alone = not (DEFAULT / "boxwood.sock").exists()
        """No engine of this machine itself has the default names."""

    def build(self) -> None:
        """Make the tree, with what a person has who has just cloned."""
        sources = sorted(
            str(path)
            for pattern in ("sources.list", "sources.list.d/*.list", "sources.list.d/*.sources")
            for path in Path("/etc/apt").glob(pattern)
        )
        subprocess.run(
            [
                *(need_program("mmdebstrap"), "--variant=minbase", "--quiet", RELEASE),
                *(str(self.tree), *sources),
            ],
            check=True,
            stdin=subprocess.DEVNULL,
            timeout=600,
        )
        for name in SETTINGS:
            self._copy_setting(Path(name), name)
        self._copy_setting(Path(TRUSTED), TRUSTED_THERE)
        copy_checkout(self.tree / self.home.lstrip("/"))

    def _copy_setting(self, source: Path, name: str) -> None:
        if not source.exists():
            return
        target = self.tree / name.lstrip("/")
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, symlinks=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            shutil.copy(source, target)

    def walk(self, command: str, *, timeout: float) -> Walk:
        """Run a shell command in the checkout of the fresh machine.

        Args:
            command: for `sh -c`.
            timeout: in seconds; what still runs then is killed.
        """
        environment = {
            name: TRUSTED_THERE if value == TRUSTED else value
            for name, value in clean_environment(**self._settings).items()
        } | {
            "FRESH_FOLDERS": " ".join(pip_folders(self._settings)),
            "FRESH_CWD": self.home,
            "BOXWOOD_FRESH": "1",
            "HOME": "/root",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        }
        enter = ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child"]
        began = time.monotonic()
        done = subprocess.run(
            [*enter, "sh", "-c", ENTER, "enter", str(self.tree), "sh", "-c", command],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        # Its network is this machine's: packages come through it. Its engine has ended with it.
        if self._alone:
            clear_networks(DEFAULT)
        return Walk(done.returncode, done.stdout, done.stderr, time.monotonic() - began)

    def close(self) -> None:
        """Remove the tree."""
        clear_room(self.room)
