"""What the policy says of pulls and pushes, with a real engine and a registry that is scripted."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.tar.archives import archive, entry
from tests.support.engine import Engine, running
from tests.support.http import Answer
from tests.support.needs import need_root
from tests.support.pulls import pull
from tests.support.registry import serving
from tests.support.scripted import INDEX, MANIFEST, Handler, Scripted, described, digest
from tests.support.signing import (
    ARTIFACT,
    BUNDLE,
    Signer,
    attach,
    bundle_manifest,
    enveloped,
    list_referrer,
    payload,
    refer,
    signature_layer,
    signature_manifest,
    statement,
)

pytestmark = pytest.mark.root

LAYER = archive(entry("file", data=b"signed"))
Serve = Callable[[str], Scripted]


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Signer]:
    """Two owners of keys."""
    folder = tmp_path_factory.mktemp("keys")
    return {name: Signer(folder, "ec", name) for name in ("owner", "stranger")}


@pytest.fixture(scope="module")
def house(signers: dict[str, Signer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine with rules; the registries of these tests are on the loopback, at any port."""
    need_root()
    key = str(signers["owner"].public)
    file = tmp_path_factory.mktemp("config") / "daemon.json"
    rules = [
        {"match": "*/denied", "pull": "deny", "push": "deny"},
        {"match": "*/read-only", "push": "deny"},
        {"match": "*/signed", "require": [key]},
        {"match": "*/copied", "require": [key], "signed-as": "upstream.example/team"},
        {"match": "*/keyless", "require": [f"{key}.nowhere"]},
    ]
    file.write_text(json.dumps({"registry-policy": rules}))
    with running(Engine("--config-file", str(file))) as engine:
        yield engine  # type: ignore[misc]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve the image under a name."""
    with contextlib.ExitStack() as stack:

        def start(name: str) -> Scripted:
            return stack.enter_context(Scripted(LAYER, name=name).serving())

        yield start


def error_of(answer: Answer) -> str:
    """Return the error of a pull that got as far as its first message."""
    assert answer.status == 200, answer.body
    last: dict[str, str] = json.loads(answer.body.splitlines()[-1])
    return last["error"]


def refusal(house: Engine, registry: Scripted) -> str:
    """Pull what must be refused: no layer and no config fetched, nothing to be seen."""
    before = house.api("GET", "/images/json?all=1").json()
    answer = pull(house, registry.image)
    said = error_of(answer) if answer.status == 200 else answer.message
    assert answer.status in (200, 403)
    assert house.api("GET", "/images/json?all=1").json() == before
    wanted = {digest(blob) for blob in (*registry.layers, registry.config)}
    assert not any(one in request for one in wanted for request in registry.requests)
    return said


def image_digest(registry: Scripted) -> str:
    return digest(registry.manifests["1"][1])


def sign(registry: Scripted, signer: Signer, name: str = "", **more: Any) -> None:
    signed = image_digest(registry)
    document = payload(name or f"{registry.address}/{registry.name}", signed, **more)
    attach(registry, signed, document, signer.sign(document))


def test_denied_before_anything_is_asked(house: Engine, serve: Serve) -> None:
    """403 and one sentence, and the registry hears nothing of it."""
    registry = serve("denied/app")
    name = registry.image
    answer = pull(house, name)
    assert answer.status == 403
    assert "denied by registry-policy of this engine (rule 1: */denied)" in answer.message
    house.docker("tag", "busybox", name)
    answer = house.api("POST", f"/images/{quote(name.rpartition(':')[0], safe='')}/push?tag=1")
    assert answer.status == 403
    assert answer.message.startswith(f"push {name.rpartition(':')[0]}: denied by registry-policy")
    shown = house.api("GET", f"/distribution/{quote(name, safe='')}/json")
    assert shown.status == 403
    assert registry.requests == []
    house.docker("rmi", name)


def test_pull_without_push(house: Engine, serve: Serve) -> None:
    registry = serve("read-only/app")
    assert b"Downloaded newer image" in pull(house, registry.image).body
    done = house.cli("push", registry.image, check=False)
    assert done.returncode == 1
    assert "denied by registry-policy of this engine (rule 2: */read-only)" in done.stderr
    house.docker("rmi", registry.image)


