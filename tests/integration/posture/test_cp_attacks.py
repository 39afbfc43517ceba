"""What a hostile container can do to a copy: nothing beyond its own tree.

The classes of CVE-2018-15664 (a link is swapped while a copy runs) and CVE-2019-14271 (a program or
a library of the container is run by who copies); facts/pain.md.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from boxwood.execution import worker_copy, worker_diff
from tests.support.engine import Engine
from tests.support.paths import clear_room, make_room

SECRET = b"of the host"
SECONDS = 2.5
"""Of copying each way, while the container swaps: some hundred copies."""


@pytest.fixture
def host() -> Iterator[Path]:
    """A folder of the host that a link of the container names; it holds a secret."""
    room = make_room("host")
    (room / "file").write_bytes(SECRET)
    yield room
    clear_room(room)


def tarred(name: str, content: bytes) -> bytes:
    """An archive of one file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def copied_out(root: Path, path: str) -> bytes:
    """What the job packs of a path of a root."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    read, write = os.pipe()
    try:
        worker_diff.tar_tree({"path": path, "name": "x", "follow": True}, [write, fd])
        os.close(write)
        write = -1
        with os.fdopen(read, "rb", closefd=False) as file:
            return file.read()
    finally:
        for opened in (fd, read, write):
            if opened >= 0:
                os.close(opened)


@pytest.mark.root
def test_the_jobs_follow_links_in_the_root_only(
    tmp_path: Path, host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An absolute link is the container's own path; without IN_ROOT it would be the host's."""
    inside = tmp_path / str(host).lstrip("/")
    inside.mkdir(parents=True)
    (inside / "file").write_bytes(b"of the container")
    (tmp_path / "link").symlink_to(host)
    assert b"of the container" in copied_out(tmp_path, "/link/file")
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    assert worker_copy.resolve(fd, "/link/file") == str(host / "file")
    os.close(fd)
    monkeypatch.setattr(worker_diff, "IN_ROOT", 0)
    assert SECRET in copied_out(tmp_path, "/link/file"), "the weakened job does not bite"


@pytest.mark.root
@pytest.mark.parametrize("turned", [False, True])
def test_a_link_swapped_meanwhile(clean_engine: Engine, host: Path, turned: bool) -> None:
    """Copies in and out through a name that is a folder and a link to the host in turns."""
    target = "../" * 20 + str(host).lstrip("/") if turned else str(host)
    script = (
        f"mkdir -p /w/a; cd /w; echo mine >a/file; ln -s {target} b;"
        f" while :; do ln -sfn a s; ln -sfn b s; mv a x; ln -s {target} a; rm a; mv x a; done"
    )
    clean_engine.docker(
        *("run", "-d", "--name", "evil", "--network", "none", "busybox", "sh", "-c", script)
    )
    tries = answers = 0
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for path in ("/w/s", "/w/a"):
            query = urlencode({"path": path, "noOverwriteDirNonDir": "true"})
            where = f"/containers/evil/archive?{query}"
            body = tarred("planted", b"x")
            headers = {"Content-Type": "application/x-tar"}
            done = clean_engine.api("PUT", where, body, headers=headers)
            got = clean_engine.api("GET", f"{where}/file")
            tries += 2
            answers += (done.status == 200) + (got.status == 200)
            assert SECRET not in got.body
    assert [entry.name for entry in host.iterdir()] == ["file"]
    assert (host / "file").read_bytes() == SECRET
    assert answers > tries / 20, (tries, answers)


@pytest.mark.root
def test_nothing_of_the_container_is_run(clean_engine: Engine) -> None:
    """Decompressors and libraries of the container stay files: they would leave a mark."""
    clean_engine.docker("run", "-d", "--name", "evil", "--network", "none", "busybox", "sh", "-c",
        "mkdir -p /usr/bin /lib /t; for p in /usr/bin/unpigz /usr/bin/gzip /usr/bin/tar "
        "/lib/libnss_files.so.2; do rm -f $p; printf '#!/bin/sh\\ntouch /mark /t/mark\\n' >$p; "
        "chmod 755 $p; done; touch /ready; sleep 100")  # fmt: skip
    clean_engine.docker("exec", "evil", "sh", "-c", "until [ -e /ready ]; do sleep 0.1; done")
    data = gzip.compress(tarred("in", b"x"))
    headers = {"Content-Type": "application/x-tar"}
    done = clean_engine.api("PUT", "/containers/evil/archive?path=/t", data, headers=headers)
    assert done.status == 200
    assert clean_engine.api("GET", "/containers/evil/archive?path=/t").status == 200
    assert clean_engine.docker("exec", "evil", "ls", "/t").stdout.split() == ["in"]
    assert clean_engine.docker("exec", "evil", "ls", "/mark", check=False).returncode == 1
