"""The distribution protocol: ``docker://``, the default.

Sources: OCI distribution-spec; facts/formats-and-protocols.md section 3.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING

from boxwood.drivers.registry import Credentials, RegistryTransport, SearchResult, Session
from boxwood.errors import (
    BoxwoodError,
    DataLoss,
    DeadlineExceeded,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
    Unsupported,
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
from boxwood_plugins.registry.docker import listing, searching
from boxwood_plugins.registry.docker.addresses import Unsafe
from boxwood_plugins.registry.docker.answers import Answer, Waits
from boxwood_plugins.registry.docker.client import Client, backoff
from boxwood_plugins.registry.docker.growing import Growing
from boxwood_plugins.registry.docker.hosts import Hosts
from boxwood_plugins.registry.docker.manifests import SCHEMA1, described, kind_of, too_old
from boxwood_plugins.registry.docker.notices import heard_by
from boxwood_plugins.registry.docker.proxies import Proxies, environment
from boxwood_plugins.registry.docker.sittings import current, sitting
from boxwood_plugins.registry.docker.uploads import RANGE, Upload

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boxwood_plugins.registry.docker.hosts import Host

ACCEPT = f"{OCI_INDEX}, {DOCKER_LIST}, {OCI_MANIFEST}, {DOCKER_MANIFEST}"


class DockerTransport(RegistryTransport[Reference]):
    """Registries over HTTP."""

    scheme = "docker"

    def __init__(self, options: Mapping[str, str]) -> None:
        """Options: those of Hosts and Proxies; ``waits`` for tests: see Waits.parse."""
        waits = Waits.parse(options.get("waits", ""))
        self._client = Client(Hosts(options), Proxies(options, environment()), waits)

    def reconfigure(self, options: Mapping[str, str]) -> None:
        """Take other hosts and proxies; see the contract."""
        self._client.reconfigure(Hosts(options), Proxies(options, environment()))

    async def close(self) -> None:
        """Free all connections."""
        await self._client.close()

    def parse(self, text: str) -> Reference:
        """Parse ``[docker://]NAME[:TAG][@DIGEST]``; the tag is ``latest`` when there is none."""
        return Reference.parse(text.removeprefix("docker://")).with_default_tag()

    def pinned(self, name: Reference, digest: Digest) -> Reference:
        """Return the name of a manifest in the same repository."""
        return Reference(name.domain, name.path, None, digest)

    def session(
        self,
        name: Reference,
        session: Session = Session(),  # noqa: B008 - immutable
    ) -> AbstractAsyncContextManager[None]:
        """Show what the registry has to say meanwhile, and remember what it was asked."""
        del name
        return self._session(session)

    @asynccontextmanager
    async def _session(self, session: Session) -> AsyncIterator[None]:
        async with heard_by(session.say):
            with sitting(session.manifest_wanted):
                yield

    def tagged(self, name: Reference, tag: str) -> Reference:
        """Return another tag of the same repository."""
        return name.with_tag(tag)

    async def resolve(self, name: Reference, credentials: Credentials | None = None) -> Descriptor:
        """Ask by HEAD; by GET where a registry does not say enough in it, or all is wanted."""
        try:
            return await self._resolve(name, credentials)
        except NotFound as error:
            unknown = "manifest unknown: manifest unknown"
            text = f"manifest for {name.familiar} not found: {unknown}"
            raise NotFound(text) from error
        except (PermissionDenied, Unauthenticated) as error:
            if isinstance(error, Unsafe):
                raise  # ours, not the registry's
            raise NotFound(
                f"pull access denied for {name.familiar_name}, repository does not exist or "
                f"may require 'docker login': {error}"
            ) from error

    async def _resolve(self, reference: Reference, credentials: Credentials | None) -> Descriptor:
        found = None
        if current().manifest_wanted:
            # What breaks off, or is not what its header says, is asked for as ever.
            with suppress(DataLoss, DeadlineExceeded, Unavailable):
                found = await self._resolve_whole(reference, credentials)
        if found is None:
            path = _path_of(reference)
            async with await self._get(reference, path, credentials, "HEAD") as answer:
                found = described(answer, reference)
        if found is None or (reference.digest is not None and found.digest != reference.digest):
            # Too little was said, or of another algorithm than the one that is asked for.
            found = await self._resolve_whole(reference, credentials)
        if found.media_type.startswith(SCHEMA1):
            raise too_old(reference)
        if reference.digest is not None and found.digest != reference.digest:
            raise DataLoss(f"manifest of {reference.familiar}: the registry has {found.digest}")
        return found

    async def _resolve_whole(
        self, reference: Reference, credentials: Credentials | None
    ) -> Descriptor:
        """Read the manifest to describe it, and keep it for who fetches it next.

        Raises:
            DataLoss: its header says another digest than its bytes have; and as :meth:`_get`.
        """
        async with await self._get(reference, _path_of(reference), credentials) as answer:
            body = await answer.read(DOCUMENT_LIMIT)
            said = described(answer, reference)
            told = Digest.parse(said.digest) if said is not None else None
            wanted = reference.digest or told
            digest = Digest.of(body, wanted.algorithm if wanted else "sha256")
            if told is not None and told.algorithm == digest.algorithm and told != digest:
                raise DataLoss(f"manifest of {reference.familiar}: the registry says it is {told}")
            kind = kind_of(body, answer, reference)
        current().documents[digest] = body
        return Descriptor(media_type=kind, digest=str(digest), size=len(body))

    async def fetch(
        self,
        name: Reference,
        descriptor: Descriptor,
        offset: int = 0,
        credentials: Credentials | None = None,
    ) -> AsyncIterator[bytes]:
        """Yield the content; see the contract."""
        if (known := current().documents.pop(descriptor.digest, None)) is not None:
            yield known[offset:]
            return
        kind = "manifests" if descriptor.media_type in INDEXES | MANIFESTS else "blobs"
        path = f"{kind}/{Digest.parse(descriptor.digest)}"
        answer, skip = await self._from(name, path, offset, credentials)
        async with answer:
            if kind == "manifests" and not answer.plain:
                raise DataLoss(f"manifest of {name.familiar}: was sent packed, unasked for")
            async with aclosing(_bounded(answer, skip, descriptor.size - offset)) as pieces:
                async for piece in pieces:
                    yield piece

    async def fetch_part(
        self,
        name: Reference,
        descriptor: Descriptor,
        start: int,
        end: int,
        credentials: Credentials | None = None,
    ) -> AsyncIterator[bytes]:
        """Yield a part of a blob; see the contract."""
        path = f"blobs/{Digest.parse(descriptor.digest)}"
        headers = {"Range": f"bytes={start}-{end - 1}"}
        async with await self._get(name, path, credentials, headers=headers) as answer:
            found = RANGE.match(answer.headers.get("Content-Range", ""))
            if answer.status != 206 or found is None or int(found[1]) != start:
                raise Unsupported(f"registry: {answer.url}: gives no parts")
            async with aclosing(_bounded(answer, 0, end - start)) as pieces:
                async for piece in pieces:
                    yield piece

    async def _from(
        self, reference: Reference, path: str, offset: int, credentials: Credentials | None
    ) -> tuple[Answer, int]:
        """Ask for content from an offset on; a peer that has no ranges is asked for all of it.

        Returns the answer, and how many of its first bytes were not asked for.
        """
        if offset:
            headers = {"Range": f"bytes={offset}-"}
            answer = await self._get(reference, path, credentials, headers=headers)
            if answer.status == 200:
                return answer, offset
            found = RANGE.match(answer.headers.get("Content-Range", ""))
            if answer.status == 206 and found is not None and int(found[1]) == offset:
                return answer, 0
            async with answer:
                pass  # 416, or another range than was asked for
        return await self._get(reference, path, credentials), offset

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
        """Return what asks for a list: all its pages at the host that had the first."""
        answered: list[Host] = []

        async def get(path: str) -> Answer:
            if path.startswith("/"):
                return await self._ask(answered[-1], path, credentials)
            hosts = self._hosts(name, path)
            for host in hosts:
                last = host is hosts[-1]
                try:
                    answer = await self._ask(host, path, credentials, patient=last)
                except BoxwoodError:
                    if last:
                        raise
                    continue
                answered.append(host)
                return answer
            raise AssertionError("unreachable")

        return get

    async def push(
        self,
        name: Reference,
        descriptor: Descriptor,
        source: Callable[[int], AsyncIterator[bytes]],
        credentials: Credentials | None = None,
        mount_from: Sequence[str] = (),
    ) -> str | None:
        """Store a manifest, or a blob that is not there yet."""
        if descriptor.media_type in INDEXES | MANIFESTS:
            await self._push_manifest(name, descriptor, source, credentials)
            return None
        lacking, key = current().lacking, (name.domain, name.path, descriptor.digest)
        upload = Upload(self, name, descriptor, source, credentials)
        mounted = await upload.run(mount_from, lacking=key in lacking)
        lacking.discard(key)
        return mounted

    async def push_growing(
        self,
        name: Reference,
        made: Awaitable[Descriptor],
        source: Callable[[int], AsyncIterator[bytes]],
        credentials: Credentials | None = None,
    ) -> None:
        """Send it while it is made; see the contract."""
        await Growing(self, name, made, source, credentials).send()

    async def has(
        self, name: Reference, descriptor: Descriptor, credentials: Credentials | None = None
    ) -> bool:
        """Ask by HEAD; in a session a push that comes next does not ask again."""
        found = await self.there(name, Digest.parse(descriptor.digest), credentials)
        if not found:
            current().lacking.add((name.domain, name.path, descriptor.digest))
        return found

    async def there(self, name: Reference, digest: Digest, credentials: Credentials | None) -> bool:
        """Ask whether a repository has a blob."""
        path = f"blobs/{digest}"
        try:
            async with await self.request(name, "HEAD", path, credentials, accept=frozenset({200})):
                return True
        except NotFound:
            return False

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

    async def search(
        self, domain: str, term: str, limit: int, credentials: Credentials | None = None
    ) -> list[SearchResult]:
        """Ask the registry's search."""
        return await searching.search(self._client, domain, term, limit, credentials)

    async def login(self, domain: str, credentials: Credentials) -> str:
        """Ask for the registry's root with the login."""
        if domain in ("index.docker.io", "docker.io"):
            domain = DEFAULT_DOMAIN
        host = self._client.hosts.registry(domain)
        return await self._client.login(host, credentials) or credentials.identity_token

    # Requests

    async def pause(self, attempt: int) -> None:
        """Wait before the next attempt, the longer the more there have been."""
        await asyncio.sleep(backoff(attempt, self._client.waits))

    def mountable(self, reference: Reference, paths: Sequence[str]) -> list[str]:
        """Return what others are called at the host that a repository is pushed to."""
        hosts = self._client.hosts
        host = hosts.written(reference)
        others = (hosts.written(Reference(reference.domain, path, None, None)) for path in paths)
        return [other.path for other in others if other.authority == host.authority]

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
        """Send one request that writes; ``path`` is below the repository, or the host's root."""
        host = self._client.hosts.written(reference)
        whole = path if path.startswith("/") else f"/v2/{host.path}/{path}"
        scope = f"repository:{host.path}:pull,push"
        return await self._client.ask(
            host,
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
        hosts = self._hosts(reference, path)
        for host in hosts:
            last = host is hosts[-1]
            try:
                return await self._ask(host, path, credentials, method, headers, patient=last)
            except BoxwoodError:
                if last:
                    raise
        raise AssertionError("unreachable")

    def _hosts(self, reference: Reference, path: str) -> tuple[Host, ...]:
        """Return whom to ask for a path below the repository."""
        hosts = self._client.hosts.of(reference)
        pinned = ":" in path and not path.startswith("tags/")
        return hosts if pinned else tuple(host for host in hosts if host.tags)

    async def _ask(
        self,
        host: Host,
        path: str,
        credentials: Credentials | None,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        *,
        patient: bool = True,
    ) -> Answer:
        """Ask one host for a path: below the repository, or below its root with a slash."""
        query = f"?ns={host.mirror_of}" if host.mirror_of and "?" not in path else ""
        return await self._client.ask(
            host,
            method,
            path if path.startswith("/") else f"/v2/{host.path}/{path}{query}",
            scope=f"repository:{host.path}:pull",
            credentials=credentials,
            headers={"Accept": ACCEPT, **(headers or {})},
            accept=frozenset({200, 206, 416}) if headers else frozenset({200}),
            patient=patient,
        )


def _path_of(reference: Reference) -> str:
    """Return where a repository has the manifest of a name."""
    return f"manifests/{reference.digest or reference.tag or 'latest'}"


async def _bounded(answer: Answer, skip: int, size: int) -> AsyncGenerator[bytes, None]:
    """Yield what an answer holds after ``skip`` bytes; raises DataLoss when it is more than
    ``size``."""
    left = size
    async with aclosing(answer.pieces()) as pieces:
        async for piece in pieces:
            if skip:
                piece, skip = piece[skip:], max(skip - len(piece), 0)
            if len(piece) > left:
                raise DataLoss(f"registry: {answer.url}: more than its {size} bytes")
            left -= len(piece)
            if piece:
                yield piece
