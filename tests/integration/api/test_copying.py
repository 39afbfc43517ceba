"""What copying leaves behind when its client goes, and what it says before the first byte."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from tests.integration.engine.test_layers import tree_tar
from tests.support.engine import Engine
from tests.support.needs import until

pytestmark = pytest.mark.root
SIZE = 64 << 20
"""Bytes of the file that is copied: more than all buffers on the way hold."""


@pytest.fixture
def box(clean_engine: Engine) -> Iterator[Engine]:
    """The engine, with a stopped container that holds a large file and a volume."""
    script = f"head -c {SIZE} /dev/zero | tr '\\0' x >/big; echo in >/v/file"
    clean_engine.docker(
        *("run", "--name", "box", "--network", "none", "-v", "vol:/v", "busybox"),
        *("sh", "-c", script),
    )
    yield clean_engine
    clean_engine.remove_containers()
    clean_engine.docker("volume", "rm", "vol", check=False)


def held(engine: Engine) -> int:
    """How many descriptors the daemon has."""
    return len(os.listdir(f"/proc/{engine.pid}/fd"))


def children(engine: Engine) -> set[str]:
    """The daemon's processes and those of the keeper of its workers."""
    found = set()
    waiting = [str(engine.pid)]
    while waiting:
        pid = waiting.pop()
        try:
            with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
                more = file.read().split()
        except FileNotFoundError:
            continue
        found.update(more)
        waiting += more
    return found


@pytest.mark.parametrize(
    "path",
    [
        "/containers/box/archive?path=/big",
        "/containers/box/export",
        "/images/get?names=big",
    ],
)
def test_a_client_that_goes_away(box: Engine, path: str) -> None:
    """No process and no descriptor stays, whenever it goes, and the next request is served.

    A second cancellation, within the clean-up of the first, once left a pipe in one of four.
    """
    if path.startswith("/images"):
        box.docker("commit", "box", "big")
    box.api("HEAD", "/containers/box/archive?path=/")
    before, running = held(box), children(box)
    for turn in range(24):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(box.socket))
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            if turn % 4:  # else it goes before the answer, at one moment or another
                assert client.recv(65536).startswith(b"HTTP/1.1 200")
    until(lambda: held(box) <= before, "the daemon lets go of descriptors")
    until(lambda: children(box) <= running, "the workers end")
    done = box.api("GET", "/containers/box/archive?path=/v/file")
    assert done.status == 200
    assert b"in\n" in done.body
    box.docker("rmi", "-f", "big", check=False)


def test_a_sender_that_goes_away(box: Engine) -> None:
    """Half an archive ends the extraction; a volume is let go of."""
    before, running = held(box), children(box)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(box.socket))
        client.sendall(
            b"PUT /containers/box/archive?path=/v HTTP/1.1\r\nHost: x\r\n"
            b"Content-Type: application/x-tar\r\nContent-Length: 1000000\r\n\r\n" + bytes(512)
        )
        until(lambda: bool(children(box) - running), "a worker takes it in")
    until(lambda: held(box) <= before, "the daemon lets go of descriptors")
    until(lambda: children(box) <= running, "the workers end")
    box.docker("rm", "box")
    box.docker("volume", "rm", "vol")


def test_a_start_waits_for_a_sender(box: Engine) -> None:
    """Two mounts of one upper directory damage each other: what writes has it for itself."""
    box.docker("create", "--name", "one", "--network", "none", "busybox", "cat", "/file")
    data = tree_tar({"file": b"sent\n"})
    with socket.socket(socket.AF_UNIX) as client, ThreadPoolExecutor() as threads:
        client.connect(str(box.socket))
        before = children(box)
        client.sendall(
            b"PUT /containers/one/archive?path=/ HTTP/1.1\r\nHost: x\r\n"
            b"Content-Type: application/x-tar\r\n"
            + f"Content-Length: {len(data)}\r\n\r\n".encode()
            + data[:512]
        )
        until(lambda: bool(children(box) - before), "a worker takes it in")
        start = threads.submit(box.api, "POST", "/containers/one/start")
        # Nothing may come of it, however long one waits.
        assert not wait([start], timeout=0.5).done
        assert box.api("GET", "/containers/one/json").json()["State"]["Status"] == "created"
        client.sendall(data[512:])
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        assert start.result(60).status == 204
    assert box.api("POST", "/containers/one/wait").json()["StatusCode"] == 0
    assert box.docker("logs", "one").stdout == "sent\n"


def test_a_removal_does_not_wait_for_a_sender(box: Engine) -> None:
    """Nor a start that waits: whoever stalls holds up nobody who wants the container gone."""
    box.docker("create", "--name", "one", "--network", "none", "busybox", "true")
    with socket.socket(socket.AF_UNIX) as client, ThreadPoolExecutor() as threads:
        client.connect(str(box.socket))
        before = children(box)
        client.sendall(
            b"PUT /containers/one/archive?path=/ HTTP/1.1\r\nHost: x\r\n"
            b"Content-Type: application/x-tar\r\nContent-Length: 100000\r\n\r\n" + bytes(512)
        )
        until(lambda: bool(children(box) - before), "a worker takes it in")
        start = threads.submit(box.api, "POST", "/containers/one/start", timeout=60)
        assert box.api("DELETE", "/containers/one?force=1").status == 204
        client.close()
        assert start.result(60).status == 404


def test_a_reader_holds_up_nobody(box: Engine) -> None:
    """A container starts while somebody reads its files, who gets them to the end."""
    box.docker("commit", "box", "fat")
    box.docker(
        "create", "--name", "one", "--network", "none", "-v", "vol:/w", "fat", "cat", "/w/file"
    )
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(box.socket))
        client.sendall(b"GET /containers/one/archive?path=/big HTTP/1.0\r\nHost: x\r\n\r\n")
        first = client.recv(65536)
        assert first.startswith((b"HTTP/1.0 200", b"HTTP/1.1 200"))
        assert box.api("POST", "/containers/one/start").status == 204
        assert box.api("POST", "/containers/one/wait").json()["StatusCode"] == 0
        size = len(first)
        while piece := client.recv(1 << 20):
            size += len(piece)
    assert size > SIZE
    assert box.docker("logs", "one").stdout == "in\n"
    box.docker("rm", "one")
    box.docker("rmi", "fat")


def test_errors_come_before_the_first_byte(box: Engine) -> None:
    """Each with its status and Docker's words."""
    for method, path, status, words in (
        ("GET", "/containers/nobody/archive?path=/", 404, "No such container: nobody"),
        ("GET", "/containers/box/archive", 400, "bad parameter: 'path' cannot be empty"),
        ("GET", "/containers/box/archive?path=/no", 404, "Could not find the file /no in contain"),
        ("PUT", "/containers/box/archive?path=/no", 404, "Could not find the file /no in contain"),
        ("PUT", "/containers/box/archive?path=/big", 400, "extraction point is not a directory"),
        ("GET", "/containers/nobody/export", 404, "No such container: nobody"),
        ("GET", "/images/get?names=nobody", 404, "No such image: nobody"),
        ("POST", "/commit?container=nobody", 404, "No such container: nobody"),
    ):
        headers = {"Content-Type": "application/x-tar"} if method == "PUT" else {}
        done = box.api(method, path, b"" if method == "PUT" else None, headers=headers)
        assert (done.status, done.json()["message"][: len(words)]) == (status, words), path
