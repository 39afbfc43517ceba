"""``manifest`` commands: both clients print, keep and push the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from boxwood.model.descriptor import DOCKER_LIST, DOCKER_MANIFEST, OCI_MANIFEST
from boxwood.model.reference import Reference
from boxwood.testing.registry_kit import KitImage, source_of
from boxwood_plugins.registry.docker.transport import DockerTransport
from tests.support.engine import Engine
from tests.support.registry import Registry, serving

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """A registry with an image of each family: ``kit/d:1`` and ``kit/o:1``."""
    with serving() as one:

        async def fill() -> None:
            transport = DockerTransport({})
            for name, kind in (("d", DOCKER_MANIFEST), ("o", OCI_MANIFEST)):
                image = KitImage(name, kind)
                where = Reference.parse(f"{one.address}/kit/{name}:1")
                for descriptor, data in (*image.blobs, image.manifest):
                    await transport.push(where, descriptor, source_of(data))
            await transport.close()

        asyncio.run(fill())
        yield one


Client = Callable[..., tuple[int, str, str]]


@pytest.fixture
def clients(clean_engine: Engine, tmp_path: Path) -> dict[str, Client]:
    """Both command lines, each with a configuration folder of its own."""

    def client(run: Callable[..., Any], folder: str) -> Client:
        variables = {"DOCKER_CONFIG": str(tmp_path / folder), "BOXWOOD_CONFIG": ""}
        (tmp_path / folder).mkdir(exist_ok=True)

        def manifest(*words: str) -> tuple[int, str, str]:
            done = run("manifest", *words, check=False, env=variables)
            return done.returncode, done.stdout.strip(), done.stderr.strip()

        return manifest

    return {
        "docker": client(clean_engine.docker, "theirs"),
        "boxwood": client(clean_engine.cli, "ours"),
        "boxwood on docker's folder": client(clean_engine.cli, "theirs"),
        "docker on boxwood's folder": client(clean_engine.docker, "ours"),
    }


def both(clients: dict[str, Client], *words: str) -> tuple[int, str, str]:
    """Run it with both; they say the same, which is returned."""
    theirs, ours = clients["docker"](*words), clients["boxwood"](*words)
    assert ours == theirs
    return ours


def test_the_life_of_a_list(clients: dict[str, Client], registry: Registry) -> None:
    """Created, amended, annotated, shown, pushed, removed."""
    at = f"{registry.address}/kit"
    name = f"{at}/list:1"
    for image in ("d", "o"):
        for flags in ((), ("-v",)):
            code, out, _ = both(clients, "inspect", "--insecure", *flags, f"{at}/{image}:1")
            assert code == 0
            assert json.loads(out)
    assert both(clients, "inspect", "--insecure", f"{at}/none:1")[0] == 1
    both(clients, "create", "--insecure", name, f"{at}/d:1")
    assert "--amend" in both(clients, "create", "--insecure", name, f"{at}/d:1")[2]
    assert both(clients, "create", "--insecure", "--amend", name, f"{at}/o:1")[0] == 0
    said = ("--arch", "arm64", "--variant", "v8", "--os-features", "a,b")
    assert both(clients, "annotate", name, f"{at}/d:1", *said)[0] == 0
    assert both(clients, "annotate", name, f"{at}/none:1", "--arch", "arm64")[0] == 1
    assert both(clients, "annotate", name, f"{at}/d:1", "--arch", "foo")[0] == 1
    assert both(clients, "inspect", name)[0] == 0
    assert both(clients, "inspect", name, f"{at}/d:1")[0] == 0
    # What one keeps the other reads.
    assert clients["docker on boxwood's folder"]("inspect", "-v", name) == both(
        clients, "inspect", "-v", name
    )
    pushed = both(clients, "push", "--insecure", name)
    assert pushed[0] == 0
    assert pushed[1].count("Pushed ref ") == 2
    for flags in ((), ("-v",)):
        both(clients, "rm", name)
        assert both(clients, "inspect", "--insecure", *flags, name)[0] == 0
        both(clients, "create", "--insecure", name, f"{at}/d:1")
    assert both(clients, "rm", name) == (0, "", "")
    assert both(clients, "rm", name) == (1, "", f"No such manifest: {name}")


def test_what_is_brought_along(clients: dict[str, Client], registry: Registry) -> None:
    """The manifests of other repositories are in the list's: blobs mounted, not sent."""
    at = f"{registry.address}/kit"
    name = f"{at}/mounted:1"
    ours = clients["boxwood"]
    ours("create", name, f"{at}/d:1", f"{at}/o:1")
    before = len(registry.requests())
    code, out, err = ours("push", "--purge", name)
    assert (code, err) == (0, "")
    asked = registry.requests()[before:]
    assert sum("mount=" in one for one in asked) == 6
    assert not any(one.startswith("PUT") and "/blobs/" in one for one in asked)
    assert asked[-1].startswith("PUT /v2/kit/mounted/manifests/1")
    stored = registry.get("kit/mounted/manifests/1", DOCKER_LIST)
    for entry in json.loads(stored)["manifests"]:
        assert registry.get(f"kit/mounted/manifests/{entry['digest']}", entry["mediaType"])
    assert ours("push", name) == (1, "", f"No such manifest: {name}")
    assert out.splitlines()[-1].startswith("sha256:")


def test_what_is_refused(clients: dict[str, Client], registry: Registry) -> None:
    """A list of lists, and sources of another registry."""
    at = f"{registry.address}/kit"
    ours = clients["boxwood"]
    ours("create", f"{at}/first:1", f"{at}/d:1")
    ours("push", f"{at}/first:1")
    ours("rm", f"{at}/first:1")
    assert ours("create", f"{at}/second:1", f"{at}/first:1") == (
        1, "", f"{at}/first:1 is a manifest list",
    )  # fmt: skip
    ours("create", "other.example/x:1", f"{at}/d:1")
    code, _, err = ours("push", "other.example/x:1")
    assert code == 1
    assert f"different registry than the target image: {registry.address} != other.example" in err
