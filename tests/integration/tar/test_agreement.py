"""The same tree comes out as GNU tar and bsdtar make of the same archive."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.tar.archives import listing
from tests.integration.tar.conftest import extract_into
from tests.support.needs import need_program


@pytest.fixture
def room() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


def make(root: Path) -> None:
    """A tree with all that a layer may hold."""
    (root / "d/deep").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "d/file").write_bytes(b"content" * 999)
    (root / "d/deep" / ("long" * 40)).write_bytes(b"x")
    (root / "d/umlaut-ä").write_bytes(b"")
    (root / "setuid").write_bytes(b"s")
    with (root / "sparse").open("wb") as file:
        file.write(b"start")
        file.seek(3 << 20)
        file.write(b"end")
    (root / "link").symlink_to("/d/../" + "far/" * 40)
    os.link(root / "d/file", root / "hard")
    os.link(root / "link", root / "hard-link", follow_symlinks=False)
    os.mkfifo(root / "fifo", 0o640)
    os.mknod(root / "null", 0o20666, os.makedev(1, 3))
    os.chown(root / "d", 1000, 70_000)
    os.chown(root / "setuid", 12, 3_000_000)
    os.chown(root / "link", 7, 8, follow_symlinks=False)
    (root / "setuid").chmod(0o6755)
    (root / "d").chmod(0o3770)
    os.setxattr(root / "d/file", "user.name", b"value\0\xff")
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    os.setxattr(root / "setuid", "security.capability", capability)
    for number, path in enumerate(sorted(root.rglob("*"), reverse=True)):
        moment = (1_500_000_000 + number) * 10**9 + number * 1001
        os.utime(path, ns=(moment, moment), follow_symlinks=False)


FORMATS = {
    "pax": [
        "--format=pax",
        "--xattrs",
        "--xattrs-include=*",
        "--pax-option=delete=atime,delete=ctime",
    ],
    "pax, sparse": ["--format=pax", "--sparse", "--xattrs", "--xattrs-include=*"],
    "gnu": ["--format=gnu", "--sparse"],
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("other", ["tar", "bsdtar"])
def test_agreement(other: str, form: str, room: Path) -> None:
    gnu, program = need_program("tar"), need_program(other)
    (room / "source").mkdir()
    make(room / "source")
    packed = room / "archive.tar"
    command = [gnu, "-C", room / "source", *FORMATS[form], "--numeric-owner", "-cf", packed, "."]
    subprocess.run(command, check=True)
    extract_into(packed.read_bytes(), room / "ours")
    (room / "theirs").mkdir()
    options = ["--xattrs", "--xattrs-include=*"] if other == "tar" else ["--xattrs"]
    subprocess.run(
        [program, "-C", room / "theirs", *options, "--numeric-owner", "-xpf", packed], check=True
    )
    ours, theirs = listing(room / "ours"), listing(room / "theirs")
    assert ours == theirs
    if form.startswith("pax"):
        assert ours == listing(room / "source")
    blocks = [(room / name / "sparse").stat().st_blocks for name in ("ours", "theirs")]
    assert "sparse" not in " ".join(FORMATS[form]) or max(blocks) < 100
