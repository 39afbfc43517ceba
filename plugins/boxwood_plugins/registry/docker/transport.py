"""The distribution protocol: ``docker://``, the default.

Sources: OCI distribution-spec; facts/formats-and-protocols.md section 3.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

import aiohttp
import msgspec

from boxwood.drivers.registry import Credentials, RegistryTransport
from boxwood.errors import (
    BoxwoodError,
    DataLoss,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from boxwood.model.descriptor import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    DOCUMENT_LIMIT,
    INDEXES,
    MANIFESTS,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
)
from boxwood.model.digest import Digest
from boxwood.model.reference import DEFAULT_DOMAIN
from boxwood_plugins.registry.docker.client import ATTEMPTS, Answer, Client, unavailable
from boxwood_plugins.registry.docker.hosts import Hosts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boxwood.model.reference import Reference
    from boxwood_plugins.registry.docker.hosts import Host

ACCEPT = f"{OCI_INDEX}, {DOCKER_LIST}, {OCI_MANIFEST}, {DOCKER_MANIFEST}"
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+"
TAGS_LIMIT = 100_000
PIECE = 1 << 18

_RANGE = re.compile(r"(?:bytes\s+)?(\d+)-(\d+)(?:/(?:\d+|\*))?")


class _Tags(msgspec.Struct):
    tags: list[str] | None = None


class DockerTransport(RegistryTransport):
    """Registries over HTTP."""

    scheme = "docker"

    def __init__(self, options: Mapping[str, str]) -> None:
        self._client = Client(Hosts(options))

    async def close(self) -> None:
        """Free all connections."""
        await self._client.close()

    async def resolve(
        self, reference: Reference, credentials: Credentials | None = None
    ) -> Descriptor:
        """Ask by HEAD; where a registry does not say enough in it, by GET."""
        try:
            return await self._resolve(reference, credentials)
        except NotFound as error:
            unknown = "manifest unknown: manifest unknown"
            text = f"manifest for {reference.familiar} not found: {unknown}"
            raise NotFound(text) from error
        except (PermissionDenied, Unauthenticated) as error:
            if isinstance(error, PermissionDenied) and "refused" in str(error):
                raise  # ours: it would not be safe
            raise NotFound(
                f"pull access denied for {reference.familiar_name}, repository does not exist or "
                f"may require 'docker login': {error}"
            ) from error

    async def _resolve(self, reference: Reference, credentials: Credentials | None) -> Descriptor:
        wanted = str(reference.digest or reference.tag or "latest")
        async with await self._get(reference, f"manifests/{wanted}", credentials, "HEAD") as answer:
            found = _described(answer, reference)
        if found is None:
            async with await self._get(reference, f"manifests/{wanted}", credentials) as answer:
                body = await answer.read(DOCUMENT_LIMIT)
                found = Descriptor(
                    media_type=_media_type(answer), digest=str(Digest.of(body)), size=len(body)
                )
        if found.media_type.startswith(SCHEMA1):
            raise DataLoss(f"manifest of {reference.familiar}: schema 1 is not supported any more")
        if reference.digest is not None and found.digest != reference.digest:
            raise DataLoss(f"manifest of {reference.familiar}: the registry has {found.digest}")
        return found

    async def fetch(
        self,
        reference: Reference,
        descriptor: Descriptor,
        offset: int = 0,
        credentials: Credentials | None = None,
    ) -> AsyncIterator[bytes]:
        """Yield the content; see the contract."""
        kind = "manifests" if descriptor.media_type in INDEXES | MANIFESTS else "blobs"
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        path = f"{kind}/{Digest.parse(descriptor.digest)}"
        async with await self._get(reference, path, credentials, headers=headers) as answer:
            skip = offset
            if answer.status == 206:
                found = _RANGE.match(answer.headers.get("Content-Range", ""))
                if found is None or int(found[1]) != offset:
                    raise DataLoss(f"registry: {answer.url}: another range than was asked for")
                skip = 0
            left = descriptor.size - offset
            try:
                async for piece in answer.pieces():
                    if skip:
                        piece, skip = piece[skip:], max(skip - len(piece), 0)
                    if len(piece) > left:
                        raise DataLoss(
                            f"registry: {descriptor.digest}: more than its {descriptor.size} bytes"
                        )
                    left -= len(piece)
                    if piece:
                        yield piece
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise unavailable(answer.url, error) from error

    async def tags(self, reference: Reference, credentials: Credentials | None = None) -> list[str]:
        """Return all tags, page by page."""
        found: list[str] = []
        path = "tags/list?n=1000"
        while path and len(found) < TAGS_LIMIT:
            async with await self._get(reference, path, credentials) as answer:
                try:
                    page = msgspec.json.decode(await answer.read(DOCUMENT_LIMIT), type=_Tags)
                except msgspec.MsgspecError as error:
                    raise DataLoss(f"tags of {reference.familiar_name}: {error}") from error
                link = _next(answer)
            found += page.tags or []
            if link == path:
                break
            path = link
        return sorted(set(found))

    async def push(
        self,
        reference: Reference,
        descriptor: Descriptor,
        source: Callable[[int], AsyncIterator[bytes]],
        credentials: Credentials | None = None,
        mount_from: Sequence[str] = (),
    ) -> None:
        """Store a manifest, or a blob that is not there yet."""
        if descriptor.media_type in INDEXES | MANIFESTS:
            await self._push_manifest(reference, descriptor, source, credentials)
        else:
            await _Upload(self, reference, descriptor, source, credentials).run(mount_from)

    async def _push_manifest(
        self,
        reference: Reference,
        descriptor: Descriptor,
        source: Callable[[int], AsyncIterator[bytes]],
        credentials: Credentials | None,
    ) -> None:
        body = b"".join([piece async for piece in source(0)])
        name = reference.tag or descriptor.digest
        async with await self.request(
            reference,
            "PUT",
            f"manifests/{name}",
            credentials,
            headers={"Content-Type": descriptor.media_type},
            body=body,
            accept=frozenset({200, 201, 202}),
        ) as answer:
            stored = answer.headers.get("Docker-Content-Digest", descriptor.digest)
        if stored != descriptor.digest:
            raise DataLoss(f"push {reference.familiar}: the registry stored it as {stored}")

    async def login(self, domain: str, credentials: Credentials) -> None:
        """Ask for the registry's root with the login."""
        if domain in ("index.docker.io", "docker.io"):
            domain = DEFAULT_DOMAIN
        host = self._client.hosts.of(domain)[-1]
        async with await self._client.ask(host, "GET", "/v2/", scope="", credentials=credentials):
            return

    # Requests

    def host(self, reference: Reference) -> Host:
        """Return the registry itself, which alone is written to."""
        return self._client.hosts.of(reference.domain)[-1]

    async def request(
        self,
        reference: Reference,
        method: str,
        path: str,
        credentials: Credentials | None,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Callable[[], AsyncIterator[bytes]] | None = None,
        accept: frozenset[int],
        extra_scope: str = "",
        patient: bool = True,
    ) -> Answer:
        """Send one request that writes; ``path`` is below the repository, or a whole URL."""
        whole = path if "://" in path or path.startswith("/") else f"/v2/{reference.path}/{path}"
        scope = f"repository:{reference.path}:pull,push"
        return await self._client.ask(
            self.host(reference),
            method,
            whole,
            scope=f"{scope} {extra_scope}".strip(),
            credentials=credentials,
            headers=headers,
            body=body,
            accept=accept,
            patient=patient,
        )

    async def _get(
        self,
        reference: Reference,
        path: str,
        credentials: Credentials | None,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask the mirrors, then the registry; what a mirror lacks or fails at, the next has."""
        hosts = self._client.hosts.of(reference.domain)
        for host in hosts:
            last = host is hosts[-1]
            query = f"?ns={host.mirror_of}" if host.mirror_of and "?" not in path else ""
            whole = path if path.startswith("/") else f"/v2/{reference.path}/{path}{query}"
            try:
                return await self._client.ask(
                    host,
                    method,
                    whole,
                    scope=f"repository:{reference.path}:pull",
                    credentials=credentials,
                    headers={"Accept": ACCEPT, **(headers or {})},
                    accept=frozenset({200, 206}) if headers else frozenset({200}),
                    patient=last,
                )
            except BoxwoodError:
                if last:
                    raise
        raise AssertionError("unreachable")


class _Upload:
    """One blob on its way to a registry."""

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
        for _ in range(ATTEMPTS):
            try:
                location = await self._send(location, await self._offset(location, failed))
                await self._end(location)
            except (Unavailable, NotFound) as error:
                # NotFound: the session is gone; a new one begins at the start.
                if isinstance(error, NotFound):
                    location = await self._begin(())
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
        query, scope = "", ""
        if mount_from:
            query = "?" + urlencode({"mount": self._digest, "from": mount_from[0]})
            scope = f"repository:{mount_from[0]}:pull"
        async with await self._ask(
            "POST",
            f"blobs/uploads/{query}",
            frozenset({201, 202}),
            headers={"Content-Length": "0"},
            extra_scope=scope,
        ) as answer:
            return "" if answer.status == 201 else self._location(answer)

    async def _offset(self, location: str, failed: BoxwoodError | None) -> int:
        """Return how many bytes are there after a fault (0 when none came before)."""
        if failed is None:
            return 0
        async with await self._ask("GET", location, frozenset({200, 204})) as answer:
            found = _RANGE.match(answer.headers.get("Range", ""))
        have = int(found[2]) + 1 if found and int(found[2]) else 0
        if have > self._size:
            raise DataLoss(f"push: {self._digest}: the registry has more than was sent")
        return have

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
        parts = urlsplit(location)
        query = urlencode([*parse_qsl(parts.query, True), ("digest", self._digest)])
        url = urlunsplit((*parts[:3], query, ""))
        headers = {"Content-Length": "0", "Content-Type": "application/octet-stream"}
        async with await self._ask("PUT", url, frozenset({201, 204}), headers=headers):
            return

    def _location(self, answer: Answer) -> str:
        """Return an answer's Location, whole; it must be on the registry's own host."""
        location = urljoin(answer.url, answer.headers.get("Location", ""))
        if urlsplit(location).netloc != urlsplit(answer.url).netloc:
            raise DataLoss(f"push: {self._digest}: the registry wants it sent to {location[:200]}")
        return location

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


def _described(answer: Answer, reference: Reference) -> Descriptor | None:
    """Return what the headers say of a manifest; None: not enough."""
    digest, size = answer.headers.get("Docker-Content-Digest"), answer.headers.get("Content-Length")
    kind = _media_type(answer)
    if not digest or not size or not size.isdecimal() or not kind:
        return None
    if int(size) > DOCUMENT_LIMIT:
        raise DataLoss(f"manifest of {reference.familiar}: larger than {DOCUMENT_LIMIT} bytes")
    return Descriptor(media_type=kind, digest=str(Digest.parse(digest)), size=int(size))


def _media_type(answer: Answer) -> str:
    return str(answer.headers.get("Content-Type", "")).partition(";")[0].strip()


def _next(answer: Answer) -> str:
    """Return the path of the next page (RFC 8288); empty: there is none, or it leads away."""
    found = re.match(r'\s*<([^>]+)>\s*;[^,]*rel="?next"?', answer.headers.get("Link", ""))
    if found is None:
        return ""
    target = urlsplit(urljoin(answer.url, str(found[1])))
    if target.netloc != urlsplit(answer.url).netloc:
        return ""
    path: str = urlunsplit(("", "", target.path, target.query, ""))
    return path
