"""The registry bench: what a transport takes to send an image, to find it and to bring it back.

Each transport works on a place that is made for it and goes with the bench: a folder or a file, or
a docker-registry on the loopback, where that program is installed. Nothing is asked beyond the
loopback. The image has the layer of the storage bench, compressed by gzip; it is verified as it is
unpacked, in a worker, as a pull does.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Hashable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from boxwood.bench.frame import Case, Scenario
from boxwood.drivers import manager
from boxwood.drivers.documents import decode_manifest, fetch_document
from boxwood.drivers.registry import RegistryTransport, Session
from boxwood.drivers.storage import ApplyRequest, Offload
from boxwood.errors import DataLoss, Unavailable, Unsupported
from boxwood.model.descriptor import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_LAYER,
    Descriptor,
)
from boxwood.model.digest import Digest
from boxwood.model.wire import encode

_PIECE = 1 << 18
_START_SECONDS = 10.0
_FILES = {"oci": "", "dir": "", "oci-archive": ".tar", "docker-archive": ".tar"}
"""Transports whose images are in files: what a path of theirs ends in."""


class Image:
    """What is sent: blobs by their descriptors, and the manifest, which comes last."""

    def __init__(self, layer: Path, diff_id: str, kind: str) -> None:
        """``layer`` is compressed by gzip; ``kind`` is the manifest's media type."""
        docker = kind == DOCKER_MANIFEST
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            }
        ).encode()
        with layer.open("rb") as file:
            digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        self.layer = Descriptor(
            media_type=f"{DOCKER_LAYER}.gzip" if docker else f"{OCI_LAYER}+gzip",
            digest=digest,
            size=layer.stat().st_size,
        )
        self.config = _described(config, DOCKER_CONFIG if docker else OCI_CONFIG)
        described = [
            {"mediaType": one.media_type, "size": one.size, "digest": one.digest}
            for one in (self.config, self.layer)
        ]
        manifest = encode(
            {"schemaVersion": 2, "mediaType": kind, "config": described[0],
             "layers": described[1:]}
        )  # fmt: skip
        self.manifest = _described(manifest, kind)
        self._documents = {self.config.digest: config, self.manifest.digest: manifest}
        self._path = layer

    def source(self, descriptor: Descriptor) -> Callable[[int], AsyncIterator[bytes]]:
        """Return what opens one of them at an offset."""

        async def pieces(offset: int) -> AsyncGenerator[bytes, None]:
            if (document := self._documents.get(descriptor.digest)) is not None:
                yield document[offset:]
                return
            with self._path.open("rb") as file:
                file.seek(offset)
                while piece := file.read(_PIECE):
                    yield piece

        return pieces


def _described(data: bytes, kind: str) -> Descriptor:
    return Descriptor(media_type=kind, digest=str(Digest.of(data)), size=len(data))


