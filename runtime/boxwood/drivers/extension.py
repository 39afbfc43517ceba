"""The extension contract: plugins that watch the engine or change what it does.

An extension is enabled by its entry point's name in the configuration (``plugins``). Its hooks
are in :class:`boxwood.drivers.hookspecs.ExtensionHooks`; the values that they meet are here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from boxwood.model.descriptor import Descriptor
from boxwood.model.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Peer(msgspec.Struct, frozen=True):
    """Who asks: ids of a unix socket's peer, or the subject of a TLS client's certificate."""

    uid: int = -1
    gid: int = -1
    pid: int = -1
    subject: str = ""


class AdmissionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request after it was parsed: what is decided on is what will be done.

    Attributes:
        action: ``container.create``, ``container.exec``, ``volume.remove``, ...
        object: the name or id that it is about, as the client gave it.
        value: the decoded body (a ``CreateRequest``, ...), None where there is none.
    """

    action: str
    object: str = ""
    peer: Peer = Peer()
    value: Any = None


class PublicKey(msgspec.Struct, frozen=True):
    """A key that may have signed: what to call it (its file), and its bytes (PEM)."""

    name: str
    data: bytes


class SignatureSource(Protocol):
    """What the image's own repository has of signatures. Mirrors are asked as in a pull."""

    async def tagged(self, tag: str) -> Descriptor | None:
        """Return the descriptor of the manifest ``tag``; None: there is none."""

    async def referrers(self, digest: str, artifact_type: str) -> list[Descriptor]:
        """Return the manifests that have ``digest`` as their subject; empty where there are none.

        ``artifact_type`` empty: of any. A registry may send others than were asked for.
        """

    async def document(self, descriptor: Descriptor, limit: int) -> bytes:
        """Return content whose digest was checked; TooLarge beyond ``limit`` bytes."""


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """An image that is about to be pulled, before anything of it but its manifest was fetched.

    Attributes:
        reference: what is pulled, as it was asked for.
        top: what the reference led to: a manifest, or an index.
        manifest: the manifest that was chosen; ``top`` itself where that is no index.
        keys: those of which one must have signed; empty: the configuration asks for none.
        names: says whether a signature for this repository's name is one for what is pulled.
        unnamed: a signature that names no repository will do (those of cosign 3 do not).
        source: where signatures are.
    """

    reference: Reference
    top: Descriptor
    manifest: Descriptor
    keys: tuple[PublicKey, ...]
    names: Callable[[Reference], bool]
    source: SignatureSource
    unnamed: bool = False


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """That a signature holds: by which of the keys, for which digest, under which name (or "")."""

    key: str
    digest: str
    identity: str


class RouteTable(Protocol):
    """Where an extension adds routes."""

    def add(
        self, method: str, path: str, handler: Callable[[Any], Awaitable[Any]]
    ) -> None:  # pragma: no cover - a protocol
        """Serve ``path`` (below ``/ext/<plugin>/``) with ``handler``.

        A ``{name}`` in the path is a variable. The handler is a coroutine function; it gets the
        call (``params``: the variables, ``text(name)``: a query field, ``request.content``: the
        body) and returns what is sent as JSON.

        Raises:
            AlreadyExists: the path is served already.
            InvalidArgument: it is not below ``/ext/<plugin>/``.
        """


class Metrics(Protocol):
    """Where an extension adds what it measures."""

    def gauge(self, name: str, doc: str, read: Callable[[], float]) -> None:
        """Add a value that is read when somebody asks."""

    def counter(self, name: str, doc: str, read: Callable[[], float]) -> None:
        """Add a value that only grows."""
