"""Debian's docker-registry on a port and a folder of its own, plain, with TLS, with passwords."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.needs import need_program, until
from tests.support.paths import clean_environment, clear_room, make_room


class Registry:
    """One registry. ``extra`` goes into its configuration (JSON, which is YAML)."""

    def __init__(self, extra: dict[str, Any] | None = None, parent: Path | None = None) -> None:
        """``parent``: the folder that its own is made in."""
        self.room = make_room("registry", parent=parent)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log_path = self.room / "log"
        self._extra = extra or {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it has said, one line for each request."""
        return self.log_path.read_text(errors="replace")

    def start(self) -> None:
        """Start it and wait until it answers."""
        config: dict[str, Any] = {
            "version": 0.1,
            "log": {"accesslog": {"disabled": False}, "level": "error"},
            "storage": {
                "filesystem": {"rootdirectory": str(self.room / "data")},
                "delete": {"enabled": True},
            },
            "http": {"addr": self.address},
        }
        config["http"] |= self._extra.get("http", {})
        config |= {key: value for key, value in self._extra.items() if key != "http"}
        path = self.room / "config.yml"
        path.write_text(json.dumps(config))
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [need_program("docker-registry"), "serve", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=clean_environment(),
            )
        until(self._answers, f"the registry answers\n{self.log}", seconds=20)

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"the registry ended:\n{self.log}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def get(self, path: str, accept: str = "*/*") -> bytes:
        """Ask the registry, as a stranger would; raises HTTPError."""
        request = urllib.request.Request(
            f"http://{self.address}/v2/{path}", headers={"Accept": accept}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            body: bytes = answer.read()
        return body

    def put(self, repository: str, tag: str, kind: str, manifest: bytes, *blobs: bytes) -> None:
        """Store an image, as a stranger would; ``kind`` is the manifest's media type."""
        root = f"http://{self.address}/v2/{repository}"
        for blob in blobs:
            with self._ask("POST", f"{root}/blobs/uploads/", b"") as begun:
                where = begun.headers["Location"]
            name = f"sha256:{hashlib.sha256(blob).hexdigest()}"
            glue = "&" if "?" in where else "?"
            self._ask(
                "PUT", f"{where}{glue}digest={name}", blob, "application/octet-stream"
            ).close()
        self._ask("PUT", f"{root}/manifests/{tag}", manifest, kind).close()

    @staticmethod
    def _ask(method: str, url: str, data: bytes, kind: str = "") -> http.client.HTTPResponse:
        headers = {"Content-Type": kind} if kind else {}
        request = urllib.request.Request(url, data, headers, method=method)
        answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=10)
        return answer

    def requests(self) -> list[str]:
        """Return method and path of each request so far, in order."""
        found = []
        for line in self.log.splitlines():
            _, quote, rest = line.partition('] "')
            if quote:
                found.append(" ".join(rest.split()[:2]))
        return found

    def close(self) -> None:
        """End it and remove its folder."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None
        clear_room(self.room)


@contextlib.contextmanager
def serving(extra: dict[str, Any] | None = None, parent: Path | None = None) -> Iterator[Registry]:
    """Run a registry."""
    registry = Registry(extra, parent)
    try:
        registry.start()
        yield registry
    finally:
        registry.close()


def blob_path(registry: Registry, digest: str) -> Path:
    """Return where a registry keeps a blob."""
    algorithm, _, name = digest.partition(":")
    root = registry.room / "data/docker/registry/v2/blobs"
    return root / algorithm / name[:2] / name / "data"
