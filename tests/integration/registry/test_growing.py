"""Blobs that are sent while they are made: what is asked of a registry, and what of that fails."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from urllib.parse import quote

import pytest

from boxwood.errors import BoxwoodError, PermissionDenied
from boxwood.model.descriptor import DOCKER_MANIFEST, OCI_LAYER, Descriptor
from boxwood.model.reference import Reference
from boxwood_plugins.registry.docker.transport import DockerTransport
from tests.integration.tar.archives import archive, entry
from tests.support.engine import Engine
from tests.support.registry import serving
from tests.support.scripted import Handler, Scripted, digest
from tests.support.transports import converse

DATA = random.Random(6).randbytes(300_000)


@pytest.fixture
def registry() -> Iterator[Scripted]:
    with Scripted().serving() as one:
        yield one


class Broken(BoxwoodError):
    """What making it ends with."""


class Making:
    """A blob of which ``ready`` bytes are there at first, the rest when ``go`` is set."""

    def __init__(self, ready: int, *, fails: bool = False) -> None:
        self._ready, self._fails = ready, fails
        self.go, self.reached = asyncio.Event(), asyncio.Event()
        """It is whole by then; what was ready has been read."""

    async def made(self) -> Descriptor:
        await self.go.wait()
        if self._fails:
            raise Broken("no room")
        return Descriptor(media_type=OCI_LAYER, digest=digest(DATA), size=len(DATA))

    async def source(self, offset: int) -> AsyncIterator[bytes]:
        while offset < len(DATA):
            if offset >= self._ready:
                self.reached.set()
                await self.go.wait()
                if self._fails:
                    raise Broken("no room")
            piece = DATA[offset : offset + 10_000]
            offset += len(piece)
            yield piece


def pushed(registry: Scripted, ready: int, *, fails: bool = False, waits: bool = True) -> None:
    """Push; it is made when the first part has gone out (``waits``), or at once."""

    async def all_of_it(transport: DockerTransport) -> None:
        making = Making(ready, fails=fails)
        if not waits:
            making.go.set()
        name = Reference.parse(registry.image)
        made = asyncio.ensure_future(making.made())
        work = asyncio.ensure_future(transport.push_growing(name, made, making.source))
        reached = asyncio.ensure_future(making.reached.wait())
        await asyncio.wait([work, reached], return_when=asyncio.FIRST_COMPLETED)
        making.go.set()
        try:
            await work
        finally:
            for task in (made, reached):
                task.cancel()
            await asyncio.wait([made, reached])

    converse(all_of_it, waits="pause=0.01")


def methods(registry: Scripted) -> list[str]:
    return [one.split()[0] for one in registry.requests]


def test_it_goes_out_before_it_is_whole(registry: Scripted) -> None:
    """Begun, sent without a length, ended by its digest; asked for once that is known."""
    pushed(registry, 100_000)
    assert sorted(methods(registry)) == ["HEAD", "PATCH", "POST", "PUT"]
    (patch,) = [head for head in registry.headers if "transfer-encoding" in head]
    assert "content-range" not in patch
    assert "content-length" not in patch
    assert registry.requests[-1].startswith("PUT ")
    assert registry.headers[-1]["content-length"] == "0"
    assert registry.blobs[digest(DATA)] == DATA


def test_it_is_there_already(registry: Scripted) -> None:
    """The rest is not sent, and the session is given back."""
    registry.blobs[digest(DATA)] = DATA

    def script(handler: Handler) -> bool:
        if handler.command != "PATCH":
            return False
        while handler.rfile.readline():  # to the end of the connection: it is never answered
            pass
        handler.close_connection = True
        return True

    registry.script = script
    pushed(registry, 100_000)
    assert [one for one in methods(registry) if one != "PATCH"] == ["POST", "HEAD", "DELETE"]
    assert registry.uploads == {}


@pytest.mark.parametrize("status", [503, 404, 413])
def test_it_goes_on_after_a_fault(registry: Scripted, status: int) -> None:
    """As any upload does: with the rest of what is whole by then."""
    first = iter((True,))

    def script(handler: Handler) -> bool:
        if handler.command != "PATCH" or not next(first, False):
            return False
        body = handler.sent()
        if status == 404:
            registry.uploads.clear()
        else:
            registry.uploads["1"] += body[:70_000]
        handler.answer(status)
        return True

    registry.script = script
    pushed(registry, 100_000)
    assert registry.blobs[digest(DATA)] == DATA
    start = 0 if status == 404 else 70_000
    again = [head["content-range"] for head in registry.headers if "content-range" in head]
    assert again == [f"{start}-299999"]


def test_bodies_without_a_length_are_refused(registry: Scripted) -> None:
    """411: it is sent with one when that is known."""

    def script(handler: Handler) -> bool:
        if handler.command != "PATCH":
            return False
        handler.sent()
        handler.answer(411)
        return True

    registry.script = script
    pushed(registry, 100_000)
    assert methods(registry)[-2:] == ["POST", "PUT"]
    assert registry.blobs[digest(DATA)] == DATA


def test_it_cannot_be_made(registry: Scripted) -> None:
    """Its own error is what is said; nothing is stored."""
    before = dict(registry.blobs)
    with pytest.raises(Broken):
        pushed(registry, 100_000, fails=True)
    assert registry.blobs == before
    assert "PUT" not in methods(registry)


def test_who_may_not_push(registry: Scripted) -> None:
    """Is told so, and nothing is sent."""

    def script(handler: Handler) -> bool:
        handler.answer(403)
        return True

    registry.script = script
    with pytest.raises(PermissionDenied):
        pushed(registry, 0, waits=False)
    assert methods(registry) == ["POST"]


@pytest.mark.root
def test_a_large_layer(make_engine: Callable[..., Engine]) -> None:
    """A layer that was never compressed: the registry has the bytes that its manifest says."""
    house = make_engine(busybox=False)
    data = archive(entry("large", data=random.Random(1).randbytes(1 << 20) * 34))
    with serving() as registry:
        name = f"{registry.address}/large"
        where = f"/images/create?fromSrc=-&repo={quote(name, safe='')}&tag=1"
        answer = house.api("POST", where, data, headers={"Content-Type": "application/x-tar"})
        assert b'"error"' not in answer.body, answer.body
        house.docker("push", "-q", f"{name}:1")
        manifest = registry.get("large/manifests/1", DOCKER_MANIFEST)
        assert sum(one.startswith("PATCH") for one in registry.requests()) == 1
        house.docker("rmi", "-f", f"{name}:1")
        house.docker("pull", "-q", f"{name}:1")
        house.docker("push", "-q", f"{name}:1")
        assert registry.get("large/manifests/1", DOCKER_MANIFEST) == manifest
        assert sum(one.startswith("PATCH") for one in registry.requests()) == 1
