"""What a layer's tar must do: applied to the old tree it gives the new one, on every file system
at hand; and its bytes do not depend on how the snapshot is kept."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest

from boxwood_ext import diff, mount
from tests.integration.diff.trees import Gardener, applied, copy, look, written
from tests.support.loops import loop_fs
from tests.support.needs import need_root

ROUNDS, FULL = 12, 300


@pytest.fixture(autouse=True)
def _root() -> None:
    need_root()


@pytest.fixture
def rounds(soak: bool) -> int:
    """How many random trees."""
    return FULL if soak else ROUNDS


def test_apply_of_diff_gives_the_new_tree(
    tmp_path: Path, fuzz_random: random.Random, rounds: int
) -> None:
    """apply(diff(A, B)) on A is B: content, owners, modes, attributes, times and links."""
    for number in range(rounds):
        room = tmp_path / str(number)
        room.mkdir()
        old, new, built = room / "old", room / "new", room / "built"
        old.mkdir()
        Gardener(fuzz_random, old).work(60)
        copy(old, new)
        Gardener(fuzz_random, new).work(30)
        copy(old, built)
        written(new, old, room / "layer.tar")
        applied(room / "layer.tar", built)
        assert look(built) == look(new), number
        # The same, from nothing.
        (room / "empty").mkdir()
        first = written(new, None, room / "whole.tar")
        applied(room / "whole.tar", room / "empty")
        assert look(room / "empty") == look(new)
        assert written(new, None, room / "again.tar") == first
        shutil.rmtree(room)


@contextmanager
def overlay(room: Path, lower: Path) -> Iterator[tuple[Path, Path]]:
    """Mount an overlay on `lower`; yields its upper directory and the whole tree."""
    upper, work, merged = room / "upper", room / "work", room / "merged"
    for path in (upper, work, merged):
        path.mkdir()
    status = lower.stat()
    os.chown(upper, status.st_uid, status.st_gid)
    upper.chmod(status.st_mode & 0o7777)
    data = f"lowerdir={lower},upperdir={upper},workdir={work},index=off,metacopy=off"
    mount.mount("overlay", merged, "overlay", 0, f"{data},redirect_dir=off")
    try:
        yield upper, merged
    finally:
        mount.umount2(merged)


def test_a_branch_gives_the_same_bytes_as_a_walk(
    tmp_path: Path, fuzz_random: random.Random, rounds: int
) -> None:
    """An overlay's upper directory by itself, and the whole mounted tree."""
    for number in range(rounds):
        room = tmp_path / str(number)
        (room / "lower").mkdir(parents=True)
        Gardener(fuzz_random, room / "lower", links=False).work(60)
        with overlay(room, room / "lower") as (upper, merged):
            Gardener(fuzz_random, merged, links=False).work(30)
            whole = written(merged, room / "lower", room / "tree.tar")
            branch = written(upper, room / "lower", room / "branch.tar", form="overlay")
            wanted = look(merged)
        assert names(branch) == names(whole), number
        assert branch == whole, number
        copy(room / "lower", room / "built")
        applied(room / "branch.tar", room / "built")
        assert look(room / "built") == wanted
        shutil.rmtree(room)


def names(data: bytes) -> list[str]:
    """Return the names in an archive, in its order."""
    with tarfile.open(fileobj=BytesIO(data)) as archive:
        return archive.getnames()


