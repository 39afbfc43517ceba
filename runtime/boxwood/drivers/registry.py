"""The contract of registry transports: where images come from and go to.

Terms
-----
scheme
    What stands before the first ``:`` of a name and chooses the transport: ``docker`` (the
    default: the distribution protocol over HTTPS), ``oci``, ``docker-archive``, ``dir``, ... It is
    the name of the transport's entry point.
name
    Where one image is, in the transport's own terms: what :meth:`RegistryTransport.parse` makes
    of the text ``SCHEME:...``. The core looks at nothing in it. It is hashable, and ``str()``
    gives text back that parses to an equal one. The names of ``docker`` are
    :class:`~boxwood.model.reference.Reference`: what images are called here.
local name
    What an image that came from a name is called here.
descriptor
    Media type, digest and size of a piece of content (OCI image-spec descriptor.md).
manifest
    The document that names an image's config and layers, or, as an index, several manifests.
blob
    Any other content: a config, a layer. A layer may be compressed or a bare tar.
source
    Something a blob can be read from again from any offset, so that a push can be resumed.

Life
----
A transport is made once for each scheme in use and closed with the engine. The core has it parse
a name and holds :meth:`RegistryTransport.session` around all it does with that name in one pull or
push. A pull calls ``resolve`` for the manifest's descriptor and ``local_name`` for what the image
shall be called, ``fetch`` for the manifest, then ``fetch`` for the config and for each missing
layer, several at once. A push asks by ``has`` for blobs and offers them, config and layers alike,
several at once; then manifests, each by ``push``: those that an index names under ``pinned`` names,
and the top one under the name itself, last: with it the image is there, and not before.

What must hold
--------------
* A transport verifies nothing and stores nothing: the core checks size and digest of each byte
  that ``fetch`` yields before anything becomes visible. It must never yield more than
  ``descriptor.size`` bytes. (What it *writes* in a push it does verify: nobody else does.)
* Digests and references that reach it are parsed; they are safe in a path or a URL.
* Credentials are given by the core for one realm. A transport never sends them anywhere else:
  not to another host by a redirect, not to a mirror (CVE-2020-15157, CVE-2024-3727 classes).
* Cancelling the task that awaits a method frees all it held. Blocking work is done in threads:
  every method is called on the event loop of the engine, which serves others meanwhile.
* Each wait has a bound; a peer that stalls is Unavailable, not a hang.

Errors: NotFound (name or blob), PermissionDenied and Unauthenticated (401, 403), Unavailable
(network, 429 and 5xx: may be tried again), InvalidArgument (the name is none, or the peer refuses
the content), DataLoss (the answer breaks the protocol), Unsupported (this transport cannot push).

Example::

    name = transport.parse("oci:/srv/images:busybox")
    async with transport.session(name):
        descriptor = await transport.resolve(name)
        async for chunk in transport.fetch(name, descriptor):
            hasher.update(chunk)
"""

from __future__ import annotations

import abc
import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Hashable,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import ClassVar, Generic, Protocol, TypeVar

import msgspec

from boxwood.errors import InvalidArgument, Unsupported
from boxwood.model.descriptor import DOCKER_MANIFEST, Descriptor
from boxwood.model.digest import Digest
from boxwood.model.platform import Platform
from boxwood.model.reference import Reference

DEFAULT_SCHEME = "docker"
"""The transport of names that say none."""

