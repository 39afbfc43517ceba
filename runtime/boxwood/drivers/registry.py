"""The contract of registry transports: where images come from and go to.

Terms
-----
scheme
    What stands before ``://`` or ``:`` in a reference and chooses the transport: ``docker``
    (the default: the distribution protocol over HTTPS), ``oci``, ``docker-archive``, ``dir``, ...
descriptor
    Media type, digest and size of a piece of content (OCI image-spec descriptor.md).
manifest
    The document that names an image's config and layers, or, as an index, several manifests.
blob
    Any other content: a config, a layer.
source
    Something a blob can be read from again from any offset, so that a push can be resumed.

Life
----
A transport is made once for each scheme in use and closed with the engine. A pull calls
``resolve`` for the manifest's descriptor, ``fetch`` for the manifest, then ``fetch`` for the
config and for each missing layer, several at once. A push offers blobs first, then manifests, the
index last, each by ``push``.

What must hold
--------------
* A transport verifies nothing and stores nothing: the core checks size and digest of each byte
  that ``fetch`` yields before anything becomes visible. It must never yield more than
  ``descriptor.size`` bytes.
* Digests and references that reach it are parsed; they are safe in a path or a URL.
* Credentials are given by the core for one realm. A transport never sends them anywhere else:
  not to another host by a redirect, not to a mirror (CVE-2020-15157, CVE-2024-3727 classes).
* Cancelling the task that awaits a method frees all it held.
* Each wait has a bound; a peer that stalls is Unavailable, not a hang.

Errors: NotFound (reference or blob), PermissionDenied and Unauthenticated (401, 403), Unavailable
(network, 429 and 5xx: may be tried again), InvalidArgument (the peer refuses the content),
DataLoss (the answer breaks the protocol), Unsupported (this transport cannot push).

Example::

    descriptor = await transport.resolve(reference)
    async for chunk in transport.fetch(reference, descriptor):
        hasher.update(chunk)
"""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator, Callable, Sequence
from typing import ClassVar

import msgspec

from boxwood.errors import Unsupported
from boxwood.model.descriptor import Descriptor
from boxwood.model.digest import Digest
from boxwood.model.reference import Reference


class Credentials(msgspec.Struct, frozen=True):
    """A login for one registry; ``identity_token`` replaces the password. Never logged."""

    username: str = ""
    password: str = ""
    identity_token: str = ""

    def __repr__(self) -> str:
        return "Credentials(...)"


class RegistryTransport(abc.ABC):
    """A way to registries of one scheme. The module's text is the contract."""

    scheme: ClassVar[str] = ""

    @abc.abstractmethod
    async def resolve(
        self, reference: Reference, credentials: Credentials | None = None
    ) -> Descriptor:
        """Return the descriptor of the manifest or index that ``reference`` names.

        Raises:
            NotFound, Unauthenticated, PermissionDenied, Unavailable, DataLoss
        """

    @abc.abstractmethod
    def fetch(
        self,
        reference: Reference,
        descriptor: Descriptor,
        offset: int = 0,
        credentials: Credentials | None = None,
    ) -> AsyncIterator[bytes]:
        """Yield the content from ``offset`` (bytes) on, in chunks of any size.

        A peer that cannot resume restarts inside: the transport skips what was not asked for.
        Closing the iterator early frees the connection. Errors as :meth:`resolve`.
        """

    async def push(
        self,
        reference: Reference,
        descriptor: Descriptor,
        source: Callable[[int], AsyncIterator[bytes]],
        credentials: Credentials | None = None,
        mount_from: Sequence[str] = (),
    ) -> None:
        """Store content under its digest; done at once when the peer has it. Idempotent.

        ``source(offset)`` opens the content at an offset in bytes. A descriptor whose media type
        is a manifest's or an index's is stored under the reference's tag as well. ``mount_from``
        names repositories of the same registry that are known to have the blob.

        Raises:
            Unsupported, Unauthenticated, PermissionDenied, Unavailable, InvalidArgument, DataLoss
        """
        del descriptor, source, credentials, mount_from
        raise Unsupported(f"push: {reference}: the transport {self.scheme} cannot push")

    async def tags(self, reference: Reference, credentials: Credentials | None = None) -> list[str]:
        """Return the tags of the repository, sorted; errors as :meth:`resolve`."""
        del credentials
        raise Unsupported(f"list tags: {reference}: the transport {self.scheme} cannot list")

    async def referrers(
        self,
        reference: Reference,
        digest: Digest,
        artifact_type: str = "",
        credentials: Credentials | None = None,
    ) -> list[Descriptor]:
        """Return the manifests that say of themselves that they are about ``digest``.

        Signatures and the like: a manifest with a ``subject`` (OCI distribution-spec "Listing
        Referrers"). ``artifact_type`` leaves out those of other types. Nothing that is returned
        is vouched for. A transport that knows of none returns none; errors as :meth:`resolve`.
        """
        del reference, digest, artifact_type, credentials
        return []

    async def login(self, domain: str, credentials: Credentials) -> None:
        """Try a login at the registry ``domain`` (``host[:port]``); errors as :meth:`resolve`."""
        del credentials
        raise Unsupported(f"login: {domain}: the transport {self.scheme} has no logins")

    async def close(self) -> None:
        """Free all connections. Idempotent."""
