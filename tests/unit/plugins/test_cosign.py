"""Signatures as cosign makes them: what is taken, and every way that is not to lead past them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from boxwood.drivers.extension import PublicKey, Verdict
from boxwood.errors import InvalidArgument, Unavailable
from boxwood.model.descriptor import OCI_INDEX
from boxwood.model.reference import Reference
from boxwood_plugins.extension import _cosign_claims as claims
from boxwood_plugins.extension import _cosign_keys, cosign
from tests.support.signed import IMAGE, INDEX, NAME, OTHER, Repository, key, refused, verify
from tests.support.signing import (
    ANNOTATION,
    ARTIFACT,
    Signer,
    payload,
    signature_layer,
    signature_manifest,
)


@pytest.mark.parametrize("kind", ["ec", "rsa", "ed"])
async def test_each_kind_of_key(
    repository: Repository, signers: dict[str, Signer], kind: str
) -> None:
    document = payload(NAME, IMAGE)
    repository.sign(IMAGE, (document, signers[kind].sign(document)))
    verdict = await verify(repository, key(signers["stranger"]), key(signers[kind]))
    assert verdict == Verdict(key=f"{kind}.pub", digest=IMAGE, identity=NAME)
    said = await refused(repository, key(signers["stranger"]))
    assert "stranger.pub" in said
    assert "another key" in said


async def test_no_key_no_question(repository: Repository) -> None:
    assert await verify(repository) is None
    assert repository.asked == []


async def test_an_index_is_signed_or_its_manifest(
    repository: Repository, signers: dict[str, Signer]
) -> None:
    whole, part = payload(NAME, INDEX), payload(NAME, IMAGE)
    repository.sign(IMAGE, (part, signers["ec"].sign(part)))
    verdict = await verify(repository, key(signers["ec"]), top=INDEX)
    assert verdict is not None
    assert verdict.digest == IMAGE
    repository.sign(INDEX, (whole, signers["ec"].sign(whole)))
    verdict = await verify(repository, key(signers["ec"]), top=INDEX)
    assert verdict is not None
    assert verdict.digest == INDEX


async def test_among_the_referrers(repository: Repository, signers: dict[str, Signer]) -> None:
    document = payload(NAME, IMAGE)
    repository.put(document)
    layer = signature_layer(document, signers["ec"].sign(document))
    found = repository.put(signature_manifest(layer), artifact=ARTIFACT)
    other = repository.put(b"{}", artifact="application/spdx+json")
    repository.about[IMAGE] = [other, found]
    assert await verify(repository, key(signers["ec"])) is not None
    assert other.digest not in repository.asked
    repository.about[IMAGE] = [other]
    assert "there is none" in await refused(repository, key(signers["ec"]))


async def test_none(repository: Repository, signers: dict[str, Signer]) -> None:
    """Stripped, or never made: there is no way back to pulling without."""
    assert (await refused(repository, key(signers["ec"]))).endswith("required: there is none")


async def test_of_another_image(repository: Repository, signers: dict[str, Signer]) -> None:
    """A good signature of another digest, put at this one's tag."""
    document = payload(NAME, OTHER)
    repository.sign(OTHER, (document, signers["ec"].sign(document)), at=IMAGE)
    assert OTHER in await refused(repository, key(signers["ec"]))


async def test_of_another_name(repository: Repository, signers: dict[str, Signer]) -> None:
    """The same digest, signed for another repository of the same owner."""
    document = payload("registry.example/team/test-only", IMAGE)
    repository.sign(IMAGE, (document, signers["ec"].sign(document)))
    assert "registry.example/team/test-only" in await refused(repository, key(signers["ec"]))


async def test_changed_after_it_was_signed(
    repository: Repository, signers: dict[str, Signer]
) -> None:
    signature = signers["ec"].sign(payload(NAME, OTHER))
    repository.sign(IMAGE, (payload(NAME, IMAGE), signature))
    assert "other bytes" in await refused(repository, key(signers["ec"]))


async def test_the_key_chooses_the_algorithm(
    repository: Repository, signers: dict[str, Signer]
) -> None:
    """Nothing that comes along makes one kind of signature pass as another."""
    document = payload(NAME, IMAGE)
    for made in ("ec", "rsa", "ed"):
        repository.sign(IMAGE, (document, signers[made].sign(document)))
        others = [key(signers[kind]) for kind in ("ec", "rsa", "ed") if kind != made]
        assert "another key" in await refused(repository, *others)
    for nothing in (b"", b"\0" * 64, b"\x30\x06\x02\x01\x00\x02\x01\x00"):
        repository.sign(IMAGE, (document, nothing))
        await refused(repository, *(key(signers[kind]) for kind in ("ec", "rsa", "ed")))