def to_aufs(branch: Path) -> None:
    """Give a branch in overlay's form that of aufs, directories keeping their times."""
    for at, directories, files in os.walk(branch):
        status = os.stat(at)
        if "trusted.overlay.opaque" in os.listxattr(at):
            Path(at, ".wh..wh..opq").touch()
            os.removexattr(at, "trusted.overlay.opaque")
        for name in (*directories, *files):
            path = Path(at, name)
            if stat.S_ISCHR(path.lstat().st_mode) and path.lstat().st_rdev == 0:
                path.unlink()
                path.with_name(f".wh.{name}").touch()
        if at == str(branch):
            (branch / ".wh..wh.aufs").touch()
            (branch / ".wh..wh.plnk").mkdir()
        os.utime(at, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_branch_of_aufs_gives_the_same_bytes(
    tmp_path: Path, fuzz_random: random.Random, rounds: int
) -> None:
    for number in range(rounds):
        room = tmp_path / str(number)
        (room / "lower").mkdir(parents=True)
        Gardener(fuzz_random, room / "lower", links=False).work(60)
        with overlay(room, room / "lower") as (upper, merged):
            Gardener(fuzz_random, merged, links=False).work(30)
            whole = written(merged, room / "lower", room / "tree.tar")
        to_aufs(upper)
        branch = written(upper, room / "lower", room / "branch.tar", form="aufs")
        assert names(branch) == names(whole), number
        assert branch == whole, number
        shutil.rmtree(room)


def test_tars_are_read_by_others(tmp_path: Path, fuzz_random: random.Random) -> None:
    """GNU tar and bsdtar make the same tree of them."""
    tree = tmp_path / "tree"
    tree.mkdir()
    Gardener(fuzz_random, tree).work(150)
    written(tree, None, tmp_path / "whole.tar")
    for program in ("tar", "bsdtar"):
        target = tmp_path / program
        target.mkdir()
        flags = ["--xattrs", "--xattrs-include=*"] if program == "tar" else ["--xattrs"]
        command = [program, "-C", target, *flags, "--numeric-owner", "-xpf", tmp_path / "whole.tar"]
        subprocess.run(command, check=True)
        assert look(target) == look(tree), program


@pytest.mark.parametrize("file_system", ["ext4", "xfs", "btrfs"])
def test_on_other_file_systems(
    tmp_path: Path, fuzz_random: random.Random, file_system: str
) -> None:
    """As the first law, where hard links, attributes and times are another code's."""
    with loop_fs(file_system, tmp_path) as place:
        old, new, built = place / "old", place / "new", place / "built"
        old.mkdir()
        Gardener(fuzz_random, old).work(80)
        copy(old, new)
        Gardener(fuzz_random, new).work(40)
        copy(old, built)
        written(new, old, place / "layer.tar")
        applied(place / "layer.tar", built)
        assert look(built) == look(new)


def listed(new: Path, old: Path, sink: Path, **options: str) -> list[str]:
    """Return the lines of the list of changes."""
    data = written(new, old, sink, listing=True, **options)
    return [line.decode() for line in data.split(b"\0")[:-1]]


def test_the_list_of_changes(tmp_path: Path) -> None:
    """As `docker diff` says it: parents changed, what is below a deleted directory not named."""
    old, new = tmp_path / "old", tmp_path / "new"
    for path in ("etc/deep", "gone/below", "same"):
        (old / path).mkdir(parents=True)
    for path in ("etc/passwd", "etc/deep/file", "gone/below/file", "same/file", "kind"):
        (old / path).write_text(path)
    copy(old, new)
    (new / "etc/deep/file").write_text("other")
    (new / "etc/deep/new").write_text("new")
    (new / "added/dir").mkdir(parents=True)
    (new / "added/dir/file").write_text("")
    shutil.rmtree(new / "gone")
    (new / "kind").unlink()
    (new / "kind").mkdir()
    os.link(new / "same/file", new / "link")
    assert listed(new, old, tmp_path / "list") == [
        "A/added", "A/added/dir", "A/added/dir/file", "C/etc", "C/etc/deep", "C/etc/deep/file",
        "A/etc/deep/new", "D/gone", "C/kind", "A/link",
    ]  # fmt: skip
    assert listed(old, old, tmp_path / "list") == []


def compared(new: Path, old: Path, *, content: bool) -> list[tuple[str, str]]:
    """Return what differs between two trees."""
    fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (new, old)]
    try:
        return diff.compare(*fds, content=content)
    finally:
        for fd in fds:
            os.close(fd)


