"""Progress: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from boxwood.cli.board import Board
from boxwood.cli.errors import CliError
from boxwood.cli.progress import show

MB = 1_000_000


class Screen:
    """A terminal of 80 columns, and what came to it; read by a thread, so that none waits."""

    def __init__(self) -> None:
        self._master, self.fd = pty.openpty()
        self._came = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while piece := os.read(self._master, 65536):
                self._came += piece
        except OSError:  # EIO: our side is closed
            return

    def lines(self) -> list[str]:
        """Close it; return the lines that stand on it at the end, without colours."""
        os.close(self.fd)
        self._reader.join()
        os.close(self._master)
        rows: list[str] = [""]
        for token in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|\r|\n|[^\x1b\r\n]+", self._came.decode()):
            if token == "\n":
                rows.append("")
            elif token.endswith("A") and token.startswith("\x1b"):  # up: all that is below goes too
                del rows[len(rows) - int(token[2:-1]) :]
            elif token == "\x1b[2K":
                rows[-1] = ""
            elif not token.startswith("\x1b") and token != "\r":
                rows[-1] += token
        return [row.rstrip() for row in rows]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    return Screen()


def moving(name: str, current: int, total: int, status: str = "Downloading") -> dict[str, Any]:
    detail = {"current": current, "total": total}
    return {"id": name, "status": status, "progressDetail": detail}


def clock() -> tuple[Callable[[], float], list[float]]:
    """A clock, and where it is moved."""
    now = [0.0]
    return lambda: now[0], now


def test_several_layers_with_rate_and_time_left(screen: Screen) -> None:
    read, now = clock()
    board = Board(screen.fd, read)
    board.draw({"id": "aaaaaaaaaaaa", "status": "Pulling fs layer", "progressDetail": {}})
    for second in range(1, 5):
        now[0] = float(second)
        board.draw(moving("bbbbbbbbbbbb", second * MB, 10 * MB))
        board.draw(moving("cccccccccccc", second * 2 * MB, 10 * MB))
    board.refresh()
    board.end()
    lines = screen.lines()
    assert lines[0] == "aaaaaaaaaaaa Pulling fs layer"
    assert re.fullmatch(r"b+ Downloading +\S+ 4\.0/10\.0 MB 1\.0 MB/s 00:06", lines[1])
    assert re.fullmatch(r"c+ Downloading +\S+ 8\.0/10\.0 MB 2\.0 MB/s 00:01", lines[2])
    assert all(len(line) <= 80 for line in lines)


def test_another_work_has_its_own_rate(screen: Screen) -> None:
    read, now = clock()
    board = Board(screen.fd, read)
    for second in range(1, 4):
        now[0] = float(second)
        board.draw(moving("a", second * 9 * MB, 30 * MB))
    for second in range(4, 7):
        now[0] = float(second)
        board.draw(moving("a", (second - 3) * MB, 30 * MB, "Extracting"))
    board.end()
    assert re.fullmatch(r"a Extracting +\S+ 3\.0/30\.0 MB 1\.0 MB/s 00:27", screen.lines()[0])


def test_lines_end_up_in_their_order(screen: Screen) -> None:
    messages = [
        {"status": "Pulling from x/y", "id": "1"},
        moving("a", MB, 2 * MB),
        {"id": "a", "status": "Pull complete", "progressDetail": {}},
        {"status": "Digest: sha256:0"},
        {"status": "Status: Downloaded"},
        {"id": "b", "status": "Pull complete"},
        {"aux": {"ID": "7"}},
        {"stream": "Loaded image: x\n"},
    ]
    assert show(messages, screen.fd) == [{"ID": "7"}]
    words = [" ".join(line.split()) for line in screen.lines() if line]
    assert words == [
        "1 Pulling from x/y", "a Pull complete", "Digest: sha256:0", "Status: Downloaded",
        "b Pull complete", "Loaded image: x",
    ]  # fmt: skip


def test_an_error_leaves_the_lines(screen: Screen) -> None:
    with pytest.raises(CliError, match="it broke"):
        show([moving("a", MB, 2 * MB), {"error": "it broke"}], screen.fd)
    assert screen.lines()[0].startswith("a Downloading")


def test_what_a_registry_says_steers_no_terminal(screen: Screen) -> None:
    show([{"id": "\x1b[2J", "status": "\x1b]0;x\x07[red]y"}, {"status": "\x1b[9Az"}], screen.fd)
    assert [" ".join(line.split()) for line in screen.lines() if line] == [
        "[2J ]0;x [red]y", "[9Az",
    ]  # fmt: skip


def test_the_cursor_is_never_hidden(screen: Screen) -> None:
    """An interrupt ends the program in the middle: nothing may have to be put back."""
    board = Board(screen.fd)
    board.draw(moving("a", MB, 2 * MB))
    board.end()
    screen.lines()
    assert b"\x1b[?25" not in screen._came


@pytest.mark.parametrize("where", ["pipe", "dumb"])
def test_elsewhere_lines_and_no_rich(where: str) -> None:
    """In a pipe, and on a terminal that cannot redraw: a line for each status, nothing imported."""
    code = (
        "import sys; from boxwood.cli.progress import show\n"
        "show([{'id': 'a', 'status': 'Downloading', 'progressDetail': {'current': 1, 'total': 2}},"
        " {'id': 'a', 'status': 'Pull complete'}, {'status': 'Digest: d'}], 1)\n"
        "sys.stderr.write(str('rich' in sys.modules))"
    )
    master, slave = pty.openpty()
    out = subprocess.PIPE if where == "pipe" else slave
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=out, stderr=subprocess.PIPE, check=True,
        env={**os.environ, "TERM": "dumb" if where == "dumb" else "xterm"},
    )  # fmt: skip
    came = done.stdout if where == "pipe" else os.read(master, 4096).replace(b"\r", b"")
    os.close(master)
    os.close(slave)
    assert came == b"a: Pull complete\nDigest: d\n"
    assert done.stderr == b"False"
