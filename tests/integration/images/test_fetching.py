"""``import URL``: what a web server sends becomes an image, or one error."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import pytest

from boxwood.errors import InvalidArgument
from boxwood.services.images import fetching
from tests.integration.images.make import BASE
from tests.support.engine import Engine

pytestmark = pytest.mark.root


class _Web(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer by the path."""
        moves = {"/moved": "/tree.tar", "/file": "file:///etc/passwd", "/round": "/round"}
        if self.path in moves:
            self.send_response(302)
            self.send_header("Location", moves[self.path])
            self.end_headers()
            return
        self.send_response(404 if self.path == "/none" else 200)
        self.send_header("Content-Length", str(len(BASE) + 7 * (self.path == "/short")))
        self.end_headers()
        self.wfile.write(BASE)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    """The address of a web server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Web) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["http://{}/tree.tar", "http://{}/moved", "{}/tree.tar"])
def test_imported(engine: Engine, web: str, path: str) -> None:
    url = path.format(web)
    said = engine.api("POST", f"/images/create?fromSrc={quote(url)}&repo=web&tag=1").body.decode()
    try:
        assert f"Downloading from http://{web}/" in said
        shown = engine.api("GET", "/images/web:1/json").json()
        assert shown["Id"] in said
        assert shown["Comment"] == f"Imported from {url}"
    finally:
        engine.api("DELETE", "/images/web:1")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/none", "404"),
        ("/file", "not allowed"),
        ("/round", "infinite loop"),
        ("/short", "ends 7 bytes early"),
    ],
)
def test_refused(engine: Engine, web: str, path: str, words: str) -> None:
    before = engine.api("GET", "/images/json?all=1").json()
    answer = engine.api("POST", f"/images/create?fromSrc=http://{web}{path}&repo=web&tag=2")
    assert words in answer.body.decode()
    assert b'"error"' in answer.body
    assert engine.api("GET", "/images/json?all=1").json() == before


@pytest.mark.parametrize(
    "text", ["ftp://x/y", "file:///etc/passwd", "http://", "http:///x", "", "http://[x"]
)
def test_no_address(text: str) -> None:
    with pytest.raises(InvalidArgument):
        fetching.address(text)
