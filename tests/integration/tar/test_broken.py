"""Streams that are broken, cut off, or not what was promised: one error, in bounded memory."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from boxwood.errors import BoxwoodError, InvalidArgument, ResourceExhausted, TooLarge
from boxwood.execution import worker_archive, worker_jobs
from boxwood.execution.worker import search_path
from tests.integration.tar.archives import archive, entry, folder, link, listing
from tests.support.needs import need_program

NOISE = random.Random(7).randbytes(40_000)
TEXT = b"".join(f"line {n}\n".encode() for n in range(9000))
LAYER = archive(folder("d"), entry("d/noise", data=NOISE), entry("text", data=TEXT), link("l", "d"))
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 6, mtime=0),
    "zstd": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "": bytes,
}
LIMITS = {"whiteouts": "overlay", "max_bytes": 1 << 40, "max_entries": 100_000}


@pytest.fixture
def room() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


def unpack(data: bytes, root: Path, **arguments: Any) -> dict[str, Any]:
    """Unpack as the worker does, errors translated as the worker translates them."""
    root.mkdir(exist_ok=True)
    source = os.memfd_create("layer")
    directory = os.open(root, os.O_RDONLY)
    try:
        os.write(source, data)
        os.lseek(source, 0, os.SEEK_SET)
        return worker_archive.unpack_layer({**LIMITS, **arguments}, [source, directory])
    except BoxwoodError:
        raise
    except Exception as error:
        raise worker_jobs.translate(error) from error
    finally:
        os.close(source)
        os.close(directory)


def sha(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


@pytest.mark.parametrize("kind", COMPRESS)
def test_what_is_whole_is_known(kind: str, room: Path) -> None:
    data = COMPRESS[kind](LAYER)
    found = unpack(data, room / "root", digest=sha(data), diff_id=sha(LAYER))
    assert (found["digest"], found["diff_id"]) == (sha(data), sha(LAYER))
    assert (found["stored"], found["compression"], found["entries"]) == (len(data), kind, 4)
    assert found["size"] == len(NOISE) + len(TEXT)
    assert not found["recipe"]


@pytest.mark.parametrize("kind", ["gzip", ""])
def test_longer_digests(kind: str, room: Path) -> None:
    data = COMPRESS[kind](LAYER)
    found = unpack(data, room / "root", digest=sha(data, "sha512"), diff_id=sha(LAYER))
    assert (found["digest"], found["diff_id"]) == (sha(data, "sha512"), sha(LAYER))
    with pytest.raises(InvalidArgument):
        unpack(data, room / "root", digest=sha(data + b"x", "sha512"))


@pytest.mark.parametrize("key", ["digest", "diff_id"])
@pytest.mark.parametrize("kind", COMPRESS)
def test_a_promise_that_lies(kind: str, key: str, room: Path) -> None:
    with pytest.raises(InvalidArgument) as caught:
        unpack(COMPRESS[kind](LAYER), room / "root", **{key: sha(b"another")})
    assert sha(b"another") in str(caught.value)


@pytest.mark.parametrize("wanted", ["md5:00", "sha256", "x" * 200, "sha256:00"])
def test_a_promise_of_another_kind(wanted: str, room: Path) -> None:
    with pytest.raises(InvalidArgument):
        unpack(LAYER, room / "root", digest=wanted)


def _places(length: int, soak: bool) -> list[int]:
    """The ends, where headers are, and others all along."""
    dice = random.Random(length)
    count = 400 if soak else 40
    ends = [*range(24), *range(length - 14, length)]
    return sorted({*ends, *(dice.randrange(length) for _ in range(count))})


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bzip2"])
def test_damaged_anywhere(kind: str, room: Path, soak: bool) -> None:
    """Found by the format's own check, or by the digest at the latest; never another outcome."""
    data = COMPRESS[kind](LAYER)
    for at in _places(len(data), soak):
        broken = bytearray(data)
        broken[at] ^= 0x41
        with pytest.raises((InvalidArgument, TooLarge)):
            unpack(bytes(broken), room / f"at{at}", digest=sha(data))


@pytest.mark.parametrize("kind", COMPRESS)
def test_cut_off_anywhere(kind: str, room: Path, soak: bool) -> None:
    data = COMPRESS[kind](LAYER)
    # A tar without its two empty blocks is taken by everybody, if it ends after an entry.
    length = len(data) if kind else len(LAYER.rstrip(b"\0")) // 512 * 512
    for at in _places(length, soak):
        if kind or (at > 0 and at % 512):
            with pytest.raises(InvalidArgument):
                unpack(data[:at], room / f"at{at}", diff_id=sha(LAYER))


def test_gzip_that_is_damaged_without_any_digest(room: Path) -> None:
    """The check at the end of a member counts, and its length."""
    data = COMPRESS["gzip"](LAYER)
    for at in range(len(data) - 8, len(data)):
        broken = bytearray(data)
        broken[at] ^= 1
        with pytest.raises(InvalidArgument):
            unpack(bytes(broken), room / "root")


