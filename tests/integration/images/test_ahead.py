"""Layers that are unpacked while their archive still comes, and put in their place afterwards."""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import tarfile
from collections.abc import AsyncIterator
from typing import Any

import pytest

from boxwood.errors import InvalidArgument
from boxwood.execution.mounting import open_root
from tests.integration.images.conftest import NOTHING, Home, pieces
from tests.integration.images.make import config, docker_old, oci, sha
from tests.integration.tar.archives import archive, entry, folder, hard

PAD = b"p" * 70_000
"""Makes a layer large enough to be told of (ext/c/tar/internal.h, BW_FOLLOW_LEAST)."""


def base(*more: Any) -> bytes:
    """Return the lowest layer."""
    return archive(entry("base", data=PAD), *more)


class Spy:
    """What the storage driver was asked for."""

    def __init__(self, home: Home) -> None:
        self.prepared: list[str | None] = []
        self.rebased: list[str] = []
        driver: Any = home.layers.driver
        prepare, rebase = driver.prepare, driver.rebase

        async def watch_prepare(key: str, parent: str | None, **more: Any) -> Any:
            if key.startswith("unpack-") and "options" not in more:  # else an init layer
                self.prepared.append(parent)
            return await prepare(key, parent, **more)

        async def watch_rebase(key: str, parent: str) -> None:
            await rebase(key, parent)
            self.rebased.append(parent)

        driver.prepare, driver.rebase = watch_prepare, watch_rebase

    def took(self, count: int) -> bool:
        """Were these many layers unpacked once each, without parents, and stacked then?"""
        return self.prepared == [None] * count and len(self.rebased) == count - 1


async def look(home: Home, name: str, *paths: str) -> list[os.stat_result]:
    """Return what a container of the image would see of these paths."""
    key = await home.layers.prepare_container("c" * 64, home.images.get(name))
    root = open_root(home.layers.root_mounts(key))
    try:
        return [os.stat(path, dir_fd=root, follow_symlinks=False) for path in paths]
    finally:
        os.close(root)
        await home.layers.release(key)


async def saved(home: Home, name: str) -> bytes:
    """Return what `save` writes."""
    return b"".join([piece async for piece in home.images.save([name])])


