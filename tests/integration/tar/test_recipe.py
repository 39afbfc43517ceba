"""Recipes: the very bytes of a layer, made again of the files beside them."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from isal import isal_zlib

from boxwood.errors import DataLoss, InvalidArgument
from boxwood.execution import worker_archive, worker_compress, worker_recipe
from boxwood_ext.tar import TarError
from tests.integration.tar.archives import archive, entry, folder, hard, header, link, pax, record
from tests.integration.tar.test_layers import ARCHIVES

FORMS = ("overlay", "aufs", "delete")
BUDGET = {"max_bytes": 1 << 40, "max_entries": 100_000}


@pytest.fixture
def room() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


class Applied:
    """A layer unpacked with a recipe."""

    def __init__(self, room: Path, data: bytes, form: str = "overlay") -> None:
        self.data = data
        self.room = room
        self.tree = room / "tree"
        self.tree.mkdir(exist_ok=True)
        (room / "layer").write_bytes(data)
        (room / "recipe").write_bytes(b"")
        self.answer = self._job(
            worker_archive.unpack_layer,
            {"whiteouts": form, "recipe": True, **BUDGET},
            [(room / "layer", os.O_RDONLY), (self.tree, os.O_RDONLY), (room / "recipe", os.O_RDWR)],
        )

    def _job(self, job: Any, arguments: dict[str, Any], files: list[tuple[Path, int]]) -> Any:
        fds = [os.open(path, flags, 0o600) for path, flags in files]
        try:
            return job(arguments, fds)
        finally:
            for fd in fds:
                os.close(fd)

    def assemble(self, compressor: str = "", **arguments: Any) -> bytes:
        out = self.room / "again"
        answer = self._job(
            worker_recipe.assemble_layer,
            {"compressor": compressor, **arguments},
            [
                (self.room / "recipe", os.O_RDONLY),
                (self.tree, os.O_PATH),
                (out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            ],
        )
        made = out.read_bytes()
        assert answer["size"] == len(made)
        assert answer["digest"] == f"sha256:{hashlib.sha256(made).hexdigest()}"
        return made


BIG = random.Random(4).randbytes(700_001)
SPARSE = (
    pax(record(b"GNU.sparse.size", b"100"), record(b"GNU.sparse.map", b"0,5,50,5"))
    + header(b"s", 10) + b"0123456789" + bytes(502)
)  # fmt: skip
LAYERS = {
    "files": archive(folder("d"), entry("d/a", data=BIG), entry("b", data=b"x"), entry("empty")),
    "links": archive(entry("a", data=b"abc"), hard("h", "a"), link("l", "d"), folder("d")),
    "below a link": archive(folder("d"), link("l", "d"), entry("l/f", data=b"abc")),
    "whiteouts": archive(entry(".wh.a"), entry("d/.wh..wh..opq"), entry("d/f", data=b"abc")),
    "sparse": SPARSE + archive(entry("after", data=b"abc")),
    "long names": archive(entry("n" * 250, data=b"1"), entry("m/" * 200 + "n", data=b"2")),
    "junk after the end": archive(entry("a", data=b"abc")) + b"junk" * 1000,
    "junk as padding": header(b"a", 3) + b"abc" + b"\xff" * 509 + bytes(1024),
    "no end": header(b"a", 3) + b"abc" + bytes(509),
    "nothing": b"",
    "metadata of aufs": archive(folder(".wh..wh.plnk"), entry(".wh..wh.plnk/1.2", data=b"abc")),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", LAYERS)
def test_the_same_bytes(name: str, form: str, room: Path) -> None:
    applied = Applied(room, LAYERS[name], form)
    assert applied.answer["recipe"]
    assert applied.assemble() == LAYERS[name]


def test_the_content_is_not_kept_twice(room: Path) -> None:
    applied = Applied(room, LAYERS["files"])
    assert (room / "recipe").stat().st_size < 1000
    (applied.tree / "d/a").write_bytes(b"\0" * len(BIG))
    with pytest.raises(DataLoss):
        applied.assemble()


REPLACED = {
    "file": [entry("a", data=b"old"), entry("a", data=b"new"), entry("a", data=BIG)],
    "link": [entry("a", data=b"old"), link("a", "b")],
    "folder": [entry("a", data=BIG), folder("a"), entry("a/a", data=b"1")],
    "of a folder": [entry("d/a", data=b"1"), entry("d/e/a", data=b"22"), entry("d", data=b"333")],
    "one of two names": [entry("a", data=b"old"), hard("b", "a"), entry("a", data=b"new")],
    "both names": [
        *(entry("a", data=b"old"), hard("b", "a"), entry("b", data=b"new")),
        *(entry("a", data=b"neu"), entry("c", data=b"old")),
    ],
    "without rights": [entry("a", data=b"old", mode=0), entry("a", data=b"new")],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", REPLACED)
def test_what_is_replaced_is_kept(name: str, form: str, room: Path) -> None:
    """A file that goes again in the same layer: the recipe has what it held."""
    data = archive(*REPLACED[name])
    applied = Applied(room, data, form)
    assert applied.answer["recipe"]
    assert applied.assemble() == data


def test_too_much_is_replaced(room: Path) -> None:
    """The archive has to be kept, and nothing is claimed."""
    data = archive(entry("a", data=bytes(16 << 20)), entry("a", data=b"1"), entry("a", data=b"2"))
    applied = Applied(room, data)
    assert not applied.answer["recipe"]
    with pytest.raises(DataLoss):
        applied.assemble()


def test_too_many_are_replaced(room: Path) -> None:
    assert Applied(room, archive(*[entry("a", data=b"x")] * 4097)).answer["recipe"]
    assert not Applied(room, archive(*[entry("a", data=b"x")] * 4099)).answer["recipe"]


def test_an_inode_that_is_used_again(room: Path) -> None:
    """On ext4 the next file has the number of the one that has just gone."""
    data = archive(*[entry(name, data=name.encode() * n) for n in range(1, 9) for name in "aba"])
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        applied = Applied(Path(name), data)
        assert applied.answer["recipe"]
        assert applied.assemble() == data


@pytest.mark.parametrize("cut", [12, 1])
def test_kept_content_that_is_lost(cut: int, room: Path) -> None:
    applied = Applied(room, archive(*REPLACED["file"]))
    whole = (room / "recipe").read_bytes()
    (room / "recipe").write_bytes(whole[:-cut])
    with pytest.raises(DataLoss):
        applied.assemble()


def test_what_lay_below_may_be_overwritten(room: Path) -> None:
    (room / "tree").mkdir()
    (room / "tree/a").write_bytes(b"below")
    (room / "tree/d").mkdir()
    (room / "tree/d/gone").write_bytes(b"below")
    data = archive(entry("a", data=b"new"), entry(".wh.d"), entry("b", data=b"1"))
    applied = Applied(room, data, "delete")
    assert applied.answer["recipe"]
    assert applied.assemble() == data


@pytest.mark.parametrize("change", ["missing", "longer", "shorter", "other", "a link"])
def test_a_changed_tree_is_told(change: str, room: Path) -> None:
    applied = Applied(room, archive(entry("a", data=b"old"), entry("b", data=b"old")))
    path = applied.tree / "a"
    if change in ("missing", "a link"):
        path.unlink()
    if change == "a link":
        path.symlink_to("b")
    elif change != "missing":
        path.write_bytes({"longer": b"older", "shorter": b"ol", "other": b"new"}[change])
    with pytest.raises(DataLoss):
        applied.assemble()


@pytest.mark.parametrize("cut", [0, 3, 40, -1])
def test_a_recipe_that_is_cut_off(cut: int, room: Path) -> None:
    applied = Applied(room, LAYERS["files"])
    whole = (room / "recipe").read_bytes()
    (room / "recipe").write_bytes(whole[:cut])
    with pytest.raises(DataLoss):
        applied.assemble()


def test_a_recipe_that_cannot_be_written(room: Path) -> None:
    """The layer is there all the same."""
    fds = [os.open("/dev/full", os.O_WRONLY), os.open(room, os.O_RDONLY)]
    source = os.memfd_create("layer")
    os.write(source, LAYERS["files"])
    os.lseek(source, 0, os.SEEK_SET)
    arguments = {"whiteouts": "overlay", "recipe": True, **BUDGET}
    answer = worker_archive.unpack_layer(arguments, [source, fds[1], fds[0]])
    for fd in (*fds, source):
        os.close(fd)
    assert not answer["recipe"]
    assert (room / "d/a").read_bytes() == BIG


@given(
    ARCHIVES,
    st.sampled_from(FORMS),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.binary(max_size=40),
)
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_any_archive(members: Any, form: str, kind: int, junk: bytes) -> None:
    """Either the very bytes come again, or the answer says that they do not."""
    data = archive(*members, format=kind) + junk
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        try:
            applied = Applied(Path(name), data, form)
        except TarError:
            return
        assert applied.answer["recipe"]
        assert applied.assemble() == data


TEXT = b"".join(f"{n} {n * n} some text\n".encode() for n in range(60_000))
NOISY = archive(entry("text", data=TEXT), entry("noise", data=BIG), entry("more", data=TEXT[::-1]))


def _gzip_named(level: int) -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile("layer.tar", "wb", level, out, mtime=1) as file:
        file.write(NOISY)
    return out.getvalue()


def _compressed(name: str) -> bytes:
    kind, _, level = name.partition(" ")
    if kind == "gzip":
        return gzip.compress(NOISY, int(level))
    if kind == "named":
        return _gzip_named(int(level))
    size = len(NOISY) if kind == "sized" else -1
    made = zstandard.ZstdCompressor(int(level), write_checksum=kind == "zstd").compressobj(size)
    return made.compress(NOISY) + made.flush()


@pytest.mark.parametrize(
    "name",
    ["gzip 1", "gzip 6", "gzip 9", "named 6", "zstd 1", "zstd 3", "zstd 7", "sized 3"],
)
def test_the_compressor_is_found(name: str, room: Path) -> None:
    data = _compressed(name)
    applied = Applied(room, data)
    assert applied.answer["compressor"], "not found"
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    again = applied.assemble(applied.answer["compressor"], digest=digest, size=len(NOISY))
    assert again == data


@pytest.mark.parametrize(
    ("begin", "level", "known"),
    [
        ("1f8b08000000000000ff", 6, True),  # Java's
        ("1f8b08000000000000ff", 5, False),
        ("1f8b0800010000000003", 5, True),
        ("1f8b080000096e8800ff", 6, False),  # Go's pgzip, were it zlib
        ("1f8b080001096e8800ff", 6, True),
    ],
)
def test_who_is_asked_by_the_header(begin: str, level: int, known: bool) -> None:
    """What cannot have made a stream is not tried: it takes longer than a small layer does."""
    name = f"gzip:zlib:{level}:{begin}"
    made = worker_compress.compressor(name)
    stored = made.compress(NOISY) + made.flush()
    found = worker_compress.find_compressor(
        "gzip", stored[: worker_compress.SAMPLE], NOISY[: 1 << 20], len(NOISY)
    )
    assert found == (name if known else "")


def _odd_memory() -> bytes:
    made = zlib.compressobj(6, wbits=31, memLevel=5)
    return made.compress(NOISY) + made.flush()


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(NOISY[:100_000]) + gzip.compress(NOISY[100_000:]),
        gzip.compress(NOISY[:2_000_000]) + gzip.compress(NOISY[2_000_000:]),
        gzip.compress(NOISY) + bytes(512),
        _odd_memory(),
        isal_zlib.compress(NOISY, 2, wbits=31),
        zstandard.ZstdCompressor(3).compress(NOISY),
    ],
    ids=[
        "two members",
        "two members, late",
        "zeros after it",
        "memLevel 5",
        "isal in one",
        "zstd in one",
    ],
)
def test_what_nobody_knows(data: bytes, room: Path) -> None:
    """Nothing is claimed, or the check by digest refuses what was made."""
    applied = Applied(room, data)
    assert applied.answer["recipe"]
    name = applied.answer["compressor"]
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if name:
        with pytest.raises(DataLoss):
            applied.assemble(name, digest=digest)


@pytest.mark.parametrize(
    "name",
    ["gzip", "gzip:isal:9", "gzip:zlib:1:zz", "gzip:zlib:77:1f8b", "zstd:zstandard:x:", "lz"],
)
def test_a_compressor_of_no_known_name(name: str) -> None:
    with pytest.raises(InvalidArgument):
        worker_compress.compressor(name)


def pack(data: bytes, room: Path, **arguments: Any) -> tuple[dict[str, Any], bytes]:
    (room / "tar").write_bytes(data)
    source = os.open(room / "tar", os.O_RDONLY)
    sink = os.open(room / "packed", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        answer = worker_compress.pack_layer(arguments, [source, sink])
    finally:
        os.close(source)
        os.close(sink)
    return answer, (room / "packed").read_bytes()


@pytest.mark.parametrize(
    ("compression", "level"),
    [("", 0), ("gzip", 0), ("gzip", 2), ("gzip", 9), ("zstd", 0), ("zstd", 1), ("zstd", 9)],
)
@pytest.mark.parametrize("data", [NOISY, b"", b"x"], ids=["noisy", "empty", "a byte"])
def test_packing(data: bytes, compression: str, level: int, room: Path) -> None:
    answer, packed = pack(data, room, compression=compression, level=level)
    assert answer["diff_id"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert answer["digest"] == f"sha256:{hashlib.sha256(packed).hexdigest()}"
    assert (answer["size"], answer["stored"]) == (len(data), len(packed))
    assert _unpacked(compression, packed) == data
    assert pack(data, room, compression=compression, level=level)[1] == packed
    if len(data) > 1:
        applied = Applied(room, packed)
        # What was packed is known again, and made again.
        assert applied.assemble(answer["compressor"]) == packed
        assert applied.answer["compressor"].split(":")[0] == compression


def _unpacked(compression: str, packed: bytes) -> bytes:
    if compression == "gzip":
        return gzip.decompress(packed)
    if compression == "zstd":
        return zstandard.decompress(packed, 1 << 24)
    return packed


def test_packing_to_a_full_disk(room: Path) -> None:
    (room / "tar").write_bytes(NOISY * 4)
    source, full = os.open(room / "tar", os.O_RDONLY), os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(OSError, match="space"):
            worker_compress.pack_layer({"compression": "gzip", "level": 1}, [source, full])
    finally:
        os.close(source)
        os.close(full)


@pytest.mark.parametrize(("name", "level"), [("xz", 0), ("zstd", 30), ("gzip;", 1)])
def test_packing_with_what_is_not_there(name: str, level: int, room: Path) -> None:
    with pytest.raises(InvalidArgument):
        pack(b"", room, compression=name, level=level)
