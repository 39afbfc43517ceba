"""What an image is called in registries goes with it from engine to engine, and what lies comes to
nothing."""

from __future__ import annotations

import gzip
import hashlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from boxwood.model.digest import Digest
from boxwood.services.images.peers.identity import DOCUMENTS, NAMES
from tests.support.engine import Engine, running
from tests.support.layouts import OCI, Layout
from tests.support.needs import until
from tests.support.peers import config_of, frame_of, offer_of, talking
from tests.support.registry import serving
from tests.support.tars import noise, tar_of

pytestmark = pytest.mark.root

NAME = "far.example/team/box"
PLAIN = tar_of({"a": noise(1, 300_000), "b": b"x" * 100_000})
GZIP = gzip.compress(PLAIN, 6, mtime=0)


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, Engine]]:
    """Two engines without images; the second one has rules."""
    path = tmp_path_factory.mktemp("settings") / "daemon.json"
    rules = [{"match": "*/denied", "pull": "deny"}, {"match": "*/signed", "require": ["/key"]}]
    path.write_text(json.dumps({"registry-policy": rules}))
    with (
        running(Engine(), busybox=False) as near,
        running(Engine("--config-file", str(path)), busybox=False) as far,
    ):
        assert isinstance(near, Engine)
        assert isinstance(far, Engine)
        yield near, far


@pytest.fixture
def pair(engines: tuple[Engine, Engine]) -> Iterator[tuple[Engine, Engine]]:
    """Both, without images afterwards."""
    yield engines
    for engine in engines:
        for image in engine.api("GET", "/images/json?all=1").json():
            engine.api("DELETE", f"/images/{image['Id']}?force=1")
        assert engine.api("GET", "/images/json?all=1").json() == []


def digests(engine: Engine, name: str = NAME) -> list[str]:
    found: list[str] = engine.api("GET", f"/images/{name}/json").json()["RepoDigests"]
    return sorted(found)


def top_of(path: Path) -> str:
    """Return the digest of a layout's only image."""
    [entry] = json.loads((path / "index.json").read_text())["manifests"]
    return str(entry["digest"])


@pytest.mark.parametrize("packed", ["gzip", "zstd", "index"])
def test_pushed_on_it_is_what_it_was(
    pair: tuple[Engine, Engine], tmp_path: Path, packed: str
) -> None:
    near, far = pair
    layout = Layout(tmp_path / "l")
    layer = zstandard.compress(PLAIN, 3) if packed == "zstd" else GZIP
    manifest = layout.manifest(layer, PLAIN)
    top = manifest
    if packed == "index":
        entry = {**manifest, "platform": {"os": "linux", "architecture": "amd64"}}
        kind = f"{OCI}.index.v1+json"
        document = {"schemaVersion": 2, "mediaType": kind, "manifests": [entry]}
        top = layout.blob("index.v1+json", document)
    layout.call("x", top)
    near.cli("pull", "--platform", "linux/amd64", "--name", NAME, f"{layout.name}:x")
    said = near.cli("push", far.host, NAME).stdout
    assert "1 new layer" in said
    assert digests(far) == [f"{NAME}@{top['digest']}"] == digests(near)
    far.cli("push", NAME, f"oci:{tmp_path}/out:x")
    assert top_of(tmp_path / "out") == manifest["digest"]
    # A third one gets it from the second, to which it is nothing that was only said by now.
    near.cli("rmi", "-f", NAME)
    far.cli("push", near.host, NAME)
    near.cli("push", NAME, f"oci:{tmp_path}/again:x")
    assert top_of(tmp_path / "again") == manifest["digest"]
    assert "nothing wrong" in far.cli("system", "fsck", "--deep").stdout
    far.cli("rmi", NAME)
    kept = {Digest.parse(top["digest"]).hex, Digest.parse(manifest["digest"]).hex}
    blobs = far.data_root / "content/blobs/sha256"
    until(lambda: not kept & {path.name for path in blobs.iterdir()}, "its manifests are gone")


