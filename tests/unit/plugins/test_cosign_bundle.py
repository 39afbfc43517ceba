"""Sigstore's bundles, as cosign 3 makes them: what is taken, and what is not to lead past them.

The vectors are openssl's; the bytes that DSSE has signed are written out in tests/support/signing.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from boxwood.drivers.extension import Verdict
from boxwood.model.reference import Reference
from boxwood_plugins.extension import _cosign_bundle as bundles
from boxwood_plugins.extension import _cosign_claims as claims
from boxwood_plugins.extension import _cosign_keys as keys
from boxwood_plugins.extension import cosign
from tests.support.signed import IMAGE, INDEX, NAME, OTHER, Repository, key, refused, verify
from tests.support.signing import (
    IN_TOTO,
    PREDICATE,
    PSS,
    Signer,
    bundle,
    encoded,
    envelope,
    enveloped,
    message,
    statement,
    text,
)

Signers = dict[str, Signer]
OLD = "application/vnd.dev.sigstore.bundle+json;version=0.1"
SLSA = "https://slsa.dev/provenance/v1"
SUBJECT = {"digest": {"sha256": IMAGE[7:]}}
HOW: dict[str, tuple[str, tuple[str, ...]]] = {
    "P-256": ("ec", ()),
    "P-384": ("p384", ("-sha384",)),
    "P-384 as cosign 2 had it": ("p384", ("-sha256",)),
    "P-521": ("p521", ("-sha512",)),
    "RSA": ("rsa", ()),
    "RSA-PSS": ("rsa", ("-sha256", *PSS)),
    "Ed25519": ("ed", ()),
}


def test_the_encoding_is_what_its_document_shows() -> None:
    """DSSE protocol.md has this example; ours and the tests' own writing of it agree."""
    wanted = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    for made in (bundles.encoded, encoded):
        assert made("http://example.com/HelloWorld", b"hello world") == wanted


@pytest.mark.parametrize("kind", HOW)
@pytest.mark.parametrize("form", ["statement", "message"])
async def test_each_kind_of_key(
    repository: Repository, signers: Signers, kind: str, form: str
) -> None:
    """A statement, or the manifest itself, signed by the algorithms that go with a key."""
    name, how = HOW[kind]
    repository.put(b"image")
    signer = signers[name]
    made = enveloped(signer, statement(IMAGE), *how)
    repository.refer(IMAGE, made if form == "statement" else message(signer, b"image", *how))
    verdict = await verify(repository, key(signers["stranger"]), key(signer))
    assert verdict == Verdict(key=f"{name}.pub", digest=IMAGE, identity="")
    assert "another key" in await refused(repository, key(signers["stranger"]))


@pytest.mark.parametrize("kind", sorted(bundles.BUNDLES))
async def test_each_version(repository: Repository, signers: Signers, kind: str) -> None:
    made = enveloped(signers["ec"], statement(IMAGE), mediaType=kind)
    repository.refer(IMAGE, made, kind=kind)
    assert await verify(repository, key(signers["ec"])) is not None


async def test_the_older_statement(repository: Repository, signers: Signers) -> None:
    made = statement(IMAGE, _type="https://in-toto.io/Statement/v0.1")
    repository.refer(IMAGE, enveloped(signers["ec"], made))
    assert await verify(repository, key(signers["ec"])) is not None


async def test_an_index_is_signed_or_its_manifest(repository: Repository, signers: Signers) -> None:
    """Each is enough; what was signed is what the verdict says."""
    repository.put(b"image")
    repository.put(b"index")
    repository.refer(IMAGE, message(signers["ec"], b"image"))
    verdict = await verify(repository, key(signers["ec"]), top=INDEX)
    assert verdict == Verdict(key="ec.pub", digest=IMAGE, identity="")
    repository.refer(INDEX, enveloped(signers["ec"], statement(INDEX)))
    verdict = await verify(repository, key(signers["ec"]), top=INDEX)
    assert verdict == Verdict(key="ec.pub", digest=INDEX, identity="")


