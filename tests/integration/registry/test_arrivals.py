"""What the policy says of images that get a name without coming from its registry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import Engine, running
from tests.support.http import Answer
from tests.support.needs import need_root
from tests.support.scripted import Handler, Scripted, digest
from tests.support.signing import Signer, attach, enveloped, payload, refer, statement

pytestmark = pytest.mark.root

SIGNED, DENIED = "x.example/signed/app:1", "x.example/denied/app:1"
CARRIED, FIXED, FREE = "x.example/carried/app:1", "x.example/fixed/app:1", "x.example/free/app:1"


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    """Whose signature is required."""
    return Signer(tmp_path_factory.mktemp("keys"), "ec", "owner")


@pytest.fixture(scope="module")
def house(owner: Signer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine with rules."""
    need_root()
    file = tmp_path_factory.mktemp("config") / "daemon.json"
    rules = [
        {"match": "*/denied", "pull": "deny"},
        {"match": "*/carried", "load": "allow"},
        {"match": "*/fixed", "load": "deny", "tag": "deny"},
        {"match": "*/free", "require": []},
        {"match": "x.example", "require": [str(owner.public)]},
        {"match": "*/signed", "require": [str(owner.public)]},
    ]
    file.write_text(json.dumps({"registry-policy": rules}))
    with running(Engine("--config-file", str(file))) as engine:
        yield engine  # type: ignore[misc]


def images(house: Engine) -> object:
    return house.api("GET", "/images/json?all=1").json()


def refusal(house: Engine, *words: str) -> str:
    """Run a command that must fail and change nothing; returns what it says."""
    before = images(house)
    done = house.cli(*words, check=False)
    assert done.returncode == 1
    assert images(house) == before
    return done.stderr


def archive_of(house: Engine, path: Path, *names: str) -> Path:
    """Save busybox under names that it does not have afterwards (CLI: tag and rmi)."""
    for name in names:
        house.cli("tag", "busybox", name)
    house.cli("save", "-o", str(path), *names)
    house.cli("rmi", *names)
    return path


def test_an_archive(house: Engine, tmp_path: Path) -> None:
    """A name that an archive says is no way around a signature; one image of it stops all."""
    file = archive_of(house, tmp_path / "all.tar", FREE, SIGNED)
    said = refusal(house, "load", "-i", str(file))
    assert "load x.example/signed/app: registry-policy of this engine requires a signature" in said
    assert "an archive brings none" in said
    file = archive_of(house, tmp_path / "denied.tar", DENIED)
    assert "load x.example/denied/app: denied by" in refusal(house, "load", "-i", str(file))
    file = archive_of(house, tmp_path / "free.tar", FREE, CARRIED)
    house.cli("load", "-i", str(file))
    house.cli("rmi", FREE, CARRIED)


def test_what_has_the_name_keeps_it(house: Engine, tmp_path: Path) -> None:
    """Saved here and loaded again: nothing becomes anything."""
    file = archive_of(house, tmp_path / "a.tar", SIGNED)
    house.cli("tag", "busybox", SIGNED)
    assert f"Loaded image: {SIGNED}" in house.cli("load", "-i", str(file)).stdout
    house.cli("rmi", SIGNED)


def imported(house: Engine, name: str) -> Answer:
    return house.api("POST", f"/images/create?fromSrc=-&repo={name}", body=b"\0" * 1024)


def test_an_import(house: Engine) -> None:
    for name, words in ((SIGNED, "the tar of a file tree bears none"), (DENIED, "denied by")):
        before = images(house)
        answer = imported(house, name)
        assert words in (answer.message if answer.status == 403 else answer.body.decode())
        assert images(house) == before
    assert imported(house, CARRIED).status == 200
    house.cli("rmi", CARRIED)


def test_a_name_given_here(house: Engine) -> None:
    """To tag and to commit is to publish: allowed, but where a rule says not."""
    house.cli("tag", "busybox", SIGNED)
    house.cli("rmi", SIGNED)
    assert "tag x.example/fixed/app: denied by" in refusal(house, "tag", "busybox", FIXED)
    made = house.cli("create", "busybox").stdout.strip()
    assert "tag x.example/fixed/app: denied by" in refusal(house, "commit", made, FIXED)
    house.cli("rm", made)


@pytest.mark.parametrize("scheme", ["oci", "docker-archive"])
def test_a_place_of_files(house: Engine, tmp_path: Path, scheme: str) -> None:
    """Called so by the place itself, or by who pulls: neither is a way around."""
    place = f"{scheme}:{tmp_path}/place"
    house.cli("tag", "busybox", SIGNED)
    house.cli("push", SIGNED, f"{place}:{SIGNED}")
    house.cli("rmi", SIGNED)
    said = refusal(house, "pull", f"{place}:{SIGNED}")
    assert "owner.pub is required: there is none" in said
    for name, words in ((SIGNED, "there is none"), (DENIED, "denied by"), (FIXED, "denied by")):
        assert words in refusal(house, "pull", "--name", name, f"{place}:{SIGNED}")
    house.cli("pull", "--name", CARRIED, f"{place}:{SIGNED}")
    house.cli("rmi", CARRIED)


def test_another_name_s_registry(house: Engine, owner: Signer) -> None:
    """What comes from elsewhere does not get a name that requires a signature, unless it has it."""
    with Scripted(name="other/app").serving() as registry:
        said = refusal(house, "pull", "--name", SIGNED, f"docker://{registry.image}")
        assert "there is none" in said
        signed = digest(registry.manifests["1"][1])
        document = payload("x.example/signed/app", signed)
        attach(registry, signed, document, owner.sign(document))
        house.cli("pull", "--name", SIGNED, f"docker://{registry.image}")
    house.cli("rmi", SIGNED)


@pytest.mark.parametrize("api", [True, False])
def test_a_layout_with_its_signatures(
    house: Engine, owner: Signer, tmp_path: Path, api: bool
) -> None:
    """Mirrored to a directory with what is about it, an image is verified from there."""
    layout = f"oci:{tmp_path}/layout"
    with Scripted(name="signed/app").serving() as registry:
        signed = digest(registry.manifests["1"][1])
        refer(registry, "1", enveloped(owner, statement(signed)), api=api)
        tags = {"tags": ["1", *(tag for tag in registry.manifests if tag.startswith("sha256-"))]}
        before = registry.script

        def script(handler: Handler) -> bool:
            if not handler.path.endswith("/tags/list?n=1000"):
                return before(handler)
            handler.answer(200, json.dumps(tags).encode())
            return True

        registry.script = script
        house.cli(
            "image", "mirror", "--tag", "1", f"docker://{registry.address}/signed/app", layout
        )
    house.cli("pull", "--name", SIGNED, f"{layout}:1")
    house.cli("rmi", SIGNED)
    if api:  # what has no name is no image to choose from
        house.cli("pull", "--name", SIGNED, layout)
        house.cli("rmi", SIGNED)
