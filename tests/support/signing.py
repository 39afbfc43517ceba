"""Signatures as cosign makes them, made with openssl(1): no code of ours, and no cosign."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.needs import need_program
from tests.support.scripted import CONFIG, MANIFEST, Scripted, described, digest

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
ARTIFACT = "application/vnd.dev.cosign.artifact.sig.v1+json"
ANNOTATION = "dev.cosignproject.cosign/signature"
_MADE = {
    "ec": ("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
    "p384": ("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"),
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

    def sign(self, data: bytes) -> bytes:
        """Return the signature of some bytes: SHA-256 of them, or, Ed25519, they themselves."""
        file = self.private.with_suffix(".data")
        file.write_bytes(data)
        if self._kind == "ed":
            return _openssl("pkeyutl", "-sign", "-rawin", "-inkey", self.private, "-in", file)
        return _openssl("dgst", "-sha256", "-sign", self.private, file)


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
