"""Importing, naming, listing, removing."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from boxwood.errors import Conflict, InvalidArgument, NotFound
from boxwood.execution.mounting import open_root
from boxwood.model.digest import Digest
from boxwood.model.image import Image
from boxwood.model.wire import encode
from boxwood.services.images.filters import path_pattern
from tests.integration.images.conftest import NOTHING, Home
from tests.integration.images.make import BASE, COMPRESS, TOP, config, docker_old, sha
from tests.integration.tar.archives import archive, entry, folder, link


@pytest.mark.parametrize("compression", COMPRESS)
async def test_import(compression: str, home: Home) -> None:
    said: list[Any] = []
    image = await home.import_(
        COMPRESS[compression](BASE), "imported", changes=['CMD ["x"]', "ENV A=b"], emit=said.append
    )
    assert said == [{"status": image.id}]
    shown = home.images.inspect("imported:latest")
    assert shown["RepoTags"] == ["imported:latest"]
    assert shown["RootFS"]["Layers"] == [f"sha256:{sha(BASE)}"]
    assert shown["Config"] == {"Cmd": ["x"], "Env": ["A=b"]}
    assert shown["Comment"] == "Imported from -"
    [entry_] = home.images.history("imported")
    assert (entry_["Comment"], entry_["Id"], entry_["Size"]) == ("Imported from -", image.id, 6)
    home.images.remove("imported")
    assert await home.left() == NOTHING


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (b"rubbish" * 200, {}),
        (archive(entry("../a")), {}),
        (BASE, {"changes": ["RUN x"]}),
        (BASE, {"repo": "Bad Name"}),
        (BASE, {"repo": "a", "tag": "b/c"}),
        (BASE, {"platform": "a/b/c/d/e"}),
        (BASE, {"platform": "windows/amd64"}),
    ],
)
async def test_import_refused(data: bytes, options: dict[str, Any], home: Home) -> None:
    with pytest.raises(InvalidArgument):
        await home.import_(data, **options)
    assert await home.left() == NOTHING


async def test_names(home: Home) -> None:
    image = await home.import_(BASE, "img", tag="1")
    for text in (
        "img:1",
        "docker.io/library/img:1",
        image.id,
        image.hex,
        image.hex[:12],
        image.id[:14],
    ):
        assert home.images.get(text).id == image.id
    for text in ("img", "other", "img:2", "sha256:" + "0" * 64, "g" * 64, "x/y"):
        with pytest.raises(NotFound) as caught:
            home.images.get(text)
        assert str(caught.value).startswith("No such image: ")
    with pytest.raises(InvalidArgument):
        home.images.get("Not A Name")
    home.images.tag("img:1", "registry.example:5000/x/y", "z")
    home.images.tag("img:1", "other")
    assert home.images.inspect("other")["RepoTags"] == [
        "img:1", "other:latest", "registry.example:5000/x/y:z",
    ]  # fmt: skip
    for repo, tag in (("sha256", "x"), ("img@" + image.id, ""), ("", ""), ("other", "no/tag")):
        with pytest.raises(InvalidArgument):
            home.images.tag("img:1", repo, tag)


async def test_filters(home: Home) -> None:
    await home.load(docker_old(BASE, names=["one:1"], created="2020-01-01T00:00:00Z"))
    await home.load(docker_old(TOP, names=["two:1", "two:2"], created="2021-01-01T00:00:00Z"))
    await home.load(docker_old(BASE, TOP, names=None, config={"Labels": {"x": "y"}}))

    def names(**filters: list[str]) -> list[str]:
        filters = {
            key.replace("not_", "label!") if key == "not_" else key: v for key, v in filters.items()
        }
        return sorted(
            "+".join(i.tags).replace("docker.io/library/", "") for i in home.images.list(filters)
        )

    assert names() == ["", "one:1", "two:1+two:2"]
    assert names(dangling=["true"]) == [""]
    assert names(dangling=["false"]) == ["one:1", "two:1+two:2"]
    assert names(reference=["two:*"]) == ["two:1+two:2"]
    assert names(reference=["*:1"]) == ["one:1", "two:1"]
    assert names(reference=["o*"]) == ["one:1"]
    assert names(label=["x"]) == names(label=["x=y"]) == [""]
    assert names(label=["key=value"]) == ["one:1", "two:1+two:2"]
    assert names(label=["key", "x"]) == []
    assert names(not_=["x"]) == ["one:1", "two:1+two:2"]
    assert names(before=["two:1"]) == ["one:1"]
    assert names(since=["two:1"]) == [""]
    assert names(until=["2020-06-01T00:00:00Z"]) == ["one:1"]
    assert names(until=["1h"]) == ["", "one:1", "two:1+two:2"]
    with pytest.raises(InvalidArgument, match="invalid filter 'nonsense'"):
        names(nonsense=["x"])
    for values in (["yes"], ["T"], [""], ["true", "false"]):
        with pytest.raises(InvalidArgument, match=r"invalid filter 'dangling=\["):
            names(dangling=values)
    with pytest.raises(NotFound):
        names(before=["nothing"])
    assert [image.tags[:1] for image in home.images.list()][-1] == ("docker.io/library/one:1",)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*", "a ab a.b"), ("a?", "ab"), ("a[a-c]", "ab"), ("a[^a]*", "ab a.b"), ("a\\.b", "a.b"),
        ("[ab]*", "a ab a.b"), ("a[z-a]", ""), ("a[\\b]", "ab"), ("x/*", "x/y"), ("*/y", "x/y"),
    ],
)  # fmt: skip
def test_patterns(pattern: str, names: str) -> None:
    """They are Go's, not a shell's."""
    found = path_pattern(pattern)
    assert [one for one in ("a", "ab", "a.b", "x/y") if found.fullmatch(one)] == names.split()


@pytest.mark.parametrize("pattern", ["[", "[a", "[]", "[a-]", "a\\", "[-a]", "[a\\", "[^]"])
def test_broken_patterns(pattern: str) -> None:
    with pytest.raises(InvalidArgument, match="syntax error in pattern"):
        path_pattern(pattern)


def container(image: Image, *, running: bool) -> Any:
    return SimpleNamespace(id="c" * 64, image_id=image.id, state=SimpleNamespace(running=running))


async def test_removal(home: Home) -> None:
    await home.load(docker_old(BASE, names=["a:1", "a:2", "b:1"]))
    image = home.images.get("a:1")
    with pytest.raises(Conflict, match=r"\(must be forced\) - image is referenced in multiple"):
        home.images.remove(image.hex[:12])
    assert home.images.remove("a:2") == [{"Untagged": "a:2"}]
    assert home.images.remove(image.id, force=True) == [
        {"Untagged": "a:1"},
        {"Untagged": "b:1"},
        {"Deleted": f"sha256:{sha(config(BASE))}"},
        {"Deleted": f"sha256:{sha(BASE)}"},
    ]
    with pytest.raises(NotFound):
        home.images.remove("a:1")
    assert await home.left() == NOTHING


async def test_removal_of_what_is_used(home: Home) -> None:
    await home.load(docker_old(BASE, names=["a:1"]))
    image = home.images.get("a:1")
    key = await home.layers.prepare_container("c" * 64, image)
    home.images.in_use = lambda _: [container(image, running=True)]
    with pytest.raises(Conflict, match="unable to remove repository reference"):
        home.images.remove("a:1")
    with pytest.raises(Conflict, match=r"cannot be forced.*running container"):
        home.images.remove(image.id, force=True)
    assert home.images.remove("a:1", force=True) == [{"Untagged": "a:1"}]
    assert home.images.get(image.id).tags == ()
    home.images.in_use = lambda _: [container(image, running=False)]
    with pytest.raises(Conflict, match=r"must be forced.*stopped container"):
        home.images.remove(image.id)
    # By force the image goes; its layers stay as long as the container stands on them.
    assert home.images.remove(image.id, force=True) == [{"Deleted": image.id}]
    assert len((await home.left())["layers"]) == 1
    assert home.layers.root_mounts(key)
    await home.layers.release(key)
    assert await home.left() == NOTHING


async def test_orphans_are_removed_at_start(home: Home) -> None:
    """What a killed daemon leaves: snapshots, half received files, layers and blobs of no image."""
    await home.load(docker_old(BASE, names=["a:1"]))
    kept = await home.left()
    await home.layers.prepare_container("d" * 64, home.images.get("a:1"))
    await home.layers.driver.prepare("unpack-1", None)
    home.content.put(b"orphan")
    (home.content.root / "ingest/in.1").mkdir()
    lost = "sha256:" + "1" * 64
    home.database.records("layers").put(lost, encode({"chain_id": lost, "diff_id": lost}))
    home.database.close()
    home.open()
    done = await home.layers.reconcile([]) + await home.images.reconcile()
    assert len(done) == 5
    assert await home.left() == kept
    assert await home.layers.reconcile([]) + await home.images.reconcile() == []


async def test_a_damaged_image_is_kept_but_not_used(home: Home) -> None:
    await home.load(docker_old(BASE, names=["a:1"]))
    await home.load(docker_old(TOP, names=["b:1"]))
    image = home.images.get("a:1")
    await home.left()
    path = home.content.path(Digest.parse(image.id))
    good = path.read_bytes()
    path.write_bytes(b"{}")
    done = await home.images.reconcile()
    assert len(done) == 2
    with pytest.raises(NotFound):
        home.images.get("a:1")
    home.images.remove("b:1")
    path.write_bytes(good)
    assert await home.images.reconcile() != []
    assert home.images.get("a:1").id == image.id


async def test_the_init_layer_covers_links_of_the_image(home: Home) -> None:
    """An image whose ``/dev`` or ``/etc`` is a link would have the engine write elsewhere."""
    hostile = archive(
        folder("tmp"), folder("tmp/x"), link("dev", "/tmp/x"), link("etc", "tmp/x"),
        link("proc", "/"), link("sys", "../../.."), link(".dockerenv", "/tmp/x/y"),
    )  # fmt: skip
    image = await home.import_(hostile, "hostile")
    key = await home.layers.prepare_container("e" * 64, image)
    root = open_root(home.layers.root_mounts(key))
    for name in ("dev", "dev/shm", "dev/pts", "proc", "sys", "etc"):
        os.close(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY, dir_fd=root))
    below = os.open("tmp/x", os.O_RDONLY, dir_fd=root)
    assert os.listdir(below) == []
    assert os.readlink("etc/mtab", dir_fd=root) == "/proc/mounts"
    os.close(below)
    os.close(root)
    await home.layers.release(key)