def test_what_is_here_learns_what_it_came_as(pair: tuple[Engine, Engine], tmp_path: Path) -> None:
    """The layer came bare before: then nothing travels but what it is elsewhere."""
    near, far = pair
    layout = Layout(tmp_path / "l")
    manifest = layout.manifest(GZIP, PLAIN)
    layout.call("x", manifest)
    with talking(far.socket, "receive?name=bare") as peer:
        peer.send(b"O", offer_of(PLAIN))
        assert peer.asked()["what"] == "all"
        peer.send(b"D", frame_of(PLAIN))
        peer.send(b"E")
        assert peer.receive()[0] == b"Z"
    near.cli("pull", "--name", NAME, f"{layout.name}:x")
    assert "nothing travelled" in near.cli("push", far.host, NAME).stdout
    until(lambda: _compression(far) == "gzip", "what was said was tried in a quiet moment")
    far.cli("push", NAME, f"oci:{tmp_path}/out:x")
    assert top_of(tmp_path / "out") == manifest["digest"]


OTHERS = gzip.compress(PLAIN[:99_000], 6, mtime=0) + gzip.compress(PLAIN[99_000:], 9, mtime=7)
"""As no compressor of ours makes it."""


@pytest.mark.parametrize("exact", [False, True])
def test_what_nobody_can_compress_so_again(
    pair: tuple[Engine, Engine], tmp_path: Path, exact: bool
) -> None:
    """Its bytes go only where they are asked for; else it goes on with another manifest."""
    near, far = pair
    layout = Layout(tmp_path / "l")
    manifest = layout.manifest(OTHERS, PLAIN)
    layout.call("x", manifest)
    near.cli("pull", "--name", NAME, f"{layout.name}:x")
    near.cli("push", *(["--exact"] if exact else []), far.host, NAME)
    assert digests(far) == [f"{NAME}@{manifest['digest']}"]
    far.cli("push", NAME, f"oci:{tmp_path}/out:x")
    assert (top_of(tmp_path / "out") == manifest["digest"]) == exact
    if exact:
        assert "nothing wrong" in far.cli("system", "fsck", "--deep").stdout
        near.cli("rmi", "-f", NAME)
        assert near.cli("copy", "-q", far.host, NAME, "boxwood:back").stdout.startswith("sha256:")
        near.cli("push", "back", f"oci:{tmp_path}/back:x")
        assert top_of(tmp_path / "back") == manifest["digest"]
    assert "engine to engine" in near.cli("push", "--exact", NAME, check=False).stderr


@pytest.mark.parametrize(
    ("stored", "sent", "asked"),
    [
        (len(GZIP), bytes(len(GZIP)), True),
        (len(GZIP), gzip.compress(b"other"), True),
        (len(GZIP), GZIP[:-1], True),
        (len(GZIP) - 1, GZIP, True),
        (1 << 62, b"", False),
        (-1, b"", False),
    ],
)
def test_compressed_bytes_that_are_others(
    pair: tuple[Engine, Engine], stored: int, sent: bytes, asked: bool
) -> None:
    """The tar is asked for in their place; more than was said is the end; nonsense is not asked."""
    _, far = pair
    identity = {"came": [claim(stored=stored, compressor="")]}
    with talking(far.socket, "receive?name=x&exact=1") as peer:
        peer.send(b"O", offer_of(PLAIN, identity=identity))
        if asked:
            assert peer.asked()["what"] == "blob"
            peer.send(b"D", sent)
            peer.send(b"E")
        if len(sent) > stored > 0:
            assert "more comes" in peer.failure()
            return
        assert peer.asked()["what"] == "all"
        peer.send(b"D", frame_of(PLAIN))
        peer.send(b"E")
        assert peer.receive()[0] == b"Z"
    assert "nothing wrong" in far.cli("system", "fsck", "--deep").stdout
    assert [*(far.data_root / "content/ingest").iterdir()] == []


def test_among_layers_that_are_asked_for_ahead(pair: tuple[Engine, Engine]) -> None:
    """Answers keep the order of the questions: none goes beyond one for compressed bytes."""
    _, far = pair
    small = [tar_of({f"f{at}": b"x"}) for at in range(2)]
    kept = claim(compressor="", blob=str(Digest.of(OTHERS)), stored=len(OTHERS))
    with talking(far.socket, "receive?name=x&exact=1") as peer:
        offer = offer_of(small[0], PLAIN, small[1], identity={"came": [None, kept, None]})
        peer.send(b"O", offer)
        for layer, what, data in (
            (0, "all", frame_of(small[0])),
            (1, "blob", OTHERS),
            (2, "all", frame_of(small[1])),
        ):
            assert peer.asked() == {"layer": layer, "what": what}
            peer.send(b"D", data)
            peer.send(b"E")
        assert peer.receive()[0] == b"Z"
    blobs = far.data_root / "content/blobs/sha256"
    assert (blobs / Digest.of(OTHERS).hex).read_bytes() == OTHERS