def test_signed(house: Engine, serve: Serve, signers: dict[str, Signer]) -> None:
    """Signed by the owner's key: pulled. By whom it was is shown by `image verify`."""
    registry = serve("signed/app")
    sign(registry, signers["owner"])
    assert b"Downloaded newer image" in pull(house, registry.image).body
    shown = house.cli("image", "verify", registry.image).stdout
    assert f"{registry.image}: verified" in shown
    assert f"key       {signers['owner'].public}" in shown
    assert f"digest    {image_digest(registry)}" in shown
    house.docker("rmi", registry.image)


def test_unsigned(house: Engine, serve: Serve) -> None:
    """No signature: no pull, neither by tag nor by digest."""
    registry = serve("signed/app")
    assert "there is none" in refusal(house, registry)
    name = registry.image.removesuffix(":1")
    answer = pull(house, f"{name}@{image_digest(registry)}")
    assert "there is none" in error_of(answer)


def test_signed_by_somebody_else(house: Engine, serve: Serve, signers: dict[str, Signer]) -> None:
    registry = serve("signed/app")
    sign(registry, signers["stranger"])
    assert "another key" in refusal(house, registry)
    file = str(signers["stranger"].public)
    assert f"key       {file}" in house.cli("image", "verify", "--key", file, registry.image).stdout
    done = house.cli("image", "verify", registry.image, check=False)
    assert done.returncode == 1
    assert "another key" in done.stderr


def test_signed_for_another_name(house: Engine, serve: Serve, signers: dict[str, Signer]) -> None:
    """Copied to another repository of the same registry, signature and all."""
    registry = serve("signed/app")
    sign(registry, signers["owner"], f"{registry.address}/signed/other")
    assert "signed/other" in refusal(house, registry)
    copied = serve("copied/app")
    assert "there is none" in refusal(house, copied)
    sign(copied, signers["owner"], "upstream.example/team/app")
    assert b"Downloaded newer image" in pull(house, copied.image).body
    house.docker("rmi", copied.image)


def test_another_image_at_the_same_name(
    house: Engine, serve: Serve, signers: dict[str, Signer]
) -> None:
    """The signature of what stood there before does not cover what stands there now."""
    registry = serve("signed/app")
    sign(registry, signers["owner"])
    before = image_digest(registry)
    kind, data = registry.manifests["1"]
    now = registry.put("1", kind, data.replace(b"{", b"{ ", 1))
    assert "there is none" in refusal(house, registry)
    tag = f"{before.replace(':', '-')}.sig"
    registry.put(f"{now.replace(':', '-')}.sig", *registry.manifests[tag])
    assert before in refusal(house, registry)


def test_an_index(house: Engine, serve: Serve, signers: dict[str, Signer]) -> None:
    """A signature of the index covers what is chosen in it."""
    registry = serve("signed/app")
    kind, data = registry.manifests["1"]
    platform = {"os": "linux", "architecture": "amd64"}
    entries = [described(kind, data, platform=platform)]
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    registry.put("1", INDEX, json.dumps(index).encode())
    assert "there is none" in refusal(house, registry)
    sign(registry, signers["owner"])
    assert b"Downloaded newer image" in pull(house, registry.image).body
    house.docker("rmi", registry.image)


def test_among_the_referrers(house: Engine, serve: Serve, signers: dict[str, Signer]) -> None:
    """Where a registry lists what is about an image, signatures are found there too."""
    registry = serve("signed/app")
    signed = image_digest(registry)
    document = payload(f"{registry.address}/signed/app", signed)
    registry.blobs[digest(document)] = document
    manifest = signature_manifest(
        signature_layer(document, signers["owner"].sign(document)),
        subject=described(*registry.manifests["1"]),
    )
    registry.put("any", MANIFEST, manifest)
    list_referrer(registry, signed, described(MANIFEST, manifest, artifactType=ARTIFACT), api=True)
    assert b"Downloaded newer image" in pull(house, registry.image).body
    house.docker("rmi", registry.image)


