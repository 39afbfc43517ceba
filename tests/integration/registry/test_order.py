"""What need not wait for an answer does not: on a long line each wait is a round trip.

The scripted registry answers one request only when it has been asked another one.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from urllib.parse import quote

import pytest

from boxwood.drivers.registry import Session
from boxwood.errors import DataLoss
from boxwood.model.descriptor import OCI_LAYER, Descriptor
from boxwood.model.reference import Reference
from boxwood_plugins.registry.docker.transport import DockerTransport
from tests.integration.tar.archives import archive, entry
from tests.support.engine import Engine
from tests.support.scripted import Handler, Scripted, digest
from tests.support.transports import converse

PATIENCE = 20.0
"""Seconds after which a request that is not made fails the test; nothing waits for them else."""
LAYERS = [archive(entry(f"file-{number}", data=b"x" * 100)) for number in range(4)]


class Gate:
    """Holds some requests back until others have come; ``late`` names those that came too late."""

    def __init__(self, first: Callable[[Handler], bool], then: set[str]) -> None:
        self._first, self._missing = first, then
        self._open = threading.Event()
        self._lock = threading.Lock()
        self.late: list[str] = []

    def __call__(self, handler: Handler) -> bool:
        line = f"{handler.command} {handler.path}"
        with self._lock:
            self._missing = {part for part in self._missing if part not in line}
            if not self._missing:
                self._open.set()
        if self._first(handler) and not self._open.wait(PATIENCE):
            self.late += self._missing
        return False


@pytest.mark.root
def test_pulls_and_pushes(make_engine: Callable[..., Engine]) -> None:
    """Config and first layers are asked for together; blobs are asked about before slots."""
    flags = ("--max-concurrent-downloads", "2", "--max-concurrent-uploads", "1")
    house = make_engine(*flags, busybox=False)
    with Scripted(*LAYERS).serving() as source, Scripted().serving() as target:
        config = digest(source.config)
        blobs = [digest(layer) for layer in source.layers]
        source.script = pull = Gate(
            lambda it: it.path.endswith(f"/blobs/{config}"),
            {f"GET /v2/x/y/blobs/{blob}" for blob in blobs[:2]},
        )
        said = house.api("POST", f"/images/create?fromImage={quote(source.image, safe='')}")
        assert "error" not in said.body.decode()
        assert pull.late == []
        assert source.asked("HEAD", "/manifests/") == []
        assert len(source.asked("GET", "/manifests/")) == 1

        target.manifests.clear()
        target.script = push = Gate(
            lambda it: it.command == "PUT" and "/blobs/" in it.path,
            {f"HEAD /v2/x/y/blobs/{blob}" for blob in blobs},
        )
        repository = target.image.removesuffix(":1")
        name = quote(source.image, safe="")
        house.api("POST", f"/images/{name}/tag?repo={quote(repository, safe='')}&tag=1")
        said = house.api(
            "POST", f"/images/{repository}/push?tag=1", headers={"X-Registry-Auth": "e30="}
        )
        assert "error" not in said.body.decode()
        assert push.late == []
        for blob in (*blobs, config):
            assert len(target.asked("HEAD", blob)) == 1
        assert target.requests[-1] == "PUT /v2/x/y/manifests/1"
        assert target.manifests["1"] == source.manifests["1"]


def resolved_and_read(registry: Scripted) -> bytes:
    """Resolve the image as a pull does that wants its manifest, and read that."""
    name = Reference.parse(registry.image)

    async def work(transport: DockerTransport) -> bytes:
        async with transport.session(name, Session(manifest_wanted=True)):
            top = await transport.resolve(name)
            return b"".join([piece async for piece in transport.fetch(name, top)])

    return converse(work, waits="pause=0.01")


def test_a_manifest_that_is_wanted() -> None:
    """One GET."""
    with Scripted().serving() as registry:
        assert resolved_and_read(registry) == registry.manifests["1"][1]
        assert registry.requests == ["GET /v2/x/y/manifests/1"]


@pytest.mark.parametrize("how", ["cut", "changed"])
def test_a_manifest_that_comes_damaged(how: str) -> None:
    """What breaks off, or is not what its header says, is asked for by HEAD, and by digest."""
    with Scripted().serving() as registry:
        kind, data = registry.manifests["1"]

        def script(handler: Handler) -> bool:
            if handler.command != "GET" or not handler.path.endswith("/manifests/1"):
                return False
            said = {"Content_Type": kind, "Docker_Content_Digest": digest(data)}
            body = data[:-9] if how == "cut" else json.dumps({"schemaVersion": 2}).encode()
            length = len(data) if how == "cut" else len(body)
            handler.answer(200, body, Content_Length=str(length), **said)
            handler.close_connection = True
            return True

        registry.script = script
        assert resolved_and_read(registry) == data
        assert registry.requests == [
            "GET /v2/x/y/manifests/1", "HEAD /v2/x/y/manifests/1",
            f"GET /v2/x/y/manifests/{digest(data)}",
        ]  # fmt: skip


def test_a_manifest_that_is_never_what_it_is_called() -> None:
    """Nor is it taken where HEAD says nothing."""
    with Scripted().serving() as registry:

        def script(handler: Handler) -> bool:
            if handler.command == "HEAD":
                handler.answer(200)
            else:
                kind, data = registry.manifests["1"]
                told = digest(b"another")
                handler.answer(200, data, Content_Type=kind, Docker_Content_Digest=told)
            return True

        registry.script = script
        with pytest.raises(DataLoss, match="the registry says it is"):
            resolved_and_read(registry)


def test_a_blob_that_was_asked_for() -> None:
    """In a session it is not asked for again by the push; outside of one nothing is remembered."""
    with Scripted().serving() as registry:
        name = Reference.parse(registry.image)
        here, new = registry.config, b"new"

        def blob(data: bytes) -> Descriptor:
            return Descriptor(media_type=OCI_LAYER, digest=digest(data), size=len(data))

        async def work(transport: DockerTransport) -> None:
            async def source(offset: int):  # type: ignore[no-untyped-def]
                yield new[offset:]

            async with transport.session(name, Session(writing=True)):
                assert await transport.has(name, blob(here))
                assert not await transport.has(name, blob(new))
                await transport.push(name, blob(new), source)
                await transport.push(name, blob(new), source)
            del registry.blobs[digest(new)]
            assert not await transport.has(name, blob(new))
            await transport.push(name, blob(new), source)

        converse(work)
        methods = [one.split()[0] for one in registry.requests]
        sent = ["POST", "PUT"]
        assert methods == ["HEAD", "HEAD", *sent, "HEAD", "HEAD", "HEAD", *sent]