class Bed:
    """One transport, with a place for images and one image in it."""

    def __init__(
        self, transport: RegistryTransport[Any], room: Path, place: str, image: Image,
        offload: Offload,
    ) -> None:  # fmt: skip
        """``place`` is the text of a name, with ``{}`` for what makes it another image's."""
        self._transport, self._room, self._place = transport, room, place
        self._image, self._offload = image, offload
        self._count = itertools.count()
        self.name = self.fresh()

    def fresh(self) -> Hashable:
        """Return the name of an image that is not there yet."""
        name: Hashable = self._transport.parse(self._place.format(next(self._count)))
        return name

    async def push(self, name: Hashable) -> None:
        """Send the image whole."""
        image = self._image
        async with self._transport.session(name, Session(writing=True)):
            for one in (image.layer, image.config, image.manifest):
                await self._transport.push(name, one, image.source(one))

    async def measure_push(self) -> float:
        """Send it to a place that has none of it."""
        name = self.fresh()
        began = time.perf_counter()
        await self.push(name)
        return time.perf_counter() - began

    async def measure_resolve(self) -> float:
        """Find its manifest's digest."""
        began = time.perf_counter()
        await self._transport.resolve(self.name)
        return time.perf_counter() - began

    async def _layers(self) -> tuple[Descriptor, ...]:
        top = await self._transport.resolve(self.name)
        manifest = decode_manifest(await fetch_document(self._transport, self.name, top, None), top)
        assert manifest.config is not None
        await fetch_document(self._transport, self.name, manifest.config, None)
        return manifest.layers or ()

    async def _each(self, descriptor: Descriptor, take: Callable[[bytes], Awaitable[Any]]) -> None:
        left = descriptor.size
        async with aclosing(self._transport.fetch(self.name, descriptor)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                left -= len(piece)
                await take(piece)
        if left:
            raise DataLoss(f"bench registry: {descriptor.digest}: {left} bytes are missing")

    async def measure_fetch(self) -> float:
        """Fetch all of it, and throw it away."""

        async def drop(piece: bytes) -> None:
            del piece

        async with self._transport.session(self.name, Session()):
            began = time.perf_counter()
            for layer in await self._layers():
                await self._each(layer, drop)
            return time.perf_counter() - began

    async def measure_pull(self) -> float:
        """Fetch it, verify it and unpack it."""
        target = Path(tempfile.mkdtemp(dir=self._room))
        try:
            async with self._transport.session(self.name, Session()):
                began = time.perf_counter()
                for layer in await self._layers():
                    await self._unpack(layer, target)
                return time.perf_counter() - began
        finally:
            shutil.rmtree(target)

    async def _unpack(self, layer: Descriptor, target: Path) -> None:
        request = ApplyRequest(digest=layer.digest)
        arguments = {
            **msgspec.to_builtins(request), "recipe": False, "growing": False,
            "whiteouts": "delete", "user_xattr": False, "devices": False,
        }  # fmt: skip
        out, into = os.pipe2(os.O_CLOEXEC)
        directory = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        work = asyncio.ensure_future(self._offload("unpack_layer", arguments, [out, directory]))
        try:
            try:
                await self._each(layer, lambda piece: asyncio.to_thread(_write, into, piece))
            finally:
                os.close(into)
            await work
        finally:
            work.cancel()
            await asyncio.wait([work])
            os.close(out)
            os.close(directory)


def _write(fd: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(fd, view) :]


@asynccontextmanager
async def bed(
    scheme: str, room: Path, layers: dict[str, Path], offload: Offload
) -> AsyncIterator[Bed]:
    """Load a transport, make a place for it, and put the image there; all of it goes afterwards.

    ``layers`` as :func:`boxwood.bench.trees.write_layers` returns them.

    Raises:
        BoxwoodError: it is not installed, or nothing is here that it could speak to.
    """
    async with AsyncExitStack() as stack:
        if scheme in _FILES:
            place = f"{scheme}:{room}/{{}}{_FILES[scheme]}"
        elif scheme == "docker":
            port = await stack.enter_async_context(_serving(room))
            place = f"docker://127.0.0.1:{port}/bench/{{}}:1"
        else:
            raise Unsupported("no place of its kind can be made here")
        options = {"directory": str(room / "own")}
        transport: RegistryTransport[Any] = manager.select("registry", scheme, options=options)
        stack.push_async_callback(transport.close)
        with layers["plain"].open("rb") as file:
            diff_id = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        image = Image(layers["gzip"], diff_id, transport.made_as)
        made = Bed(transport, room, place, image, offload)
        await made.push(made.name)
        yield made


@asynccontextmanager
async def _serving(room: Path) -> AsyncIterator[int]:
    """Run a docker-registry of its own; yields its port on the loopback."""
    program = shutil.which("docker-registry", path="/usr/bin:/usr/local/bin:/usr/sbin:/bin")
    if program is None:
        raise Unavailable("docker-registry, which it would speak to, is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    config = {
        "version": 0.1,
        "log": {"accesslog": {"disabled": True}, "level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(room / "registry")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    path = room / "registry.yml"
    path.write_text(json.dumps(config))
    process = await asyncio.create_subprocess_exec(
        program,
        "serve",
        str(path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        await _answers(process, port)
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _answers(process: asyncio.subprocess.Process, port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.returncode is None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return
    raise Unavailable("docker-registry does not answer")


def cases(subject: str, bed: Bed) -> list[Case]:
    """Return the cases of a bed."""
    return [
        Case(Scenario("push", "Send an image to where nothing of it is"), subject,
             bed.measure_push),
        Case(Scenario("resolve", "Find a manifest's digest"), subject, bed.measure_resolve),
        Case(Scenario("fetch", "Fetch an image and throw it away"), subject, bed.measure_fetch),
        Case(Scenario("pull", "Fetch an image, verify and unpack it"), subject,
             bed.measure_pull),
    ]  # fmt: skip
