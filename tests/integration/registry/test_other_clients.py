"""Docker, Podman and skopeo at one registry with us: each pulls what the other pushed."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxwood.model.descriptor import DOCKER_MANIFEST, OCI_MANIFEST
from boxwood.model.digest import Digest
from tests.support.dockerd import Dockerd
from tests.support.engine import Engine
from tests.support.needs import need_program
from tests.support.paths import clear_room, make_room
from tests.support.registry import Registry, serving

pytestmark = pytest.mark.root

ACCEPT = f"{OCI_MANIFEST}, {DOCKER_MANIFEST}"


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """A plain registry on the loopback."""
    with serving() as one:
        yield one


class Client(ABC):
    """Another program that pulls and pushes. ``pull`` returns the image's id as it has it."""

    @abstractmethod
    def pull(self, name: str) -> str:
        """Fetch an image; returns the digest of its config."""

    @abstractmethod
    def push(self, name: str, target: str) -> None:
        """Send what was pulled under another name."""


class Docker(Client):
    """Debian's docker.io."""

    def __init__(self, daemon: Dockerd) -> None:
        self.docker = daemon.docker

    def pull(self, name: str) -> str:
        """``docker pull``"""
        self.docker("pull", name)
        return self.docker("image", "inspect", "-f", "{{.Id}}", name).stdout.strip()

    def push(self, name: str, target: str) -> None:
        """``docker tag`` and ``docker push``"""
        self.docker("tag", name, target)
        self.docker("push", target)


class Podman(Client):
    """Podman, on storage of its own."""

    def __init__(self, engine: Engine, room: Path) -> None:
        self._engine = engine
        self._logins = room / "auth.json"
        self._logins.write_text("{}")
        self._podman = [need_program("podman"), "--root", room / "root", "--runroot", room / "run",
                        "--storage-driver", "vfs", "--tmpdir", room / "tmp"]  # fmt: skip

    def _run(self, *words: str) -> str:
        own = {"REGISTRY_AUTH_FILE": str(self._logins)}
        return self._engine.run(*self._podman, *words, env=own).stdout.strip()

    def pull(self, name: str) -> str:
        """``podman pull``"""
        self._run("pull", "-q", "--tls-verify=false", name)
        return f"sha256:{self._run('image', 'inspect', '-f', '{{.Id}}', name)}"

    def push(self, name: str, target: str) -> None:
        """``podman push``"""
        self._run("push", "-q", "--tls-verify=false", name, f"docker://{target}")


class Skopeo(Client):
    """skopeo, to a layout and from it."""

    def __init__(self, engine: Engine, room: Path) -> None:
        self._engine, self._layout = engine, room / "layout"
        self._skopeo = [need_program("skopeo"), "--insecure-policy"]

    def pull(self, name: str) -> str:
        """``skopeo copy`` from the registry"""
        layout = f"dir:{self._layout}"
        copy = (*self._skopeo, "copy", "-q", "--src-tls-verify=false")
        self._engine.run(*copy, f"docker://{name}", layout)
        found: str = json.loads((self._layout / "manifest.json").read_text())["config"]["digest"]
        return found

    def push(self, name: str, target: str) -> None:
        """``skopeo copy`` to the registry"""
        del name
        copy = (*self._skopeo, "copy", "-q", "--dest-tls-verify=false")
        self._engine.run(*copy, f"dir:{self._layout}", f"docker://{target}")


@pytest.fixture
def room() -> Iterator[Path]:
    """A folder for another client; podman wants a run root of a short name."""
    path = make_room("clients")
    yield path
    clear_room(path)


@pytest.fixture(params=["docker", "podman", "skopeo"])
def client(request: pytest.FixtureRequest, engine: Engine, room: Path) -> Iterator[Client]:
    """One of them; what it fetched goes."""
    if request.param == "docker":
        daemon: Dockerd = request.getfixturevalue("dockerd")
        with daemon.as_it_was():
            yield Docker(daemon)
        return
    kind = Podman if request.param == "podman" else Skopeo
    one = kind(engine, room)
    yield one
    if isinstance(one, Podman):
        one._run("rmi", "-a", "-f")


def digest_of(registry: Registry, name: str) -> str:
    """Return the digest of a manifest as the registry has it."""
    repository, _, tag = name.removeprefix(f"{registry.address}/").rpartition(":")
    return str(Digest.of(registry.get(f"{repository}/manifests/{tag}", ACCEPT)))


def known_digest(engine: Engine, name: str) -> str:
    """Return the digest that we have for a name."""
    shown = json.loads(
        engine.docker("image", "inspect", "-f", "{{json .RepoDigests}}", name).stdout
    )
    repository = name.rpartition(":")[0]
    (found,) = [one for one in shown if one.startswith(f"{repository}@")]
    return str(found.partition("@")[2])


def test_round(clean_engine: Engine, registry: Registry, client: Client) -> None:
    """We push, it pulls and pushes, we pull and push, it pulls: one image, and digests that fit."""
    engine = clean_engine
    ours, theirs, again = (f"{registry.address}/round/{part}:1" for part in ("a", "b", "c"))
    engine.docker("run", "--name", "made", "--network", "none", "busybox", "sh", "-c",
                  "seq 20000 > /numbers; ln /numbers /same; mkdir /d; touch -d @1 /d")  # fmt: skip
    engine.docker("commit", "made", ours)
    engine.docker("rm", "made")
    image = engine.docker("image", "inspect", "-f", "{{.Id}}", ours).stdout.strip()
    engine.docker("push", ours)
    assert known_digest(engine, ours) == digest_of(registry, ours)
    assert client.pull(ours) == image
    client.push(ours, theirs)
    engine.docker("rmi", ours)
    said = engine.docker("pull", theirs).stdout
    assert f"Digest: {digest_of(registry, theirs)}" in said
    assert engine.docker("image", "inspect", "-f", "{{.Id}}", theirs).stdout.strip() == image
    assert known_digest(engine, theirs) == digest_of(registry, theirs)
    engine.docker("tag", theirs, again)
    engine.docker("push", again)
    assert digest_of(registry, again) == digest_of(registry, theirs)
    assert client.pull(again) == image
    run = ("run", "--rm", "--network", "none", again, "sh", "-c", "tail -n 1 /same; stat -c %Y /d")
    assert engine.docker(*run).stdout == "20000\n1\n"
