"""Directories and archives of images from strangers, and what is written to them."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxwood.drivers.registry import RegistryTransport, Session
from boxwood.errors import BoxwoodError, InvalidArgument, NotFound, TooLarge, Unsupported
from boxwood.model.descriptor import (
    DOCKER_LAYER,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
)
from boxwood.model.digest import Digest
from boxwood_plugins.registry._content import PIECE, gather
from boxwood_plugins.registry._names import parse
from boxwood_plugins.registry._tars import Tar
from boxwood_plugins.registry.dir import DirTransport
from boxwood_plugins.registry.docker_archive import DockerArchiveTransport
from boxwood_plugins.registry.oci import OciTransport
from boxwood_plugins.registry.oci_archive import OciArchiveTransport

TRANSPORTS: tuple[type[RegistryTransport[Any]], ...] = (
    OciTransport,
    OciArchiveTransport,
    DirTransport,
    DockerArchiveTransport,
)
TAR = io.BytesIO()
with tarfile.open(fileobj=TAR, mode="w") as made:
    made.addfile(tarfile.TarInfo("file"))
LAYER = TAR.getvalue()
CONFIG = json.dumps(
    {"os": "linux", "architecture": "amd64",
     "rootfs": {"type": "layers", "diff_ids": [Digest.of(LAYER)]}}
).encode()  # fmt: skip


def described(kind: str, data: bytes) -> Descriptor:
    """Return the descriptor of content."""
    return Descriptor(media_type=kind, digest=str(Digest.of(data)), size=len(data))


def source(data: bytes) -> Callable[[int], AsyncIterator[bytes]]:
    """Return what a push reads content from, in small pieces."""

    async def pieces(offset: int) -> AsyncIterator[bytes]:
        for at in range(offset, len(data), 1000):
            yield data[at : at + 1000]

    return pieces


def plain(one: Descriptor) -> dict[str, Any]:
    """Return a descriptor as documents hold it."""
    return {"mediaType": one.media_type, "digest": one.digest, "size": one.size}


def image(layer: bytes = LAYER, kind: str = OCI_LAYER) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Return a manifest, and its blobs with their types."""
    blobs = [(kind, layer), (OCI_CONFIG, CONFIG)]
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": plain(described(OCI_CONFIG, CONFIG)),
        "layers": [plain(described(kind, layer))],
    }
    return json.dumps(manifest).encode(), blobs


async def pushed(transport: RegistryTransport[Any], text: str, **more: Any) -> Descriptor:
    """Push the image; returns what it is."""
    manifest, blobs = image(**more)
    name = transport.parse(text)
    async with transport.session(name, Session(writing=True)):
        for kind, data in blobs:
            await transport.push(name, described(kind, data), source(data))
        top = described(OCI_MANIFEST, manifest)
        await transport.push(name, top, source(manifest))
    return top


async def push_one(
    transport: RegistryTransport[Any], name: Any, one: Descriptor, data: bytes
) -> None:
    """Push one content, which may be other than announced."""
    async with transport.session(name, Session(writing=True)):
        await transport.push(name, one, source(data))


async def fetched(transport: RegistryTransport[Any], text: str, one: Descriptor) -> bytes:
    """Return content."""
    return b"".join([piece async for piece in transport.fetch(transport.parse(text), one)])


# There and back


@pytest.mark.parametrize("make", TRANSPORTS)
async def test_what_goes_in_comes_out(
    make: Callable[[], RegistryTransport[Any]], tmp_path: Path
) -> None:
    """From any offset, in a session and without one, twice over."""
    transport = make()
    text = f"{transport.scheme}:{tmp_path / 'one'}"
    for _ in range(2):
        await pushed(transport, text)
    name = transport.parse(text)
    assert transport.parse(str(name)) == name
    top = await transport.resolve(name)
    manifest = json.loads(await fetched(transport, text, top))
    async with transport.session(name):
        layer = Descriptor(digest=manifest["layers"][0]["digest"], size=len(LAYER))
        assert await fetched(transport, text, layer) == LAYER
        got = [piece async for piece in transport.fetch(name, layer, 100)]
        assert b"".join(got) == LAYER[100:]
    assert os.listdir(tmp_path) == ["one"]
    with pytest.raises(BoxwoodError):
        await fetched(transport, text, described(OCI_LAYER, b"other"))
    with pytest.raises(NotFound):
        await transport.resolve(transport.parse(f"{transport.scheme}:{tmp_path / 'two'}"))


