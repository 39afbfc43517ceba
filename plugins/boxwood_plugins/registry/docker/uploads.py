"""One blob on its way to a registry: there already, mounted from elsewhere, or sent."""

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
from boxwood_plugins.registry.docker.client import ATTEMPTS

if TYPE_CHECKING:
    from boxwood.drivers.registry import Credentials
    from boxwood.model.descriptor import Descriptor
    from boxwood.model.reference import Reference
    from boxwood_plugins.registry.docker.answers import Answer
    from boxwood_plugins.registry.docker.transport import DockerTransport

RANGE = re.compile(r"(?:bytes\s+)?(\d{1,18})-(\d{1,18})(?:/(?:\d{1,18}|\*))?$", re.ASCII)
"""A range of bytes. More digits than a size has are none: Python refuses to read 5,000."""


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

    async def run(self, mount_from: Sequence[str]) -> None:
        """Store it, by whatever is cheapest: there already, mounted, sent."""
        if await self._there():
            return
        location = await self._begin(mount_from)
        if not location:
            return
        failed: BoxwoodError | None = None
        offset = 0
        for attempt in range(ATTEMPTS):
            try:
                if failed is not None:
                    await self._transport.pause(attempt - 1)
                    location, offset = await self._resume(location)
                    if not location:
                        return
                location = await self._send(location, offset)
                await self._end(location)
            except (Unavailable, DeadlineExceeded, NotFound) as error:
                failed = error
                continue
            return
        assert failed is not None
        raise failed

    async def _there(self) -> bool:
        try:
            async with await self._ask("HEAD", f"blobs/{self._digest}", frozenset({200})):
                return True
        except NotFound:
            return False

    async def _begin(self, mount_from: Sequence[str]) -> str:
        """Return where to send to; empty: the registry had it elsewhere and mounted it."""
        for other in self._transport.mountable(self._reference, mount_from)[:1]:
            query = urlencode({"mount": self._digest, "from": other})
            with suppress(PermissionDenied, Unauthenticated, InvalidArgument, NotFound):
                # Who may not read the other repository may still write this one.
                return await self._post(f"?{query}", f"repository:{other}:pull")
        return await self._post("", "")

    async def _post(self, query: str, scope: str) -> str:
        async with await self._ask(
            "POST",
            f"blobs/uploads/{query}",
            frozenset({201, 202}),
            headers={"Content-Length": "0"},
            extra_scope=scope,
        ) as answer:
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

    async def _send(self, location: str, offset: int) -> str:
        """Send the rest in one PATCH; returns where to end it."""
        if offset == self._size and offset:
            return location
        source = self._source

        async def body() -> AsyncIterator[bytes]:
            async with aclosing(source(offset)) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    yield piece

        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(self._size - offset),
            "Content-Range": f"{offset}-{max(self._size - 1, 0)}",
        }
        async with await self._ask(
            "PATCH", location, frozenset({202}), headers=headers, body=body, patient=False
        ) as answer:
            return self._location(answer)

    async def _end(self, location: str) -> None:
        # What a registry keeps in its query goes back as it came.
        url = f"{location}{'&' if '?' in location else '?'}{urlencode({'digest': self._digest})}"
        headers = {"Content-Length": "0", "Content-Type": "application/octet-stream"}
        async with await self._ask("PUT", url, frozenset({201, 204}), headers=headers):
            return

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
        body: Callable[[], AsyncIterator[bytes]] | None = None,
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
