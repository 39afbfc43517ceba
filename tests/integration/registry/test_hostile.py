"""Registries that mean harm, and an engine: each is refused with a reason; memory and disk stay."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.tar.archives import archive, entry
from tests.support.engine import Engine
from tests.support.pulls import error_of, pull
from tests.support.scripted import LAYER, MANIFEST, Handler, Scripted, described, digest

pytestmark = pytest.mark.root

GROWTH = 96 << 20
"""Bytes of memory that a refusal may take at its highest: a manifest of 8 MiB is 60,000 objects."""
BOMB = gzip.compress(archive(entry("zeros", data=bytes(64 << 20))), 9)


@pytest.fixture
def registry() -> Iterator[Scripted]:
    """A registry with an image of one layer."""
    with Scripted(archive(entry("file", data=b"x"))).serving() as one:
        yield one


@pytest.fixture
def house(make_engine: Callable[..., Engine], tmp_path: Path) -> Engine:
    """An engine that takes layers of 8 MiB, and does not try twice."""
    file = tmp_path / "daemon.json"
    file.write_text('{"layer-max-size": "8m", "max-download-attempts": 1}')
    return make_engine("--config-file", str(file), busybox=False)


def with_layer(registry: Scripted, **changes: Any) -> bytes:
    """The manifest with its layer described otherwise."""
    document = json.loads(registry.manifests["1"][1])
    document["layers"][0] |= changes
    return json.dumps(document).encode()


def with_config(registry: Scripted, **changes: Any) -> bytes:
    """The manifest with its config described otherwise."""
    document = json.loads(registry.manifests["1"][1])
    document["config"] |= changes
    return json.dumps(document).encode()


def many_layers(registry: Scripted) -> bytes:
    """As many layers as a document holds."""
    document = json.loads(registry.manifests["1"][1])
    document["layers"] = [{"digest": digest(b""), "size": 1}] * 80_000
    return json.dumps(document, separators=(",", ":")).encode()


def bomb(registry: Scripted) -> bytes:
    """A layer of 64 KiB that is 64 MiB."""
    registry.blobs[digest(BOMB)] = BOMB
    return with_layer(registry, **described(LAYER, BOMB))


DOCUMENTS: dict[str, tuple[Callable[[Scripted], bytes], str]] = {
    "many layers": (many_layers, "layers length mismatch"),
    "a config of 1 GB": (lambda it: with_config(it, size=1 << 30), "larger than"),
    "a config of less than nothing": (lambda it: with_config(it, size=-1), "more than its -1"),
    "a config of another size": (lambda it: with_config(it, size=10), "more than its 10 bytes"),
    "a config's digest as a path": (
        lambda it: with_config(it, digest="../../../../etc/passwd"),
        "invalid checksum digest format",
    ),
    "a layer's digest as a path": (
        lambda it: with_layer(it, digest="sha256:../../../../etc/passwd"),
        "invalid checksum digest format",
    ),
    "a layer of less than nothing": (lambda it: with_layer(it, size=-5), "a layer of -5 bytes"),
    "a layer that is larger": (lambda it: with_layer(it, size=3), "more than its 3 bytes"),
    "levels": (lambda _: b'{"a":' * 100_000, "manifest"),
    "no JSON": (lambda _: b"\xff\xfe", "manifest"),
    "a decompression bomb": (bomb, "more content than allowed"),
}


def refused(house: Engine, name: str) -> str:
    """Pull, and return the one error."""
    return error_of(pull(house, name))


def files(house: Engine) -> set[str]:
    """What is in the content store, but for what a next pull would go on with."""
    found = (path for path in (house.data_root / "content").rglob("*") if path.is_file())
    return {str(path) for path in found if path.parent.name != "partial"}


def partial(house: Engine) -> int:
    """Bytes that are kept for a next pull."""
    return sum(path.stat().st_size for path in (house.data_root / "content/partial").iterdir())


def peak(house: Engine) -> int:
    """Bytes of memory that the daemon has had at its highest since the mark was set back."""
    text = Path(f"/proc/{house.pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) << 10


def test_documents_that_lie(house: Engine, registry: Scripted) -> None:
    """Digests as paths, sizes that are none, a bomb: one error each, and nothing is left."""
    assert refused(house, registry.image) == ""
    house.api("DELETE", f"/images/{quote(registry.image, safe='')}?force=1")
    before = files(house)
    clear = Path(f"/proc/{house.pid}/clear_refs")
    clear.write_text("5")
    start, said = peak(house), {}
    for tag, (make, _) in DOCUMENTS.items():
        document = make(registry)
        name = "t" + digest(document)[7:20]
        registry.put(name, MANIFEST, document)
        said[tag] = refused(house, f"{registry.address}/x/y:{name}")
    wrong = {tag: text for tag, text in said.items() if DOCUMENTS[tag][1] not in text}
    assert wrong == {}
    assert files(house) == before
    assert partial(house) < 1 << 20
    assert peak(house) - start < GROWTH


HEADS: dict[str, tuple[dict[str, str], str]] = {
    "1 GB": ({"Content_Length": str(1 << 30)}, "larger than"),
    "a path": ({"Docker_Content_Digest": "../../etc/passwd"}, "../../etc/passwd"),
    "another's digest": ({"Docker_Content_Digest": digest(b"another")}, "manifest"),
}


def test_heads_that_lie(house: Engine, registry: Scripted) -> None:
    """A manifest of 1 GB, one that is named by a path, or by another's digest: by GET, and by HEAD,
    which is asked then."""
    kind, data = registry.manifests["1"]
    for headers, words in HEADS.values():
        said = {"Content_Length": str(len(data)), "Docker_Content_Digest": digest(data)} | headers

        def script(handler: Handler, said: dict[str, str] = said) -> bool:
            if not handler.path.endswith("/manifests/1"):
                return False
            handler.answer(200, data, Content_Type=kind, **said)
            handler.close_connection = True
            return True

        registry.script = script
        assert words in refused(house, registry.image)
    assert not any("etc" in one for one in registry.requests)
    assert len(registry.asked("HEAD", "/manifests/1")) == len(HEADS)


@pytest.mark.parametrize("tag", ["../../etc", "a b", "x\r\nHost: evil", "a" * 200, "\u00e9", ""])
def test_tags_that_are_none(clean_engine: Engine, registry: Scripted, tag: str) -> None:
    """Names that escape, or would be more than a name: nothing is asked by them, or pulled."""

    def script(handler: Handler) -> bool:
        if "/tags/list" not in handler.path:
            return False
        handler.answer(200, json.dumps({"tags": ["1", tag]}).encode())
        return True

    registry.script = script
    said = refused(clean_engine, f"{registry.address}/x/y")
    assert said.startswith(f"tags of {registry.address}/x/y: the registry lists ")
    assert said.isprintable()
    assert registry.requests == ["GET /v2/x/y/tags/list?n=1000"]
