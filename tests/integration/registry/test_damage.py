"""Compressed layers that are cut off or corrupt: one sentence, wherever they come from."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from boxwood.model.digest import Digest
from tests.support.engine import Engine
from tests.support.layouts import Layout
from tests.support.tars import noise, tar_of

pytestmark = pytest.mark.root

PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}
KINDS = [(kind, how) for kind in PACKED for how in ("cut", "corrupt")]
RAW = re.compile(r"[Ee]rror -?\d|isal|zlib|lzma|ZstdError|zstd decom|marker|Error\b(?! response)")
"""Words of libraries and of Python."""


TAR = tar_of({"file": noise(3, 200_000) + bytes(200_000)})
"""A layer of one file, half of which does not compress."""


def damaged(kind: str, how: str) -> bytes:
    """Return a layer that is cut off, or has a wrong byte behind its first half."""
    data = bytearray(PACKED[kind](TAR))
    if how == "cut":
        return bytes(data[: len(data) * 3 // 4])
    for at in range(len(data) // 2, len(data) // 2 + 40):
        data[at] ^= 0x55
    return bytes(data)


def said(kind: str, how: str, text: str, *, named: bytes | None = None) -> None:
    """One sentence, in our words, with the layer's digest."""
    wrong = "ends too early" if how == "cut" else "is corrupt"
    assert f"its {kind} data {wrong}" in text, text
    assert RAW.search(text) is None, text
    if named is not None:
        assert Digest.of(named) in text, text


def failing(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a command that failed has said."""
    assert done.returncode == 1, done
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize(("kind", "how"), KINDS)
def test_pull_and_copy(engine: Engine, tmp_path: Path, kind: str, how: str) -> None:
    layout, layer = Layout(tmp_path / "l"), damaged(kind, how)
    layout.call("x", layout.manifest(layer, TAR))
    done = engine.cli("pull", "--name", "damaged:1", f"{layout.name}:x", check=False)
    said(kind, how, failing(done), named=layer)
    done = engine.cli("copy", f"{layout.name}:x", f"docker-archive:{tmp_path}/a.tar", check=False)
    if (kind, how) == ("zstd", "cut"):  # its end is found out by what it should have been
        assert "the layers are not those of the config" in failing(done)
    else:
        said(kind, how, failing(done), named=layer)
    assert not (tmp_path / "a.tar").exists()
    assert engine.api("GET", "/images/damaged:1/json").status == 404


@pytest.mark.parametrize(("kind", "how"), KINDS)
def test_load_of_a_damaged_layer_and_of_a_damaged_archive(
    engine: Engine, tmp_path: Path, kind: str, how: str
) -> None:
    layer = damaged(kind, how)
    config = json.dumps(
        {"os": "linux", "rootfs": {"type": "layers", "diff_ids": [Digest.of(TAR)]}}
    ).encode()
    listed = [{"Config": "c.json", "RepoTags": ["damaged:1"], "Layers": ["l.tar"]}]
    path = tmp_path / "a.tar"
    files = {"l.tar": layer, "c.json": config, "manifest.json": json.dumps(listed).encode()}
    path.write_bytes(tar_of(files))
    text = failing(engine.cli("load", "-q", "-i", path, check=False))
    said(kind, how, text)
    assert Digest.of(TAR) in text
    path.write_bytes(damaged(kind, how))
    said(kind, how, failing(engine.cli("load", "-q", "-i", path, check=False)))
    assert engine.api("GET", "/images/damaged:1/json").status == 404


@pytest.mark.parametrize(("kind", "how"), KINDS)
def test_import(engine: Engine, tmp_path: Path, kind: str, how: str) -> None:
    path = tmp_path / "layer"
    path.write_bytes(damaged(kind, how))
    said(kind, how, failing(engine.cli("import", path, "damaged:1", check=False)))
    assert engine.api("GET", "/images/damaged:1/json").status == 404