@pytest.mark.parametrize("make", TRANSPORTS)
async def test_a_push_that_ends_early_leaves_the_image_before(
    make: Callable[[], RegistryTransport[Any]], tmp_path: Path
) -> None:
    """Other bytes than announced, fewer, more: refused, and what was there is there."""
    transport = make()
    text = f"{transport.scheme}:{tmp_path / 'one'}"
    await pushed(transport, text)
    shown = sorted(path.name for path in tmp_path.rglob("*"))
    found = await transport.resolve(transport.parse(text))
    name = transport.parse(text)
    for data in (b"y" * 4000, b"x" * 3999, b"x" * 4001):
        with pytest.raises(InvalidArgument):
            await push_one(transport, name, described(OCI_LAYER, b"x" * 4000), data)
    assert sorted(path.name for path in tmp_path.rglob("*")) == shown
    assert await transport.resolve(name) == found
    assert len(await fetched(transport, text, found)) == found.size


async def test_a_broken_blob_is_written_again(tmp_path: Path) -> None:
    """A file of another size than its digest's content does not stay."""
    transport = OciTransport()
    await pushed(transport, f"oci:{tmp_path}/l:1")
    path = tmp_path / "l/blobs/sha256" / Digest.of(LAYER).hex
    path.write_bytes(b"short")
    with pytest.raises(BoxwoodError, match="5 bytes"):
        await fetched(transport, f"oci:{tmp_path}/l:1", described(OCI_LAYER, LAYER))
    await pushed(transport, f"oci:{tmp_path}/l:1")
    assert path.read_bytes() == LAYER


async def test_many_write_one_layout(tmp_path: Path) -> None:
    """Each finds its image in the index afterwards."""
    names = [f"n{number}" for number in range(12)]
    await asyncio.gather(*(pushed(OciTransport(), f"oci:{tmp_path}/l:{one}") for one in names))
    transport = OciTransport()
    assert await transport.tags(transport.parse(f"oci:{tmp_path}/l")) == sorted(names)


async def test_an_index_goes_whole_into_an_archive(tmp_path: Path) -> None:
    """Manifests that an index names are pinned; the index is the image."""
    transport = OciArchiveTransport()
    manifest, blobs = image()
    child = described(OCI_MANIFEST, manifest)
    index = json.dumps({"schemaVersion": 2, "manifests": [plain(child)]}).encode()
    name = transport.parse(f"oci-archive:{tmp_path}/a.tar")
    async with transport.session(name, Session(writing=True)):
        for kind, data in blobs:
            await transport.push(name, described(kind, data), source(data))
        pinned = transport.pinned(name, Digest.of(manifest))
        await transport.push(pinned, child, source(manifest))
        await transport.push(name, described(OCI_INDEX, index), source(index))
    assert (await transport.resolve(name)).digest == Digest.of(index)
    assert (await transport.resolve(pinned)).digest == Digest.of(manifest)


@pytest.mark.parametrize("how", ["gzip", "two gzips", "zstd", "xz", "bzip2", "plain"])
async def test_docker_archives_hold_bare_layers(tmp_path: Path, how: str) -> None:
    """What comes compressed is decompressed, and its digest is the diff id."""
    import zstandard

    half = len(LAYER) // 2
    layer = {
        "gzip": gzip.compress(LAYER),
        "two gzips": gzip.compress(LAYER[:half]) + gzip.compress(LAYER[half:]),
        "zstd": zstandard.compress(LAYER),
        "xz": lzma.compress(LAYER),
        "bzip2": bz2.compress(LAYER) + bytes(30),
        "plain": LAYER,
    }[how]
    await pushed(DockerArchiveTransport(), f"docker-archive:{tmp_path}/a.tar", layer=layer)
    with tarfile.open(tmp_path / "a.tar") as archive:
        held = archive.extractfile(f"{Digest.of(LAYER).hex}.tar")
        assert held is not None
        assert held.read() == LAYER


@pytest.mark.parametrize(
    "layer",
    [b"other", gzip.compress(LAYER, mtime=0)[:-9], b"\x1f\x8b" + b"x" * 90],
    ids=["other", "cut", "no gzip"],  # two processes must give them the same names
)
async def test_docker_archives_refuse_other_layers(tmp_path: Path, layer: bytes) -> None:
    """What is not the config's layer makes no archive."""
    with pytest.raises(InvalidArgument):
        await pushed(DockerArchiveTransport(), f"docker-archive:{tmp_path}/a.tar", layer=layer)
    assert os.listdir(tmp_path) == []


