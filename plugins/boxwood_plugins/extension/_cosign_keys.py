"""Public keys, and what checks signatures by them.

Sources: sigstore's registry of algorithms (which hash goes with which key); cosign 2 signed with
SHA-256 whatever the curve.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from boxwood.drivers.extension import PublicKey
from boxwood.errors import InvalidArgument, Unavailable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.padding import AsymmetricPadding
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

RSA_BITS = 2048
"""Shorter ones can be factored."""

Check = Callable[[bytes, bytes], bool]
"""Whether a signature (first) is a key's of some bytes (second)."""
Verify = Callable[[bytes, bytes], None]
"""The same; raises InvalidSignature."""


def read_keys(keys: Sequence[PublicKey]) -> list[tuple[str, Check]]:
    """Return for each key its name and what checks signatures by it.

    The type of the key alone chooses the algorithms: nothing that a registry sends does.

    Raises:
        InvalidArgument: not a public key, or of a type that cosign does not sign with.
        Unavailable: the package cryptography is missing.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise Unavailable(
            "verify signatures: the Python package cryptography is missing: "
            "pip install 'boxwood[signatures]'"
        ) from error
    found = []
    for key in keys:
        try:
            if key.data.count(b"-----BEGIN") != 1:
                raise ValueError("one PEM block is expected")
            loaded = load_pem_public_key(key.data)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise InvalidArgument(f"key {key.name}: not a public key in PEM: {error}") from error
        found.append((key.name, _check(key.name, loaded)))
    return found


def _check(name: str, key: PublicKeyTypes) -> Check:
    from cryptography.exceptions import InvalidSignature

    ways = _ways(key)
    if not ways:
        raise InvalidArgument(
            f"key {name}: not of a type that is used: ECDSA on P-256, P-384 or P-521, RSA of "
            f"{RSA_BITS} bits or more, Ed25519"
        )

    def made(signature: bytes, data: bytes) -> bool:
        for verify in ways:
            try:
                verify(signature, data)
            except InvalidSignature:
                continue
            return True
        return False

    return made


def _ways(key: PublicKeyTypes) -> list[Verify]:
    """Return the algorithms that a key signs by; none: it is of another type."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
    from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512

    if isinstance(key, ed25519.Ed25519PublicKey):
        return [key.verify]
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= RSA_BITS:
        probabilistic = padding.PSS(padding.MGF1(SHA256()), padding.PSS.AUTO)
        return [_by_rsa(key, padding.PKCS1v15()), _by_rsa(key, probabilistic)]
    if isinstance(key, ec.EllipticCurvePublicKey):
        hashes = {
            "secp256r1": (SHA256(),),
            "secp384r1": (SHA384(), SHA256()),
            "secp521r1": (SHA512(), SHA256()),
        }
        return [_by_curve(key, ec.ECDSA(one)) for one in hashes.get(key.curve.name, ())]
    return []


def _by_rsa(key: RSAPublicKey, padded: AsymmetricPadding) -> Verify:
    from cryptography.hazmat.primitives.hashes import SHA256

    return lambda signature, data: key.verify(signature, data, padded, SHA256())


def _by_curve(key: EllipticCurvePublicKey, algorithm: ECDSA) -> Verify:
    return lambda signature, data: key.verify(signature, data, algorithm)
