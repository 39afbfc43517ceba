"""Signatures as cosign makes them, made with openssl(1): no code of ours, and no cosign.

Both forms: simple signing, and the bundle of sigstore that cosign 3 writes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.needs import need_program
from tests.support.scripted import (
    CONFIG,
    INDEX,
    MANIFEST,
    Handler,
    Scripted,
    described,
    digest,
)

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
ARTIFACT = "application/vnd.dev.cosign.artifact.sig.v1+json"
ANNOTATION = "dev.cosignproject.cosign/signature"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PSS = ("-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32")
IN_TOTO = "application/vnd.in-toto+json"
PREDICATE = "https://sigstore.dev/cosign/sign/v1"
EMPTY = "application/vnd.oci.empty.v1+json"
_MADE = {
    "ec": ("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
    "p384": ("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"),
    "p521": ("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"),
    "koblitz": ("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"),
    "rsa": ("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
    "short": ("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"),
    "ed": ("genpkey", "-algorithm", "ED25519"),
}


class Signer:
    """A key pair of a kind, in files of a folder."""

    def __init__(self, folder: Path, kind: str, name: str = "") -> None:
        self._kind = kind
        self.private = folder / f"{name or kind}.key"
        self.public = folder / f"{name or kind}.pub"
        _openssl(*_MADE[kind], "-out", self.private)
        _openssl("pkey", "-in", self.private, "-pubout", "-out", self.public)

    def sign(self, data: bytes, how: str = "-sha256", *more: str) -> bytes:
        """Return the signature of some bytes: of their hash, or, Ed25519, of they themselves."""
        file = self.private.with_suffix(".data")
        file.write_bytes(data)
        if self._kind == "ed":
            return _openssl("pkeyutl", "-sign", "-rawin", "-inkey", self.private, "-in", file)
        return _openssl("dgst", how, *more, "-sign", self.private, file)


def _openssl(*words: str | Path) -> bytes:
    command = [need_program("openssl"), *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def payload(name: str, signed: str, **critical: Any) -> bytes:
    """Return the document that is signed: that ``name`` has the digest ``signed``."""
    said = {
        "identity": {"docker-reference": name},
        "image": {"docker-manifest-digest": signed},
        "type": "cosign container image signature",
    }
    return json.dumps({"critical": said | critical, "optional": None}).encode()


def signature_layer(document: bytes, signature: bytes) -> dict[str, Any]:
    """Return the descriptor of a payload with its signature."""
    text = base64.b64encode(signature).decode()
    return described(SIMPLE_SIGNING, document, annotations={ANNOTATION: text})


def signature_manifest(*layers: dict[str, Any], **more: Any) -> bytes:
    """Return the manifest that carries signatures."""
    config = described(CONFIG, b"{}")
    made = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
    return json.dumps(made | more).encode()


def attach(registry: Scripted, signed: str, document: bytes, signature: bytes) -> None:
    """Put a signature where cosign puts it: at a tag that is made of the digest."""
    registry.blobs[digest(document)] = document
    manifest = signature_manifest(signature_layer(document, signature))
    registry.put(f"{signed.replace(':', '-')}.sig", MANIFEST, manifest)


def statement(signed: str, **more: Any) -> bytes:
    """Return what cosign 3 signs of an image: that ``signed`` is what its predicate says of it."""
    algorithm, _, name = signed.partition(":")
    made = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {algorithm: name}, "annotations": {}}],
        "predicateType": PREDICATE,
        "predicate": {},
    }
    return json.dumps(made | more).encode()


def encoded(kind: str, payload: bytes) -> bytes:
    """Return the bytes that DSSE has signed, written out here a second time."""
    name = kind.encode()
    pieces = [b"DSSEv1", str(len(name)).encode(), name, str(len(payload)).encode(), payload]
    return b" ".join(pieces)


def text(data: bytes) -> str:
    """Return base64."""
    return base64.b64encode(data).decode()


def bundle(**content: Any) -> bytes:
    """Return a bundle as cosign 3 writes it for a signature by key, with what it logs."""
    made = {
        "mediaType": BUNDLE,
        "verificationMaterial": {
            "publicKey": {"hint": text(b"h" * 32)},
            "tlogEntries": [{"logIndex": "7", "canonicalizedBody": text(b"{}")}],
        },
    }
    return json.dumps(made | content).encode()


def envelope(payload: bytes, *signatures: bytes, kind: str = IN_TOTO) -> dict[str, Any]:
    """Return a DSSE envelope."""
    found = [{"sig": text(one)} for one in signatures]
    return {"payload": text(payload), "payloadType": kind, "signatures": found}


def enveloped(signer: Signer, payload: bytes, *how: str, **more: Any) -> bytes:
    """Return a bundle of a statement."""
    signature = signer.sign(encoded(IN_TOTO, payload), *how)
    return bundle(dsseEnvelope=envelope(payload, signature), **more)


def message(signer: Signer, manifest: bytes, *how: str, **more: Any) -> bytes:
    """Return a bundle of a manifest's own signature."""
    said = {"algorithm": "SHA2_256", "digest": text(hashlib.sha256(manifest).digest())}
    signature = text(signer.sign(manifest, *how))
    return bundle(messageSignature={"messageDigest": said, "signature": signature, **more})


def bundle_manifest(content: bytes, kind: str = BUNDLE, **more: Any) -> bytes:
    """Return the manifest that refers a bundle to an image."""
    made = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": kind,
        "config": described(EMPTY, b"{}"),
        "layers": [described(kind, content)],
    }
    return json.dumps(made | more).encode()


def refer(registry: Scripted, tag: str, content: bytes, *, api: bool) -> None:
    """Put a bundle among the referrers of a tag's image: by the API, or by the tag without it."""
    signed = registry.manifests[tag]
    for blob in (content, b"{}"):
        registry.blobs[digest(blob)] = blob
    manifest = bundle_manifest(content, subject=described(*signed))
    registry.put(f"bundle-{digest(content)[7:19]}", MANIFEST, manifest)
    entry = described(MANIFEST, manifest, artifactType=BUNDLE)
    list_referrer(registry, digest(signed[1]), entry, api=api)


def list_referrer(registry: Scripted, about: str, entry: dict[str, Any], *, api: bool) -> None:
    """Say that something is about a digest: by the API, or by the tag without it."""
    found = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()
    if not api:
        registry.put(about.replace(":", "-"), INDEX, found)
        return

    def script(handler: Handler) -> bool:
        if f"/referrers/{about}" not in handler.path:
            return False
        handler.answer(200, found, Content_Type=INDEX)
        return True

    registry.script = script