async def test_names(repository: Repository, signers: Signers) -> None:
    """A subject may bear a name, which counts; without one, it depends on what is asked."""
    repository.refer(IMAGE, enveloped(signers["ec"], statement(IMAGE)))
    assert "names no repository" in await refused(repository, key(signers["ec"]), unnamed=False)
    repository.about.clear()
    elsewhere = statement(IMAGE, subject=[SUBJECT | {"name": "registry.example/else"}])
    repository.refer(IMAGE, enveloped(signers["ec"], elsewhere))
    assert "registry.example/else" in await refused(repository, key(signers["ec"]))
    here = statement(IMAGE, subject=[SUBJECT | {"name": NAME}])
    repository.refer(IMAGE, enveloped(signers["ec"], here))
    verdict = await verify(repository, key(signers["ec"]), unnamed=False)
    assert verdict == Verdict(key="ec.pub", digest=IMAGE, identity=NAME)


async def test_the_log_does_not_count(repository: Repository, signers: Signers) -> None:
    """Neither entries of a transparency log nor a hint change anything, whatever they say."""
    material = {"publicKey": {"hint": "another"}, "tlogEntries": [{"kind": "nonsense"}] * 3}
    signed = enveloped(signers["ec"], statement(IMAGE), verificationMaterial=material)
    repository.refer(IMAGE, signed)
    assert await verify(repository, key(signers["ec"])) is not None


async def test_signed_by_certificate(repository: Repository, signers: Signers) -> None:
    """Keyless: named as what it is, in a sentence that says what to do."""
    for kind in ("certificate", "x509CertificateChain"):
        material: dict[str, Any] = {kind: {}, "publicKey": {}}
        made = enveloped(signers["ec"], statement(IMAGE), verificationMaterial=material)
        repository.about.clear()
        repository.refer(IMAGE, made)
        said = await refused(repository, key(signers["ec"]))
        assert "by certificate (keyless), which is not supported: sign with --key" in said


async def test_an_attestation_is_no_signature(repository: Repository, signers: Signers) -> None:
    """By the right key, about the right digest; said by the referrer or seen in the statement."""
    made = enveloped(signers["ec"], statement(IMAGE, predicateType=SLSA))
    repository.refer(IMAGE, made)
    said = await refused(repository, key(signers["ec"]))
    assert f"an attestation ('{SLSA}') and no signature of the image" in said
    repository.about.clear()
    repository.asked.clear()
    repository.refer(IMAGE, made, **{bundles.PREDICATE_ANNOTATION: SLSA})
    assert f"an attestation ('{SLSA}')" in await refused(repository, key(signers["ec"]))
    assert len(repository.asked) == 1  # the tag
    for _ in range(cosign.AT_MOST):
        repository.refer(IMAGE, made, **{bundles.PREDICATE_ANNOTATION: SLSA})
    good = enveloped(signers["ec"], statement(IMAGE))
    repository.refer(IMAGE, good, **{bundles.PREDICATE_ANNOTATION: PREDICATE})
    assert await verify(repository, key(signers["ec"])) is not None


# Attacks: each is signed, or made, in a way that one defence alone stops

Attack = tuple[Callable[[Signers], bytes], str, tuple[Any, str, Any]]


def _reader(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], Any]:
    """Return a weaker reader: documents are changed into what a defence wants to see."""

    def read(data: bytes) -> Any:
        found = json.loads(data)
        change(found)
        return found

    return read


def _lax(text: str, _: str) -> bytes:
    return base64.b64decode(text + "==", altchars=b"-_" if "-" in text or "_" in text else None)


def _twice(owner: Signer) -> bytes:
    both = f'"sha256": "{OTHER[7:]}", "sha256": "{IMAGE[7:]}"'
    return enveloped(
        owner, statement(IMAGE).replace(f'"sha256": "{IMAGE[7:]}"'.encode(), both.encode())
    )


def _with_type(owner: Signer, kind: str) -> bytes:
    payload = statement(IMAGE)
    return bundle(dsseEnvelope=envelope(payload, owner.sign(encoded(kind, payload)), kind=kind))


def _changed_type(owner: Signer) -> bytes:
    """Signed as some other type of document, shown as a statement."""
    payload = statement(IMAGE)
    signature = owner.sign(encoded("application/json", payload))
    return bundle(dsseEnvelope=envelope(payload, signature))


