"""The laws of registry transports about names, content and pushes: no network is needed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest

from boxwood.drivers.registry import Session
from boxwood.errors import (
    BoxwoodError,
    DataLoss,
    InvalidArgument,
    NotFound,
    Unsupported,
)
from boxwood.model.descriptor import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, Descriptor, Manifest
from boxwood.model.digest import Digest
from boxwood.model.reference import Reference
from boxwood.testing.registry_kit import (
    DEADLINE,
    KitImage,
    RegistryKit,
    Transport,
    described,
    descriptors,
    fetched,
    plain,
    same,
    source_of,
)

SPARE = 2
"""Descriptors more than before that are no leak: a connection that waits for its next use."""


class Broken(Exception):
    """What a source raises in the middle."""


class NameLaws(RegistryKit):
    """Names."""

    def test_a_name_is_a_value(self) -> None:
        """Parsed twice it is equal and hashes alike; its text parses to an equal one."""

        async def work(transport: Transport) -> None:
            text = self.written("kit-a")
            first, again = transport.parse(text), transport.parse(text)
            assert first == again
            assert hash(first) == hash(again)
            assert transport.parse(str(first)) == first
            assert transport.parse(self.written("kit-b")) != first

        self.talk(work)

    def test_what_is_no_name(self) -> None:
        """InvalidArgument, and nothing is looked up."""

        async def work(transport: Transport) -> None:
            with pytest.raises(InvalidArgument):
                transport.parse(f"{transport.scheme}:")

        self.talk(work)

    def test_what_it_is_called_here(self) -> None:
        """A reference or None, the same each time."""

        async def work(transport: Transport) -> None:
            name, image = self.name(transport), self.image(transport)
            await self.put(transport, name, image)
            top = await transport.resolve(name)
            found = await transport.local_name(name, top)
            assert found is None or isinstance(found, Reference)
            assert await transport.local_name(name, top) == found

        self.talk(work)


class ContentLaws(RegistryKit):
    """What was pushed, and how it comes back."""

    def test_what_was_pushed_is_resolved(self) -> None:
        """By a transport that saw nothing of the push: type, size and digest are the manifest's."""
        self.talk(lambda transport: self._stored(transport, "kit-kept"))

        async def work(transport: Transport) -> None:
            name, image = self.name(transport, "kit-kept"), self.image(transport)
            found = await transport.resolve(name)
            data = await fetched(transport, name, found)
            assert described(found.media_type, data) == Descriptor(
                media_type=found.media_type, digest=found.digest, size=found.size
            )
            manifest = msgspec.json.decode(data, type=Manifest)
            assert manifest.config is not None
            assert manifest.config.digest == image.config[0].digest
            said = [layer.digest for layer in manifest.layers or ()]
            assert said == [layer.digest for layer, _ in image.layers]
            if self.keeps_manifests:
                assert data == image.manifest[1]
                assert found.media_type == image.manifest[0].media_type

        self.talk(work)

    async def _stored(self, transport: Transport, name: str = "") -> tuple[Any, KitImage]:
        place, image = self.name(transport, name), self.image(transport)
        await self.put(transport, place, image)
        return place, image

    def test_content_from_any_offset(self) -> None:
        """From the start, the middle, the last byte and the end: just what is behind it."""

        async def work(transport: Transport) -> None:
            name, image = await self._stored(transport)
            async with transport.session(name):
                for descriptor, data in image.blobs:
                    same(await fetched(transport, name, descriptor), data)
                descriptor, data = image.layers[0]
                for offset in (1, 511, len(data) // 2, len(data) - 1):
                    same(await fetched(transport, name, descriptor, offset), data[offset:])

        self.talk(work)

    def test_never_more_than_its_size(self) -> None:
        """A descriptor that says less than there is gets no more, or DataLoss."""

        async def work(transport: Transport) -> None:
            name, image = await self._stored(transport)
            whole, data = image.layers[1]
            short = msgspec.structs.replace(whole, size=whole.size - 100)
            came = bytearray()
            try:
                async with contextlib.aclosing(transport.fetch(name, short)) as pieces:  # type: ignore[type-var]
                    async for piece in pieces:
                        came += piece
            except DataLoss:
                pass
            assert len(came) <= short.size
            assert data.startswith(came)

        self.talk(work)

    def test_what_is_not_there(self) -> None:
        """NotFound, for a name and for content."""

        async def work(transport: Transport) -> None:
            with pytest.raises(NotFound):
                await transport.resolve(self.name(transport))
            name, _ = await self._stored(transport)
            with pytest.raises(NotFound):
                await fetched(transport, name, described("application/octet-stream", b"nowhere"))

        self.talk(work)

    def test_many_at_once(self) -> None:
        """Eight fetches side by side get each its own bytes."""

        async def work(transport: Transport) -> None:
            name, image = await self._stored(transport)
            async with transport.session(name):
                wanted = [image.blobs[number % 3] for number in range(8)]
                came = await asyncio.gather(
                    *(fetched(transport, name, descriptor) for descriptor, _ in wanted)
                )
            for (_, data), found in zip(wanted, came, strict=True):
                same(found, data)

        self.talk(work)

    def test_who_goes_frees_all(self) -> None:
        """Fetches that are cancelled or left in the middle keep no file and no connection."""

        async def work(transport: Transport) -> None:
            name, image = await self._stored(transport)
            async with transport.session(name):
                await fetched(transport, name, image.layers[0][0])
                before = descriptors()
                for _ in range(4):
                    pieces = transport.fetch(name, image.layers[0][0])
                    async with contextlib.aclosing(pieces) as stream:  # type: ignore[type-var]
                        await anext(stream)
                    task = asyncio.ensure_future(fetched(transport, name, image.layers[0][0]))
                    await asyncio.sleep(0)
                    task.cancel()
                    await asyncio.wait([task])
                await self._settle(before + SPARE)

        self.talk(work)

    async def _settle(self, at_most: int) -> None:
        """Wait until no more descriptors are open; what a thread had in hand may take a moment."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.settle_seconds
        while loop.time() < end:
            gc.collect()
            if descriptors() <= at_most:
                return
            await asyncio.sleep(0.05)
        pytest.fail(f"{descriptors() - at_most} files or connections too many are open")

    def test_close_frees_the_rest(self) -> None:
        """And may be called again."""

        async def whole() -> None:
            before = descriptors()
            transport = self.make()
            async with asyncio.timeout(DEADLINE):
                name, image = await self._stored(transport)
                await fetched(transport, name, image.layers[1][0])
                await transport.close()
                await transport.close()
                await self._settle(before)

        asyncio.run(whole())

    def test_nothing_is_about_it(self) -> None:
        """Without referrers there are none; a transport that knows of none says so too."""

        async def work(transport: Transport) -> None:
            name, image = await self._stored(transport)
            try:
                found = await transport.referrers(name, Digest.parse(image.manifest[0].digest))
            except NotFound:
                return
            assert found == []

        self.talk(work)


class PushLaws(RegistryKit):
    """Pushes."""

    def test_pushing_again_changes_nothing(self) -> None:
        """It succeeds, and all is as before."""

        async def work(transport: Transport) -> None:
            name, image = self.name(transport), self.image(transport)
            await self.put(transport, name, image)
            top = await transport.resolve(name)
            await self.put(transport, name, image)
            assert await transport.resolve(name) == top
            same(await fetched(transport, name, image.layers[0][0]), image.layers[0][1])

        self.talk(work)

    def test_the_manifest_comes_last(self) -> None:
        """Before it there is no image; a push that ends without it leaves none."""

        async def work(transport: Transport) -> None:
            name, image = self.name(transport), self.image(transport)
            try:
                async with transport.session(name, Session(writing=True)):
                    for descriptor, data in image.blobs:
                        await transport.push(name, descriptor, source_of(data))
                    with pytest.raises(NotFound):
                        await transport.resolve(name)
            except Unsupported as error:
                pytest.skip(str(error))
            with pytest.raises(NotFound):
                await transport.resolve(name)
            await self.put(transport, name, image)
            same(await fetched(transport, name, image.layers[0][0]), image.layers[0][1])

        self.talk(work)

    def test_a_source_that_breaks(self) -> None:
        """Its error comes out; nothing is there of it; the next push makes it whole."""

        async def work(transport: Transport) -> None:
            name, image = self.name(transport), self.image(transport)
            descriptor, data = image.layers[0]

            async def breaking(offset: int) -> AsyncGenerator[bytes, None]:
                yield data[offset : offset + len(data) // 2]
                raise Broken

            with pytest.raises((Broken, BoxwoodError)) as caught:
                async with transport.session(name, Session(writing=True)):
                    await transport.push(name, descriptor, breaking)
            if isinstance(caught.value, Unsupported):
                pytest.skip(str(caught.value))
            with pytest.raises(NotFound):
                await fetched(transport, name, descriptor)
            await self.put(transport, name, image)
            same(await fetched(transport, name, descriptor), data)

        self.talk(work)

    def test_other_bytes_than_it_says(self) -> None:
        """Are refused, and are not there."""

        async def work(transport: Transport) -> None:
            name, image = self.name(transport), self.image(transport)
            descriptor, data = image.layers[1]
            other = bytes([data[0] ^ 1]) + data[1:]
            with pytest.raises((DataLoss, InvalidArgument, Unsupported)) as caught:
                await self._pushed(transport, name, image, other)
            if isinstance(caught.value, Unsupported):
                pytest.skip(str(caught.value))
            with pytest.raises(NotFound):
                await fetched(transport, name, descriptor)

        self.talk(work)

    async def _pushed(self, transport: Transport, name: Any, image: KitImage, layer: bytes) -> None:
        async with transport.session(name, Session(writing=True)):
            await transport.push(name, image.layers[1][0], source_of(layer))
            for blob in (image.layers[0], image.config, image.manifest):
                await transport.push(name, *_sent(blob))

    def test_a_push_that_fails_leaves_what_was(self) -> None:
        """The image that the name had before is there still, whole."""

        async def work(transport: Transport) -> None:
            name, image = self.name(transport), self.image(transport)
            await self.put(transport, name, image)
            top = await transport.resolve(name)
            other = self.image(transport, "two")
            with contextlib.suppress(Broken):
                async with transport.session(name, Session(writing=True)):
                    await transport.push(name, *_sent(other.layers[0]))
                    raise Broken
            assert await transport.resolve(name) == top
            for descriptor, data in image.blobs:
                same(await fetched(transport, name, descriptor), data)

        self.talk(work)

    def test_another_image_takes_the_name(self) -> None:
        """Pushed to a name that has one, or refused: never a mixture."""

        async def work(transport: Transport) -> None:
            name, image = self.name(transport), self.image(transport)
            await self.put(transport, name, image)
            other = self.image(transport, "two")
            try:
                await self.put(transport, name, other)
            except BoxwoodError:
                other = image
            top = await transport.resolve(name)
            manifest = msgspec.json.decode(await fetched(transport, name, top), type=Manifest)
            assert manifest.config is not None
            assert manifest.config.digest == other.config[0].digest
            for descriptor, data in other.blobs:
                same(await fetched(transport, name, descriptor), data)

        self.talk(work)

    def test_tags(self) -> None:
        """Sorted, each once; names by tag lead to what was pushed under them."""

        async def work(transport: Transport) -> None:
            first, image = self.name(transport, tag="b"), self.image(transport)
            try:
                names = [first, *(transport.tagged(first, tag) for tag in ("a", "c"))]
                for name in names:
                    await self.put(transport, name, image)
                assert await transport.tags(first) == ["a", "b", "c"]
            except Unsupported as error:
                pytest.skip(str(error))
            found = [(await transport.resolve(name)).digest for name in names]
            assert found == [found[0]] * 3

        self.talk(work)

    def test_an_index(self) -> None:
        """Manifests under pinned names first, then the index under the name itself; or refused."""

        async def work(transport: Transport) -> None:
            name, image = self.name(transport), self.image(transport)
            child = image.manifest[0]
            kind = DOCKER_LIST if transport.made_as == DOCKER_MANIFEST else OCI_INDEX
            entry = {**plain(child), "platform": {"os": "linux", "architecture": "amd64"}}
            index = {"schemaVersion": 2, "mediaType": kind, "manifests": [entry]}
            data = msgspec.json.encode(index)
            try:
                pinned = transport.pinned(name, Digest.parse(child.digest))
                async with transport.session(name, Session(writing=True)):
                    for blob in image.blobs:
                        await transport.push(name, *_sent(blob))
                    await transport.push(pinned, *_sent(image.manifest))
                    await transport.push(name, *_sent((described(kind, data), data)))
            except (Unsupported, InvalidArgument) as error:
                pytest.skip(str(error))
            top = await transport.resolve(name)
            assert (top.media_type, top.digest) == (kind, described(kind, data).digest)
            same(await fetched(transport, name, top), data)
            assert (await transport.resolve(pinned)).digest == child.digest
            same(await fetched(transport, pinned, child), image.manifest[1])

        self.talk(work)


def _sent(blob: tuple[Descriptor, bytes]) -> tuple[Descriptor, Any]:
    return blob[0], source_of(blob[1])
