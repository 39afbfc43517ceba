"""One blob on its way to a registry: there already, mounted from elsewhere, or sent.

It is sent whole, by the PUT that ends the upload (OCI distribution-spec "POST then PUT"): two round
trips. After a fault the registry is asked how far it got, and the rest goes in chunks (PATCH), of
which each that is answered is kept: a large blob gets through on a line that breaks off ever again,
and through proxies that take no large bodies (413).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urljoin, urlsplit

from boxwood.errors import (
    BoxwoodError,
    DataLoss,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from boxwood.model.digest import Digest
from boxwood_plugins.registry.docker.addresses import Unsafe, own_path
from boxwood_plugins.registry.docker.answers import failure
from boxwood_plugins.registry.docker.client import ATTEMPTS
from boxwood_plugins.registry.docker.manifests import SIZE

if TYPE_CHECKING:
    from boxwood.drivers.registry import Credentials
    from boxwood.model.descriptor import Descriptor
    from boxwood.model.reference import Reference
    from boxwood_plugins.registry.docker.answers import Answer
    from boxwood_plugins.registry.docker.transport import DockerTransport

RANGE = re.compile(r"(?:bytes\s+)?(\d{1,18})-(\d{1,18})(?:/(?:\d{1,18}|\*))?$", re.ASCII)
"""A range of bytes. More digits than a size has are none: Python refuses to read 5,000."""
CHUNK = 8 << 20
"""Bytes, which are held in memory: S3 takes no part of less than 5 MiB."""
CHUNK_MOST = 64 << 20
"""A registry that wants larger chunks gets the rest as one."""
CHUNK_LEAST = 512 << 10
"""Smaller ones are not tried where larger ones are refused."""


Content = bytes | Callable[[int], AsyncIterator[bytes]]
"""What is sent: bytes, or what opens a blob at an offset."""


class _Refused(BoxwoodError):
    """What was sent is not taken; the upload goes on from where the registry has got to."""


FAULTS = (Unavailable, DeadlineExceeded, NotFound, _Refused)
"""After which an upload goes on."""


class Upload:
    """What one blob's way takes."""

    def __init__(
        self,
        transport: DockerTransport,
        reference: Reference,
        descriptor: Descriptor,
        source: Callable[[int], AsyncIterator[bytes]],
        credentials: Credentials | None,
    ) -> None:
        self._transport, self._reference = transport, reference
        self._source, self._credentials = source, credentials
        self._digest, self._size = Digest.parse(descriptor.digest), descriptor.size
        self._chunk, self._least = CHUNK, 0
        """Bytes of a chunk, and the fewest that the registry takes but for the last one."""

    async def run(self, mount_from: Sequence[str], *, lacking: bool = False) -> str | None:
        """Store it, by whatever is cheapest: there already, mounted, sent.

        Args:
            mount_from: repositories of the same host that should have it.
            lacking: the registry was asked for it just now.

        Returns:
            the one that it was mounted from.
        """
        if not lacking and await self._there():
            return None
        location, mounted = await self._begin(mount_from)
        if mounted is not None:
            return mounted
        try:
            await self._end(location, self._source)
        except FAULTS as error:
            await self._go_on(location, error)
        return None

    async def _go_on(self, location: str, failed: BoxwoodError) -> None:
        """Send what is missing after a fault, in a bounded number of attempts without success."""
        attempt, best = 1, 0
        while attempt < ATTEMPTS:
            await self._transport.pause(attempt - 1)
            try:
                location, offset = await self._resume(location)
                if offset >= best + CHUNK_LEAST:
                    attempt, best = 1, offset
                if location:
                    await self._end(await self._chunks(location, offset))
            except FAULTS as error:
                failed = error
                attempt += 1
                continue
            return
        if isinstance(failed, _Refused):
            raise InvalidArgument(str(failed)) from failed
        raise failed

    async def _there(self) -> bool:
        return await self._transport.there(self._reference, self._digest, self._credentials)

    async def _begin(self, mount_from: Sequence[str]) -> tuple[str, str | None]:
        """Return where to send to, or else what the registry mounted it from."""
        begun: list[str] = []
        try:
            for other in self._transport.mountable(self._reference, mount_from):
                query = urlencode({"mount": self._digest, "from": other})
                with suppress(PermissionDenied, Unauthenticated, InvalidArgument, NotFound):
                    # Who may not read the other repository may still write this one.
                    location = await self._post(f"?{query}", f"repository:{other}:pull")
                    if not location:
                        return "", other
                    begun.append(location)  # it is not there, and an upload has begun
            return begun.pop(0) if begun else await self._post("", ""), None
        finally:
            for location in begun:
                await self._give_up(location)

    async def _give_up(self, location: str) -> None:
        """End an upload that nobody needs. A registry that does not let us ends it in time."""
        with suppress(BoxwoodError):
            async with await self._ask("DELETE", location, frozenset({202, 204}), patient=False):
                return

    async def _post(self, query: str, scope: str) -> str:
        async with await self._ask(
            "POST",
            f"blobs/uploads/{query}",
            frozenset({201, 202}),
            headers={"Content-Length": "0"},
            extra_scope=scope,
        ) as answer:
            said = answer.headers.get("OCI-Chunk-Min-Length", "")
            self._least = int(said) if SIZE.fullmatch(said) else 0
            return "" if answer.status == 201 else self._location(answer)

    async def _resume(self, location: str) -> tuple[str, int]:
        """Return where to send the rest to, and its offset, after a fault.

        A session that is gone, or cannot be taken up again, has either brought the blob to its
        place, the answer to which was lost (then the location is empty), or a new one begins.
        """
        try:
            async with await self._ask("GET", location, frozenset({200, 204})) as answer:
                found = RANGE.match(answer.headers.get("Range", ""))
                if answer.headers.get("Location"):
                    location = self._location(answer)
        except (NotFound, InvalidArgument, DataLoss):
            return ("", 0) if await self._there() else (await self._post("", ""), 0)
        have = int(found[2]) + 1 if found and int(found[2]) else 0  # "0-0" is also said of none
        if have > self._size:
            raise DataLoss(f"push: {self._digest}: the registry has more than was sent")
        return location, have

    async def _chunks(self, location: str, offset: int) -> str:
        """Send what is behind ``offset`` bytes chunk by chunk; returns where to end it."""
        size = max(self._chunk, self._least)
        self._chunk = max(self._chunk // 4, CHUNK_LEAST)  # where these do not get through
        if size > CHUNK_MOST and offset < self._size:
            return await self._patch(location, offset, self._size, self._source)
        chunk = bytearray()
        async with aclosing(self._source(offset)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                chunk += piece
                while len(chunk) >= size:
                    part = bytes(chunk[:size])
                    location = await self._patch(location, offset, offset + size, part)
                    offset += size
                    del chunk[:size]
        if chunk:
            location = await self._patch(location, offset, offset + len(chunk), bytes(chunk))
        return location

    async def _patch(self, location: str, start: int, end: int, body: Content) -> str:
        """Send one chunk; returns where the next one goes.

        Raises:
            _Refused: the registry is elsewhere (416), has not taken all of it, or takes none so
                large (413).
        """
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(end - start),
            "Content-Range": f"{start}-{max(end - 1, 0)}",
        }
        accept = frozenset({202, 413, 416})
        async with await self._ask(
            "PATCH", location, accept, headers=headers, body=self._body(body, start), patient=False
        ) as answer:
            await self._check(answer)
            found = RANGE.match(answer.headers.get("Range", ""))
            if answer.status == 416 or (found and int(found[2]) != end - 1):
                raise _Refused(f"push: {self._digest}: bytes {start} to {end} were not taken")
            return self._location(answer)

    @staticmethod
    async def _check(answer: Answer) -> None:
        if answer.status == 413:
            raise _Refused(str(await failure(answer)))

    async def _end(self, location: str, body: Content = b"") -> None:
        """End the upload: with all of its bytes, or when they are there already."""
        # What a registry keeps in its query goes back as it came.
        url = f"{location}{'&' if '?' in location else '?'}{urlencode({'digest': self._digest})}"
        headers = {
            "Content-Length": str(self._size if body else 0),
            "Content-Type": "application/octet-stream",
        }
        accept = frozenset({201, 204, 413})
        async with await self._ask(
            "PUT", url, accept, headers=headers, body=self._body(body, 0), patient=not body
        ) as answer:
            await self._check(answer)

    @staticmethod
    def _body(body: Content, offset: int) -> bytes | Callable[[], AsyncIterator[bytes]]:
        if isinstance(body, bytes):
            return body
        source = body

        async def pieces() -> AsyncIterator[bytes]:
            async with aclosing(source(offset)) as stream:  # type: ignore[type-var]
                async for piece in stream:
                    yield piece

        return pieces

    def _location(self, answer: Answer) -> str:
        """Return an answer's Location as a path on the registry itself.

        Registries behind a proxy name themselves with another scheme or port than the one they
        are reached at; what is sent, and the login with it, stays on the connection's own.
        """
        location = answer.headers.get("Location", "")
        path = own_path(answer.url, location)
        named = urlsplit(urljoin(answer.url, location)).hostname
        if named != urlsplit(answer.url).hostname:
            raise Unsafe(f"push: {self._digest}: the registry wants it sent to {named}: refused")
        return path

    async def _ask(
        self,
        method: str,
        path: str,
        accept: frozenset[int],
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Callable[[], AsyncIterator[bytes]] | None = None,
        extra_scope: str = "",
        patient: bool = True,
    ) -> Answer:
        return await self._transport.request(
            self._reference,
            method,
            path,
            self._credentials,
            headers=headers,
            body=body,
            accept=accept,
            extra_scope=extra_scope,
            patient=patient,
        )