def _compression(engine: Engine) -> str:
    """Return what the engine's database says of its only layer."""
    with sqlite3.connect(f"file:{engine.data_root}/boxwood.db?mode=ro", uri=True) as database:
        rows = database.execute("SELECT body FROM layers").fetchall()
    [body] = [json.loads(row[0]) for row in rows]
    return str(body.get("compression", ""))


def test_copies_from_and_to_engines(pair: tuple[Engine, Engine], tmp_path: Path) -> None:
    """The engine that is spoken to, and others; each way with the digest that it had."""
    near, far = pair
    layout = Layout(tmp_path / "l")
    digest = layout.call("x", layout.manifest(GZIP, PLAIN))
    image = layout.manifest_config(digest)

    def copied(*words: str) -> str:
        done = near.cli("copy", *words)
        return str(done.stdout.splitlines()[-1])

    assert copied(f"{layout.name}:x", "boxwood:one") == digest
    assert copied("boxwood:one", far.host, "team/two:2") == image
    assert copied(far.host, "team/two:2", f"oci:{tmp_path}/out:x") == digest
    assert top_of(tmp_path / "out") == digest
    assert copied(f"oci:{tmp_path}/out:x", far.host, "three") == digest
    assert copied(far.host, "three", "boxwood:four") == image
    assert copied("-q", "boxwood:four", "boxwood:five") == image
    with serving() as registry:
        assert copied("boxwood:five", f"{registry.address}/box:1") == digest
        assert copied(f"docker://{registry.address}/box:1", "boxwood:six") == digest
    named = {tag for one in near.api("GET", "/images/json").json() for tag in one["RepoTags"]}
    assert named == {f"{name}:latest" for name in ("one", "four", "five", "six")}


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("boxwood:", "oci:/x"), "each one image"),
        (("boxwood:a", "b", "c"), "each one image"),
        (("a", "unix:///x"), "the image there must follow"),
        (("unix:///x", "unix:///y", "a"), "the image there must follow"),
        (("boxwood:none", "oci:/x"), "An image does not exist locally with the tag: none"),
        (("tcp://127.0.0.1:1", "a", "oci:/x"), "cannot reach files of this machine"),
        (("--all", "boxwood:a", "oci:/x"), "--all: an engine"),
        (("--platform", "linux/amd64", "boxwood:a", "oci:/x"), "--platform: "),
        (("--src-creds", "a:b", "boxwood:a", "b"), "an engine has no logins"),
        (("--dest-tls-verify=false", "boxwood:a", "b"), "the engine's own settings"),
    ],
)
def test_copies_that_are_refused(
    pair: tuple[Engine, Engine], words: tuple[str, ...], error: str
) -> None:
    near, _ = pair
    done = near.cli("copy", *words, check=False)
    assert done.returncode == 1, done
    assert error in done.stderr
    assert len(done.stderr.splitlines()) == 1


CONFIG = config_of(PLAIN)


def manifest_of(config: bytes, *layers: bytes, **more: Any) -> bytes:
    one = {"mediaType": f"{OCI}.layer.v1.tar+gzip"}
    described = [
        {**one, "size": len(layer), "digest": str(Digest.of(layer)), **more} for layer in layers
    ]
    one = {"mediaType": f"{OCI}.config.v1+json", "digest": Digest.of(config), "size": len(config)}
    made = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": one}
    return json.dumps({**made, "layers": described}).encode()


RIGHT = manifest_of(CONFIG, GZIP)
OTHER = manifest_of(b"{}", GZIP)
PATH = manifest_of(CONFIG, GZIP, digest="../x")
LESS = manifest_of(CONFIG, GZIP, size=-1)
FEWER = manifest_of(CONFIG)
INDEX = json.dumps(
    {"schemaVersion": 2, "manifests": [{"digest": str(Digest.of(OTHER)), "size": 1}]}
).encode()


def named(document: bytes, name: str = "far.example/x") -> str:
    return f"{name}@{Digest.of(document)}"


def _give(far: Engine, identity: Any) -> tuple[bytes, bytes]:
    with talking(far.socket, "receive?name=x") as peer:
        peer.send(b"O", offer_of(PLAIN, identity=identity))
        kind, data = peer.receive()
        if kind != b"A":
            return kind, data
        peer.send(b"D", frame_of(PLAIN))
        peer.send(b"E")
        return peer.receive()


