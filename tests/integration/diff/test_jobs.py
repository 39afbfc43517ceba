"""The jobs that write trees as tar streams, through real workers."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from boxwood.errors import InvalidArgument, NotFound, Unsupported
from boxwood.execution.mounting import open_sealed
from boxwood.execution.worker import WorkerPool
from boxwood_ext import diff, mount
from tests.support.needs import need_root


@pytest.fixture(autouse=True)
def _root() -> None:
    need_root()


def run(job: str, arguments: dict[str, Any], *paths: Path) -> tuple[dict[str, Any], bytes]:
    """Run a job with a sink and these directories; returns its answer and what it wrote."""

    async def once() -> tuple[dict[str, Any], bytes]:
        pool = WorkerPool()
        sink = os.memfd_create("sink")
        fds = [sink, *(os.open(path, os.O_PATH | os.O_DIRECTORY) for path in paths)]
        try:
            answer = await pool.offload(job, arguments, fds)
            return answer, os.pread(sink, 1 << 24, 0)
        finally:
            for fd in fds:
                os.close(fd)
            await pool.close()

    return asyncio.run(once())


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getnames()


def pack(root: Path, path: str, name: str, *, follow: bool = False) -> list[str]:
    return names(run("tar_tree", {"path": path, "name": name, "follow": follow}, root)[1])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root/etc/deep").mkdir(parents=True)
    (tmp_path / "root/etc/passwd").write_text("root")
    (tmp_path / "root/etc/deep/file").write_text("deep")
    (tmp_path / "root/link").symlink_to("/etc/passwd")
    (tmp_path / "root/up").symlink_to("../../../../etc")
    (tmp_path / "root/loop").symlink_to("loop")
    (tmp_path / "root/.wh.name").write_text("a name like any other")
    return tmp_path / "root"


def test_diff_layer(root: Path, tmp_path: Path) -> None:
    arguments = {"form": "tree", "listing": False}
    answer, data = run("diff_layer", arguments, root)
    assert "etc/deep/file" in names(data)
    # The name that means something else in a layer is left out, and that is said.
    assert answer == {"entries": len(names(data)), "size": len(data), "skipped": 1, "cut": 0}
    (tmp_path / "empty").mkdir()
    answer, data = run("diff_layer", {**arguments, "listing": True}, root, tmp_path / "empty")
    assert data.split(b"\0")[:-1] == [
        b"A/etc", b"A/etc/deep", b"A/etc/deep/file", b"A/etc/passwd", b"A/link", b"A/loop", b"A/up",
    ]  # fmt: skip
    assert answer == {"entries": 7, "size": len(data), "skipped": 1, "cut": 0}


def test_a_branch_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    os.setxattr(tmp_path / "dir", "trusted.overlay.redirect", b"/elsewhere")
    with pytest.raises(Unsupported, match="redirect_dir"):
        run("diff_layer", {"form": "overlay", "listing": False}, tmp_path)


def test_a_tree_that_is_only_read_is_sealed(tmp_path: Path) -> None:
    """No file is written through it, no device opened, and a mount below comes along."""
    (tmp_path / "below").mkdir()
    os.mknod(tmp_path / "null", 0o20666, os.makedev(1, 3))
    mount.mount("none", str(tmp_path / "below"), "tmpfs", 0)
    plain = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.mknod(tmp_path / "below/null", 0o20666, os.makedev(1, 3))
        (tmp_path / "below/file").write_text("content")
        sealed = open_sealed(plain)
        try:
            for path, cause in (("new", errno.EROFS), ("below/new", errno.EROFS)):
                with pytest.raises(OSError) as caught:
                    os.mkdir(path, dir_fd=sealed)
                assert caught.value.errno == cause
            for path in ("null", "below/null"):
                with pytest.raises(PermissionError):
                    os.open(path, os.O_RDONLY, dir_fd=sealed)
            copy = os.open(".", os.O_RDONLY, dir_fd=sealed)
        finally:
            os.close(sealed)
        found = []
        for fd in (plain, copy):
            with (tmp_path.parent / f"{tmp_path.name}.tar").open("w+b") as file:
                diff.diff(file.fileno(), fd)
                file.seek(0)
                found.append(file.read())
            os.close(fd)
        assert names(found[1]) == ["below", "below/file", "below/null", "null"]
        assert found[0] == found[1]
    finally:
        mount.umount2(str(tmp_path / "below"), mount.MNT_DETACH)


def test_what_cannot_be_copied_is_read_as_it_is(root: Path) -> None:
    """A mount of another namespace: the directory itself is what the job gets."""
    command = ["unshare", "--mount", "sh", "-c", "echo; cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        fd = os.open(f"/proc/{other.pid}/root{root}", os.O_PATH | os.O_DIRECTORY)
        sealed = open_sealed(fd)
        assert os.listdir(f"/proc/self/fd/{sealed}") == os.listdir(root)
        os.close(sealed)
        os.close(fd)
        other.stdin.close()


def test_tar_tree(root: Path) -> None:
    assert pack(root, "/", "") == [
        ".wh.name", "etc", "etc/deep", "etc/deep/file", "etc/passwd", "link", "loop", "up",
    ]  # fmt: skip
    assert pack(root, "/etc/", "etc") == ["etc", "etc/deep", "etc/deep/file", "etc/passwd"]
    assert pack(root, "etc/deep/..", "x") == ["x", "x/deep", "x/deep/file", "x/passwd"]
    assert pack(root, "/etc/passwd", "p") == ["p"]


def test_links_lead_no_further_than_the_root(root: Path) -> None:
    assert pack(root, "/up/deep", "d") == ["d", "d/file"]
    _, data = run("tar_tree", {"path": "/link", "name": "l", "follow": True}, root)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        content = archive.extractfile("l")
        assert content is not None
        assert content.read() == b"root"
    with tarfile.open(
        fileobj=io.BytesIO(run("tar_tree", {"path": "/link", "name": "l"}, root)[1])
    ) as a:
        assert a.getmember("l").issym()


def test_paths_that_lead_nowhere(root: Path) -> None:
    for path in ("/nothing", "/etc/passwd/x", "/etc/passwd/"):
        with pytest.raises(NotFound):
            pack(root, path, "x")
    with pytest.raises(InvalidArgument, match="symbolic links"):
        pack(root, "/loop", "x", follow=True)