def _first(found: dict[str, Any]) -> None:
    if "subject" in found:
        found["subject"] = [one for one in found["subject"] if one == SUBJECT]


def _one(found: dict[str, Any]) -> None:
    if "dsseEnvelope" in found:
        found["dsseEnvelope"]["signatures"] = found["dsseEnvelope"]["signatures"][:1]


def _retyped(found: dict[str, Any]) -> None:
    if "dsseEnvelope" in found:
        found["dsseEnvelope"]["payloadType"] = IN_TOTO


def _unpadded(owner: Signer) -> bytes:
    while (signature := text(owner.sign(encoded(IN_TOTO, statement(IMAGE)))))[-1] != "=":
        continue
    made = envelope(statement(IMAGE), b"")
    made["signatures"][0]["sig"] = signature.rstrip("=")
    return bundle(dsseEnvelope=made)


def _of_another(found: dict[str, Any], _: bytes) -> claims.Claim:
    return claims.Claim(b"other", base64.b64decode(found["signature"]), lambda: None)


ATTACKS: dict[str, Attack] = {
    "by another key": (
        lambda its: enveloped(its["stranger"], statement(IMAGE)),
        "another key",
        (keys, "_check", lambda *_: lambda *_: True),
    ),
    "for another digest": (
        lambda its: enveloped(its["ec"], statement(OTHER)),
        OTHER[7:],
        (bundles, "_subject", lambda *_: None),
    ),
    "an attestation": (
        lambda its: enveloped(its["ec"], statement(IMAGE, predicateType=SLSA)),
        "an attestation",
        (bundles, "PREDICATE", SLSA),
    ),
    "a statement of another type": (
        lambda its: enveloped(its["ec"], statement(IMAGE, _type="https://in-toto.io/Link/v1")),
        "a statement of the type",
        (bundles, "STATEMENTS", {"https://in-toto.io/Link/v1"}),
    ),
    "a payload of another type": (
        lambda its: _with_type(its["ec"], "application/json"),
        "an envelope of the type",
        (bundles, "PAYLOAD_TYPE", "application/json"),
    ),
    "a type changed after it was signed": (
        lambda its: _changed_type(its["ec"]),
        "another key, or of other bytes",
        (bundles, "encoded", lambda _, payload: encoded("application/json", payload)),
    ),
    "a payload that was signed bare": (
        lambda its: bundle(
            dsseEnvelope=envelope(statement(IMAGE), its["ec"].sign(statement(IMAGE)))
        ),
        "another key, or of other bytes",
        (bundles, "encoded", lambda _, payload: payload),
    ),
    "two subjects": (
        lambda its: enveloped(
            its["ec"], statement(IMAGE, subject=[{"digest": {"sha256": OTHER[7:]}}, SUBJECT])
        ),
        "other than one subject",
        (bundles, "document", _reader(_first)),
    ),
    "a digest said twice": (
        lambda its: _twice(its["ec"]),
        "a key stands in it twice",
        (claims, "_once", dict),
    ),
    "two signatures": (
        lambda its: bundle(
            dsseEnvelope=envelope(
                statement(IMAGE), its["ec"].sign(encoded(IN_TOTO, statement(IMAGE))), b"x"
            )
        ),
        "other than one signature",
        (bundles, "document", _reader(_one)),
    ),
    "a huge one": (
        lambda its: enveloped(its["ec"], statement(IMAGE)) + b" " * bundles.BUNDLE_LIMIT,
        "too large",
        (bundles, "BUNDLE_LIMIT", 1 << 20),
    ),
    "base64 without its padding": (
        lambda its: _unpadded(its["ec"]),
        "not base64",
        (claims, "unspelled", _lax),
    ),
    "another manifest": (
        lambda its: message(its["ec"], b"other"),
        "for another digest",
        (bundles, "_message", _of_another),
    ),
    "another version": (
        lambda its: enveloped(its["ec"], statement(IMAGE), mediaType=f"{OLD}0"),
        "a bundle of the type",
        (bundles, "BUNDLES", {*bundles.BUNDLES, f"{OLD}0"}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
async def test_attacks(
    repository: Repository, signers: Signers, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is refused for its own reason, and would be taken without its defence."""
    made, reason, weaken = ATTACKS[name]
    repository.put(b"image")
    repository.put(b"other")
    repository.refer(IMAGE, made(signers))
    assert reason in await refused(repository, key(signers["ec"]))
    monkeypatch.setattr(*weaken)
    assert await verify(repository, key(signers["ec"])) is not None


async def test_a_name_is_needed_where_it_is_asked_for(
    repository: Repository, signers: Signers
) -> None:
    """The same digest, signed for another repository of the owner by a statement with a name."""
    named = statement(IMAGE, subject=[SUBJECT | {"name": "registry.example/team/test-only"}])
    repository.refer(IMAGE, enveloped(signers["ec"], named))
    await refused(repository, key(signers["ec"]))
    every: Callable[[Reference], bool] = lambda _: True  # noqa: E731 - the weakened rule
    assert await verify(repository, key(signers["ec"]), names=every) is not None


@pytest.mark.parametrize(
    "data",
    [
        b"", b"7", b"[]", b"{", b"[" * 5000, b'{"mediaType": 7}', b"\xff",
        bundle(), bundle(dsseEnvelope=7), bundle(messageSignature=[]),
        bundle(dsseEnvelope={}, messageSignature={}), bundle(messageSignature={}),
        bundle(dsseEnvelope={"payloadType": IN_TOTO, "payload": 7, "signatures": []}),
        bundle(dsseEnvelope={"payloadType": IN_TOTO, "payload": "", "signatures": [7]}),
        bundle(dsseEnvelope=envelope(b"{}", b"")), bundle(dsseEnvelope=envelope(b"{}", b"x")),
        bundle(messageSignature={"signature": "!"}), bundle(messageSignature={"signature": 7}),
        bundle(messageSignature={"signature": "eA==", "messageDigest": 7}),
        bundle(messageSignature={"signature": "e" * 5000}),
        bundle(verificationMaterial=7), bundle(verificationMaterial={}),
        bundle(verificationMaterial={"publicKey": 7}),
    ],
)  # fmt: skip
async def test_no_bundle(repository: Repository, signers: Signers, data: bytes) -> None:
    """Whatever is there in a bundle's place: refused, and the good one beside it is found."""
    repository.put(b"image")
    repository.refer(IMAGE, data)
    await refused(repository, key(signers["ec"]))
    repository.refer(IMAGE, enveloped(signers["ec"], statement(IMAGE)))
    assert await verify(repository, key(signers["ec"])) is not None


@pytest.mark.parametrize(
    "said",
    [b"", b"7", b"[]", b"{}", statement(IMAGE, subject=[]), statement(IMAGE, subject=[7]),
     statement(IMAGE, subject=[{}]), statement(IMAGE, subject={"digest": 7}),
     statement(IMAGE, subject=[SUBJECT | {"name": 7}]),
     statement(IMAGE, subject=[SUBJECT | {"name": "../x"}]),
     statement(IMAGE, subject=[{"digest": {"sha256": IMAGE[7:].upper()}}]),
     statement(IMAGE, subject=[{"digest": {"sha256": IMAGE[7:], "sha1": "00"}}]),
     statement(IMAGE, subject=[{"digest": {"sha512": IMAGE[7:]}}]),
     statement(IMAGE, predicateType=None), statement(IMAGE, predicateType=[PREDICATE])],
)  # fmt: skip
async def test_signed_but_no_statement(
    repository: Repository, signers: Signers, said: bytes
) -> None:
    """Signed by the right key, and yet it does not say what it must."""
    repository.refer(IMAGE, enveloped(signers["ec"], said))
    await refused(repository, key(signers["ec"]))


async def test_what_is_too_much(repository: Repository, signers: Signers) -> None:
    """A long list is not walked, a long complaint is cut."""
    for number in range(cosign.AT_MOST + 1):
        repository.refer(IMAGE, bundle(mediaType=f"{OLD}{number}"))
    said = await refused(repository, key(signers["ec"]))
    assert len(repository.asked) == 1 + 2 * cosign.AT_MOST
    assert said.count(OLD) == cosign.REASONS
