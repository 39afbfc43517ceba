"""The floor that the bench holds unpacking against does unpack: the same files, whole."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
from pathlib import Path

from boxwood_ext import diff
from tests.bench import floor
from tests.support.needs import need_root


def test_the_floor_unpacks_what_tar_wrote(tmp_path: Path, fuzz_random: random.Random) -> None:
    need_root()
    tree, target, layer = tmp_path / "tree", tmp_path / "to", tmp_path / "layer.tar"
    long = "n" * 120
    for directory in (tree / "a" / long, tree / "b"):
        directory.mkdir(parents=True)
    for number in range(40):
        size = fuzz_random.choice((0, 1, 511, 512, 513, 70_000, 300_000))
        (tree / "a" / long / f"{number}").write_bytes(fuzz_random.randbytes(size))
    (tree / "a" / "link").symlink_to("x" * 130)
    os.link(tree / "a" / long / "7", tree / "b" / "hard")
    os.mkfifo(tree / "b" / "fifo", 0o640)
    os.mknod(tree / "b" / "null", 0o20666, os.makedev(1, 3))
    os.chown(tree / "b" / "hard", 12, 34)
    for form in ("gnu", "posix"):
        target.mkdir()
        subprocess.run(["tar", "cf", layer, f"--format={form}", "-C", tree, "."], check=True)
        (tmp_path / "layer.gz").write_bytes(gzip.compress(layer.read_bytes(), 1))
        floor.Floor(floor.build(tmp_path)).unpack(tmp_path / "layer.gz", target)
        roots = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (target, tree)]
        assert diff.compare(*roots, content=True) == []
        for fd in roots:
            os.close(fd)
        assert (target / "b" / "hard").samefile(target / "a" / long / "7")
        subprocess.run(["rm", "-r", target], check=True)
