"""Images of EROFS as our writer makes them: mounted, checked by its own tools, and refused."""

from __future__ import annotations

import io
import os
import random
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from boxwood.drivers import manager
from boxwood.drivers.storage import Mount
from boxwood.errors import Unavailable
from boxwood.execution import mounting
from boxwood.testing.trees import differences, grow, look
from boxwood_ext import diff, tar
from tests.integration.storage.served import layer, make, opened, run
from tests.integration.tar.archives import archive, entry, folder, hard, link
from tests.support.needs import need_program, need_root
from tests.support.storage import place_for


@pytest.fixture(autouse=True)
def _kernel() -> Iterator[None]:
    need_root()
    with place_for("erofs"):
        yield


def tar_of(tree: Path) -> bytes:
    """Pack a tree as a layer."""
    sink = os.memfd_create("tar")
    root = os.open(tree, os.O_RDONLY)
    try:
        diff.diff(sink, root)
        os.lseek(sink, 0, os.SEEK_SET)
        with os.fdopen(os.dup(sink), "rb") as file:
            return file.read()
    finally:
        os.close(root)
        os.close(sink)


def write(data: bytes, image: Path, **options: Any) -> tar.Extracted:
    """Make an image of an archive."""
    source = os.memfd_create("tar")
    try:
        with os.fdopen(os.dup(source), "wb") as file:
            file.write(data)
        os.lseek(source, 0, os.SEEK_SET)
        with image.open("w+b") as target:
            return tar.write_erofs(source, target.fileno(), **options)
    finally:
        os.close(source)


@contextmanager
def shown(image: Path) -> Iterator[Path]:
    """Mount an image, after its own tool has found nothing wrong with it."""
    check = [need_program("fsck.erofs"), "--extract", str(image)]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    root = mounting.open_root([Mount("erofs", str(image))])
    try:
        yield Path(f"/proc/self/fd/{root}")
    finally:
        os.close(root)


def compare(tree: Path, image: Path) -> None:
    """Is what is mounted what was packed?"""
    write(tar_of(tree), image)
    with shown(image) as root:
        assert not differences(look(tree), look(root))


def test_random_trees(tmp_path: Path, soak: bool) -> None:
    """Whatever a tree holds, the image of its tar holds it."""
    for number in range(100 if soak else 8):
        seed = random.randrange(1 << 32)
        print(f"seed {seed}")
        tree = tmp_path / f"tree-{number}"
        tree.mkdir()
        grow(tree, random.Random(seed), 150)
        compare(tree, tmp_path / "image")


