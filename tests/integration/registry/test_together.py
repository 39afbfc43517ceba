"""Several who wait for the same: one download, and nobody is failed by another one's registry."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPResponse

import pytest

from tests.integration.tar.archives import archive, entry
from tests.support.engine import Engine
from tests.support.http import UnixConnection
from tests.support.needs import until
from tests.support.pulls import (
    begun,
    error_of,
    first_layer,
    go_away,
    held_up,
    is_here,
    nothing_kept,
    pull,
)
from tests.support.scripted import MANIFEST, Handler, Scripted, described, digest

pytestmark = pytest.mark.root

BIG = archive(entry("big", data=os.urandom(3 << 20)))
SMALL = archive(entry("small", data=b"small"))
LAST = archive(entry("last", data=b"last"))


@pytest.fixture
def house(clean_engine: Engine) -> Iterator[Engine]:
    """The shared engine; nothing is kept for a next pull."""
    with nothing_kept(clean_engine) as one:
        yield one


@pytest.fixture
def registry() -> Iterator[Scripted]:
    """A registry with an image of two layers."""
    with Scripted(BIG, SMALL).serving() as one:
        yield one


@pytest.fixture
def other() -> Iterator[Scripted]:
    """Another one, whose image has the same layers."""
    with Scripted(BIG, SMALL, name="the/same").serving() as one:
        yield one


def test_ten_at_once_are_one_download(house: Engine, registry: Scripted) -> None:
    """Each of them sees all of it; each blob is fetched once."""
    going, _ = held_up(registry)
    with ExitStack() as left:
        clients = [begun(house, registry.image) for _ in range(10)]
        for client in clients:
            left.callback(go_away, *client)
        going.set()
        seen = [client[1].read() for client in clients]
    short = [digest(layer)[7:19] for layer in registry.layers]
    for lines in seen:
        said = [json.loads(line) for line in lines.splitlines()]
        assert [one for one in said if "error" in one] == []
        done = {one["id"] for one in said if one["status"] == "Pull complete"}
        assert done == set(short)
        assert f"Downloaded newer image for {registry.image}" in said[-1]["status"]
        figures = [one["progressDetail"] for one in said if one["status"] == "Downloading"]
        assert {one["total"] for one in figures} >= {len(registry.layers[0])}
    for blob in registry.blobs:
        assert len(registry.asked("GET", f"/blobs/{blob}")) == 1


def test_a_client_that_goes_away(house: Engine, registry: Scripted) -> None:
    """Nobody waits any more: the pull stops; what came is kept for the next one."""
    going, ended = held_up(registry)
    client = begun(house, registry.image)
    kept = house.data_root / "content/partial" / digest(registry.layers[0]).replace(":", "-")
    until(lambda: kept.exists() and kept.stat().st_size == 1000, "a part is here")
    go_away(*client)
    assert ended.wait(10)
    going.set()
    registry.headers.clear()
    assert not is_here(house, registry.image)
    assert error_of(pull(house, registry.image)) == ""
    assert [head["range"] for head in registry.headers if "range" in head] == ["bytes=1000-"]


def test_one_of_two_clients_goes_away(house: Engine, registry: Scripted) -> None:
    """The pull goes on for the other one."""
    going, ended = held_up(registry)
    first = begun(house, registry.image)
    until(lambda: registry.asked("GET", first_layer(registry)), "it has begun")
    second = begun(house, registry.image)
    go_away(*first)
    going.set()
    assert b"Downloaded newer image" in second[1].read()
    go_away(*second)
    assert not ended.is_set()
    assert is_here(house, registry.image)
    assert len(registry.asked("GET", first_layer(registry))) == 1


def waiting(house: Engine, name: str, layer: bytes) -> tuple[UnixConnection, HTTPResponse]:
    """Begin a pull; it waits for a layer that comes."""
    client, stream = begun(house, name)
    wanted = digest(layer)[7:19]
    for line in stream:
        said = json.loads(line)
        if said.get("id") == wanted and said["status"] == "Downloading":
            return client, stream
    raise AssertionError("it has ended")


def errors(stream: HTTPResponse) -> list[str]:
    """Read a stream to its end; returns its errors."""
    said = [json.loads(line) for line in stream.read().splitlines()]
    return [one["error"] for one in said if "error" in one]


def test_the_same_layers_from_elsewhere(house: Engine, registry: Scripted, other: Scripted) -> None:
    """What is being fetched from one registry is not fetched from another one."""
    going, _ = held_up(registry)
    with ExitStack() as left:
        clients = [waiting(house, one.image, registry.layers[0]) for one in (registry, other)]
        for client in clients:
            left.callback(go_away, *client)
        going.set()
        assert [errors(client[1]) for client in clients] == [[], []]
    assert is_here(house, registry.image)
    assert is_here(house, other.image)
    for layer in registry.layers:
        assert len(registry.asked("GET", digest(layer))) == 1
        assert other.asked("GET", digest(layer)) == []


def test_layers_that_are_here(house: Engine, registry: Scripted) -> None:
    """On the same parents, on others, in another repository: none is fetched again."""
    assert error_of(pull(house, registry.image)) == ""
    with Scripted(BIG, LAST, SMALL, BIG, name="other/order").serving() as other:
        assert error_of(pull(house, other.image)) == ""
        asked = {digest(layer): len(other.asked("GET", digest(layer))) for layer in other.layers}
        assert asked == {digest(other.layers[0]): 0, digest(other.layers[1]): 1,
                         digest(other.layers[2]): 0}  # fmt: skip
    assert is_here(house, other.image)


@pytest.mark.parametrize("how", ["wrong bytes", "it is gone", "who pulls from it leaves"])
def test_another_ones_registry(
    house: Engine, registry: Scripted, other: Scripted, how: str
) -> None:
    """It fails or lies: whoever waits for the same layer from elsewhere gets it from there."""
    going, layer = threading.Event(), registry.layers[0]
    wrong = bytearray(layer)
    wrong[-100] ^= 1

    def script(handler: Handler) -> bool:
        if first_layer(registry) not in handler.path:
            return False
        if going.is_set():
            handler.answer(404)
            return True
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(layer)))
        handler.end_headers()
        handler.wfile.write(layer[:1000])
        going.wait(20)
        if how == "wrong bytes":
            handler.wfile.write(wrong[1000:])
        handler.close_connection = True
        return True

    registry.script = script
    with ExitStack() as left:
        first = waiting(house, registry.image, layer)
        second = waiting(house, other.image, layer)
        left.callback(go_away, *second)
        if how.endswith("leaves"):
            go_away(*first)
            # What it had begun is told to its end, then its transport is not asked again.
        going.set()
        assert errors(second[1]) == []
        assert is_here(house, other.image)
        if not how.endswith("leaves"):
            assert errors(first[1]) == []
            go_away(*first)
    ranges = [
        head.get("range")
        for head, line in zip(other.headers, other.requests, strict=True)
        if first_layer(other) in line
    ]
    assert ranges == [None if how == "wrong bytes" else "bytes=1000-"]


def test_another_size(house: Engine, registry: Scripted, other: Scripted) -> None:
    """A manifest that lies about a layer's size spoils nothing for who fetches it rightly."""
    document = json.loads(registry.manifests["1"][1])
    document["layers"][0]["size"] = 10
    registry.put("lie", MANIFEST, json.dumps(document).encode())
    lie, layer = f"{registry.address}/x/y:lie", registry.layers[0]
    kept = house.data_root / "content/partial" / digest(layer).replace(":", "-")
    going, _ = held_up(other)
    with ExitStack() as left:
        client = waiting(house, other.image, layer)
        left.callback(go_away, *client)
        until(lambda: kept.stat().st_size == 1000, "a part is here")
        assert error_of(pull(house, lie)) != ""
        assert kept.read_bytes() == layer[:1000]
        going.set()
        assert errors(client[1]) == []
    assert is_here(house, other.image)
    assert not is_here(house, lie)


def test_a_config_that_lies(house: Engine, registry: Scripted, other: Scripted) -> None:
    """The bytes are right, and what one image says of them is not: nobody fetches them again."""
    document = json.loads(registry.manifests["1"][1])
    config = registry.config.replace(digest(BIG).encode(), digest(SMALL).encode())
    registry.blobs[digest(config)] = config
    document["config"] = described(document["config"]["mediaType"], config)
    registry.put("lie", MANIFEST, json.dumps(document).encode())
    lie, layer = f"{registry.address}/x/y:lie", registry.layers[0]
    going, _ = held_up(other)
    with ExitStack() as left:
        clients = {name: waiting(house, name, layer) for name in (other.image, lie)}
        for client in clients.values():
            left.callback(go_away, *client)
        going.set()
        assert errors(clients[other.image][1]) == []
        assert len(errors(clients[lie][1])) == 1
    asked = [*registry.asked("GET", first_layer(registry)), *other.asked("GET", first_layer(other))]
    assert len(asked) == 1
