"""A registry that does what a test tells it to: it serves one image, logs, lies and stalls."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def digest(data: bytes) -> str:
    """Return ``sha256:...``."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def described(kind: str, data: bytes, **more: Any) -> dict[str, Any]:
    """Return a descriptor."""
    return {"mediaType": kind, "digest": digest(data), "size": len(data), **more}


class Scripted:
    """The server. ``script(handler) -> bool`` sees each request first: True, it has answered."""

    def __init__(
        self,
        *layers: bytes,
        name: str = "x/y",
        host: str = "127.0.0.1",
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.name = name
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.script: Callable[[Handler], bool] = lambda _: False
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.uploads: dict[str, bytearray] = {}
        self.layers = [gzip.compress(layer, 1, mtime=0) for layer in layers]
        self.config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Cmd": ["sh"]},
                "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
            }
        ).encode()
        for blob in (*self.layers, self.config):
            self.blobs[digest(blob)] = blob
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": described(CONFIG, self.config),
            "layers": [described(LAYER, blob) for blob in self.layers],
        }
        self.put("1", MANIFEST, json.dumps(manifest).encode())
        self._server = ThreadingHTTPServer((host, 0), type("H", (Handler,), {"it": self}))
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def address(self) -> str:
        """``HOST:PORT``."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    @property
    def image(self) -> str:
        """The reference of the image."""
        return f"{self.address}/{self.name}:1"

    def put(self, tag: str, kind: str, data: bytes) -> str:
        """Store a manifest under a tag and its digest."""
        self.manifests[tag] = self.manifests[digest(data)] = (kind, data)
        return digest(data)

    def asked(self, method: str, part: str) -> list[str]:
        """Return the requests so far of a method whose path has ``part``."""
        return [one for one in self.requests if one.startswith(f"{method} ") and part in one]

    @contextlib.contextmanager
    def serving(self) -> Iterator[Scripted]:
        """Serve until the end of the block."""
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    it: ClassVar[Scripted]
    body = b""
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for a delayed acknowledgement

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _any(self) -> None:
        self.it.requests.append(f"{self.command} {self.path}")
        self.it.headers.append({key.lower(): value for key, value in self.headers.items()})
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if not self.it.script(self):
                self.usual()

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = _any  # noqa: N815 - the library's names
    do_DELETE = _any  # noqa: N815

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Send an answer; header names with underscores for dashes."""
        self.send_response(status)
        names = {key.replace("_", "-"): value for key, value in headers.items()}
        names.setdefault("Content-Length", str(len(body)))
        for key, value in names.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def usual(self) -> None:
        """Do as a registry does."""
        if self.command in ("POST", "PATCH", "PUT"):
            self.body = self.sent()
            self.written()
            return
        if self.command == "DELETE":
            self.it.uploads.pop(self.path.partition("?")[0].rpartition("/")[2], None)
            self.answer(204)
            return
        path = urlsplit(self.path).path.removeprefix("/v2/").removeprefix(f"{self.it.name}/")
        kind, _, name = path.partition("/")
        upload = self.it.uploads.get(name.partition("/")[2]) if kind == "blobs" else None
        if upload is not None:
            self.answer(204, Location=self.path, Range=f"0-{max(len(upload) - 1, 0)}")
        elif kind == "manifests" and name in self.it.manifests:
            media, data = self.it.manifests[name]
            self.answer(200, data, Content_Type=media, Docker_Content_Digest=digest(data))
        elif kind == "blobs" and name in self.it.blobs:
            self.blob(self.it.blobs[name])
        elif path == "":
            self.answer(200, b"{}")
        else:
            self.answer(
                404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}'
            )

    def sent(self) -> bytes:
        """Read the body of a request, with a length or in chunks."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        pieces = []
        while size := int(self.rfile.readline() or b"0", 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def written(self) -> None:
        """Take what is sent: an upload in three steps, a manifest."""
        where, _, query = self.path.partition("?")
        name, fields = where.rpartition("/")[2], dict(parse_qsl(query))
        root = f"/v2/{self.it.name}/blobs/uploads/"
        if "/manifests/" in where:
            kind = self.headers.get("Content-Type", "")
            self.answer(201, Docker_Content_Digest=self.it.put(name, kind, self.body))
        elif self.command == "POST":
            name = str(len(self.it.uploads) + 1)
            self.it.uploads[name] = bytearray()
            self.answer(202, Location=f"{root}{name}?state=a%2Fb")
        elif self.command == "PATCH":
            self.it.uploads[name] += self.body
            self.answer(202, Location=self.path, Range=f"0-{len(self.it.uploads[name]) - 1}")
        elif digest(data := bytes(self.it.uploads[name] + self.body)) == fields["digest"]:
            self.it.blobs[fields["digest"]] = data
            self.answer(201, Location=f"/v2/{self.it.name}/blobs/{fields['digest']}")
        else:
            self.answer(400, b'{"errors":[{"code":"DIGEST_INVALID","message":"another"}]}')

    def blob(self, data: bytes) -> None:
        """Send a blob, or the part of it that is asked for."""
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes="):
            first, _, last = wanted[6:].partition("-")
            start, end = int(first), int(last or len(data) - 1) + 1
            where = f"bytes {start}-{end - 1}/{len(data)}"
            self.answer(206, data[start:end], Content_Range=where)
        else:
            self.answer(200, data)

    def cut(self, data: bytes, after: int) -> None:
        """Announce all of it, send a part and close the connection."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:after])
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(2)