def endless(data: bytes) -> bytes:
    """Return an archive without the zeros that end it, for another one to follow."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        last = tar.getmembers()[-1]
    size = last.offset_data + last.size
    return data[: size + -size % 512]


LAYERS = (
    base(folder("etc"), entry("etc/gone", data=b"g")),
    archive(folder("etc"), entry("etc/.wh.gone"), entry("middle", data=PAD)),
    archive(entry("top", data=PAD)),
)


@pytest.mark.parametrize("shape", [docker_old, oci])
async def test_side_by_side(shape: Any, home: Home) -> None:
    """No layer waits for another one, or for the end; the tree and the bytes are the same."""
    spy = Spy(home)
    data = shape(*LAYERS)
    [line] = await home.load(data)
    name = line.removeprefix("Loaded image: ").strip()
    if home.driver == "overlay":
        assert spy.took(3)
    assert [found.st_size for found in await look(home, name, "base", "middle", "top")] == [
        70_000
    ] * 3
    with pytest.raises(FileNotFoundError):
        await look(home, name, "etc/gone")
    packed = await saved(home, name)
    assert all(layer in packed for layer in LAYERS)
    home.images.remove(name)
    assert await home.left() == NOTHING


async def test_archives_are_not_kept(home: Home) -> None:
    """What is not compressed is accounted for by the pass that unpacks it: no blob is needed."""
    await home.load(docker_old(*LAYERS))
    assert (await home.left())["blobs"] == [f"sha256:{sha(config(*LAYERS))}"]
    assert all(layer.recipe and not layer.kept for layer in home.layers.all())
    for layer in home.layers.all():
        assert await home.layers.blobs.check(layer) == ""


async def test_what_is_here_is_not_unpacked(home: Home) -> None:
    """Neither a layer that is here by its name, nor one that turns out to be."""
    await home.load(oci(*LAYERS))
    before = await home.left()
    spy = Spy(home)
    await home.load(oci(*LAYERS))
    assert spy.prepared == []
    await home.load(docker_old(*LAYERS, names=["old:1"]))
    assert len((await home.left())["layers"]) == 3
    home.images.remove("old:1")
    assert await home.left() == before


NEEDY = {
    "a directory that gives its group on": (
        base(folder("etc", mode=0o2700, uid=7)),
        archive(entry("etc/new", data=PAD)),
        "etc",
        (stat.S_IFDIR | 0o2700, 7),
    ),
    "the root": (
        base(folder("./", mode=0o750, gid=0, uid=7)),
        archive(entry("new", data=PAD)),
        ".",
        (stat.S_IFDIR | 0o750, 7),
    ),
    "a hard link's target": (
        base(entry("deep", data=b"deep", mode=0o604, uid=7)),
        archive(entry("new", data=PAD), hard("linked", "deep")),
        "linked",
        (stat.S_IFREG | 0o604, 7),
    ),
    "an opaque root": (
        base(entry("hidden", data=b"h")),
        archive(entry(".wh..wh..opq"), entry("hidden", data=PAD, uid=7)),
        "hidden",
        (stat.S_IFREG | 0o644, 7),
    ),
}


@pytest.mark.parametrize("what", NEEDY)
async def test_what_needs_its_parent(what: str, home: Home) -> None:
    """A layer that builds on what lies below is unpacked again, with that at hand."""
    lower, upper, path, wanted = NEEDY[what]
    spy = Spy(home)
    await home.load(docker_old(lower, upper))
    if home.driver == "overlay":
        assert len(spy.prepared) == 3, "it was not begun ahead, or taken as it was"
    [found] = await look(home, "old:1", path)
    assert (found.st_mode, found.st_uid) == wanted
    home.images.remove("old:1")
    assert await home.left() == NOTHING


async def test_directories_that_no_entry_names(home: Home) -> None:
    """They get what they have below afterwards, layer by layer: nothing is unpacked twice."""
    lower = base(folder("opt", mode=0o700, uid=7, mtime=1000))
    uppers = [archive(entry(f"opt/deep/{number}", data=PAD)) for number in range(3)]
    spy = Spy(home)
    await home.load(docker_old(lower, *uppers, archive(entry("opt/last", data=PAD))))
    if home.driver == "overlay":
        assert spy.took(5)
    opt, deep, _ = await look(home, "old:1", "opt", "opt/deep", "opt/deep/2")
    if home.driver == "overlay":
        assert opt.st_mtime == 1000
    assert (opt.st_mode, opt.st_uid) == (stat.S_IFDIR | 0o700, 7)
    assert (deep.st_mode, deep.st_uid) == (stat.S_IFDIR | 0o755, 0)
    home.images.remove("old:1")
    assert await home.left() == NOTHING


async def test_one_file_for_two_layers(home: Home) -> None:
    """A layer that comes twice is one file of the archive."""
    await home.load(docker_old(LAYERS[0], LAYERS[2], LAYERS[2]))
    assert len((await home.left())["layers"]) == 3


@pytest.mark.parametrize("packed", [False, True])
async def test_two_images_share_a_layer(packed: bool, home: Home) -> None:
    """Of several images each finds its layers, whoever came first."""
    tops = [archive(entry(f"top{number}", data=PAD)) for number in range(2)]
    documents = [config(LAYERS[0], top) for top in tops]
    manifest = [
        {
            "Config": f"{sha(document)}.json",
            "RepoTags": [f"n{number}:1"],
            "Layers": ["b", f"t{number}"],
        }
        for number, document in enumerate(documents)
    ]
    data = archive(
        entry("b", data=gzip.compress(LAYERS[0], 1) if packed else LAYERS[0]),
        *(entry(f"t{number}", data=top) for number, top in enumerate(tops)),
        *(entry(f"{sha(document)}.json", data=document) for document in documents),
        entry("manifest.json", data=json.dumps(manifest).encode()),
    )
    await home.load(data)
    assert len((await home.left())["layers"]) == 3
    for number in range(2):
        assert len(await look(home, f"n{number}:1", "base", f"top{number}")) == 2


async def test_members_that_come_again(home: Home) -> None:
    """Of two members of one name the later counts, though the first was begun with."""
    false = docker_old(base(entry("false")))
    true = docker_old(*LAYERS)
    await home.load(endless(false) + true)
    [found] = await look(home, "old:1", "top")
    assert found.st_size == 70_000
    home.images.remove("old:1")
    assert await home.left() == NOTHING


async def test_inodes_do_not_come_again(home: Home) -> None:
    """One that was replaced and done with is not taken for what replaced it."""
    layers = [base(entry(f"f{number}", data=b"%d" % number)) for number in range(20)]
    again = b"".join(endless(archive(entry("layer0/layer.tar", data=layer))) for layer in layers)
    await home.load(again + docker_old(layers[0]))
    assert await look(home, "old:1", "f0")
    home.images.remove("old:1")
    assert await home.left() == NOTHING


async def test_large_files_that_are_no_layers(home: Home) -> None:
    """They are tried, and cost the archive nothing."""
    junk = archive(
        entry("junk", data=os.urandom(200_000)), entry("README", data=b"text\n" * 100_000)
    )
    await home.load(endless(junk) + docker_old(*LAYERS))
    home.images.remove("old:1")
    assert await home.left() == NOTHING


async def test_a_layer_that_lies(home: Home) -> None:
    """Another content than the config says is refused, and nothing of it stays."""
    data = docker_old(*LAYERS).replace(PAD, b"q" * len(PAD), 1)
    with pytest.raises(InvalidArgument):
        await home.load(data)
    assert await home.left() == NOTHING


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
async def test_a_client_that_goes_away(part: float, home: Home) -> None:
    """In the middle of layers: they are given up, and their workers end."""
    data = docker_old(*LAYERS)

    async def broken() -> AsyncIterator[bytes]:
        async for piece in pieces(data[: int(len(data) * part)]):
            yield piece
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        await home.images.load(broken(), home.said.append)
    assert await home.left() == NOTHING