@pytest.mark.parametrize(
    ("names", "documents"),
    [
        ([named(OTHER)], [OTHER]),
        ([named(FEWER)], [FEWER]),
        ([named(PATH), named(LESS)], [PATH, LESS]),
        ([named(INDEX)], [INDEX, OTHER]),
        ([named(INDEX)], [INDEX, RIGHT]),
        ([named(RIGHT)], []),
        ([named(RIGHT)], [OTHER]),
        ([named(b"[")], [b"["]),
        ([named(b"[" * 9999)], [b"[" * 9999]),
        (["far.example/x:tag", f"far.example/x:tag@{Digest.of(RIGHT)}"], [RIGHT]),
        (["../../x@sha256:" + "0" * 64, "", "x@y", "x" * 100_000], [RIGHT]),
        ([named(RIGHT, "far.example/denied"), named(RIGHT, "far.example/signed")], [RIGHT]),
    ],
)
def test_names_that_are_not_true_are_left_out(
    pair: tuple[Engine, Engine], names: list[str], documents: list[bytes]
) -> None:
    _, far = pair
    assert _give(far, {"names": names, "documents": documents})[0] == b"Z"
    assert digests(far, "x") == []
    assert not (far.data_root / "content/blobs/sha256" / Digest.of(OTHER).hex).exists()


@pytest.mark.parametrize(
    "identity",
    [
        {"names": [named(RIGHT)] * (NAMES + 1), "documents": [RIGHT]},
        {"names": [], "documents": [bytes(DOCUMENTS), b"1"]},
        {"names": "x"},
        {"came": [{"blob": 1}]},
        b"",
    ],
)
def test_more_than_an_image_can_need(pair: tuple[Engine, Engine], identity: Any) -> None:
    _, far = pair
    assert _give(far, identity)[0] == b"F"
    assert far.api("GET", "/images/json?all=1").json() == []


def claim(**other: Any) -> dict[str, Any]:
    fields = {
        "blob": str(Digest.of(GZIP)),
        "stored": len(GZIP),
        "compression": "gzip",
        "compressor": f"gzip:zlib:6:{GZIP[:10].hex()}",
    }
    return fields | other


def test_a_claim_that_is_true(pair: tuple[Engine, Engine]) -> None:
    _, far = pair
    identity = {"names": [named(RIGHT)], "documents": [RIGHT], "came": [claim()]}
    assert _give(far, identity)[0] == b"Z"
    assert digests(far, "x") == [named(RIGHT)]
    until(lambda: _compression(far) == "gzip", "it was tried")


@pytest.mark.parametrize(
    "other",
    [
        {"blob": "sha256:" + "0" * 64},
        {"blob": "../../boxwood.db"},
        {"stored": len(GZIP) - 1},
        {"stored": 1 << 62},
        {"compression": "zstd"},
        {"compressor": "gzip:zlib:5:" + GZIP[:10].hex()},
        {"compressor": "gzip:zlib:6:" + "00" * 100_000},
        {"compressor": "zstd:zstandard:22:", "compression": "zstd"},
        {"compressor": "sh -c true"},
    ],
)
def test_claims_that_are_not_true(
    pair: tuple[Engine, Engine], tmp_path: Path, other: dict[str, Any]
) -> None:
    """They come to nothing: the layer is what it is, and goes out as we compress it."""
    _, far = pair
    identity = {"names": [named(RIGHT)], "documents": [RIGHT], "came": [claim(**other)]}
    assert _give(far, identity)[0] == b"Z"
    far.cli("push", "x", f"oci:{tmp_path}/out:x")
    manifest = json.loads(
        (tmp_path / "out/blobs/sha256" / Digest.parse(top_of(tmp_path / "out")).hex).read_text()
    )
    [layer] = manifest["layers"]
    data = (tmp_path / "out/blobs/sha256" / Digest.parse(layer["digest"]).hex).read_bytes()
    assert hashlib.sha256(gzip.decompress(data)).digest() == hashlib.sha256(PLAIN).digest()
    assert "nothing wrong" in far.cli("system", "fsck", "--deep").stdout
    assert _compression(far) == ""


def test_an_engine_of_before_understands_an_offer() -> None:
    """It reads the fields that it knows."""

    class Before(msgspec.Struct, frozen=True):
        config: bytes
        sizes: list[int]

    offer = offer_of(PLAIN, identity={"names": ["x"]})
    assert msgspec.msgpack.decode(offer, type=Before).sizes == [len(PLAIN)]
