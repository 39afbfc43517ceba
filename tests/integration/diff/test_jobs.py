"""The jobs that write trees as tar streams, through real workers."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from boxwood.errors import InvalidArgument, NotFound, Unsupported
from boxwood.execution.worker import WorkerPool
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
            answer = await pool.call(job, arguments, fds)
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
    assert answer == {"entries": len(names(data)), "size": len(data)}
    (tmp_path / "empty").mkdir()
    answer, data = run("diff_layer", {**arguments, "listing": True}, root, tmp_path / "empty")
    assert data.split(b"\0")[:-1] == [
        b"A/etc", b"A/etc/deep", b"A/etc/deep/file", b"A/etc/passwd", b"A/link", b"A/loop", b"A/up",
    ]  # fmt: skip
    assert answer == {"entries": 7, "size": len(data)}


def test_a_branch_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    os.setxattr(tmp_path / "dir", "trusted.overlay.redirect", b"/elsewhere")
    with pytest.raises(Unsupported, match="redirect_dir"):
        run("diff_layer", {"form": "overlay", "listing": False}, tmp_path)


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
