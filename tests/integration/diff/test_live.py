"""Trees that change while they are read: an archive is whole all the same."""

from __future__ import annotations

import errno
import os
import random
import select
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from boxwood_ext import diff
from tests.support.needs import need_program, need_root, until


@pytest.fixture(autouse=True)
def _root() -> None:
    need_root()


def streamed(tree: Path, at_first_byte: Callable[[], None]) -> tuple[diff.Written, bytes]:
    """Archive a tree into a pipe that nobody reads before `at_first_byte` has returned."""
    found: list[diff.Written] = []
    reader, writer = os.pipe()
    root = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)

    def work() -> None:
        try:
            found.append(diff.diff(writer, root))
        finally:
            os.close(writer)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        select.select([reader], [], [], 30)
        at_first_byte()
        with open(reader, "rb", closefd=False) as file:
            data = file.read()
    finally:
        thread.join()
        os.close(reader)
        os.close(root)
    return found[0], data


def test_a_file_that_is_cut_off_while_it_is_read(tmp_path: Path) -> None:
    """What was promised in its header comes, as zeros, and it is counted."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "big").write_bytes(b"x" * (24 << 20))
    (tree / "next").write_text("next")
    found, data = streamed(tree, lambda: os.truncate(tree / "big", 4096))
    assert found["cut"] == 1
    assert found["size"] == len(data)
    with tarfile.open(fileobj=BytesIO(data)) as archive:
        assert archive.getnames() == ["big", "next"]
        big, following = archive.extractfile("big"), archive.extractfile("next")
        assert big is not None
        assert following is not None
        content = big.read()
        assert len(content) == 24 << 20
        assert content.endswith(bytes(1 << 20))
        assert following.read() == b"next"


def test_a_name_that_vanishes_before_it_is_opened(tmp_path: Path) -> None:
    """No entry is a link to what the archive has not."""
    strace = need_program("strace")
    tree, layer = tmp_path / "tree", tmp_path / "layer.tar"
    tree.mkdir()
    (tree / "a").write_text("content")
    os.link(tree / "a", tree / "b")
    os.link(tree / "a", tree / "c")
    code = "import os, sys; from boxwood_ext import diff; diff.diff(1, os.open(sys.argv[1], 0))"
    fault = ("-f", "-qq", "-o", "/dev/null", "-P", "a", "-e", "inject=openat:error=ENOENT")
    with layer.open("wb") as sink:
        subprocess.run([strace, *fault, sys.executable, "-c", code, tree], check=True, stdout=sink)
    with tarfile.open(layer) as archive:
        found = [(entry.name, entry.linkname) for entry in archive]
    assert found == [("b", ""), ("c", "b")]


def small_files(tree: Path, source: random.Random) -> dict[str, bytes]:
    """Fill a tree with files that pass through the writer's buffers: 12 MiB, four of them."""
    tree.mkdir()
    found = {}
    for number in range(150):
        found[f"{number:03}"] = source.randbytes(source.randrange(80_000, 90_000))
        (tree / f"{number:03}").write_bytes(found[f"{number:03}"])
    return found


def test_bytes_leave_in_order_whoever_is_slow(tmp_path: Path, fuzz_random: random.Random) -> None:
    """Into a file, which takes all at once, and into a pipe that nobody reads for a while."""
    tree = tmp_path / "tree"
    files = small_files(tree, fuzz_random)
    root = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    with (tmp_path / "layer.tar").open("w+b") as layer:
        written = diff.diff(layer.fileno(), root)
        layer.seek(0)
        data = layer.read()
    os.close(root)
    assert written["size"] == len(data)
    assert streamed(tree, lambda: None) == (written, data)
    with tarfile.open(fileobj=BytesIO(data)) as archive:
        for name, content in files.items():
            member = archive.extractfile(name)
            assert member is not None
            assert member.read() == content
        assert archive.getnames() == sorted(files)


def test_a_reader_that_goes_away(tmp_path: Path, fuzz_random: random.Random) -> None:
    """An error, whatever is in the buffers, and no thread is left."""
    tree = tmp_path / "tree"
    small_files(tree, fuzz_random)
    reader, writer = os.pipe()
    root = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)

    def read_some() -> None:
        for _ in range(3):
            os.read(reader, 1 << 20)
        os.close(reader)

    thread = threading.Thread(target=read_some)
    # Python's threads are joined a moment before the kernel's end: what is gone, not how many.
    before = set(os.listdir("/proc/self/task"))
    thread.start()
    try:
        with pytest.raises(diff.DiffError) as caught:
            diff.diff(writer, root)
    finally:
        thread.join()
        os.close(writer)
        os.close(root)
    assert caught.value.errno == errno.EPIPE
    until(lambda: set(os.listdir("/proc/self/task")) <= before, "no thread is left", seconds=10)
