"""Fuzzing of the tar extractor: mutated archives, the kept corpus and whatever was found before.

``./dev fuzz`` runs it for long; ``python -m tests.fuzz.fuzz_tar SECONDS [SEED]`` by hand. Best
under a build with sanitizers (``BOXWOOD_DEBUG=1``). A crash ends the process; the input that did
it is in ``tests/fuzz/corpus/tar/last`` and belongs into the corpus then.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

from boxwood_ext import tar
from tests.integration.tar.archives import archive, entry, folder, hard, header, link, pax, record

CORPUS = Path(__file__).parent / "corpus" / "tar"


def seeds() -> list[bytes]:
    """Return good and bad archives of every kind."""
    built = [
        archive(folder("a"), entry("a/b", data=b"x" * 700), link("l", "a"), hard("h", "a/b")),
        archive(entry("n" * 150, data=b"x"), entry(".wh.a"), entry("a/.wh..wh..opq"), format=1),
        pax(record(b"path", b"p"), record(b"SCHILY.xattr.user.a", b"b\0c"))
        + header(b"a", 3) + b"abc",
        pax(record(b"LIBARCHIVE.xattr.user.a", b"YWJj"), record(b"mtime", b"-1.5")) + header(b"a"),
        pax(record(b"GNU.sparse.size", b"100"), record(b"GNU.sparse.map", b"0,5,50,5"))
        + header(b"s", 10) + b"0123456789" + bytes(502),
        pax(record(b"GNU.sparse.major", b"1"), record(b"GNU.sparse.minor", b"0"),
            record(b"GNU.sparse.realsize", b"100"))
        + header(b"s", 522) + b"2\n0\n5\n50\n5\n" + bytes(501) + b"0123456789" + bytes(502),
        header(b"old", 5, b"S")[:386] + b"%011o\0" % 0 + b"%011o\0" % 5,
    ]  # fmt: skip
    kept = sorted(CORPUS.glob("*")) if CORPUS.exists() else []
    return built + [path.read_bytes() for path in kept if path.name != "last"]


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Change a few bytes, blocks or lengths, and mostly put the checksums right again."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        if not out:
            break
        at = rng.randrange(len(out))
        what = rng.randrange(5)
        if what == 0:
            out[at] = rng.randrange(256)
        elif what == 1:
            out[at : at + rng.randint(1, 16)] = rng.randbytes(rng.randint(0, 16))
        elif what == 2:
            block = at - at % 512
            out[block:block] = out[rng.randrange(len(out)) // 512 * 512 :][:512]
        elif what == 3:
            del out[at : at + rng.randint(1, 600)]
        else:
            out[at : at + 4] = rng.choice(
                [b"0000", b"7777", b"\xff\xff\xff\xff", b"../.", b"\0\0\0\0"]
            )
    if rng.random() < 0.8:
        for start in range(0, len(out) - 511, 512):
            if out[start + 257 : start + 262] == b"ustar":
                out[start + 148 : start + 156] = b" " * 8
                out[start + 148 : start + 156] = b"%06o\0 " % (
                    sum(out[start : start + 512]) & 0o777777
                )
    return bytes(out)


def one(data: bytes, room: Path) -> None:
    """Extract in each form into fresh directories, and look that nothing came beside them.

    Through a ring in odd pieces, with records, on a tree below, at hand or afterwards: all that
    there is.
    """
    (room / "below").mkdir(exist_ok=True)
    below = os.open(room / "below", os.O_RDONLY)
    tar.extract(_ring(_BELOW, 100), below, whiteouts="delete")
    alone = len(data) // 512 % 2 == 1
    for form in ("overlay", "aufs", "delete"):
        root = room / form
        root.mkdir()
        target, records = os.open(root, os.O_RDONLY), os.memfd_create("records")
        try:
            found = tar.extract(
                _ring(data, len(data) % 700 + 1),
                target,
                whiteouts=form,  # type: ignore[arg-type]
                max_bytes=1 << 24,
                max_entries=1000,
                parent_fd=-1 if alone else below,
                record_fd=records,
                prefix="a/l" if len(data) % 5 == 0 else "",
            )
            tar.adopt(target, below, found["implied"])
        except tar.TarError:
            pass
        os.close(records)
        os.close(target)
        if sorted(os.listdir(room)) != sorted([form, "below"]):
            raise AssertionError(f"something came beside the root: {os.listdir(room)}")
        shutil.rmtree(root)
    os.close(below)


_BELOW = archive(folder("a", mode=0o711, uid=3), entry("a/b", data=b"below"), link("a/l", "/a"))


def _ring(data: bytes, size: int) -> tar.Ring:
    """The stream in pieces, fed by a thread as the workers do."""
    ring = tar.Ring()

    def feed() -> None:
        for at in range(0, len(data), size):
            if not ring.put(data[at : at + size]):
                return
        ring.end()

    threading.Thread(target=feed).start()
    return ring


def main(seconds: float, seed: int) -> int:
    """Fuzz for a while; returns how many inputs were tried."""
    rng = random.Random(seed)
    corpus = seeds()
    end = time.monotonic() + seconds
    tried = 0
    os.umask(0)
    room = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        while time.monotonic() < end:
            data = mutate(rng.choice(corpus), rng)
            CORPUS.mkdir(parents=True, exist_ok=True)
            (CORPUS / "last").write_bytes(data)
            one(data, room)
            tried += 1
    finally:
        shutil.rmtree(room, ignore_errors=True)
    (CORPUS / "last").unlink(missing_ok=True)
    return tried


if __name__ == "__main__":
    wanted = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(1 << 30)
    print(f"seed {wanted}")
    print(main(float(sys.argv[1]) if len(sys.argv) > 1 else 10.0, wanted), "inputs")