@pytest.mark.parametrize("api", [True, False])
def test_a_bundle(house: Engine, serve: Serve, signers: dict[str, Signer], api: bool) -> None:
    """As cosign 3 signs: listed by the registry, or by the tag that stands in for its list."""
    registry = serve("signed/app")
    signed = statement(image_digest(registry))
    refer(registry, "1", enveloped(signers["stranger"], signed), api=api)
    assert "another key" in refusal(house, registry)
    refer(registry, "1", enveloped(signers["owner"], signed), api=api)
    assert b"Downloaded newer image" in pull(house, registry.image).body
    shown = house.cli("image", "verify", registry.image).stdout
    assert "identity  none: the signature names no repository" in shown
    house.docker("rmi", registry.image)
    copied = serve("copied/app")
    refer(copied, "1", enveloped(signers["owner"], signed), api=api)
    assert "names no repository, and signed-as wants one" in refusal(house, copied)


def test_a_bundle_in_a_real_registry(
    house: Engine, serve: Serve, signers: dict[str, Signer]
) -> None:
    """Debian's docker-registry has no list of referrers: the tag in its place is made and found."""
    made = serve("signed/app")
    kind, data = made.manifests["1"]
    with serving() as registry:
        registry.put("signed/app", "1", kind, data, *made.blobs.values())
        name = f"{registry.address}/signed/app:1"
        assert "there is none" in error_of(pull(house, name))
        bundle = enveloped(signers["owner"], statement(digest(data)))
        manifest = bundle_manifest(bundle, subject=described(kind, data))
        registry.put("signed/app", digest(manifest), MANIFEST, manifest, bundle, b"{}")
        entries = [described(MANIFEST, manifest, artifactType=BUNDLE)]
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
        about = digest(data).replace(":", "-")
        registry.put("signed/app", about, INDEX, json.dumps(index).encode())
        assert b"Downloaded newer image" in pull(house, name).body
        house.docker("rmi", name)


def test_a_registry_that_fails_when_it_is_asked(
    house: Engine, serve: Serve, signers: dict[str, Signer]
) -> None:
    """No answer about signatures is no leave to go without."""
    registry = serve("signed/app")
    sign(registry, signers["owner"])

    def script(handler: Handler) -> bool:
        if ".sig" not in handler.path:
            return False
        handler.answer(400)
        return True

    registry.script = script
    assert "400" in error_of(pull(house, registry.image))
    assert registry.asked("GET", digest(registry.config)) == []


def test_a_key_that_is_not_there(house: Engine, serve: Serve) -> None:
    registry = serve("keyless/app")
    assert ".nowhere: No such file or directory" in error_of(pull(house, registry.image))


def test_nothing_is_required(house: Engine, serve: Serve) -> None:
    registry = serve("free/app")
    done = house.cli("image", "verify", registry.image, check=False)
    assert done.returncode == 1
    assert "requires no signature of it, and no key is given" in done.stderr
    assert registry.manifests["1"][0] == MANIFEST


def test_the_rules_are_read_again(
    make_engine: Callable[..., Engine], serve: Serve, tmp_path: Path
) -> None:
    """SIGHUP; and where no extension is loaded that could verify, a requirement refuses."""
    import os
    import signal

    from tests.support.needs import until

    file = tmp_path / "daemon.json"
    settings = {"signature-verifier": "", "registry-policy": [{"match": "*", "pull": "deny"}]}
    file.write_text(json.dumps(settings))
    house = make_engine("--config-file", str(file), busybox=False)
    registry = serve("x/y")
    assert "rule 1: *" in refusal(house, registry)
    settings["registry-policy"] = [{"match": "*", "require": ["/dev/null"]}]
    file.write_text(json.dumps(settings))
    os.kill(house.pid, signal.SIGHUP)
    until(lambda: "configuration reloaded" in house.log, "the configuration is read again")
    assert "no extension that could verify it is loaded" in refusal(house, registry)
