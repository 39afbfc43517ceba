"""Images in directories and archives: there and back, and with skopeo and Podman beside us."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.dockerd import Dockerd
from tests.support.engine import Engine
from tests.support.needs import need_program
from tests.support.paths import clear_room, make_room
from tests.support.registry import Registry, serving

pytestmark = pytest.mark.root

SCHEMES = ("oci", "oci-archive", "docker-archive", "dir")
IMAGE = "localhost/two:1"


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """A plain registry on the loopback."""
    with serving() as one:
        yield one


@pytest.fixture
def room() -> Iterator[Path]:
    """A directory that goes with the test; Podman's run root has 50 letters."""
    made = make_room("t")
    yield made
    clear_room(made)


@pytest.fixture(scope="module")
def saved(engine: Engine) -> tuple[str, bytes]:
    """The id of an image of two layers, and its archive."""
    engine.remove_containers()
    engine.docker("run", "--name", "made", "--network", "none", "busybox", "sh", "-c",
                  "echo one > /one; mkdir -p /d; ln /one /d/two")  # fmt: skip
    engine.docker("commit", "made", IMAGE)
    engine.remove_containers()
    image = engine.docker("image", "inspect", "-f", "{{.Id}}", IMAGE).stdout.strip()
    archive = engine.api("GET", f"/images/get?names={quote(IMAGE)}").body
    forget(engine, image)
    return image, archive


@pytest.fixture
def image(clean_engine: Engine, saved: tuple[str, bytes]) -> Iterator[str]:
    """The id of an image that the engine has as IMAGE and has no manifest of."""
    assert b'"error"' not in clean_engine.api("POST", "/images/load", saved[1]).body
    yield saved[0]
    forget(clean_engine, saved[0])


def _names(engine: Engine) -> set[str]:
    found = engine.api("GET", "/images/json?all=1").json()
    return {name for one in found for name in (*one["RepoTags"], *one["RepoDigests"])}


def forget(engine: Engine, image: str) -> None:
    """Take the image away from the engine, whatever it is called."""
    for name in [IMAGE, *_names(engine)]:
        if name != "busybox:latest":
            engine.api("DELETE", f"/images/{quote(name, safe='')}?force=1")
    assert engine.api("GET", f"/images/{image}/json").status == 404


