"""The distribution protocol: ``docker://``, the default.

Sources: OCI distribution-spec; facts/formats-and-protocols.md section 3.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING

import aiohttp

from boxwood.drivers.registry import Credentials, RegistryTransport
from boxwood.errors import (
    BoxwoodError,
    DataLoss,
    NotFound,
    PermissionDenied,
    Unauthenticated,
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
from boxwood.model.reference import DEFAULT_DOMAIN, Reference
from boxwood_plugins.registry.docker import listing
from boxwood_plugins.registry.docker.answers import Answer, unavailable
from boxwood_plugins.registry.docker.client import Client
from boxwood_plugins.registry.docker.hosts import Hosts
from boxwood_plugins.registry.docker.uploads import RANGE, Upload

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boxwood_plugins.registry.docker.hosts import Host

ACCEPT = f"{OCI_INDEX}, {DOCKER_LIST}, {OCI_MANIFEST}, {DOCKER_MANIFEST}"
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+"


class DockerTransport(RegistryTransport[Reference]):
    """Registries over HTTP."""

    scheme = "docker"

    def __init__(self, options: Mapping[str, str]) -> None:
        self._client = Client(Hosts(options))

    async def close(self) -> None:
        """Free all connections."""
        await self._client.close()

    def parse(self, text: str) -> Reference:
        """Parse ``[docker://]NAME[:TAG][@DIGEST]``; the tag is ``latest`` when there is none."""
        return Reference.parse(text.removeprefix("docker://")).with_default_tag()

    def pinned(self, name: Reference, digest: Digest) -> Reference:
        """Return the name of a manifest in the same repository."""
        return Reference(name.domain, name.path, None, digest)

    def tagged(self, name: Reference, tag: str) -> Reference:
        """Return another tag of the same repository."""
        return name.with_tag(tag)

    async def resolve(self, name: Reference, credentials: Credentials | None = None) -> Descriptor:
        """Ask by HEAD; where a registry does not say enough in it, by GET."""
        try:
            return await self._resolve(name, credentials)
        except NotFound as error:
            unknown = "manifest unknown: manifest unknown"
            text = f"manifest for {name.familiar} not found: {unknown}"
            raise NotFound(text) from error
        except (PermissionDenied, Unauthenticated) as error:
            if isinstance(error, PermissionDenied) and "refused" in str(error):
                raise  # ours: it would not be safe
            raise NotFound(
                f"pull access denied for {name.familiar_name}, repository does not exist or "
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
                    media_type=answer.media_type, digest=str(Digest.of(body)), size=len(body)
                )
        if found.media_type.startswith(SCHEMA1):
            raise DataLoss(f"manifest of {reference.familiar}: schema 1 is not supported any more")
        if reference.digest is not None and found.digest != reference.digest:
            raise DataLoss(f"manifest of {reference.familiar}: the registry has {found.digest}")
        return found

    async def fetch(
        self,
        name: Reference,
        descriptor: Descriptor,
        offset: int = 0,
        credentials: Credentials | None = None,
    ) -> AsyncIterator[bytes]:
        """Yield the content; see the contract."""
        kind = "manifests" if descriptor.media_type in INDEXES | MANIFESTS else "blobs"
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        path = f"{kind}/{Digest.parse(descriptor.digest)}"
        async with await self._get(name, path, credentials, headers=headers) as answer:
            skip = offset
            if answer.status == 206:
                found = RANGE.match(answer.headers.get("Content-Range", ""))
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

    async def tags(self, name: Reference, credentials: Credentials | None = None) -> list[str]:
        """Return all tags, page by page."""
        return await listing.tags(self._getter(name, credentials), name.familiar_name)

    async def referrers(
        self,
        name: Reference,
        digest: Digest,
        artifact_type: str = "",
        credentials: Credentials | None = None,
    ) -> list[Descriptor]:
        """Ask the referrers API; where there is none, look for the tag that stands for it."""
        get = self._getter(name, credentials)
        return await listing.referrers(get, name.familiar_name, digest, artifact_type)

    def _getter(self, name: Reference, credentials: Credentials | None) -> listing.Get:
        async def get(path: str) -> Answer:
            return await self._get(name, path, credentials)

        return get

    async def push(
        self,
        name: Reference,
        descriptor: Descriptor,
        source: Callable[[int], AsyncIterator[bytes]],
        credentials: Credentials | None = None,
        mount_from: Sequence[str] = (),
    ) -> None:
        """Store a manifest, or a blob that is not there yet."""
        if descriptor.media_type in INDEXES | MANIFESTS:
            await self._push_manifest(name, descriptor, source, credentials)
        else:
            await Upload(self, name, descriptor, source, credentials).run(mount_from)

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


def _described(answer: Answer, reference: Reference) -> Descriptor | None:
    """Return what the headers say of a manifest; None: not enough."""
    digest, size = answer.headers.get("Docker-Content-Digest"), answer.headers.get("Content-Length")
    kind = answer.media_type
    if not digest or not size or not size.isdecimal() or not kind:
        return None
    if int(size) > DOCUMENT_LIMIT:
        raise DataLoss(f"manifest of {reference.familiar}: larger than {DOCUMENT_LIMIT} bytes")
    return Descriptor(media_type=kind, digest=str(Digest.parse(digest)), size=int(size))
