from __future__ import annotations

import asyncio
import gc
import gzip
import io
import json
import lzma
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import zstandard

from boxwood.errors import BoxwoodError, InvalidArgument, NotFound, ResourceExhausted, TooLarge
from boxwood.execution.mounting import open_root
from tests.integration.images.conftest import NOTHING, Home, pieces
from tests.integration.images.make import (
    BASE,
    COMPRESS,
    TOP,
    config,
    docker_new,
    docker_old,
    oci,
    sha,
)
from tests.integration.tar.archives import archive, entry, folder, link
from tests.support.loops import unmount
from tests.support.needs import need_program

SHAPES = {
    "old": (lambda: docker_old(BASE, TOP, TOP), "old:1"),
    "new": (lambda: docker_new(BASE, TOP), "new:3"),
    "oci": (lambda: oci(BASE, TOP), "oci:2"),
    "oci with compressed layers": (
        lambda: oci(BASE, TOP, stored=[gzip.compress(BASE), zstandard.compress(TOP)]),
        "oci:2",
    ),
}


async def tree(home: Home, name: str) -> dict[str, bytes]:
    """Return the files that a container of the image would see."""
    key = await home.layers.prepare_container("c" * 64, home.images.get(name))
    root = open_root(home.layers.root_mounts(key))
    try:
        found = {}
        for at, _, files, fd in os.fwalk(".", dir_fd=root):
            for file in files:
                if not os.path.islink(f"/proc/self/fd/{fd}/{file}"):
                    opened = os.open(file, os.O_RDONLY, dir_fd=fd)
                    found[os.path.normpath(f"{at}/{file}")] = os.read(opened, 1 << 20)
                    os.close(opened)
        return found
    finally:
        os.close(root)
        await home.layers.release(key)


@pytest.mark.parametrize("shape", SHAPES)
async def test_shapes(shape: str, home: Home) -> None:
    make, name = SHAPES[shape]
    assert await home.load(make()) == [f"Loaded image: {name}\n"]
    image = home.images.get(name)
    assert image.config.config.cmd == ("sh",)
    assert image.id == f"sha256:{sha(image.document)}"
    files = await tree(home, name)
    assert files["bin/sh"] == b"shell"
    assert files["etc/b"] == b"b"
    assert "etc/a" not in files
    assert {"etc/hosts", "etc/resolv.conf", "etc/hostname", ".dockerenv"} <= set(files)
    assert home.events.seen[-1][:2] == ("image", "load")
    # Again: all is there, nothing changes.
    before = await home.left()
    await home.load(make())
    assert await home.left() == before
    home.images.remove(name)
    assert await home.left() == NOTHING


@pytest.mark.parametrize("compression", COMPRESS)
async def test_outer_compression(compression: str, home: Home) -> None:
    data = COMPRESS[compression](docker_old(BASE, TOP))
    assert await home.load(data) == ["Loaded image: old:1\n"]


async def test_no_names_and_moved_names(home: Home) -> None:
    assert await home.load(docker_old(BASE, names=None)) == [
        f"Loaded image ID: sha256:{sha(config(BASE))}\n"
    ]
    await home.load(docker_old(BASE, names=["n:1"]))
    lines = await home.load(docker_old(BASE, TOP, names=["n:1"]))
    assert lines == [
        f"The image n:1 already exists, renaming the old one with ID sha256:{sha(config(BASE))} "
        "to empty string\n",
        "Loaded image: n:1\n",
    ]


async def test_a_restart_finds_all(home: Home) -> None:
    await home.load(docker_old(BASE, TOP))
    before = home.images.get("old:1")
    await home.layers.idle()
    home.database.close()
    home.open()
    assert await home.layers.reconcile([]) == []
    assert await home.images.reconcile() == []
    assert home.images.get("old:1") == before


async def test_layers_are_shared(home: Home) -> None:
    await home.load(docker_old(BASE, names=["a:1"]))
    await home.load(docker_old(BASE, TOP, names=["b:1"]))
    assert len((await home.left())["layers"]) == 2
    home.images.remove("a:1")
    assert len((await home.left())["layers"]) == 2
    assert (await tree(home, "b:1"))["bin/sh"] == b"shell"
    home.images.remove("b:1")
    assert await home.left() == NOTHING