def skopeo(*args: object) -> str:
    """Run skopeo; returns what it prints."""
    command = [need_program("skopeo"), "--insecure-policy", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def raw(source: str) -> bytes:
    """Return a manifest as skopeo reads it."""
    return skopeo("inspect", "--tls-verify=false", "--raw", source).encode()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_there_and_back(engine: Engine, image: str, room: Path, scheme: str) -> None:
    """The same image, whatever it was called; skopeo reads it too; nothing else is left."""
    place = f"{scheme}:{room / 'Some Image'}"
    engine.cli("push", IMAGE, place)
    config = json.loads(skopeo("inspect", "--config", place))
    assert len(config["rootfs"]["diff_ids"]) == 2
    forget(engine, image)
    said = engine.cli("pull", "--name", IMAGE, place).stdout
    assert f"Status: Downloaded newer image for {IMAGE}" in said
    assert engine.docker("image", "inspect", "-f", "{{.Id}}", IMAGE).stdout.strip() == image
    run = ("run", "--rm", "--network", "none", IMAGE, "cat", "/one", "/d/two")
    assert engine.docker(*run).stdout == "one\none\n"
    assert "Image is up to date" in engine.cli("pull", "--name", IMAGE, place).stdout
    left = [path.name for path in room.rglob("*") if path.name.startswith(".")]
    assert left == []
    assert [path.name for path in room.iterdir()] == ["Some Image"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_skopeo_writes(engine: Engine, image: str, room: Path, scheme: str) -> None:
    """A layout of skopeo's is pulled, with the digest that skopeo gave it."""
    engine.cli("push", IMAGE, f"oci:{room / 'ours'}:1")
    place = f"{scheme}:{room / 'theirs'}"
    skopeo("copy", "-q", f"oci:{room / 'ours'}:1", place)
    forget(engine, image)
    said = engine.cli("pull", place).stdout
    assert "Downloaded newer image for localhost/theirs:latest" in said
    shown = engine.docker("image", "inspect", "-f", "{{json .}}", "localhost/theirs").stdout
    found = json.loads(shown)
    if scheme != "docker-archive":  # which has no manifest of its own
        digest = skopeo("manifest-digest", _kept(room, raw(place))).strip()
        assert found["RepoDigests"] == [f"localhost/theirs@{digest}"]
    assert found["Id"] == image


def _kept(room: Path, data: bytes) -> Path:
    path = room / "manifest"
    path.write_bytes(data)
    return path


def test_digests_survive_the_way_round(
    engine: Engine, image: str, registry: Registry, room: Path
) -> None:
    """Registry, layout, directory, registry: one manifest, byte for byte."""
    first, second = f"{registry.address}/round/one:1", f"{registry.address}/round/two:1"
    engine.docker("tag", IMAGE, first)
    engine.docker("push", first)
    wanted = raw(f"docker://{first}")
    forget(engine, image)
    engine.docker("pull", first)
    done = engine.cli("push", first, f"oci:{room / 'layout'}:here", check=False)
    assert done.returncode == 0, engine.log[-5000:]
    forget(engine, image)
    engine.cli("pull", f"oci:{room / 'layout'}:here")
    engine.cli("push", "localhost/layout:here", f"dir:{room / 'dir'}")
    assert (room / "dir/manifest.json").read_bytes() == wanted
    forget(engine, image)
    engine.cli("pull", "--name", second, f"dir:{room / 'dir'}")
    engine.cli("push", second)
    assert raw(f"docker://{second}") == wanted


def test_names(engine: Engine, image: str, room: Path) -> None:
    """What a layout or an archive says of names is what its images are called here."""
    layout, archive = f"oci:{room / 'busy'}", f"docker-archive:{room / 'a.tar'}"
    engine.cli("push", IMAGE, f"{layout}:1")
    engine.cli("push", IMAGE, f"{layout}:example.com/some/name:2")
    engine.cli("push", IMAGE, archive)
    engine.cli("push", IMAGE, f"docker-archive:{room / 'b.tar'}:other:3")
    forget(engine, image)
    engine.cli("pull", f"{layout}:1")
    engine.cli("pull", f"{layout}:example.com/some/name:2")
    engine.cli("pull", archive)
    engine.cli("pull", f"docker-archive:{room / 'b.tar'}", cwd=room)
    engine.cli("pull", "--name", "own", "docker-archive:b.tar:other:3", cwd=room)
    tags = {name for name in _names(engine) if "@" not in name}
    wanted = {"localhost/busy:1", "example.com/some/name:2", IMAGE, "other:3", "own:latest"}
    assert tags - {"busybox:latest"} == wanted
    failed = engine.cli("pull", layout, check=False)
    assert failed.returncode == 0  # one image under two names is one image
    engine.docker("tag", "busybox", "localhost/box")
    engine.cli("push", "busybox", f"{layout}:busybox")
    failed = engine.cli("pull", layout, check=False)
    assert failed.returncode == 1
    assert "several images are there: name one; there are 1, busybox" in failed.stderr
    failed = engine.cli("pull", f"{layout}:none", check=False)
    assert "no such image there; there are 1, busybox, example.com/some/name:2" in failed.stderr


def test_podman_loads_what_we_write(engine: Engine, image: str, room: Path) -> None:
    """Our archives are read by another engine; the image has our id there."""
    podman = [need_program("podman"), "--root", room / "root", "--runroot", room / "run",
              "--storage-driver", "vfs", "--tmpdir", room / "tmp"]  # fmt: skip
    for scheme in ("docker-archive", "oci-archive"):
        path = room / f"{scheme}.tar"
        engine.cli("push", IMAGE, f"{scheme}:{path}")
        done = engine.run(*podman, "load", "-q", "-i", path)
        found = engine.run(*podman, "image", "inspect", "-f", "{{.Id}}", done.stdout.split()[-1])
        assert f"sha256:{found.stdout.strip()}" == image
    engine.run(*podman, "rmi", "-a", "-f")
    engine.run("rm", "-rf", room / "root", room / "run")


def test_docker_loads_what_we_write(
    engine: Engine, dockerd: Dockerd, image: str, room: Path
) -> None:
    """``docker load`` of an archive, by Docker and by us, and ``docker save`` as a source."""
    path = room / "a.tar"
    engine.cli("push", IMAGE, f"docker-archive:{path}")
    try:
        dockerd.docker("load", "-i", path)
        found = dockerd.docker("image", "inspect", "-f", "{{.Id}}", IMAGE)
        assert found.stdout.strip() == image
        dockerd.docker("save", "-o", room / "theirs.tar", IMAGE)
    finally:
        dockerd.docker("rmi", "-f", IMAGE, check=False)
    forget(engine, image)
    engine.cli("pull", f"docker-archive:{room / 'theirs.tar'}")
    assert engine.docker("image", "inspect", "-f", "{{.Id}}", IMAGE).stdout.strip() == image
    forget(engine, image)
    assert f"Loaded image: {IMAGE}" in engine.docker("load", "-i", path).stdout
    os.unlink(path)
    engine.docker("save", "-o", path, IMAGE)
    forget(engine, image)
    engine.cli("pull", f"docker-archive:{path}")
    assert engine.docker("image", "inspect", "-f", "{{.Id}}", IMAGE).stdout.strip() == image


def test_refusals(engine: Engine, image: str, room: Path) -> None:
    """Places that hold something else, and names that are none, are left alone."""
    del image
    (room / "text").write_text("mine")
    for place, reason in (
        (f"oci:{room}", "neither an OCI image layout nor empty"),
        (f"dir:{room}", "neither an image's directory nor empty"),
        (f"oci-archive:{room / 'text'}", "is there, and is no archive"),
        (f"docker-archive:{room / 'none/x.tar'}", "no such directory"),
        (f"dir:{room / 'x'}:1", "one image lies there"),
        ("nothing://x", "no transport nothing is installed"),
    ):
        done = engine.cli("push", IMAGE, place, check=False)
        assert done.returncode == 1
        assert reason in done.stderr
    answer = engine.api("POST", "/images/create?fromImage=oci:relative")
    assert "with an absolute path" in answer.body.decode()
    assert sorted(path.name for path in room.iterdir()) == ["text"]
    assert (room / "text").read_text() == "mine"