def docker_archive(path: Path, layer: bytes, **more: Any) -> None:
    """Write an archive by hand."""
    entry = {"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l/layer.tar"], **more}
    with tarfile.open(path, "w") as archive:
        for name, data in (
            ("manifest.json", json.dumps([entry]).encode()),
            ("c.json", CONFIG),
            ("other", layer),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("l/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../other"
        archive.addfile(link)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("squeezed", [False, True])
async def test_archives_of_others(tmp_path: Path, packed: bool, squeezed: bool) -> None:
    """Layers behind links, compressed layers, compressed archives."""
    layer = gzip.compress(LAYER) if packed else LAYER
    docker_archive(tmp_path / "a.tar", layer)
    if squeezed:
        data = gzip.compress((tmp_path / "a.tar").read_bytes())
        (tmp_path / "a.tar").write_bytes(data)
    transport, text = DockerArchiveTransport(), f"docker-archive:{tmp_path}/a.tar:a:1"
    manifest = json.loads(await fetched(transport, text, await transport.resolve(
        transport.parse(text))))  # fmt: skip
    (described_layer,) = manifest["layers"]
    assert described_layer["digest"] == Digest.of(layer)
    assert described_layer["mediaType"] == DOCKER_LAYER + (".gzip" if packed else "")
    one = Descriptor(digest=described_layer["digest"], size=described_layer["size"])
    assert await fetched(transport, text, one) == layer
    with pytest.raises(NotFound, match="there are a:1"):
        await transport.resolve(transport.parse(f"docker-archive:{tmp_path}/a.tar:b"))


# Pieces


async def test_the_next_piece_comes_while_one_is_taken() -> None:
    """And all of them arrive, in their order, whatever their sizes."""
    sizes = [PIECE, 1, PIECE - 1, 3 * PIECE, 5]
    taking, taken = threading.Event(), []

    async def pieces(offset: int) -> AsyncIterator[bytes]:
        for number, size in enumerate(sizes):
            yield bytes([number]) * size
            if number == 0:
                await asyncio.to_thread(taking.wait, 10)

    def take(data: bytes) -> None:
        taking.set()
        taken.append(data)

    await gather(pieces, take)
    whole = b"".join(bytes([number]) * size for number, size in enumerate(sizes))
    assert b"".join(taken) == whole
    assert [len(one) for one in taken] == [PIECE, PIECE, 3 * PIECE, 5]


@pytest.mark.parametrize("who", ["source", "sink"])
async def test_after_a_fault_nothing_is_taken_any_more(who: str) -> None:
    """The thread that is at work is waited for: what it uses is closed next."""
    working, taken = threading.Event(), 0

    async def pieces(offset: int) -> AsyncIterator[bytes]:
        for _ in range(2):
            yield bytes(PIECE)
        if who == "source":
            raise InvalidArgument("broken")
        yield bytes(PIECE)

    def take(data: bytes) -> None:
        nonlocal taken
        working.set()
        time.sleep(0.05)
        working.clear()
        taken += 1
        if who == "sink":
            raise InvalidArgument("full")

    with pytest.raises(InvalidArgument):
        await gather(pieces, take)
    assert not working.is_set()
    assert taken <= 2


# Hostile


def layout(path: Path, entry: dict[str, Any]) -> Path:
    """Write a layout with an entry of the test's own."""
    (path / "blobs/sha256").mkdir(parents=True)
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return path


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        ({"mediaType": OCI_MANIFEST, "digest": "sha256:../../../etc/passwd", "size": 9},
         InvalidArgument),
        ({"mediaType": OCI_MANIFEST, "digest": f"sha256:{'0' * 64}", "size": -1}, BoxwoodError),
        ({"mediaType": OCI_MANIFEST, "digest": f"sha256:{'0' * 64}", "size": 1 << 40},
         BoxwoodError),
        ({"mediaType": "text/html", "digest": f"sha256:{'0' * 64}", "size": 1}, Unsupported),
    ],
)  # fmt: skip
async def test_entries_that_lie(
    tmp_path: Path, entry: dict[str, Any], error: type[BoxwoodError]
) -> None:
    """A digest that is a path, a size that cannot be, something that is no image."""
    layout(tmp_path / "l", entry)
    with pytest.raises(error):
        await OciTransport().resolve(parse("oci", f"oci:{tmp_path}/l"))


