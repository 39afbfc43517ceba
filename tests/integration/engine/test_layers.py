"""What becomes of layers in a running engine: their archives, their limits, their records."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import Engine
from tests.support.needs import until
from tests.support.scripted import Scripted

Make = Callable[..., Engine]


def tree_tar(files: dict[str, bytes], *, odd: bool = False) -> bytes:
    """Return the tar of some files; ``odd``: with what no tar program writes at its end."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.uid = len(content), 1_700_000_000.25, 12
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue() + (b"after the end" if odd else b"")


def imported(engine: Engine, data: bytes, name: str = "made") -> str:
    """Import a tar, compressed or not; returns the diff ID."""
    answer = engine.api("POST", f"/images/create?fromSrc=-&repo={name}", data, timeout=60)
    assert b"errorDetail" not in answer.body, answer.body
    layers: list[str] = engine.api("GET", f"/images/{name}/json").json()["RootFS"]["Layers"]
    return layers[-1]


def blobs(engine: Engine) -> set[str]:
    return set(os.listdir(engine.data_root / "content/blobs/sha256"))


def recipes(engine: Engine) -> list[str]:
    return os.listdir(engine.data_root / "content/recipes")


def config_of(engine: Engine, name: str) -> str:
    return str(engine.api("GET", f"/images/{name}/json").json()["Id"]).removeprefix("sha256:")


CONTENT = {f"file-{number}": os.urandom(20_000) for number in range(20)}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_an_archive_goes_when_it_can_be_made_again(make_engine: Make, packed: bool) -> None:
    """Policy ``never``, the default: only what the files do not hold is kept, and says so."""
    engine = make_engine(busybox=False)
    plain = tree_tar(CONTENT)
    data = gzip.compress(plain, 6) if packed else plain
    diff_id = imported(engine, data)
    assert diff_id == f"sha256:{hashlib.sha256(plain).hexdigest()}"
    blob = hashlib.sha256(data).hexdigest()
    until(lambda: blob not in blobs(engine), "the archive is dropped")
    assert blobs(engine) == {config_of(engine, "made")}
    assert len(recipes(engine)) == 1
    engine.restart()
    assert engine.api("GET", "/images/made/json").json()["RootFS"]["Layers"] == [diff_id]
    engine.api("DELETE", "/images/made")
    assert (blobs(engine), recipes(engine)) == (set(), [])


def of_two_members(plain: bytes) -> bytes:
    """Compress as nobody does that we know: the first bytes tell."""
    return gzip.compress(plain[:100_000], 1) + gzip.compress(plain[100_000:], 9)


def flushed_late(plain: bytes) -> bytes:
    """Compress as zlib does, up to a point far behind what is looked at to find that out."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    made = packer.compress(plain[:-100_000]) + packer.flush(zlib.Z_FULL_FLUSH)
    return made + packer.compress(plain[-100_000:]) + packer.flush()


@pytest.mark.parametrize("compress", [of_two_members, flushed_late])
def test_what_does_not_come_back_the_same_is_kept(
    make_engine: Make, compress: Callable[[bytes], bytes]
) -> None:
    """Whatever the policy, and whatever it looked like: only what was made again goes."""
    engine = make_engine(busybox=False)
    data = compress(tree_tar(CONTENT | {"more": os.urandom(1_000_000)}))
    diff_id = imported(engine, data)
    other = gzip.compress(tree_tar({"other": b"x"}), 6)
    imported(engine, other, "other")
    # Looked at in their order: when this one has gone, the first was tried.
    until(lambda: hashlib.sha256(other).hexdigest() not in blobs(engine), "the other one goes")
    assert hashlib.sha256(data).hexdigest() in blobs(engine)
    saved = engine.api("GET", "/images/made/get").body
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
        names = [name for name in archive.getnames() if diff_id[7:] in name]
    assert names


@pytest.mark.parametrize("policy", ["always", "until-pushed"])
def test_an_archive_that_is_to_be_kept(make_engine: Make, policy: str) -> None:
    engine = make_engine("--keep-blobs", policy, busybox=False)
    data = tree_tar(CONTENT)
    imported(engine, data)
    engine.restart()
    assert hashlib.sha256(data).hexdigest() in blobs(engine)
    assert len(recipes(engine)) == (0 if policy == "always" else 1)


def test_an_archive_goes_when_a_registry_has_it(make_engine: Make) -> None:
    """until-pushed: not before, and what is sent later is the same again."""
    engine = make_engine("--keep-blobs", "until-pushed", busybox=False)
    stays, goes = (gzip.compress(tree_tar(CONTENT | {"name": name}), 6) for name in (b"a", b"b"))
    stays_in, goes_in = (hashlib.sha256(data).hexdigest() for data in (stays, goes))
    imported(engine, stays, "stays")
    imported(engine, goes, "goes")
    with Scripted().serving() as registry, Scripted().serving() as other:
        for one in (registry, other):
            engine.docker("tag", "goes", f"{one.address}/x/y:new")
            engine.docker("push", f"{one.address}/x/y:new")
            assert one.blobs[f"sha256:{goes_in}"] == goes
            # Looked at in their order: when this one has gone, the other one was tried.
            until(lambda: goes_in not in blobs(engine), "what was pushed goes")
            assert stays_in in blobs(engine)


def test_the_policy_may_change(make_engine: Make, tmp_path: Path) -> None:
    """What was kept until pushed is dropped when it is not to be kept any more."""
    file = tmp_path / "daemon.json"
    file.write_text(json.dumps({"keep-blobs": "until-pushed"}))
    engine = make_engine("--config-file", str(file), busybox=False)
    data = tree_tar(CONTENT)
    imported(engine, data)
    engine.stop()
    file.write_text("{}")
    engine.start()
    blob = hashlib.sha256(data).hexdigest()
    until(lambda: blob not in blobs(engine), "the archive is dropped")


LIMITS: list[tuple[str, str, dict[str, bytes]]] = [
    ("--layer-max-entries", "5", CONTENT),
    ("--layer-max-size", "100k", CONTENT),
    ("--layer-max-name", "50", {"n" * 51: b"x"}),
    ("--layer-max-ratio", "10", {"zeros": bytes(80 << 20)}),
]


@pytest.mark.parametrize(("flag", "value", "files"), LIMITS, ids=[limit[0] for limit in LIMITS])
def test_limits(make_engine: Make, flag: str, value: str, files: dict[str, bytes]) -> None:
    """Each is an error with one sentence; nothing is left, and another layer is taken."""
    engine = make_engine(flag, value, busybox=False)
    answer = engine.api(
        "POST", "/images/create?fromSrc=-&repo=big", gzip.compress(tree_tar(files)), timeout=60
    )
    told: dict[str, Any] = json.loads(answer.body.splitlines()[-1])
    assert "errorDetail" in told or "message" in told, told
    imported(engine, tree_tar({"small": b"fits"}))
    until(lambda: len(blobs(engine)) <= 2, "nothing of it is left")
    assert len(list((engine.data_root / "storage/overlay/committed").iterdir())) == 2