def _documents(change: Any) -> bytes:
    return oci(BASE, change=change)


def _both(documents: Any) -> None:
    documents["manifest"]["manifests"] = []


def _wrong_size(documents: Any) -> None:
    documents["manifest"]["config"]["size"] += 1


def _wrong_layer(documents: Any) -> None:
    documents["manifest"]["layers"][0]["digest"] = "sha256:" + "0" * 64


def _path(documents: Any) -> None:
    documents["manifest"]["layers"][0]["digest"] = "sha256:../../../../etc/passwd"


def _schema1(documents: Any) -> None:
    documents["index"] = {"schemaVersion": 1, "manifests": None}


BAD: dict[str, bytes] = {
    "nothing": b"",
    "no archive": b"hello, world\n" * 1000,
    "a file tree": BASE,
    "a broken manifest": archive(entry("manifest.json", data=b"{")),
    "deep JSON": archive(entry("manifest.json", data=b"[" * 1_000_000)),
    "a huge manifest": archive(entry("manifest.json", data=b"[" + b" " * (9 << 20) + b"]")),
    "no images": archive(entry("manifest.json", data=b"[]")),
    "another layer": docker_old(BASE, TOP).replace(b"shell", b"shelf"),
    "a config outside": archive(
        entry("manifest.json", data=b'[{"Config":"../../../../etc/passwd","Layers":[]}]')
    ),
    "a config by a link outside": archive(
        link("c", "/etc/passwd"), entry("manifest.json", data=b'[{"Config":"c","Layers":[]}]')
    ),
    "a config that is a folder": archive(
        folder("c"), entry("manifest.json", data=b'[{"Config":"c","Layers":[]}]')
    ),
    "layers that do not add up": archive(
        entry("c", data=config(BASE, TOP)),
        entry("l", data=BASE),
        entry("manifest.json", data=b'[{"Config":"c","Layers":["l"]}]'),
    ),
    "a config of another digest": archive(
        entry(f"{'0' * 64}.json", data=config()),
        entry("manifest.json", data=json.dumps([{"Config": f"{'0' * 64}.json"}]).encode()),
    ),
    "a bad name": docker_old(BASE, names=["../evil:1"]),
    "a name without a tag": docker_old(BASE, names=["name"]),
    "both an index and a manifest": _documents(_both),
    "a blob of another size": _documents(_wrong_size),
    "a layer of another digest": _documents(_wrong_layer),
    "a digest that is a path": _documents(_path),
    "no manifests": _documents(_schema1),
    "cut off": docker_old(BASE, TOP)[:3000],
    "gzip cut off": gzip.compress(os.urandom(100_000))[:-5000],
    "gzip with rubbish after it": gzip.compress(docker_old(BASE)) + b"rubbish",
    "xz cut off": lzma.compress(docker_old(BASE))[:-20],
    "zstd cut off": zstandard.compress(docker_old(BASE))[:-20],
    "a device in the archive": archive(entry("d", b"3", devmajor=1, devminor=3)),
    "for windows": docker_old(BASE, os="windows"),
    "a hostile layer": docker_old(archive(entry("../evil", data=b"x"))),
    "the second layer is hostile": docker_old(BASE, archive(entry("a/../../evil"))),
}


@pytest.mark.parametrize("name", BAD)
async def test_refused_and_nothing_left(name: str, home: Home) -> None:
    with pytest.raises((InvalidArgument, NotFound, TooLarge)):
        await home.load(BAD[name])
    assert home.said == []
    assert await home.left() == NOTHING
    assert await home.load(docker_old(BASE)) == ["Loaded image: old:1\n"]