N = TypeVar("N", bound=Hashable)
"""A transport's own type of names."""

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):(//)?", re.ASCII)


def scheme_of(text: str, installed: Collection[str]) -> str:
    """Return the scheme that ``text`` begins with; empty: none, it is a plain image name.

    ``NAME:`` counts only where a transport of that name is among the ``installed``: ``busybox:1``
    is an image. ``docker://`` before it makes a plain name of what would be taken for another's.

    Raises:
        InvalidArgument: ``NAME://``, and no such transport is installed.
    """
    found = _SCHEME.match(text)
    if found is None:
        return ""
    scheme, slashes = found.groups()
    if scheme == DEFAULT_SCHEME and not slashes:
        return ""
    if scheme in installed:
        return scheme
    if slashes:
        there = ", ".join(sorted(installed))
        raise InvalidArgument(f"{text}: no transport {scheme} is installed; there are {there}")
    return ""


class Workshop(Protocol):
    """Where a transport has programs run that it has from elsewhere: in a container."""

    def run(
        self, tree: Path, command: Sequence[str], environment: Mapping[str, str]
    ) -> AbstractAsyncContextManager[AsyncGenerator[bytes, None]]:
        """Run a command as root of a container without network, whose file tree is a tar's.

        Args:
            tree: the tar, uncompressed.
            command: program and arguments, in that tree.

        Returns:
            the tar of the tree by then, in pieces; all is gone when the context is left.

        Raises:
            Internal: it failed; with the end of what it said.
            InvalidArgument: the tar is none. ResourceExhausted: no room.
        """


class Session(msgspec.Struct, frozen=True):
    """What one pull or push is to a transport.

    Attributes:
        writing: it is a push.
        platform: the one that a pull wants; None: this machine's.
        manifest_wanted: what ``resolve`` describes will be fetched as well: nothing is here yet by
            that name. A transport may read it at once, and give it to ``fetch``.
        called: what the image that is pushed is called here.
        say: shows who waits a line of text, for what takes long before the first byte comes.
        workshop: None: there is no engine.
    """

    writing: bool = False
    platform: Platform | None = None
    manifest_wanted: bool = False
    called: Reference | None = None
    say: Callable[[str], object] = lambda _: None
    workshop: Workshop | None = None


class Credentials(msgspec.Struct, frozen=True):
    """A login for one registry. Never logged.

    ``identity_token`` replaces the password; ``registry_token`` is shown to the registry as it is.
    """

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def __repr__(self) -> str:
        return "Credentials(...)"


class SearchResult(msgspec.Struct, frozen=True):
    """A repository that a registry has found, as its own words have it."""

    name: str = ""
    description: str = ""
    is_official: bool = False
    star_count: int = 0


class RegistryTransport(abc.ABC, Generic[N]):
    """A way to images of one scheme. The module's text is the contract."""

    scheme: ClassVar[str] = ""
    made_as: ClassVar[str] = DOCKER_MANIFEST
    """Media type of the manifests that a push makes for images which came without one."""

    # Names

    @abc.abstractmethod
    def parse(self, text: str) -> N:
        """Return the name that ``text``, scheme and all, stands for; nothing is looked up.

        Raises:
            InvalidArgument: it is none; says how they are written.
        """

    async def local_name(self, name: N, descriptor: Descriptor) -> Reference | None:
        """Return what the image that ``descriptor`` is the manifest of is to be called here.

        With a tag, if it has one. None: it does not say, and whoever pulls has to. Errors as
        :meth:`resolve`.
        """
        del descriptor
        return name if isinstance(name, Reference) else None

    def pinned(self, name: N, digest: Digest) -> N:
        """Return the name of the manifest ``digest`` in the place that ``name`` is in.

        Raises:
            Unsupported: a place of this transport holds one manifest only.
        """
        del digest
        raise Unsupported(f"{name}: the transport {self.scheme} has no names by digest")

    def tagged(self, name: N, tag: str) -> N:
        """Return the name of ``tag`` in the place that ``name`` is in.

        Raises:
            Unsupported: it has no tags.
            InvalidArgument: not a tag.
        """
        del tag
        raise Unsupported(f"{name}: the transport {self.scheme} has no tags")

    # Content

    def session(
        self,
        name: N,
        session: Session = Session(),  # noqa: B008 - immutable
    ) -> AbstractAsyncContextManager[None]:
        """Return a context that the core holds around one pull from, or one push to, a name.

        What has to be made first (an image, an unpacked archive) is made on entering, and goes
        when it is left. Where a push makes one file, it is put into place on leaving without an
        error, if the top manifest was pushed; else what was gathered is thrown away. By default
        it does nothing. Errors as :meth:`resolve` and :meth:`push`.
        """
        del name, session
        return nullcontext()

    @abc.abstractmethod
    async def resolve(self, name: N, credentials: Credentials | None = None) -> Descriptor:
        """Return the descriptor of the manifest or index that ``name`` names.

        Raises:
            NotFound, Unauthenticated, PermissionDenied, Unavailable, DataLoss
        """

    @abc.abstractmethod
    def fetch(
        self,
        name: N,
        descriptor: Descriptor,
        offset: int = 0,
        credentials: Credentials | None = None,
    ) -> AsyncIterator[bytes]:
        """Yield the content from ``offset`` (bytes) on, in chunks of any size.

        A peer that cannot resume restarts inside: the transport skips what was not asked for.
        Closing the iterator early frees the connection. Errors as :meth:`resolve`.
        """

    def fetch_part(
        self,
        name: N,
        descriptor: Descriptor,
        start: int,
        end: int,
        credentials: Credentials | None = None,
    ) -> AsyncIterator[bytes]:
        """Yield the content from ``start`` to before ``end`` (bytes), on a connection of its own.

        For large blobs on long lines. It must never yield more. Errors as :meth:`resolve`, and
        Unsupported, when it is first asked for bytes: the peer gives no parts.
        """
        del descriptor, start, end, credentials
        raise Unsupported(f"fetch {name}: the transport {self.scheme} gives no parts")

    async def push(
        self,
        name: N,
        descriptor: Descriptor,
        source: Callable[[int], AsyncIterator[bytes]],
        credentials: Credentials | None = None,
        mount_from: Sequence[str] = (),
    ) -> str | None:
        """Store content under its digest; done at once when the peer has it. Idempotent.

        ``source(offset)`` opens the content at an offset in bytes. A descriptor whose media type
        is a manifest's or an index's is stored under the name as well, if that says a tag.
        ``mount_from`` names repositories of the same registry that should have the blob, the most
        likely one first.

        Returns:
            the one of ``mount_from`` that the peer took it from; None: it was sent, or was there.

        Raises:
            Unsupported, Unauthenticated, PermissionDenied, Unavailable, InvalidArgument, DataLoss
        """
        del descriptor, source, credentials, mount_from
        raise Unsupported(f"push: {name}: the transport {self.scheme} cannot push")

    async def push_growing(
        self,
        name: N,
        made: Awaitable[Descriptor],
        source: Callable[[int], AsyncIterator[bytes]],
        credentials: Credentials | None = None,
    ) -> None:
        """Store a blob that is still being made; see :meth:`push`.

        ``source(offset)`` waits for the bytes that are not there yet, and ends where ``made`` does,
        whose descriptor nobody knows before. By default that is waited for.

        Raises:
            as :meth:`push`; and what ``made`` raises.
        """
        await self.push(name, await made, source, credentials)

    async def has(
        self, name: N, descriptor: Descriptor, credentials: Credentials | None = None
    ) -> bool:
        """Whether a blob is there already: asked before a push, of many side by side.

        False also where that is not known: :meth:`push` finds out. Errors as :meth:`resolve`.
        """
        del name, descriptor, credentials
        return False

    async def tags(self, name: N, credentials: Credentials | None = None) -> list[str]:
        """Return the tags of the place that ``name`` is in, sorted; errors as :meth:`resolve`."""
        del credentials
        raise Unsupported(f"list tags: {name}: the transport {self.scheme} cannot list")

    async def referrers(
        self,
        name: N,
        digest: Digest,
        artifact_type: str = "",
        credentials: Credentials | None = None,
    ) -> list[Descriptor]:
        """Return the manifests that say of themselves that they are about ``digest``.

        Signatures and the like: a manifest with a ``subject`` (OCI distribution-spec "Listing
        Referrers"). ``artifact_type`` leaves out those of other types. Nothing that is returned
        is vouched for. A transport that knows of none returns none; errors as :meth:`resolve`.
        """
        del name, digest, artifact_type, credentials
        return []

    async def search(
        self, domain: str, term: str, limit: int, credentials: Credentials | None = None
    ) -> list[SearchResult]:
        """Return up to ``limit`` repositories that the registry ``domain`` finds for ``term``.

        Raises:
            Unsupported: the transport, or that registry, has no search.
            Errors as :meth:`resolve`.
        """
        del term, limit, credentials
        raise Unsupported(f"search: {domain}: the transport {self.scheme} has no search")

    async def login(self, domain: str, credentials: Credentials) -> str:
        """Try a login at the registry ``domain`` (``host[:port]``); errors as :meth:`resolve`.

        Returns:
            the identity token that stands for the login from now on; empty: there is none.
        """
        del credentials
        raise Unsupported(f"login: {domain}: the transport {self.scheme} has no logins")

    def reconfigure(self, options: Mapping[str, str]) -> None:
        """Take other options from now on; what is on its way goes on with the old ones.

        Raises:
            InvalidArgument: a wrong option; nothing has changed then.
        """
        del options

    async def close(self) -> None:
        """Free all connections. Idempotent."""