def test_junk_after_a_member(room: Path) -> None:
    with pytest.raises(InvalidArgument):
        unpack(COMPRESS["gzip"](LAYER) + b"junk", room / "root")
    unpack(COMPRESS["gzip"](LAYER) + bytes(1000), room / "root")


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_full_disk(kind: str, room: Path) -> None:
    """One clear error, and what it was says so."""
    place = room / "small"
    place.mkdir()
    mount, umount = need_program("mount"), need_program("umount")
    subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], check=True)
    try:
        with pytest.raises(ResourceExhausted):
            unpack(COMPRESS[kind](LAYER), place)
    finally:
        subprocess.run([umount, place], check=True)


@pytest.mark.timeout(20)
def test_a_form_that_is_none(room: Path) -> None:
    """The threads end, although nobody takes what they have."""
    with pytest.raises(BoxwoodError):
        unpack(archive(entry("big", data=bytes(8 << 20))), room / "root", whiteouts="none")


def test_retry_after_an_error(room: Path) -> None:
    data = COMPRESS["gzip"](LAYER)
    with pytest.raises(InvalidArgument):
        unpack(data[:-9], room / "first")
    unpack(data, room / "second", digest=sha(data))
    assert set(listing(room / "second")) == {"d", "d/noise", "l", "text"}


def test_ratio(room: Path) -> None:
    """Bombs stop at the ratio that is allowed, whatever they are packed with."""
    zeros = archive(entry("zeros", data=bytes(80 << 20)))
    for kind in ("gzip", "zstd", "xz", "bzip2"):
        data = COMPRESS[kind](zeros)
        with pytest.raises(TooLarge):
            unpack(data, room / kind, max_ratio=500)
    data = COMPRESS["gzip"](zeros)
    assert unpack(data, room / "fine")["size"] == 80 << 20


@pytest.mark.parametrize("field", ["name", "linkname"])
def test_name_lengths(field: str, room: Path) -> None:
    def one(length: int) -> bytes:
        text = "/".join(["n" * 100] * 3)[:length]
        return archive(entry(text) if field == "name" else link("l", text))

    unpack(one(200), room / "root", max_name=200)
    with pytest.raises(TooLarge):
        unpack(one(201), room / "root", max_name=200)


MEMORY = """
import os, re, sys
from pathlib import Path
from boxwood.execution import worker_archive, worker_recipe
def peak(): # ru_maxrss would be that of whoever forked this process
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
root, size = os.open(sys.argv[1], os.O_RDONLY), int(sys.argv[2])
sink = os.open(sys.argv[3], os.O_RDWR)
arguments = {"whiteouts": "overlay", "max_bytes": 1 << 40, "max_entries": 10}
arguments |= {"max_ratio": 10**6, "recipe": True}
before = peak()
answer = worker_archive.unpack_layer(arguments, [0, root, sink])
assert answer["size"] == size, answer
print(peak() - before)
"""


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_memory_stays_small(kind: str, room: Path, soak: bool) -> None:
    """A large layer through little memory: what it takes does not follow from its size."""
    if "libasan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("the sanitizer keeps what was freed")
    size = (10 << 30) if soak else (256 << 20)
    source = subprocess.Popen(
        [sys.executable, "-c", _FEED, kind, str(size)], stdout=subprocess.PIPE
    )
    (room / "root").mkdir()
    (room / "recipe").touch()
    # Into a file that takes nothing: the tree is on a small tmpfs, and the file is zeros.
    code = f"import sys; sys.path[:] = {search_path()!r}\n{MEMORY}"
    target = room / "root" if not soak else Path(tempfile.mkdtemp(dir="/var/tmp"))
    done = subprocess.run(
        [sys.executable, "-c", code, target, str(size), room / "recipe"],
        stdin=source.stdout,
        stdout=subprocess.PIPE,
        check=True,
    )
    assert source.stdout is not None
    source.stdout.close()
    assert source.wait() == 0
    if soak:
        subprocess.run(["rm", "-r", target], check=True)
    assert 100 < int(done.stdout) < 64 << 10, "KiB"


_FEED = """
import sys, tarfile
from isal import isal_zlib
import zstandard
kind, size = sys.argv[1], int(sys.argv[2])
out = sys.stdout.buffer
gzip, zstd = isal_zlib.compressobj(1, wbits=31), zstandard.ZstdCompressor(1).compressobj()
made = gzip if kind == "gzip" else zstd
info = tarfile.TarInfo("big")
info.size = size
out.write(made.compress(info.tobuf(tarfile.PAX_FORMAT)))
piece = bytes(range(256)) * 4096
for _ in range(size // len(piece)):
    out.write(made.compress(piece))
out.write(made.compress(bytes(1024)))
out.write(made.flush())
"""
