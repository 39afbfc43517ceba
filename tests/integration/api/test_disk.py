"""What takes room, through the stock client, docker-py and our own command line."""

from __future__ import annotations

import bz2
import io
import json
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.support.engine import Engine

OWN = ("--network", "none", "busybox")


@pytest.fixture
def full(make_engine: Callable[..., Engine], tmp_path: Path) -> Engine:
    """An engine with a container that wrote 1 MB, two volumes, and images, one without a name."""
    engine, folder = make_engine(), tmp_path
    engine.docker("volume", "create", "named")
    script = "dd if=/dev/zero of=/big bs=1M count=1; echo data > /data/file; echo more > /anon/file"
    engine.docker(
        *("run", "--name", "box", "-v", "named:/data", "-v", "/anon", *OWN, "sh", "-c", script)
    )
    for name in ("one", "two"):
        (folder / name).write_text(name * 500)
        pack = f"tar -C {folder} -cf - {name}"
        engine.run("sh", "-c", f"{pack} | docker import -c 'LABEL which={name}' - made:{name}")
    engine.docker("tag", "made:two", "other")
    engine.docker("rmi", "made:two")
    engine.docker("tag", "busybox", "other:latest")
    return engine


def usage(engine: Engine, *types: str) -> dict[str, Any]:
    query = "".join(f"{'&' if at else '?'}type={kind}" for at, kind in enumerate(types))
    answer: dict[str, Any] = engine.api("GET", f"/system/df{query}").json()
    return answer


def test_usage(full: Engine) -> None:
    shown = usage(full)
    by_name = {(image["RepoTags"] or ["<none>"])[0]: image for image in shown["Images"]}
    assert by_name["busybox:latest"]["Containers"] == 1
    assert by_name["busybox:latest"]["SharedSize"] == 0
    assert shown["LayersSize"] == sum(image["Size"] for image in shown["Images"])
    (container,) = shown["Containers"]
    assert container["SizeRw"] >= 1 << 20
    volumes = {entry["Name"] == "named": entry["UsageData"] for entry in shown["Volumes"]}
    assert volumes == {True: {"Size": 5, "RefCount": 1}, False: {"Size": 5, "RefCount": 1}}
    assert shown["BuildCache"] == []


def tree(*contents: bytes) -> bytes:
    """Return a layer's tar of one file, which comes as often as there are contents."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for content in contents:
            info = tarfile.TarInfo("file")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def import_image(engine: Engine, name: str, layer: bytes) -> None:
    answer = engine.api("POST", f"/images/create?fromSrc=-&repo={name}", layer)
    assert b"errorDetail" not in answer.body, answer.body


def reasons(engine: Engine) -> set[str]:
    return {entry["Reason"] for entry in engine.api("GET", "/boxwood/archives").json()}


def test_why_archives_are_kept(make_engine: Callable[..., Engine]) -> None:
    """Of a foreign compressor, of large files that come twice, by policy; plain ones are not."""
    engine = make_engine()
    import_image(engine, "plain", tree(b"plain"))
    import_image(engine, "packed", bz2.compress(tree(b"packed")))
    import_image(engine, "twice", tree(b"one", b"two"))
    import_image(engine, "large", tree(bytes((16 << 20) + 1), b"two"))
    assert len(engine.api("GET", "/boxwood/archives").json()) == 2
    lost = "no complete recipe: its bytes cannot be made again of its files"
    assert reasons(engine) == {lost, "bzip2 of a program whose bytes cannot be made again"}
    assert lost in engine.cli("system", "df", "-v").stdout
    other = make_engine("--keep-blobs", "always")
    import_image(other, "plain", tree(b"plain"))
    assert reasons(other) == {"keep-blobs is always"}


def test_usage_of_one_kind(full: Engine) -> None:
    shown = usage(full, "volume")
    assert len(shown["Volumes"]) == 2
    assert (shown["Images"], shown["Containers"], shown["BuildCache"]) == (None, None, None)
    assert full.api("GET", "/system/df?type=nonsense").status == 400


def test_the_same_table_from_both_clients(full: Engine) -> None:
    for more in ([], ["--format", "{{json .}}"]):
        theirs = full.docker("system", "df", *more).stdout
        ours = full.cli("system", "df", *more).stdout
        assert ours == theirs
    assert full.docker("system", "df", "-v").stdout.count("named") == 1


def test_pruning_images(full: Engine) -> None:
    (dangling,) = full.api("GET", '/images/json?filters={"dangling":["true"]}').json()
    out = full.docker("image", "prune", "-f").stdout
    assert f"deleted: {dangling['Id']}" in out
    assert "Total reclaimed space: " in out
    left = {name for image in full.api("GET", "/images/json").json() for name in image["RepoTags"]}
    assert left == {"busybox:latest", "made:one", "other:latest"}
    for value in ("no", "f", "FALSE", ""):  # none of them means that images with names may go
        answer = full.api("POST", f'/images/prune?filters={{"dangling":["{value}"]}}')
        assert answer.status == 400
        assert answer.json()["message"] == f"invalid filter 'dangling=[{value}]'"
    answer = full.api("POST", '/images/prune?filters={"dangling":["false"],"label":["which=two"]}')
    assert answer.json()["ImagesDeleted"] is None
    out = full.cli("image", "prune", "-a", "-f").stdout
    assert "untagged: made:one" in out
    left = {name for image in full.api("GET", "/images/json").json() for name in image["RepoTags"]}
    assert left == {"busybox:latest", "other:latest"}  # a container stands on it
    assert full.api("POST", '/images/prune?filters={"nonsense":["x"]}').status == 400


def test_pruning_all(full: Engine) -> None:
    out = full.docker("system", "prune", "-a", "-f", "--volumes").stdout
    assert "Deleted Containers:" in out
    assert "Deleted Volumes:" in out
    assert full.api("GET", "/images/json").json() == []
    assert [entry["Name"] for entry in full.api("GET", "/volumes").json()["Volumes"]] == ["named"]
    end = int(time.time()) + 1
    events = full.api("GET", f"/events?since=1&until={end}").body.splitlines()
    pruned = [event for line in events if (event := json.loads(line))["Action"] == "prune"]
    assert {event["Type"] for event in pruned} >= {"image"}


def test_docker_py(full: Engine) -> None:
    client = docker.DockerClient(base_url=full.host, timeout=30)
    try:
        assert client.df()["LayersSize"] > 0
        assert client.images.prune()["SpaceReclaimed"] > 0
        assert client.networks.prune() == {"NetworksDeleted": None}
    finally:
        client.close()
