"""Pulls over the API by clients that read all of it, or go away in its midst."""

from __future__ import annotations

import json
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import Any
from urllib.parse import quote

from tests.support.engine import Engine
from tests.support.http import Answer, UnixConnection
from tests.support.scripted import Handler, Scripted, digest


@contextmanager
def nothing_kept(engine: Engine) -> Iterator[Engine]:
    """What is kept for a next pull goes at the end."""
    try:
        yield engine
    finally:
        for path in (engine.data_root / "content/partial").iterdir():
            path.unlink()


def pull(house: Engine, name: str, **more: Any) -> Answer:
    """Pull over the API; the whole stream of messages is in the answer."""
    return house.api("POST", f"/images/create?fromImage={quote(name, safe='')}", timeout=60, **more)


def messages(answer: Answer) -> list[dict[str, Any]]:
    """Return the messages of a stream."""
    return [json.loads(line) for line in answer.body.splitlines() if line]


def error_of(answer: Answer) -> str:
    """Return the one error, wherever it stands."""
    if answer.status != 200:
        return answer.message
    return str(next((one["error"] for one in messages(answer) if "error" in one), ""))


def is_here(house: Engine, name: str) -> bool:
    """Is there an image of that name?"""
    return house.api("GET", f"/images/{quote(name, safe='')}/json").status == 200


def first_layer(registry: Scripted) -> str:
    """Return the path that the big layer is asked for at."""
    return f"/blobs/{digest(registry.layers[0])}"


def begun(house: Engine, name: str) -> tuple[UnixConnection, HTTPResponse]:
    """Ask for an image as a client that may go away; its stream has begun."""
    client = UnixConnection(house.socket)
    client.request("POST", f"/images/create?fromImage={quote(name, safe='')}")
    stream = client.getresponse()
    stream.readline()
    return client, stream


def go_away(client: UnixConnection, stream: HTTPResponse) -> None:
    """Leave in the midst."""
    stream.close()
    client.close()


def held_up(registry: Scripted, after: int = 1000) -> tuple[threading.Event, threading.Event]:
    """Stop the first layer in its midst; returns what lets it go on, and what tells its end."""
    going, ended = threading.Event(), threading.Event()
    data = registry.layers[0]

    def script(handler: Handler) -> bool:
        if first_layer(registry) not in handler.path or going.is_set():
            return False
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:after])
        while not going.wait(0.01):
            if select.select([handler.connection], [], [], 0)[0]:
                ended.set()  # nothing more is asked here: the connection is closed
                handler.close_connection = True
                return True
        handler.wfile.write(data[after:])
        return True

    registry.script = script
    return going, ended
