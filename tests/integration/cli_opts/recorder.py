"""A daemon that only listens: it answers what it was told, and keeps what was to be created.

With it the real `docker` client is an oracle: of the body that flags make, and of what it prints
of a given answer.
"""

from __future__ import annotations

import json
import os
import socketserver
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Self

from tests.support.needs import need_program

DEADLINE = 30  # seconds that one call of the client may take


class _Handler(BaseHTTPRequestHandler):
    """One connection of the client."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def address_string(self) -> str:
        return "client"

    def log_message(self, *_args: object) -> None:
        """Nothing is logged."""

    def answer(self, status: int, document: Any = None) -> None:
        data = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        for name, value in (
            ("Api-Version", "1.50"),
            ("Ostype", "linux"),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(data))),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def do_HEAD(self) -> None:
        self.answer(200)

    def do_GET(self) -> None:
        for part, document in self.server.answers.items():
            if part in self.path:
                self.answer(200, document)
                return
        self.answer(404, {"message": "not known"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "/containers/create" in self.path:
            self.server.created = json.loads(body)
        self.answer(400, {"message": "recorded"})


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    answers: dict[str, Any]
    created: Any

    def handle_error(self, *_args: object) -> None:
        """The client goes away when it has what it wanted."""


class Recorder:
    """A listening daemon, and the client that speaks to it; a context manager.

    `answers` are documents by a part of the path that asks for them.
    """

    def __init__(self, answers: dict[str, Any] | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="recorder-")
        self.folder = Path(self._folder.name)
        self.work = self.folder / "work"
        self.work.mkdir()
        path = str(self.folder / "docker.sock")
        self._server = _Server(path, _Handler)
        self._server.answers = {"/_ping": None, "/info": {"OSType": "linux"}} | (answers or {})
        self._server.created = None
        self._command = [need_program("docker"), "-H", f"unix://{path}"]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._folder.cleanup()

    def docker(
        self, *args: str, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs the client with these arguments in `work`."""
        home = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "TZ": "UTC"}
        return subprocess.run(
            [*self._command, *args],
            env=home | (environment or {}),
            cwd=self.work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )

    def create(self, args: list[str], environment: dict[str, str]) -> tuple[Any, str]:
        """The body that `docker create ARGS` sends (None if it sends none), and its stderr."""
        self._server.created = None
        done = self.docker("create", *args, environment=environment)
        return self._server.created, done.stderr