def test_every_size_at_a_block_s_edge(tmp_path: Path) -> None:
    """Contents, directories and attributes that just fit beside an inode, and just do not."""
    tree = tmp_path / "tree"
    (tree / "wide").mkdir(parents=True)
    for size in (0, 1, 2047, 2048, 2049, 4095, 4096, 4097, 8192, 1 << 20):
        (tree / f"file-{size}").write_bytes(os.urandom(size))
    for number in range(3000):
        (tree / "wide" / f"{number:x}{'n' * (number % 250)}").touch()
    for length in range(0, 4000, 97):  # names of one directory, in one more block or less
        few = tree / f"few-{length}"
        few.mkdir()
        for number in range(length // 200 + 1):
            (few / f"{number:02}{'e' * min(length, 200)}").symlink_to("t" * (length + 1))
    for number, size in enumerate(range(0, 3000, 53)):
        (tree / f"with-{number}").write_bytes(b"v" * (number * 31))
        os.setxattr(tree / f"with-{number}", "user.value", b"v" * size)
    compare(tree, tmp_path / "image")


def test_the_last_inode_is_not_the_end_of_the_image(tmp_path: Path) -> None:
    """Wherever in a block it ends: fsck.erofs looks a little further."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a").touch()
    (tree / "z").touch()
    for length in range(1, 4000, 32):
        (tree / "m").symlink_to("t" * length)
        compare(tree, tmp_path / "image")
        (tree / "m").unlink()


def test_holes_stay_holes(tmp_path: Path) -> None:
    """In the image as on disk, and where they are."""
    tree = tmp_path / "tree"
    tree.mkdir()
    with (tree / "sparse").open("wb") as file:
        file.truncate(1 << 34)
        file.seek(1 << 33)
        file.write(b"data")
    write(tar_of(tree), tmp_path / "image")
    assert (tmp_path / "image").stat().st_blocks * 512 < 1 << 21
    root = mounting.open_root([Mount("erofs", str(tmp_path / "image"))])
    try:
        fd = os.open("sparse", os.O_RDONLY, dir_fd=root)
        assert os.fstat(fd).st_size == 1 << 34
        assert 0 <= (1 << 33) - os.lseek(fd, 0, os.SEEK_DATA) < 1 << 20
        assert os.pread(fd, 4, 1 << 33) == b"data"
        assert os.lseek(fd, (1 << 33) + (1 << 20), os.SEEK_HOLE) == (1 << 33) + (1 << 20)
        os.close(fd)
    finally:
        os.close(root)


def test_marks_and_ways(tmp_path: Path) -> None:
    """Whiteouts are overlay's, and links on the way lead where they would in the root."""
    image = tmp_path / "image"
    write(
        archive(
            folder("usr/lib"),
            link("lib", "/usr/lib"),
            entry("lib/there", data=b"1"),
            link("loop", "loop"),
            entry("d/.wh..wh..opq"),
            entry("d/.wh.gone"),
            entry("d/.wh.kept"),
            entry("d/kept", data=b"2"),
            hard("again", "lib/there"),
            entry("was/a-file", data=b"3"),
            folder("was/a-file"),
        ),
        image,
    )
    with shown(image) as root:
        assert (root / "usr/lib/there").read_bytes() == b"1"
        assert (root / "again").stat().st_nlink == 2
        assert os.getxattr(root / "d", "trusted.overlay.opaque") == b"y"
        assert os.getxattr(root / "was/a-file", "trusted.overlay.opaque") == b"y"
        assert (root / "d/gone").lstat().st_rdev == 0
        assert (root / "d/gone").is_char_device()
        assert (root / "d/kept").read_bytes() == b"2"


HOSTILE = {
    "upwards": (archive(entry("../x")), "hostile"),
    "inside": (archive(entry(".wh.a/b")), "hostile"),
    "nameless": (archive(entry("a/.wh.")), "hostile"),
    "device": (archive(entry("zero", tarfile.CHRTYPE)), "hostile"),
    "root": (archive(entry(".")), "hostile"),
    "linked directory": (archive(folder("d"), hard("e", "d")), "hostile"),
    "link outside": (archive(hard("e", "../etc/passwd")), "hostile"),
    "loop": (archive(link("a", "b"), link("b", "a"), entry("a/x")), "system"),
    "through a file": (archive(entry("a"), entry("a/x")), "system"),
    "to nothing": (archive(hard("e", "nothing")), "system"),
    "cut off": (archive(entry("a", data=b"x" * 5000))[:4000], "malformed"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(tmp_path: Path, name: str) -> None:
    data, kind = HOSTILE[name]
    with pytest.raises(tar.TarError) as caught:
        write(data, tmp_path / "image")
    assert caught.value.kind == kind


def test_budgets(tmp_path: Path) -> None:
    data = archive(entry("a", data=b"x" * 5000), entry("b"))
    for options in ({"max_entries": 1}, {"max_bytes": 4999}):
        with pytest.raises(tar.TarError) as caught:
            write(data, tmp_path / "image", **options)
        assert caught.value.kind == "budget"
    assert write(data, tmp_path / "image", max_entries=2, max_bytes=5000)["bytes"] == 5000


def test_broken_archives(tmp_path: Path, soak: bool) -> None:
    """Bytes turned over: an error that says so, or an image that is whole."""
    tree, image = tmp_path / "tree", tmp_path / "image"
    tree.mkdir()
    grow(tree, random.Random(3), 60)
    good = tar_of(tree)
    for _ in range(1000 if soak else 60):
        seed = random.randrange(1 << 32)
        print(f"seed {seed}")
        dice = random.Random(seed)
        data = bytearray(good)
        for _ in range(dice.randrange(1, 4)):
            data[dice.randrange(len(data))] = dice.choice(b"\0\xff/.0157axKLg")
        try:
            write(bytes(data), image)
        except tar.TarError:
            continue
        with shown(image) as root:
            look(root)


def test_a_place_that_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence says what is missing."""

    def old(kind: str) -> int:
        raise OSError(19, f"No such device: {kind}")

    monkeypatch.setattr("boxwood_plugins.storage.erofs.mount.fsopen", old)
    with pytest.raises(Unavailable, match=r"erofs: .*cannot mount images from files .*Linux 6\.12"):
        manager.select("storage", "erofs", root=tmp_path / "root", options={})
    assert not list((tmp_path / "root/new").iterdir())


def test_a_deleted_file_with_the_longest_name_is_committed(tmp_path: Path) -> None:
    """Its whiteout in the tar between has a name that no file can have."""
    name = "n" * 255
    driver = make("erofs", tmp_path / "root")
    layer(driver, "one", None, lambda tree: (tree / name).touch())
    layer(driver, "two", "one", lambda tree: (tree / name).unlink())
    run(driver.prepare("c", "two"))
    with opened(driver, "c") as tree:
        assert os.listdir(tree) == []
    driver.close()


def test_the_archive_is_read_by_others(tmp_path: Path) -> None:
    """A tar that Python has written, with long names: nothing of ours on both sides."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as file:
        info = tarfile.TarInfo("/".join(["d" * 90] * 20))
        info.size = 3
        file.addfile(info, io.BytesIO(b"abc"))
    write(buffer.getvalue(), tmp_path / "image")
    with shown(tmp_path / "image") as root:
        assert (root / "/".join(["d" * 90] * 20)).read_bytes() == b"abc"
