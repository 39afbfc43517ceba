"""A good registry transport, and faults in it: what the kit of transports must catch.

Not collected by itself: test_mutants.py runs the whole kit on each of these.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, ClassVar

import pytest

from boxwood.drivers.registry import Credentials, RegistryTransport, Session
from boxwood.errors import (
    AlreadyExists,
    DataLoss,
    InvalidArgument,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from boxwood.model.descriptor import INDEXES, MANIFESTS, OCI_MANIFEST, Descriptor
from boxwood.model.digest import Digest
from boxwood.testing.registry import RegistrySuite

MUTANTS: dict[str, tuple[type[RegistryTransport[Any]], str]] = {}
"""By name: the transport, and a part of the name of the law that should catch it (tried first)."""
AT_LEAST = 20
Source = Callable[[int], AsyncIterator[bytes]]


def planted(law: str) -> Callable[[type[Any]], type[Any]]:
    """Register a mutant."""

    def register(transport: type[Any]) -> type[Any]:
        MUTANTS[transport.__name__] = (transport, law)
        return transport

    return register


class Memory(RegistryTransport[str]):
    """Images in memory: ``memory:REPOSITORY[:TAG|@DIGEST]``."""

    scheme = "memory"
    made_as = OCI_MANIFEST
    content: ClassVar[dict[tuple[str, str], bytes]] = {}
    names: ClassVar[dict[str, Descriptor]] = {}

    def parse(self, text: str) -> str:
        if not re.fullmatch(r"memory:[\w.-]+(:[\w.-]+|@sha256:[0-9a-f]{64})?", text):
            raise InvalidArgument(f"{text}: not memory:REPOSITORY[:TAG]")
        return text

    @staticmethod
    def repository(name: str) -> str:
        return re.split("[:@]", name)[1]

    def pinned(self, name: str, digest: Digest) -> str:
        return f"memory:{self.repository(name)}@{digest}"

    def tagged(self, name: str, tag: str) -> str:
        return f"memory:{self.repository(name)}:{tag}"

    async def resolve(self, name: str, credentials: Credentials | None = None) -> Descriptor:
        if name not in self.names:
            raise NotFound(name)
        return self.names[name]

    def found(self, name: str, descriptor: Descriptor) -> bytes:
        try:
            return self.content[self.repository(name), descriptor.digest]
        except KeyError:
            raise NotFound(descriptor.digest) from None

    async def fetch(
        self,
        name: str,
        descriptor: Descriptor,
        offset: int = 0,
        credentials: Credentials | None = None,
    ) -> AsyncIterator[bytes]:
        data = self.found(name, descriptor)
        if len(data) > descriptor.size:
            raise DataLoss(descriptor.digest)
        for at in range(offset, len(data), 1 << 16):
            await asyncio.sleep(0)
            yield data[at : at + (1 << 16)]

    async def push(
        self,
        name: str,
        descriptor: Descriptor,
        source: Source,
        credentials: Credentials | None = None,
        mount_from: Sequence[str] = (),
    ) -> None:
        data = b"".join([piece async for piece in source(0)])
        self.check(descriptor, data)
        self.keep(name, descriptor, data)

    def check(self, descriptor: Descriptor, data: bytes) -> None:
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != descriptor.digest:
            raise DataLoss(descriptor.digest)

    def keep(self, name: str, descriptor: Descriptor, data: bytes) -> None:
        self.content[self.repository(name), descriptor.digest] = data
        if descriptor.media_type in MANIFESTS | INDEXES:
            self.names[name] = descriptor
            self.names[self.pinned(name, Digest.parse(descriptor.digest))] = descriptor

    async def tags(self, name: str, credentials: Credentials | None = None) -> list[str]:
        start = f"memory:{self.repository(name)}:"
        return sorted(one.removeprefix(start) for one in self.names if one.startswith(start))


@planted("name_is_a_value")
class NamesChange(Memory):
    def parse(self, text: str) -> str:
        return f"{super().parse(text)}-{secrets.token_hex(2)}"


@planted("name_is_a_value")
class NamesThatAreLists(Memory):
    def parse(self, text: str) -> Any:
        return [super().parse(text)]


@planted("what_is_no_name")
class AnyName(Memory):
    def parse(self, text: str) -> str:
        return text


@planted("called_here")
class CalledBadly(Memory):
    async def local_name(self, name: str, descriptor: Descriptor) -> Any:
        return name


@planted("is_resolved")
class SizesThatAreOff(Memory):
    async def resolve(self, name: str, credentials: Credentials | None = None) -> Descriptor:
        found = await super().resolve(name)
        return Descriptor(media_type=found.media_type, digest=found.digest, size=found.size + 1)


@planted("is_resolved")
class OfItsOwnOnly(Memory):
    def __init__(self) -> None:
        self.content, self.names = {}, {}  # type: ignore[misc]


@planted("any_offset")
class OffsetsIgnored(Memory):
    async def fetch(self, name: str, descriptor: Descriptor, offset: int = 0,
                    credentials: Credentials | None = None) -> AsyncIterator[bytes]:  # fmt: skip
        async for piece in super().fetch(name, descriptor):
            yield piece


@planted("any_offset")
class OffsetsOffByOne(Memory):
    async def fetch(self, name: str, descriptor: Descriptor, offset: int = 0,
                    credentials: Credentials | None = None) -> AsyncIterator[bytes]:  # fmt: skip
        async for piece in super().fetch(name, descriptor, max(0, offset - 1)):
            yield piece


@planted("never_more")
class AllThereIs(Memory):
    async def fetch(self, name: str, descriptor: Descriptor, offset: int = 0,
                    credentials: Credentials | None = None) -> AsyncIterator[bytes]:  # fmt: skip
        yield self.found(name, descriptor)[offset:]


@planted("not_there")
class NothingIsEmpty(Memory):
    def found(self, name: str, descriptor: Descriptor) -> bytes:
        return self.content.get((self.repository(name), descriptor.digest), b"")


@planted("not_there")
class NothingIsTrouble(Memory):
    async def resolve(self, name: str, credentials: Credentials | None = None) -> Descriptor:
        if name not in self.names:
            raise Unavailable(name)
        return self.names[name]


@planted("many_at_once")
class OneReader(Memory):
    wanted: Descriptor

    async def fetch(self, name: str, descriptor: Descriptor, offset: int = 0,
                    credentials: Credentials | None = None) -> AsyncIterator[bytes]:  # fmt: skip
        self.wanted = descriptor
        await asyncio.sleep(0)
        yield self.found(name, self.wanted)[offset:][: descriptor.size]


@planted("frees_all")
class FilesLeftOpen(Memory):
    async def fetch(self, name: str, descriptor: Descriptor, offset: int = 0,
                    credentials: Credentials | None = None) -> AsyncIterator[bytes]:  # fmt: skip
        fd = os.open("/dev/null", os.O_RDONLY)
        async for piece in super().fetch(name, descriptor, offset):
            yield piece
        os.close(fd)


@planted("close_frees")
class NeverClosed(Memory):
    def __init__(self) -> None:
        self._fd = os.open("/dev/null", os.O_RDONLY)


@planted("close_frees")
class ClosedOnce(Memory):
    open = True

    async def close(self) -> None:
        assert self.open
        self.open = False


@planted("nothing_is_about")
class AboutItself(Memory):
    async def referrers(self, name: str, digest: Digest, artifact_type: str = "",
                        credentials: Credentials | None = None) -> list[Descriptor]:  # fmt: skip
        return [await self.resolve(name)]


@planted("pushing_again")
class OncePerBlob(Memory):
    def keep(self, name: str, descriptor: Descriptor, data: bytes) -> None:
        if (self.repository(name), descriptor.digest) in self.content:
            raise AlreadyExists(descriptor.digest)
        super().keep(name, descriptor, data)


@planted("pushing_again")
class Appending(Memory):
    def keep(self, name: str, descriptor: Descriptor, data: bytes) -> None:
        before = self.content.get((self.repository(name), descriptor.digest), b"")
        super().keep(name, descriptor, before + data)


@planted("manifest_comes_last")
class NamedAtOnce(Memory):
    def keep(self, name: str, descriptor: Descriptor, data: bytes) -> None:
        super().keep(name, descriptor, data)
        self.names.setdefault(name, descriptor)


@planted("source_that_breaks")
class HalvesKept(Memory):
    async def push(self, name: str, descriptor: Descriptor, source: Source,
                   credentials: Credentials | None = None,
                   mount_from: Sequence[str] = ()) -> None:  # fmt: skip
        data = b""
        async for piece in source(0):
            data += piece
            self.content[self.repository(name), descriptor.digest] = data
        self.check(descriptor, data)
        self.keep(name, descriptor, data)


@planted("other_bytes")
class Trusting(Memory):
    def check(self, descriptor: Descriptor, data: bytes) -> None:
        return None


@planted("leaves_what_was")
class ClearedFirst(Memory):
    def session(
        self,
        name: str,
        session: Session = Session(),  # noqa: B008
    ) -> AbstractAsyncContextManager[None]:
        if session.writing:
            self.names.pop(name, None)
        return nullcontext()


@planted("takes_the_name")
class TheFirstStays(Memory):
    def keep(self, name: str, descriptor: Descriptor, data: bytes) -> None:
        before = self.names.get(name)
        super().keep(name, descriptor, data)
        if before is not None:
            self.names[name] = before


@planted("test_tags")
class TagsAsTheyCame(Memory):
    async def tags(self, name: str, credentials: Credentials | None = None) -> list[str]:
        return (await super().tags(name))[::-1]


@planted("an_index")
class PinnedTakesTheTag(Memory):
    def keep(self, name: str, descriptor: Descriptor, data: bytes) -> None:
        super().keep(name, descriptor, data)
        if descriptor.media_type in MANIFESTS:
            self.names[self.tagged(name, "1")] = descriptor

    def pinned(self, name: str, digest: Digest) -> str:
        return self.tagged(name, "1")


class Web(Memory):
    """Asks a server by urllib, in a thread."""

    seconds = 1.0

    def parse(self, text: str) -> str:
        return text if "://" in text else super().parse(text)

    async def resolve(self, name: str, credentials: Credentials | None = None) -> Descriptor:
        if "://" not in name:
            return await super().resolve(name)
        await asyncio.to_thread(self.ask, name, credentials)
        return Descriptor(media_type=OCI_MANIFEST)

    async def fetch(self, name: str, descriptor: Descriptor, offset: int = 0,
                    credentials: Credentials | None = None) -> AsyncIterator[bytes]:  # fmt: skip
        if "://" in name:
            data = await asyncio.to_thread(self.ask, name, credentials)
            yield self.cut(data, descriptor)
            return
        async for piece in super().fetch(name, descriptor, offset):
            yield piece

    def cut(self, data: bytes, descriptor: Descriptor) -> bytes:
        return data[: descriptor.size]

    def ask(self, name: str, credentials: Credentials | None) -> bytes:
        for attempt in (False, True):
            request = urllib.request.Request(name)
            if attempt and credentials is not None:
                self.show(request, credentials)
            try:
                with urllib.request.urlopen(request, timeout=self.seconds) as answer:
                    body: bytes = answer.read()
                    return body
            except urllib.error.HTTPError as error:
                if error.code == 401 and not attempt:
                    continue
                raise (Unauthenticated if error.code == 401 else Unavailable)(name) from error
            except (OSError, ValueError) as error:
                raise Unavailable(name) from error
        raise AssertionError

    def show(self, request: urllib.request.Request, credentials: Credentials) -> None:
        """Add the login in the way that urllib does not take along to another host."""
        import base64

        pair = base64.b64encode(f"{credentials.username}:{credentials.password}".encode())
        request.add_unredirected_header("Authorization", f"Basic {pair.decode()}")


@planted("silent")
class Patient(Web):
    seconds = 20.0


@planted("its_own_peer_alone")
class Talkative(Web):
    def show(self, request: urllib.request.Request, credentials: Credentials) -> None:
        super().show(request, credentials)
        request.add_header("Authorization", request.unredirected_hdrs["Authorization"])


@planted("talks_without_end")
class Greedy(Web):
    def cut(self, data: bytes, descriptor: Descriptor) -> bytes:
        return data


@planted("wants_somebody_else")
class AlwaysTrouble(Web):
    def ask(self, name: str, credentials: Credentials | None) -> bytes:
        try:
            return super().ask(name, credentials)
        except Unauthenticated as error:
            raise Unavailable(name) from error


class _Mutated(RegistrySuite):
    """The kit on one of them."""

    __test__ = False
    place = "memory:{name}:{tag}"
    mutant: ClassVar[type[RegistryTransport[Any]]]
    law: ClassVar[str]
    seconds = 3.0
    settle_seconds = 0.5

    def make(self, options: Mapping[str, str] | None = None) -> RegistryTransport[Any]:
        return self.mutant()

    @pytest.fixture(autouse=True)
    def _fresh(self) -> None:
        Memory.content.clear()
        Memory.names.clear()


def _suite(name: str, transport: type[RegistryTransport[Any]], law: str) -> type[Any]:
    peer = "http://{address}/{name}/{tag}" if issubclass(transport, Web) else ""
    members = {"__test__": True, "mutant": transport, "law": law, "peer": peer}
    return type(f"Test{name}", (_Mutated,), members)


for _name, (_transport, _law) in MUTANTS.items():
    globals()[f"Test{_name}"] = _suite(_name, _transport, _law)
# Without a fault: these pass.
TestMemory = _suite("Memory", Memory, "")
TestWeb = _suite("Web", Web, "")