@pytest.mark.parametrize(
    "twist",
    [
        # Both readings of a document that says a thing twice.
        lambda text: text.replace('"critical": ', '"critical": {"image": 1}, "critical": '),
        lambda text: text.replace(f'"{IMAGE}"', f'"{OTHER}", "docker-manifest-digest": "{IMAGE}"'),
        lambda text: text.replace('"optional"', '"critical": {}, "optional"'),
        lambda text: text.replace("cosign container", "atomic container"),
        lambda text: text.replace(IMAGE, IMAGE.upper()),
        lambda text: text.replace(f'"{IMAGE}"', f'["{IMAGE}"]'),
        lambda text: text.replace(NAME, ""),
        lambda text: text.replace(NAME, "../" + NAME),
        lambda text: text[:-1],
        lambda _: "[" * 5000,
        lambda _: "7",
    ],
)  # fmt: skip
async def test_signed_but_no_payload(
    repository: Repository, signers: dict[str, Signer], twist: Callable[[str], str]
) -> None:
    """Signed by the right key, and yet it does not say what it must."""
    document = twist(payload(NAME, IMAGE).decode()).encode()
    repository.sign(IMAGE, (document, signers["ec"].sign(document)))
    await refused(repository, key(signers["ec"]))


async def test_each_defence_is_needed(
    repository: Repository, signers: dict[str, Signer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the attack of a test above succeeds: those tests try what they say."""
    owner, stranger = signers["ec"], signers["stranger"]
    good, replayed = payload(NAME, IMAGE), payload(NAME, OTHER)
    both = f'"{OTHER}", "docker-manifest-digest": "{IMAGE}"'
    twice = good.replace(f'"{IMAGE}"'.encode(), both.encode())
    huge = good + b" " * claims.PAYLOAD_LIMIT
    named: Callable[..., Reference] = lambda *_: Reference.parse(NAME)  # noqa: E731
    weaken: tuple[object, str, object]
    for document, signer, weaken in (
        (good, stranger, (_cosign_keys, "_check", lambda *_: lambda *_: True)),
        (replayed, owner, (claims, "_identity", named)),
        (twice, owner, (claims, "_once", dict)),
        (huge, owner, (claims, "PAYLOAD_LIMIT", 1 << 20)),
    ):
        repository.sign(IMAGE, (document, signer.sign(document)))
        await refused(repository, key(owner))
        with monkeypatch.context() as weak:
            weak.setattr(*weaken)
            assert await verify(repository, key(owner)) is not None
    elsewhere = payload("registry.example/else", IMAGE)
    repository.sign(IMAGE, (elsewhere, owner.sign(elsewhere)))
    await refused(repository, key(owner))
    assert await verify(repository, key(owner), names=lambda _: True) is not None


async def test_what_is_too_much(repository: Repository, signers: dict[str, Signer]) -> None:
    """A huge payload is not fetched, a huge list not walked."""
    good = payload(NAME, IMAGE)
    huge = good + b" " * claims.PAYLOAD_LIMIT
    repository.sign(IMAGE, (huge, signers["ec"].sign(huge)))
    assert "too large" in await refused(repository, key(signers["ec"]))
    bad = [(good, b"x")] * (cosign.AT_MOST + 1)
    repository.sign(IMAGE, *bad)
    repository.asked.clear()
    assert "more than 32" in await refused(repository, key(signers["ec"]))
    assert len(repository.asked) == 2 + cosign.AT_MOST


async def test_a_broken_one_hides_no_good_one(
    repository: Repository, signers: dict[str, Signer]
) -> None:
    good = payload(NAME, IMAGE)
    layers = [signature_layer(good, signers["ec"].sign(good)) for _ in range(4)]
    layers[0]["annotations"] = {ANNOTATION: "!"}
    layers[1]["annotations"] = None
    layers[2]["digest"] = OTHER
    repository.put(good)
    repository.tags[f"{IMAGE.replace(':', '-')}.sig"] = repository.put(signature_manifest(*layers))
    assert await verify(repository, key(signers["ec"])) is not None


async def test_no_manifest(repository: Repository, signers: dict[str, Signer]) -> None:
    tag = f"{IMAGE.replace(':', '-')}.sig"
    repository.tags[tag] = repository.put(b"no JSON")
    await refused(repository, key(signers["ec"]))
    repository.tags[tag] = repository.put(json.dumps({"manifests": []}).encode(), OCI_INDEX)
    assert OCI_INDEX in await refused(repository, key(signers["ec"]))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "one PEM block"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "not a public key"),
        (base64.b64encode(b"x" * 32), "one PEM block"),
    ],
)
def test_keys_that_are_none(data: bytes, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        _cosign_keys.read_keys([PublicKey("file", data)])


def test_keys_that_are_not_taken(signers: dict[str, Signer]) -> None:
    """Private ones, short ones, other curves, two in one file."""
    for kind in ("koblitz", "short"):
        with pytest.raises(InvalidArgument, match="not of a type"):
            _cosign_keys.read_keys([key(signers[kind])])
    private = PublicKey("file", signers["ec"].private.read_bytes())
    two = PublicKey("file", key(signers["ec"]).data + key(signers["rsa"]).data)
    for wrong in (private, two):
        with pytest.raises(InvalidArgument, match="not a public key in PEM"):
            _cosign_keys.read_keys([wrong])


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, signers: dict[str, Signer]) -> None:
    """It is optional: what needs it says how to get it."""
    monkeypatch.setitem(__import__("sys").modules, "cryptography.exceptions", None)
    with pytest.raises(Unavailable, match=r"boxwood\[signatures\]"):
        _cosign_keys.read_keys([key(signers["ec"])])


def test_it_costs_nothing_until_it_is_needed(tmp_path: Path) -> None:
    """The extension's import brings no cryptography along."""
    import subprocess
    import sys

    code = "import sys, boxwood_plugins.extension.cosign; print('cryptography' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
