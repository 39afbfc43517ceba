"""Ways to run a container to its end and remove it: what the load tests mix."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.engine import Engine
from tests.support.http import UnixConnection

TEXT = "all right"
SCRIPT = f"echo {TEXT}; exit 3"
CODE = 3
FLAGS = ("--network", "none")


class Connection:
    """One kept-alive connection to the API, as a library's user has it."""

    def __init__(self, engine: Engine) -> None:
        self._connection = UnixConnection(engine.socket, timeout=60)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Make a request; returns status and body."""
        sent = json.dumps(body).encode() if body is not None else None
        headers = {"Content-Type": "application/json"} if sent else {}
        self._connection.request(method, path, sent, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def close(self) -> None:
        """Close it."""
        self._connection.close()


@contextmanager
def connected(engine: Engine) -> Iterator[Connection]:
    """Have a connection of one's own for a while."""
    connection = Connection(engine)
    try:
        yield connection
    finally:
        connection.close()


def by_api(engine: Engine) -> None:
    """Create, start, wait, read the log, remove on one connection."""
    with connected(engine) as api:
        body = {
            "Image": "busybox",
            "Cmd": ["sh", "-c", SCRIPT],
            "Tty": True,
            "HostConfig": {"NetworkMode": "none"},
        }
        status, answer = api.ask("POST", "/containers/create", body)
        assert status == 201, answer
        key = json.loads(answer)["Id"]
        status, answer = api.ask("POST", f"/containers/{key}/start")
        assert status == 204, answer
        status, answer = api.ask("POST", f"/containers/{key}/wait")
        assert (status, json.loads(answer)["StatusCode"]) == (200, CODE), answer
        status, answer = api.ask("GET", f"/containers/{key}/logs?stdout=1")
        assert (status, answer.split()) == (200, TEXT.encode().split()), answer
        status, answer = api.ask("DELETE", f"/containers/{key}?v=1")
        assert status == 204, answer


def by_docker(engine: Engine) -> None:
    """`docker run --rm`, with the stock client."""
    done = engine.docker("run", "--rm", *FLAGS, "busybox", "sh", "-c", SCRIPT, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (CODE, TEXT, "")


def by_cli(engine: Engine) -> None:
    """`boxwood run --rm`, with ours."""
    done = engine.cli("run", "--rm", *FLAGS, "busybox", "sh", "-c", SCRIPT, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (CODE, TEXT, "")


WAYS: tuple[Callable[[Engine], None], ...] = (by_api, by_docker, by_cli)


def mixed(count: int, seed: int) -> list[Callable[[Engine], None]]:
    """Choose ``count`` ways at random."""
    return random.Random(seed).choices(WAYS, k=count)
