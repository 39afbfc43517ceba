"""Digests: the names of content (OCI image-spec, descriptor.md "Digests")."""

from __future__ import annotations

import hashlib
import re
from typing import Protocol

from boxwood.errors import InvalidArgument

_HEX_LENGTH = {"sha256": 64, "sha512": 128}
_GRAMMAR = re.compile(r"(sha256):([0-9a-f]{64})|(sha512):([0-9a-f]{128})", re.ASCII)


class Hasher(Protocol):
    """What of hashlib's objects is used."""

    def update(self, data: bytes, /) -> None:
        """Take more bytes in."""

    def hexdigest(self) -> str:
        """Return the digest so far, lower-case hex."""


class Digest(str):
    """``algorithm:hex``, checked. Equal to, hashed as and written like the plain string.

    Only :meth:`parse` and the makers below give one, so a ``Digest`` is always safe in a path or
    a URL (CVE-2024-3727 class: a digest that was never validated).
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Return ``text`` as a digest.

        Raises:
            InvalidArgument: another algorithm, upper case, a wrong length, anything around it.
        """
        if _GRAMMAR.fullmatch(text) is None:
            raise InvalidArgument(f"parse digest: {text[:140]!r}: invalid checksum digest format")
        return cls(text)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """Return the digest of ``data``."""
        return cls(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")

    @classmethod
    def from_hasher(cls, hasher: Hasher, algorithm: str = "sha256") -> Digest:
        """Return what ``hasher`` has computed, as a digest."""
        return cls(f"{algorithm}:{hasher.hexdigest()}")

    @property
    def algorithm(self) -> str:
        """``sha256`` or ``sha512``."""
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        """The lower-case hexadecimal part, 64 or 128 characters."""
        return self.partition(":")[2]

    @property
    def referrers_tag(self) -> str:
        """Where what is about it is listed without an API for that (OCI distribution-spec,
        "Referrers Tag Schema")."""
        return f"{self.algorithm[:32]}-{self.hex[:64]}"

    def hasher(self) -> Hasher:
        """Return a fresh hash object of this digest's algorithm."""
        return hashlib.new(self.algorithm)


def chain_id(parent: str | None, diff_id: str) -> Digest:
    """Return the chain ID of a layer on its parents (image-spec, config.md "Layer ChainID")."""
    if parent is None:
        return Digest.parse(diff_id)
    return Digest.of(f"{parent} {diff_id}".encode("ascii"))


def chain_ids(diff_ids: tuple[str, ...]) -> tuple[Digest, ...]:
    """Return the chain IDs of layers given bottom to top."""
    chain: list[Digest] = []
    for diff_id in diff_ids:
        chain.append(chain_id(chain[-1] if chain else None, diff_id))
    return tuple(chain)
