"""What the command line leaves when it is interrupted: nothing."""

from __future__ import annotations

import base64
import json
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from tests.support.needs import until
from tests.support.paths import BOXWOOD, clean_environment

STAT = base64.b64encode(json.dumps({"name": "x", "size": 9, "mode": 420}).encode()).decode()
SECONDS = 30.0


def _stall(listener: socket.socket, over: threading.Event) -> None:
    """Answer each request with the beginning of a body."""
    while not over.is_set():
        try:
            sock, _ = listener.accept()
        except TimeoutError:
            continue
        with sock:
            sock.settimeout(SECONDS)
            sock.recv(1 << 16)
            sock.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nApi-Version: 1.50\r\n"
                b"X-Docker-Container-Path-Stat: " + STAT.encode() + b"\r\n\r\n" + bytes(100)
            )
            over.wait(SECONDS)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "words",
    [("save", "-o", "{}/file", "x"), ("export", "-o", "{}/file", "x"), ("cp", "x:/x", "{}/new")],
)
def test_nothing_is_left(words: tuple[str, ...], number: int, tmp_path: Path) -> None:
    folder, over = tmp_path / "folder", threading.Event()
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        listener.settimeout(0.1)
        server = threading.Thread(target=_stall, args=(listener, over))
        server.start()
        command = subprocess.Popen(
            [BOXWOOD, *(word.format(folder) for word in words)],
            env=clean_environment(
                BOXWOOD_HOST=f"unix://{tmp_path / 's'}", BOXWOOD_CONFIG=str(tmp_path / "none"),
                DOCKER_API_VERSION="1.50",
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            until(lambda: list(folder.iterdir()), "the command has begun", seconds=SECONDS)
            command.send_signal(number)
            assert command.wait(SECONDS) == 128 + number
            assert list(folder.iterdir()) == []
        finally:
            over.set()
            command.kill()
            command.communicate()
            server.join(SECONDS)