@pytest.mark.parametrize("where", ["blob", "algorithm", "fifo", "directory"])
async def test_nothing_outside_is_read(tmp_path: Path, where: str) -> None:
    """Links out of the layout are not followed, and only files are read."""
    secret = b"root:x:0:0"
    top = described(OCI_MANIFEST, secret)
    home = layout(tmp_path / "l", plain(top))
    hexadecimal = Digest.of(secret).hex
    blob = home / "blobs/sha256" / hexadecimal
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / hexadecimal).write_bytes(secret)
    if where == "blob":
        blob.symlink_to(outside / hexadecimal)
    elif where == "algorithm":
        (home / "blobs/sha256").rmdir()
        (home / "blobs/sha256").symlink_to(outside)
    elif where == "fifo":
        os.mkfifo(blob)
    else:
        blob.mkdir()
    with pytest.raises(InvalidArgument):
        await fetched(OciTransport(), f"oci:{tmp_path}/l", top)
    if where in ("blob", "algorithm"):
        with pytest.raises(BoxwoodError):
            await pushed(OciTransport(), f"oci:{tmp_path}/l:1", layer=secret)
    assert os.listdir(outside) == [hexadecimal]


async def test_documents_are_bounded(tmp_path: Path) -> None:
    """An index of a terabyte is not read."""
    home = layout(tmp_path / "l", {})
    with (home / "index.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(TooLarge):
        await OciTransport().resolve(parse("oci", f"oci:{tmp_path}/l"))


async def test_files_that_name_each_other(tmp_path: Path) -> None:
    """A directory whose manifests are in a circle is swept in bounded time."""
    await pushed(DirTransport(), f"dir:{tmp_path}/d")
    index = {"schemaVersion": 2, "manifests": [plain(described(OCI_INDEX, b""))]}
    empty = f"{Digest.of(b'').hex}.manifest.json"
    for name in ("manifest.json", empty):
        (tmp_path / "d" / name).write_text(json.dumps(index))
    transport = DirTransport()
    async with transport.session(transport.parse(f"dir:{tmp_path}/d"), Session(writing=True)):
        pass
    assert sorted(os.listdir(tmp_path / "d")) == sorted(["version", "manifest.json", empty])


@pytest.mark.parametrize(
    "text",
    ["oci:relative", "oci:", "oci:/a:", "oci:/a\0b", "oci:/a@sha256:1", f"oci:/{'a' * 5000}",
     "oci:/a:\n"],
)  # fmt: skip
def test_names_that_are_none(text: str) -> None:
    """Refused before anything is opened."""
    with pytest.raises(InvalidArgument):
        OciTransport().parse(text)


# Tar

LETTERS = st.characters(codec="utf-8", exclude_characters="\0/", exclude_categories=["C"])


@pytest.mark.property
@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(LETTERS, min_size=1, max_size=200),
            st.binary(max_size=1500),
        ),
        max_size=6,
    ),
    st.sampled_from((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)),
)  # fmt: skip
def test_tars_are_read_as_tarfile_reads_them(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, bytes]], form: int
) -> None:
    """Names of any length and alphabet, in both formats."""
    path = tmp_path_factory.getbasetemp() / "read.tar"
    wanted = {name: data for name, data in files if name not in (".", "..")}
    with tarfile.open(path, "w", format=form) as archive:
        for name, data in wanted.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    if not wanted:
        return
    found = Tar(str(path))
    try:
        for name, data in wanted.items():
            extent = found.open(name)
            assert os.pread(extent.fd, extent.size, extent.start) == data
            os.close(extent.fd)
    finally:
        found.close()


@pytest.mark.property
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_broken_tars_are_errors_of_ours(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever bytes are changed, it ends, in a tar or in an error that has a class."""
    path = tmp_path_factory.getbasetemp() / "broken.tar"
    docker_archive(path, LAYER)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    block = data.draw(st.integers(0, len(content) // 512 - 1)) * 512
    header = content[block : block + 512]
    header[148:156] = b" " * 8
    content[block + 148 : block + 156] = b"%06o\0 " % sum(header)
    path.write_bytes(content)
    try:
        tar = Tar(str(path))
    except BoxwoodError:
        return
    try:
        os.close(tar.open("manifest.json").fd)
    except BoxwoodError:
        pass
    finally:
        tar.close()


def test_tars_of_links_in_a_circle(tmp_path: Path) -> None:
    """They lead nowhere, and that is said."""
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, goal in (("a", "b"), ("b", "a")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, goal
            archive.addfile(info)
    tar = Tar(str(tmp_path / "a.tar"))
    with pytest.raises(InvalidArgument, match="circle"):
        tar.open("a")
    tar.close()
