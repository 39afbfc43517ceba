"""What is saved here is read by Docker, Podman and skopeo, and the reverse, with equal digests."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.dockerd import Dockerd
from tests.support.engine import Engine
from tests.support.needs import need_program
from tests.support.paths import clear_room, make_room

pytestmark = pytest.mark.root


@pytest.fixture
def made(clean_engine: Engine) -> Iterator[Engine]:
    """The engine with an image of two layers, under two names."""
    engine = clean_engine
    script = "echo mine >/new; ln /new /linked; rm /bin/vi; chown 5:6 /new"
    engine.docker("run", "--name", "work", "--network", "none", "busybox", "sh", "-c", script)
    engine.docker("commit", "-m", "so", "work", "pair:1")
    engine.docker("tag", "pair:1", "pair:2")
    yield engine
    engine.docker("rmi", "-f", "pair:1", "pair:2", check=False)


def facts(server: Engine | Dockerd, name: str) -> object:
    """Id and layers of an image."""
    return json.loads(server.docker("image", "inspect", name).stdout)[0]["RootFS"]["Layers"]


def identity(server: Engine | Dockerd, name: str) -> str:
    """The id of an image."""
    return server.docker("image", "inspect", "-f", "{{.Id}}", name).stdout.strip()


def test_docker_both_ways(made: Engine, dockerd: Dockerd, tmp_path: Path) -> None:
    """Docker loads ours, saves it, and we load that: id and layers stay the same."""
    before = identity(made, "pair:1"), facts(made, "pair:1")
    made.docker("save", "-o", tmp_path / "ours.tar", "pair")
    with dockerd.as_it_was():
        dockerd.docker("load", "-i", tmp_path / "ours.tar")
        assert (identity(dockerd, "pair:2"), facts(dockerd, "pair:2")) == before
        seen = dockerd.docker(
            *("run", "--rm", "--network", "none", "pair:1", "sh", "-c", "cat /linked; ls /bin/vi"),
            check=False,
        )
        assert (seen.stdout, seen.returncode) == ("mine\n", 1)
        dockerd.docker("save", "-o", tmp_path / "theirs.tar", "pair:1", "pair:2")
    made.docker("rmi", "-f", "pair:1", "pair:2")
    made.docker("load", "-i", tmp_path / "theirs.tar")
    assert (identity(made, "pair:1"), facts(made, "pair:2")) == before


@pytest.mark.parametrize("shape", ["oci-archive", "docker-archive"])
def test_skopeo_both_ways(made: Engine, tmp_path: Path, shape: str) -> None:
    """skopeo reads both of the archive's shapes; what it writes of them has our digests."""
    skopeo = need_program("skopeo")
    before = identity(made, "pair:1"), facts(made, "pair:1")
    made.docker("save", "-o", tmp_path / "ours.tar", "pair:1")
    source = f"{shape}:{tmp_path / 'ours.tar'}"
    # From one shape to the other it would write the config anew, and the id with it.
    target = f"{shape}:{tmp_path / 'theirs.tar'}:pair:1"
    command = [skopeo, "--insecure-policy", "--tmpdir", str(tmp_path), "copy", source, target]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    made.docker("rmi", "-f", "pair:1", "pair:2")
    said = made.docker("load", "-i", tmp_path / "theirs.tar").stdout
    assert before[0] in said or "pair:1" in said
    assert identity(made, before[0]) == before[0]
    assert facts(made, before[0]) == before[1]
    made.docker("rmi", "-f", before[0])


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short name: Podman refuses a run root of more than 50 characters."""
    path = make_room("p")
    yield path
    clear_room(path)


def test_podman_loads_it(made: Engine, tmp_path: Path, short: Path) -> None:
    """Podman finds both names and the same id."""
    podman = need_program("podman")
    made.docker("save", "-o", tmp_path / "ours.tar", "pair")
    own = [podman, "--root", short / "root", "--runroot", short / "run"]
    own += ["--storage-driver", "vfs", "--tmpdir", short / "tmp"]
    subprocess.run([*own, "load", "-i", tmp_path / "ours.tar"], check=True, capture_output=True)
    for name in ("pair:1", "pair:2"):
        done = subprocess.run(
            [*own, "image", "inspect", "-f", "{{.Id}}", name], check=True, capture_output=True
        )
        assert f"sha256:{done.stdout.decode().strip()}" == identity(made, "pair:1")


def test_the_same_bytes_each_time(made: Engine) -> None:
    """The archive follows from the images; layers that two share are in it once."""
    first = made.api("GET", "/images/get?names=pair&names=busybox").body
    assert first == made.api("GET", "/images/get?names=pair&names=busybox").body
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        names = archive.getnames()
    assert len(names) == len(set(names))
    assert {"oci-layout", "index.json", "manifest.json", "repositories"} < set(names)