@pytest.mark.parametrize("make", ["gzip", "xz", "zstd"])
async def test_bombs(make: str, home: Home) -> None:
    """300 MB of zeros in a few bytes: more than anything honest is packed."""
    zeros = bytes(300 << 20)
    data = {
        # What gzip can do at most is just what is allowed: this one is zstd in disguise of size.
        "gzip": lambda: gzip.compress(gzip.compress(zeros)),
        "xz": lambda: lzma.compress(zeros, preset=1),
        "zstd": lambda: zstandard.compress(zeros),
    }[make]()
    with pytest.raises((TooLarge, InvalidArgument)):
        await home.load(data)
    assert await home.left() == NOTHING


async def test_a_client_that_goes_away(home: Home) -> None:
    data = docker_old(BASE, TOP)

    async def broken() -> Any:
        yield data[:4000]
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        await home.images.load(broken(), home.said.append)
    with pytest.raises(ConnectionResetError):
        await home.images.import_(broken())
    assert await home.left() == NOTHING


def _tmpfs(place: Path, kib: int) -> None:
    command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", str(place)]
    subprocess.run(command, check=True)


async def _unmount(place: Path) -> None:
    gc.collect()  # a database that could not be opened is held by the error
    # Off the loop, on which there may be something that has yet to let go.
    await asyncio.to_thread(unmount, place)


async def test_a_full_disk(tmp_path: Path, workers: Any) -> None:
    """At each size of the disk it is one clear error or success, and afterwards all works."""
    data = docker_old(archive(*(entry(f"f{n}", data=os.urandom(20_000)) for n in range(20))), BASE)
    outcomes = set()
    for size in range(200, 2400, 200):
        place = tmp_path / str(size)
        place.mkdir()
        _tmpfs(place, size)
        try:
            await _one_full_disk(place, workers, data, outcomes)
        finally:
            await _unmount(place)
    assert "ResourceExhausted" in outcomes
    assert "ok" in outcomes


async def _one_full_disk(place: Path, workers: Any, data: bytes, outcomes: set[str]) -> None:
    try:
        home = Home(place / "data", "overlay", workers)
    except BoxwoodError as error:
        outcomes.add(type(error).__name__)
        return
    try:
        await _load_there(home, data, outcomes)
    finally:
        await home.close()


async def _load_there(home: Home, data: bytes, outcomes: set[str]) -> None:
    try:
        await home.images.load(pieces(data), home.said.append)
        outcomes.add("ok")
        home.images.remove("old:1")
    except ResourceExhausted as error:
        outcomes.add("ResourceExhausted")
        said = str(error)
        assert "No space left" in said or "full" in said
    assert await home.left() == NOTHING
    try:
        await home.load(docker_old(BASE))
    except ResourceExhausted:
        outcomes.add("too small")


async def test_removing_works_on_a_full_disk(tmp_path: Path, workers: Any) -> None:
    """Removing images is how people make room: it must not need any."""
    _tmpfs(tmp_path, 3072)
    try:
        home = Home(tmp_path / "data", "overlay", workers)
        for number in range(3):
            await home.load(docker_old(archive(entry(f"f{number}")), names=[f"n{number}:1"]))
        await home.layers.idle()
        fill(tmp_path / "fill")
        for number in range(3):
            assert {"Untagged": f"n{number}:1"} in home.images.remove(f"n{number}:1")
        assert await home.left() == NOTHING
        await home.close()
    finally:
        await _unmount(tmp_path)


def fill(path: Path) -> None:
    """Write until nothing fits any more."""
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
async def test_what_skopeo_writes(kind: str, tmp_path: Path, home: Home) -> None:
    """Archives of another maker, from a layout of ours; the oracle for both shapes."""
    program = need_program("skopeo")
    with tarfile.open(fileobj=io.BytesIO(oci(BASE, TOP))) as tar:
        tar.extractall(tmp_path / "layout", filter="data")
    target = tmp_path / "out.tar"
    command = [program, "copy", "--insecure-policy", f"oci:{tmp_path / 'layout'}"]
    await run([*command, f"{kind}:{target}:example.com/x:7"])
    assert await home.load(target.read_bytes()) == ["Loaded image: example.com/x:7\n"]
    assert (await tree(home, "example.com/x:7"))["etc/b"] == b"b"


async def run(command: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0
