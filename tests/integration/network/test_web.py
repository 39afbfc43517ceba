"""A web application of real parts: nginx before a small server before Redis, on two networks.

The parts are Debian's packages in a tree that mmdebstrap makes. Nothing but nginx is published, on
the loopback; Redis is on an internal network. The daemon is killed and started again while requests
are made, and none of them fails.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import Engine, running
from tests.support.needs import need_program, need_root, until
from tests.support.visitor import Visitor, visit

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

PACKAGES = "nginx-light,redis-server,python3-minimal,libpython3-stdlib"

APPLICATION = r"""
import http.server, socket, sys

def redis(*words):
    with socket.create_connection(("store", 6379), 5) as line:
        text = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        line.sendall(f"*{len(words)}\r\n{text}".encode())
        return line.recv(1000).decode().strip().lstrip(":")

class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = f"visit {redis('INCR', 'visits')} from {self.headers['X-Real-IP']}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("", 8000), Page).serve_forever()
"""

NGINX = """
daemon off;
error_log /dev/stderr;
pid /tmp/nginx.pid;
events {}
http {
  access_log off;
  server {
    listen 80;
    location / {
      proxy_pass http://application:8000;
      proxy_set_header X-Real-IP $remote_addr;
    }
  }
}
"""


@pytest.fixture(scope="module")
def house() -> Iterator[Engine]:
    """An engine with the image ``web``."""
    need_root()
    with running(Engine(), busybox=False) as engine:
        assert isinstance(engine, Engine)
        tree = engine.data_root.with_name("web.tar")
        try:
            subprocess.run(
                [need_program("mmdebstrap"), "-q", "--variant=essential",
                 f"--include={PACKAGES}", "bookworm", str(tree)],
                check=True,
            )  # fmt: skip
            engine.docker("import", tree, "web", timeout=120)
        finally:
            tree.unlink(missing_ok=True)
        yield engine


def start(house: Engine, folder: Path) -> int:
    """Start all of it; returns the port on the loopback."""
    (folder / "application.py").write_text(APPLICATION)
    (folder / "nginx.conf").write_text(NGINX)
    house.docker("network", "create", "front")
    house.docker("network", "create", "--internal", "back")
    run = ("run", "-d", "-v", f"{folder}:/given:ro")
    house.docker(
        *run, "--name", "redis", "--network", "back", "--network-alias", "store", "web",
        "redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "",
    )  # fmt: skip
    house.docker(
        *run, "--name", "application", "--network", "front", "web",
        "python3", "/given/application.py",
    )  # fmt: skip
    house.docker("network", "connect", "back", "application")
    house.docker(
        *run, "--name", "nginx", "--network", "front", "-p", "127.0.0.1::80", "web",
        "nginx", "-c", "/given/nginx.conf",
    )  # fmt: skip
    return int(house.docker("port", "nginx", "80/tcp").stdout.rpartition(":")[2])


def answers(port: int) -> bool:
    """Does the application answer?"""
    try:
        return visit(port).startswith("visit")
    except OSError:
        return False


def test_a_web_application(house: Engine, tmp_path: Path) -> None:
    """It works, is published where it was asked to be alone, and does not need the daemon."""
    port = start(house, tmp_path)
    until(lambda: answers(port), "the application answers", seconds=60)
    assert visit(port).split()[0] == "visit"
    visitor = Visitor(port, pause=0.01)
    visitor.start()
    try:
        for _ in range(3):
            seen = len(visitor.seen)
            house.kill()
            until(lambda seen=seen: len(visitor.seen) > seen + 20, "visits go on without it")
            house.start()
            until(lambda seen=seen: len(visitor.seen) > seen + 40, "visits go on with it")
    finally:
        visitor.stop()
    assert visitor.failures == []
    assert len(house.docker("ps", "-q").stdout.split()) == 3
    # What is internal has no way out, and what is published on the loopback is there alone.
    inside = ("exec", "redis", "python3", "-c")
    out = "import socket; socket.create_connection(('192.0.2.1', 80), 2)"
    assert house.docker(*inside, out, check=False).returncode != 0
    assert house.docker("port", "nginx").stdout == f"80/tcp -> 127.0.0.1:{port}\n"
    house.docker("restart", "-t", "1", "application", "redis")
    until(lambda: answers(port), "it answers again after both were restarted", seconds=60)
    house.docker("rm", "-f", "nginx", "application", "redis")
    house.docker("network", "rm", "front", "back")
    assert not answers(port)
