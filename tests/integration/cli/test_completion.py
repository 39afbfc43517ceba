"""Completion in the shells themselves: each reads its script and asks the command."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from pathlib import Path

import pytest

from boxwood.cli.completion import script
from tests.support.needs import need_program
from tests.support.paths import BOXWOOD


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one file in it, a script for each shell, and `boxwood` on the path."""
    (tmp_path / "file-here").touch()
    for shell in ("bash", "zsh", "fish"):
        (tmp_path / f".complete.{shell}").write_text(script("boxwood", shell))
    monkeypatch.setenv("PATH", f"{Path(BOXWOOD).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def ask(command: list[str], home: Path) -> list[str]:
    """Return the lines that a shell prints."""
    done = subprocess.run(
        command, cwd=home, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_bash(home: Path) -> None:
    words = "COMP_WORDS=(boxwood volume in); COMP_CWORD=2; _boxwood_complete"
    show = 'printf "%s\\n" "${COMPREPLY[@]}"'
    source = "compopt() { :; }; . ./.complete.bash"
    assert ask(["bash", "-c", f"{source}; {words}; {show}"], home) == ["inspect"]


def test_fish(home: Path) -> None:
    fish = [need_program("fish"), "--no-config", "-c"]
    source = "source .complete.fish; complete -C"
    assert ask([*fish, f"{source} 'boxwood volume in'"], home) == ["inspect"]
    members = ["create", "inspect", "ls", "prune", "rm"]
    assert ask([*fish, f"{source} 'boxwood volume '"], home) == members
    assert ask([*fish, f"{source} 'boxwood load -i fi'"], home) == ["file-here"]


def test_zsh(home: Path) -> None:
    """On a terminal, as zsh completes nowhere else."""
    shell = need_program("zsh")
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(home)
        os.execve(shell, [shell, "-f", "-i"], {**os.environ, "TERM": "dumb", "PS1": "ready> "})
    try:
        setup = b"autoload -Uz compinit; compinit -u -D; source ./.complete.zsh; echo se''t\n"
        assert b"set" in typed(master, setup, b"set\r\n")
        assert b"inspect" in typed(master, b"boxwood volume in\t", b"inspect")
        assert b"file-here" in typed(master, b"\x15boxwood load -i fi\t", b"file-here")
        os.write(master, b"\x15exit\n")
    finally:
        os.close(master)
        os.waitpid(pid, 0)


def typed(master: int, keys: bytes, wanted: bytes) -> bytes:
    """Type, and return what comes until `wanted` is among it, or nothing comes any more."""
    os.write(master, keys)
    output, end = b"", time.monotonic() + 15
    while wanted not in output and time.monotonic() < end:
        if select.select([master], [], [], 0.5)[0]:
            output += os.read(master, 65536)
    return output
