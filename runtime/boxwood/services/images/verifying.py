"""Signatures of what is pulled: the policy's requirement, put before the extensions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxwood.drivers.documents import fetch_document
from boxwood.drivers.extension import PublicKey, Verdict, Verification
from boxwood.errors import InvalidArgument, NotFound, PermissionDenied, TooLarge, Unsupported
from boxwood.model.digest import Digest
from boxwood.model.policy import Requirement, matches

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from boxwood.drivers.registry import Credentials, RegistryTransport
    from boxwood.model.descriptor import Descriptor
    from boxwood.model.reference import Reference

KEY_LIMIT = 64 << 10
"""Bytes of a file with a public key."""


class Source:
    """An image's own place, as verifiers see it (drivers.extension.SignatureSource)."""

    def __init__(
        self, transport: RegistryTransport[Any], name: Hashable, credentials: Credentials | None
    ) -> None:
        self._transport, self._name, self._credentials = transport, name, credentials

    async def tagged(self, tag: str) -> Descriptor | None:
        """Return what a tag beside the image names; None: nothing."""
        try:
            name = self._transport.tagged(self._name, tag)
            return await self._transport.resolve(name, self._credentials)
        except (NotFound, Unsupported):
            return None

    async def referrers(self, digest: str, artifact_type: str) -> list[Descriptor]:
        """Return the manifests about a digest."""
        about = Digest.parse(digest)
        try:
            return await self._transport.referrers(
                self._name, about, artifact_type, self._credentials
            )
        except NotFound:
            return []

    async def document(self, descriptor: Descriptor, limit: int) -> bytes:
        """Return verified content; raises TooLarge, DataLoss."""
        if descriptor.size > limit:
            raise TooLarge(f"signature: {descriptor.digest}: larger than {limit} bytes")
        return await fetch_document(self._transport, self._name, descriptor, self._credentials)


def question(
    reference: Reference,
    top: Descriptor,
    manifest: Descriptor,
    source: Source,
    requirement: Requirement,
    keys: tuple[PublicKey, ...],
) -> Verification:
    """Return what extensions are asked; ``keys``, if any, in the place of those required.

    Raises:
        InvalidArgument: a key's file cannot be read.
    """

    def names(identity: Reference) -> bool:
        if requirement.signed_as:
            return matches(requirement.signed_as, identity)
        same_tag = identity.tag is None or reference.tag in (None, identity.tag)
        return identity.name == reference.name and same_tag

    return Verification(
        reference=reference,
        top=top,
        manifest=manifest,
        keys=keys or tuple(map(read_key, requirement.keys)),
        names=names,
        unnamed=not requirement.signed_as,
        source=source,
    )


async def verify(
    ask: Callable[[Verification], Awaitable[Verdict | None]] | None, image: Verification
) -> Verdict | None:
    """Ask the extensions about an image; None: no key is required and nobody says anything.

    Raises:
        PermissionDenied: it is not signed as it must be, or nothing here can tell.
        Unavailable, DataLoss, TooLarge, PluginError
    """
    verdict = await ask(image) if ask is not None else None
    if image.keys and verdict is None:
        raise PermissionDenied(
            f"pull {image.reference.familiar}: a signature is required, and no extension that "
            "could verify it is loaded (signature-verifier, plugins)"
        )
    return verdict


def read_key(file: str) -> PublicKey:
    """Return a key's file; raises InvalidArgument."""
    try:
        with Path(file).open("rb") as stream:
            data = stream.read(KEY_LIMIT + 1)
    except OSError as error:
        raise InvalidArgument(f"registry-policy: require: {file}: {error.strerror}") from error
    if len(data) > KEY_LIMIT:
        raise InvalidArgument(f"registry-policy: require: {file}: larger than {KEY_LIMIT} bytes")
    return PublicKey(file, data)
