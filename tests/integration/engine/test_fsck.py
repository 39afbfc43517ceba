"""`system fsck`: each kind of damage is found, told, and put right as far as it can be."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.engine.test_layers import CONTENT, blobs, imported, recipes, tree_tar
from tests.integration.images.make import docker_old
from tests.support.busybox import busybox_tar
from tests.support.engine import Engine, running
from tests.support.needs import need_root, until

Make = Callable[..., Engine]
Damage = Callable[[Engine], None]


def fsck(engine: Engine, *flags: str) -> dict[str, Any]:
    """Run it; returns the report, whose findings and exit status agree."""
    done = engine.cli("system", "fsck", "--format", "json", *flags, check=False)
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (1 if report["Findings"] else 0), done
    assert report["Complete"]
    return report


def kinds(report: dict[str, Any]) -> list[str]:
    return sorted(finding["Kind"] for finding in report["Findings"])


def committed(engine: Engine) -> Path:
    return engine.data_root / "storage/overlay/committed"


def _the_layer(engine: Engine) -> Path:
    (found,) = (path for path in committed(engine).iterdir() if path.name.startswith("layer-"))
    return found


def _lose_layer(engine: Engine) -> None:
    shutil.rmtree(_the_layer(engine))


def _lose_recipe(engine: Engine) -> None:
    (engine.data_root / "content/recipes" / recipes(engine)[0]).unlink()


def _add_recipe(engine: Engine) -> None:
    (engine.data_root / "content/recipes" / ("0" * 64)).write_bytes(b"x")


def _add_blob(engine: Engine) -> None:
    (engine.data_root / "content/blobs/sha256" / ("0" * 64)).write_bytes(b"x")


def _the_blob(engine: Engine) -> Path:
    name = hashlib.sha256(tree_tar(CONTENT)).hexdigest()
    return engine.data_root / "content/blobs/sha256" / name


def _lose_blob(engine: Engine) -> None:
    _the_blob(engine).unlink()


def _break_blob(engine: Engine) -> None:
    with _the_blob(engine).open("r+b") as file:
        file.seek(5000)
        file.write(b"not what was there")


def _change_file(engine: Engine) -> None:
    (file,) = _the_layer(engine).rglob("file-7")
    file.write_bytes(bytes(file.stat().st_size))


DAMAGES: list[tuple[str, Damage, tuple[str, ...]]] = [
    ("recipe-lost", _lose_recipe, ()),
    ("orphan-recipe", _add_recipe, ()),
    ("orphan-blob", _add_blob, ()),
    ("blob-lost", _lose_blob, ()),
    ("blob-broken", _break_blob, ()),
    ("layer-changed", _change_file, ("--deep",)),
]


@pytest.fixture(scope="module")
def shared() -> Iterator[Engine]:
    """An engine without images that keeps archives, for all kinds of damage."""
    need_root()
    with running(Engine("--keep-blobs", "until-pushed"), busybox=False) as server:
        assert isinstance(server, Engine)
        yield server


@pytest.mark.parametrize(("kind", "damage", "how"), DAMAGES, ids=[case[0] for case in DAMAGES])
def test_damage(shared: Engine, kind: str, damage: Damage, how: tuple[str, ...]) -> None:
    """Clean; damaged: found, and again, for looking changes nothing; repaired: clean."""
    imported(shared, tree_tar(CONTENT))
    report = fsck(shared, "--deep")
    assert (report["Findings"], report["Layers"], report["Blobs"]) == ([], 1, 1)
    damage(shared)
    assert kinds(fsck(shared, *how)) == [kind]
    told = shared.cli("system", "fsck", *how, check=False)
    assert told.stdout.startswith(f"{kind}  "), told
    assert told.stdout.endswith(" 1 wrong.\n")
    (finding,) = fsck(shared, "--repair", *how)["Findings"]
    assert finding["Repaired"], finding
    if kind == "blob-broken":  # what can be made of files and recipe is no loss
        assert finding["Advice"] == ""
        assert not _the_blob(shared).exists()
    assert fsck(shared, "--deep")["Findings"] == []
    shared.docker("rmi", "made")
    assert (blobs(shared), recipes(shared)) == (set(), [])


def test_orphan_snapshot(make_engine: Make) -> None:
    """What nothing refers to goes; the neighbours stay."""
    engine = make_engine()
    (layer,) = (path for path in committed(engine).iterdir() if path.name.startswith("layer-"))
    engine.docker("create", "--network", "none", "busybox", "true")
    shutil.copytree(layer, committed(engine) / "stray", symlinks=True)
    assert kinds(fsck(engine)) == ["orphan-snapshot"]
    assert fsck(engine, "--repair")["Findings"][0]["Repaired"]
    assert fsck(engine, "--deep")["Findings"] == []
    assert not (committed(engine) / "stray").exists()


@pytest.mark.parametrize("how", ["load", "remove"])
def test_a_lost_layer(make_engine: Make, tmp_path: Path, how: str) -> None:
    """The image is told to be unusable, and what to do; both ways out work."""
    engine = make_engine(busybox=False)
    archive = tmp_path / "image.tar"
    archive.write_bytes(docker_old(busybox_tar(), names=("busybox:latest",)))
    engine.docker("load", "-i", archive)
    _lose_layer(engine)
    report = fsck(engine, "--repair")
    lost = report["Findings"][0]
    assert (lost["Kind"], lost["Repaired"]) == ("layer-lost", True)
    assert lost["Advice"] == "load or pull again: busybox:latest"
    assert kinds(report)[0] == "image-unusable"
    assert kinds(fsck(engine)) == ["image-unusable"]
    engine.restart()
    (unusable,) = fsck(engine)["Findings"]
    assert unusable["Kind"] == "image-unusable"
    if how == "remove":
        assert f"Deleted: {unusable['Object']}" in engine.docker("rmi", unusable["Object"]).stdout
        engine.add_busybox()
    else:
        engine.docker("load", "-i", archive)
    assert fsck(engine, "--deep")["Findings"] == []
    assert engine.docker("run", "--rm", "--network", "none", "busybox", "echo", "x").stdout == "x\n"


def _config(engine: Engine) -> Path:
    key = engine.api("GET", "/images/busybox/json").json()["Id"]
    return engine.data_root / "content/blobs/sha256" / key.removeprefix("sha256:")


@pytest.mark.parametrize("gone", [True, False], ids=["gone", "changed"])
def test_a_broken_config(make_engine: Make, gone: bool) -> None:
    """The engine has it in memory still; and one that was started since takes it by a load."""
    engine = make_engine()
    config = _config(engine)
    whole = config.read_bytes()

    def damage() -> None:
        config.unlink()
        if not gone:
            config.write_bytes(whole[:-1] + b" ")

    damage()
    assert kinds(fsck(engine)) == ["config-broken"]
    (finding,) = fsck(engine, "--repair")["Findings"]
    assert finding["Repaired"]
    assert config.read_bytes() == whole
    assert fsck(engine)["Findings"] == []
    archive = engine.api("GET", "/images/busybox/get").body
    damage()
    engine.restart()
    assert kinds(fsck(engine)) == ["image-unusable"]
    assert engine.api("POST", "/images/load", archive).status == 200
    assert config.read_bytes() == whole
    assert fsck(engine, "--deep")["Findings"] == []


def test_a_layer_that_stands_elsewhere(make_engine: Make) -> None:
    """It is told, with what to do; done, all is well."""
    engine = make_engine(busybox=False)
    archive = docker_old(tree_tar({"a": b"a"}), tree_tar({"b": b"b"}), names=("two:1",))
    assert engine.api("POST", "/images/load", archive).status == 200
    for info in committed(engine).glob("layer-*/info.json"):
        document = json.loads(info.read_text())
        if document["parent"]:
            info.write_text(json.dumps({**document, "parent": None}))
    (finding,) = fsck(engine, "--repair")["Findings"]
    assert (finding["Kind"], finding["Repaired"]) == ("layer-moved", False)
    assert finding["Advice"].endswith("load or pull it again: two:1")
    engine.docker("rmi", "two:1")
    assert engine.api("POST", "/images/load", archive).status == 200
    assert fsck(engine, "--deep")["Findings"] == []


def test_a_lost_container(make_engine: Make) -> None:
    """It is told, and can be removed."""
    engine = make_engine()
    key = engine.docker("create", "--network", "none", "busybox", "true").stdout.strip()
    shutil.rmtree(engine.data_root / "storage/overlay/active" / key)
    assert kinds(fsck(engine)) == ["container-lost"]
    engine.docker("rm", key)
    assert fsck(engine)["Findings"] == []


def test_what_a_hand_has_left(make_engine: Make) -> None:
    """Files that are none of ours: told, never removed; the engine starts and works with them."""
    engine = make_engine()
    mine = engine.data_root / "content/blobs/sha256/notes.txt"
    mine.write_text("mine")
    storage = engine.data_root / "storage/overlay"
    (storage / "active/empty").mkdir()
    (storage / "committed/file").write_text("mine")
    assert kinds(fsck(engine)) == ["foreign-file"]
    assert kinds(fsck(engine, "--repair")) == ["foreign-file"]
    engine.restart()
    engine.docker("run", "--rm", "--network", "none", "busybox", "true")
    assert kinds(fsck(engine)) == ["foreign-file"]
    engine.docker("image", "prune", "-af")
    assert mine.read_text() == "mine"
    aside = sorted(path.name.partition(".")[0] for path in (storage / "broken").iterdir())
    assert aside == ["empty", "file"]
    mine.unlink()
    assert fsck(engine)["Findings"] == []


def test_looking_while_much_is_going_on(make_engine: Make, tmp_path: Path) -> None:
    """Loads, removals and containers under way are no damage."""
    engine = make_engine()
    files = {f"f{number}": os.urandom(3000) for number in range(1000)}
    archive = tmp_path / "a.tar"
    archive.write_bytes(tree_tar(files))
    script = (
        f"for i in 1 2 3; do docker import {archive} a:$i >&2; "
        "docker rm $(docker create --network none busybox true) >&2; docker rmi a:$i >&2; done"
    )
    worker = threading.Thread(target=lambda: engine.run("sh", "-ec", script))
    worker.start()
    try:
        while worker.is_alive():
            report = engine.api("GET", "/boxwood/fsck").json()
            assert report["Findings"] == []
    finally:
        worker.join()
    until(lambda: len(blobs(engine)) <= 2, "all of it is gone")
    assert fsck(engine)["Findings"] == []
