"""Debian's docker-compose on our socket: a project comes up, works, changes and goes."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import Engine
from tests.support.needs import need_program, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]

SERVE = "mkdir -p /w; echo hello > /w/index.html; exec httpd -f -p 80 -h /w"
KEEP = "while true; do nc -l -p 6379 -e echo kept; done"
PROJECT = {
    "version": "3.7",
    "services": {
        "web": {
            "image": "busybox",
            "command": ["sh", "-c", SERVE],
            "ports": ["127.0.0.1::80"],
            "networks": {"front": {"aliases": ["www"]}, "back": {}},
            "depends_on": ["store"],
            "volumes": ["/kept"],
            "healthcheck": {
                "test": ["CMD", "wget", "-qO-", "http://127.0.0.1/"],
                "interval": "1s",
                "retries": 5,
            },
        },
        "store": {
            "image": "busybox",
            "command": ["sh", "-c", KEEP],
            "networks": ["back"],
            "volumes": ["data:/data"],
            "stop_grace_period": "1s",
        },
    },
    "networks": {"front": {}, "back": {"internal": True}},
    "volumes": {"data": {}},
}


class Project:
    """A project in a folder of its own."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._engine, self._folder = engine, folder
        (folder / "docker-compose.yml").write_text(json.dumps(PROJECT))

    def __call__(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = (need_program("docker-compose"), "--no-ansi", "-p", "walk", *words)
        return self._engine.run(*command, cwd=self._folder, check=check, timeout=120)


@pytest.fixture
def project(clean_engine: Engine, tmp_path: Path) -> Iterator[Project]:
    """The project; whatever is left of it goes."""
    made = Project(clean_engine, tmp_path)
    yield made
    made("down", "-v", "-t", "1", check=False)


def test_a_project(project: Project, clean_engine: Engine) -> None:
    """Up, published, names and aliases, scaled, restarted, one-off runs, down with all of it."""
    project("up", "-d")
    where = project("port", "web", "80").stdout.strip()
    assert where.startswith("127.0.0.1:")

    def page() -> bytes:
        try:
            with urllib.request.urlopen(f"http://{where}/", timeout=5) as answer:
                body: bytes = answer.read()
        except OSError:
            return b""
        return body

    until(lambda: page() == b"hello\n", "the page is served")
    assert project("exec", "-T", "web", "wget", "-qO-", "http://www/").stdout == "hello\n"
    assert project("exec", "-T", "web", "nc", "store", "6379").stdout == "kept\n"
    until(lambda: "healthy)" in project("ps").stdout, "it is healthy")
    again = project("up", "-d", "--scale", "store=3")
    assert "walk_web_1 is up-to-date" in again.stdout + again.stderr
    found = project("exec", "-T", "web", "nslookup", "store").stdout
    assert found.count("Name:\tstore") == 3, found
    assert project("run", "--rm", "store", "echo", "once").stdout == "once\n"
    project("restart", "-t", "1", "store")
    assert project("exec", "-T", "web", "nc", "store", "6379").stdout == "kept\n"
    before = project("ps", "-q", "web").stdout
    project("exec", "-T", "web", "sh", "-c", "echo mine > /kept/file")
    project("up", "-d", "-t", "1", "--no-deps", "--force-recreate", "web")
    assert project("ps", "-q", "web").stdout not in ("", before)
    kept = project("exec", "-T", "web", "cat", "/kept/file").stdout
    assert kept == "mine\n", "a container made anew takes the volumes without a name along"
    project("down", "-v", "-t", "1")
    assert clean_engine.docker("ps", "-aq").stdout == ""
    names = clean_engine.docker("network", "ls", "--format", "{{.Name}}").stdout.split()
    assert sorted(names) == ["bridge", "host", "none"]
    assert "walk_data" not in clean_engine.docker("volume", "ls", "-q").stdout