def test_comparing_content(tmp_path: Path) -> None:
    """A byte that a disk has lost changes no time; it is found when it is asked for."""
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "deep/down").mkdir(parents=True)
    file = old / "deep/down/file"
    file.write_bytes(bytes(200_000))
    (old / "same").write_bytes(b"same")
    copy(old, new)
    status = file.stat()
    with (new / "deep/down/file").open("r+b") as lost:
        lost.seek(150_000)
        lost.write(b"x")
    os.utime(new / "deep/down/file", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert compared(new, old, content=False) == []
    (new / "more\n").symlink_to("x")
    assert compared(new, old, content=True) == [
        ("C", "deep"), ("C", "deep/down"), ("C", "deep/down/file"), ("A", "more\n"),
    ]  # fmt: skip
    assert compared(old, new, content=False) == [("D", "more\n")]
    assert compared(old, old, content=True) == []


def test_directories_of_many_files(tmp_path: Path, fuzz_random: random.Random) -> None:
    """They are shared out among the threads: none of the files is left out, whichever changed."""
    old, new = tmp_path / "old", tmp_path / "new"
    for below in ("a", "a/b", "c"):
        (old / below).mkdir(parents=True)
        for number in range(fuzz_random.choice((127, 128, 129, 300))):
            (old / below / f"{number:03}").write_bytes(b"%d" % number)
            if number % 40 == 0:
                (old / below / f"{number:03}-dir").mkdir()
    copy(old, new)
    files = sorted(path for path in new.rglob("*") if path.is_file())
    for chosen in ([], files, *([path] for path in files)):
        for path in chosen:
            path.chmod(0o600)
        changed = {path.relative_to(new) for path in chosen}
        above = {folder for path in changed for folder in path.parents[:-1]}
        wanted = [("C", str(path)) for path in changed | above]
        assert sorted(compared(new, old, content=False)) == sorted(wanted)
        for path in chosen:
            path.chmod(0o644)


def test_attributes_can_be_left_out(tmp_path: Path) -> None:
    """`looks` goes by what rsync -a goes by."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    (old / "file").write_bytes(b"1")
    (old / "dir").mkdir()
    copy(old, new)
    os.setxattr(new / "file", "user.k", b"v")
    os.setxattr(new / "dir", "user.k", b"v")
    fds = [os.open(path, os.O_RDONLY) for path in (new, old)]
    try:
        for looks, size in ((True, 0), (False, len(b"C/dir\0C/file\0"))):
            with (tmp_path / "sink").open("wb") as sink:
                told = diff.diff(sink.fileno(), *fds, listing=True, looks=looks)
            assert told["size"] == size
    finally:
        for fd in fds:
            os.close(fd)


def test_attributes_of_any_name(tmp_path: Path) -> None:
    """An equals sign ends a name in the archive, so GNU tar's way of writing one is taken."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").touch()
    wanted = {f"user.{name}": name.encode() for name in ("a=b", "a%3Db", "100%", "%25", "=", "%=")}
    for name, value in wanted.items():
        os.setxattr(tree / "file", name, value)
    written(tree, None, tmp_path / "layer.tar")
    (tmp_path / "built").mkdir()
    applied(tmp_path / "layer.tar", tmp_path / "built")
    assert look(tmp_path / "built")["file"]["attributes"] == wanted


def test_a_file_of_a_branch_that_looks_as_before_is_compared(tmp_path: Path) -> None:
    """Its content has changed and its time was put back: nothing that was written may be lost."""
    (tmp_path / "lower").mkdir()
    file = tmp_path / "lower/file"
    file.write_text("before")
    with overlay(tmp_path, tmp_path / "lower") as (upper, merged):
        status = file.stat()
        (merged / "file").write_text("after!")
        os.utime(merged / "file", ns=(status.st_atime_ns, status.st_mtime_ns))
        layer = written(upper, tmp_path / "lower", tmp_path / "layer.tar", form="overlay")
        assert names(layer) == ["file"]
        os.utime(merged / "file", ns=(0, status.st_mtime_ns))
        (merged / "file").write_text("before")
        os.utime(merged / "file", ns=(status.st_atime_ns, status.st_mtime_ns))
        same = written(upper, tmp_path / "lower", tmp_path / "layer.tar", form="overlay")
        assert names(same) == []


def test_a_branch_that_only_a_mount_can_read_is_refused(tmp_path: Path) -> None:
    for path in ("lower", "upper/dir"):
        (tmp_path / path).mkdir(parents=True)
    os.setxattr(tmp_path / "upper/dir", "trusted.overlay.redirect", b"/other")
    with pytest.raises(diff.DiffError) as caught:
        written(tmp_path / "upper", tmp_path / "lower", tmp_path / "layer.tar", form="overlay")
    assert (caught.value.kind, caught.value.name) == ("unsupported", "dir")


def test_names_that_mean_something_else_in_a_layer_are_left_out(tmp_path: Path) -> None:
    """A container that names a file `.wh.passwd` deletes nobody's passwd."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old/passwd").write_text("root")
    copy(tmp_path / "old", tmp_path / "new")
    (tmp_path / "new/.wh.passwd").write_text("")
    (tmp_path / "new/.wh..wh..opq").write_text("")
    assert names(written(tmp_path / "new", tmp_path / "old", tmp_path / "layer.tar")) == []


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    tree = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    (tmp_path / "file").write_bytes(bytes(3 << 20))
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(diff.DiffError) as caught:
            diff.diff(full, tree)
        assert (caught.value.kind, caught.value.errno) == ("system", 28)
    finally:
        os.close(full)
        os.close(tree)


def test_holes_are_not_blown_up(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    with (tmp_path / "tree/hole").open("wb") as file:
        file.truncate(10 << 30)
        file.seek(5 << 30)
        file.write(b"in the middle")
    assert len(written(tmp_path / "tree", None, tmp_path / "layer.tar")) < 20_000
    (tmp_path / "built").mkdir()
    applied(tmp_path / "layer.tar", tmp_path / "built")
    built = tmp_path / "built/hole"
    assert built.stat().st_size == 10 << 30
    assert built.stat().st_blocks < 200
    with built.open("rb") as file:
        file.seek(5 << 30)
        assert file.read(20) == b"in the middle" + bytes(7)


def test_the_bytes_of_a_golden_tree(tmp_path: Path) -> None:
    """Byte by byte: a change here changes the diff IDs of what people commit."""
    tree = tmp_path / "tree"
    (tree / "dir").mkdir(parents=True)
    (tree / "dir/file").write_text("content\n")
    (tree / "dir/file").chmod(0o640)
    os.link(tree / "dir/file", tree / "dir/link")
    (tree / ("n" * 150)).symlink_to("t" * 150)
    os.mknod(tree / "null", 0o020666, os.makedev(1, 3))
    (tree / "null").chmod(0o666)
    os.setxattr(tree / "dir/file", "user.key", b"value")
    os.chown(tree / "dir/file", 3_000_000, 100)
    for path in (tree / "dir/file", tree / ("n" * 150), tree / "null", tree / "dir"):
        os.utime(path, ns=(0, 1_700_000_000_123_456_000), follow_symlinks=False)
    (tree / "dir").chmod(0o755)
    data = written(tree, None, tmp_path / "layer.tar")
    assert names(data) == ["dir", "dir/file", "dir/link", "n" * 150, "null"]
    assert hashlib.sha256(data).hexdigest() == GOLDEN


GOLDEN = "80a48875326f5fd1597c39d8f8da87c2559473c17f526a588ea11e359b6b1337"
