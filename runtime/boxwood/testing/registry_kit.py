"""What the laws of registry transports share: images of the kit's own, and a transport to try."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import random
import secrets
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec
import pytest

from boxwood.drivers import manager
from boxwood.drivers.registry import Credentials, RegistryTransport, Session
from boxwood.errors import Unsupported
from boxwood.model.descriptor import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
)

T = TypeVar("T")
Transport = RegistryTransport[Any]
Source = Callable[[int], AsyncIterator[bytes]]

DEADLINE = 60.0
"""Seconds for one law: one that hangs does not hold."""
BOUND = 30.0
"""Seconds in which a transport with its waits shortened gives up a peer that is silent."""
PIECE = 1 << 16
BIG = 3 << 20
"""Bytes of the larger layer: more than any buffer on the way."""
_FAMILIES = {
    OCI_MANIFEST: (OCI_CONFIG, OCI_LAYER),
    DOCKER_MANIFEST: (DOCKER_CONFIG, DOCKER_LAYER),
}


def described(kind: str, data: bytes) -> Descriptor:
    """Return the descriptor of some content."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return Descriptor(media_type=kind, digest=digest, size=len(data))


def plain(descriptor: Descriptor) -> dict[str, Any]:
    """Return a descriptor as documents have it."""
    return {
        "mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size,
    }  # fmt: skip


class KitImage:
    """An image of two layers, bare tars, one of them large; ``seed`` makes it another one."""

    def __init__(self, seed: str, kind: str) -> None:
        config_kind, layer_kind = _FAMILIES[kind]
        chance = random.Random(seed)
        self.layers = [
            (described(layer_kind, data), data)
            for data in (_tar(chance.randbytes(BIG)), _tar(chance.randbytes(100)))
        ]
        config = {
            "architecture": "amd64", "os": "linux", "config": {"Cmd": [seed]},
            "rootfs": {"type": "layers", "diff_ids": [one.digest for one, _ in self.layers]},
        }  # fmt: skip
        document = msgspec.json.encode(config)
        self.config = (described(config_kind, document), document)
        manifest = msgspec.json.encode(
            {
                "schemaVersion": 2,
                "mediaType": kind,
                "config": plain(self.config[0]),
                "layers": [plain(layer) for layer, _ in self.layers],
            }
        )
        self.manifest = (described(kind, manifest), manifest)

    @property
    def blobs(self) -> list[tuple[Descriptor, bytes]]:
        """Layers and config."""
        return [*self.layers, self.config]


def _tar(content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo("file")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def source_of(data: bytes) -> Source:
    """Return what a push reads content from."""

    async def pieces(offset: int) -> AsyncGenerator[bytes, None]:
        for at in range(offset, len(data), PIECE):
            yield data[at : at + PIECE]

    return pieces


def same(found: bytes, wanted: bytes) -> None:
    """Fail where content is not what it should be; without showing it, which takes minutes."""
    if found == wanted:
        return
    shorter = min(len(found), len(wanted))
    at = next((i for i in range(shorter) if found[i] != wanted[i]), shorter)
    pytest.fail(f"{len(found)} bytes instead of {len(wanted)}: other ones from byte {at} on")


async def fetched(
    transport: Transport,
    name: Any,
    descriptor: Descriptor,
    offset: int = 0,
    credentials: Credentials | None = None,
) -> bytes:
    """Return content from an offset on."""
    data = bytearray()
    pieces = transport.fetch(name, descriptor, offset, credentials)
    async with aclosing(pieces) as stream:  # type: ignore[type-var]
        async for piece in stream:
            data += piece
    return bytes(data)


def descriptors() -> int:
    """Return how many files and sockets this process has open."""
    return len(os.listdir("/proc/self/fd"))


class RegistryKit:
    """The base of the laws. A subclass names the transport and where it may push to.

    Attributes:
        place: how a name is written (``oci:{root}/{name}:{tag}``). ``{root}`` is an empty folder of
            the test's, ``{name}`` and ``{tag}`` are the kit's.
        keeps_manifests: a manifest is resolved as it was pushed; not where a transport makes one
            of what another format has.
        peer: how a name at a server of the kit's is written (``docker://{address}/{name}:{tag}``,
            ``{address}`` being ``HOST:PORT``); empty: the transport knows no network.
        hasty: further options, which shorten the transport's waits, for the silent peer.
        seconds: in which the transport has given up a peer that is silent.
        settle_seconds: in which what was let go of is closed.
    """

    driver_name: ClassVar[str] = ""
    driver_options: ClassVar[Mapping[str, str]] = {}
    hasty: ClassVar[Mapping[str, str]] = {}
    place: ClassVar[str] = ""
    peer: ClassVar[str] = ""
    keeps_manifests: ClassVar[bool] = True
    seconds: ClassVar[float] = BOUND
    settle_seconds: ClassVar[float] = 10.0

    @pytest.fixture(autouse=True)
    def _root(self, tmp_path: Path) -> None:
        self.root = tmp_path

    def make(self, options: Mapping[str, str] | None = None) -> Transport:
        """Return a fresh transport; ``options`` go before the suite's."""
        chosen = {**self.driver_options, **(options or {})}
        made = manager.select("registry", self.driver_name, options=chosen)
        assert isinstance(made, RegistryTransport)
        return made

    def talk(
        self, work: Callable[[Transport], Awaitable[T]], options: Mapping[str, str] | None = None
    ) -> T:
        """Return what ``work`` returns, having been given a transport of its own."""

        async def whole() -> T:
            transport = self.make(options)
            try:
                async with asyncio.timeout(DEADLINE):
                    return await work(transport)
            finally:
                await transport.close()

        return asyncio.run(whole())

    def name(self, transport: Transport, name: str = "", tag: str = "1") -> Any:
        """Return the transport's name of an image in the place; empty: of one that is not there."""
        return transport.parse(self.written(name, tag))

    def written(self, name: str = "", tag: str = "1") -> str:
        """Return a name in the place as people write it."""
        if not self.place:
            pytest.skip("no place to push to: --boxwood-registry-opt place=SCHEME:...{name}:{tag}")
        name = name or f"kit-{secrets.token_hex(6)}"
        return self.place.format(root=self.root, name=name, tag=tag)

    async def put(
        self, transport: Transport, name: Any, image: KitImage, *, layers: bool = True
    ) -> None:
        """Push a whole image, as the engine does; skips for a transport that cannot push."""
        try:
            async with transport.session(name, Session(writing=True)):
                if layers:
                    async with asyncio.TaskGroup() as group:
                        for descriptor, data in image.layers:
                            group.create_task(transport.push(name, descriptor, source_of(data)))
                for descriptor, data in (image.config, image.manifest):
                    await transport.push(name, descriptor, source_of(data))
        except* Unsupported as error:
            pytest.skip(str(error.exceptions[0]))

    def image(self, transport: Transport, seed: str = "one") -> KitImage:
        """Return an image of the family that the transport makes manifests of."""
        return KitImage(seed, transport.made_as)
