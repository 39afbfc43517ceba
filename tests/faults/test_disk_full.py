"""The disk is full, at each stage: one clear sentence, nothing left, and the service goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.faults.disk import FULL, SmallDisk, SmallEngine, entries, is_one_sentence, settled_tree
from tests.faults.scenario import unframed
from tests.integration.tar.archives import archive, entry
from tests.support.busybox import busybox_tar
from tests.support.engine import running
from tests.support.http import Answer
from tests.support.needs import need_root, until
from tests.support.scripted import Scripted
from tests.support.tars import tar_of

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def disk() -> Iterator[SmallDisk]:
    """The small disk."""
    need_root()
    made = SmallDisk()
    yield made
    made.close()


@pytest.fixture(scope="module")
def server(disk: SmallDisk) -> Iterator[SmallEngine]:
    """The engine on it."""
    made = SmallEngine(disk)
    with running(made):
        # Whatever is made once for an image is there.
        key = create(made, "true")
        assert made.api("POST", f"/containers/{key}/start").status == 204
        made.remove_containers()
        yield made


@pytest.fixture
def small(server: SmallEngine, disk: SmallDisk) -> Iterator[SmallEngine]:
    """It, empty; and with room again after the test, and none the worse for it."""
    before = server.tree()
    yield server
    disk.free()
    if server.process is None or server.process.poll() is not None:
        server.process = None
        server.start()
    check_service(server)
    server.remove_containers()
    assert not settled_tree(server, before)


def create(engine: SmallEngine, *command: str, name: str = "", **more: Any) -> str:
    """Make a container; returns its id."""
    answer = try_create(engine, *command, name=name, **more)
    assert answer.status == 201, answer.body
    key: str = answer.json()["Id"]
    return key


def try_create(engine: SmallEngine, *command: str, name: str = "", **more: Any) -> Answer:
    """Ask for a container."""
    host = {"NetworkMode": "none"} | more.pop("host", {})
    body = {"Image": "busybox", "Cmd": command, "HostConfig": host} | more
    return engine.api("POST", f"/containers/create{f'?name={name}' if name else ''}", body)


def run(engine: SmallEngine, *command: str) -> str:
    """Make a container and start it."""
    key = create(engine, *command)
    answer = engine.api("POST", f"/containers/{key}/start")
    assert answer.status == 204, answer.body
    return key


def state_of(engine: SmallEngine, key: str) -> dict[str, Any]:
    """Return the state that inspect shows."""
    found = engine.api("GET", f"/containers/{key}/json").json()
    state: dict[str, Any] = found["State"]
    return state


def log_of(engine: SmallEngine, key: str) -> list[str]:
    """Return the lines of a container's log."""
    body = engine.api("GET", f"/containers/{key}/logs?stdout=1").body
    return unframed(body).decode().splitlines()


def check_full(answer: Answer) -> None:
    """It failed, and says that the disk is full."""
    assert answer.status >= 400, answer
    assert FULL.search(answer.message), answer.message
    assert is_one_sentence(answer.message), answer.message


def check_service(engine: SmallEngine) -> None:
    """All of it works."""
    key = run(engine, "sh", "-c", "echo hello; exit 7")
    assert engine.api("POST", f"/containers/{key}/wait").json()["StatusCode"] == 7
    assert log_of(engine, key) == ["hello"]
    assert engine.api("DELETE", f"/containers/{key}").status == 204


def check_answers(engine: SmallEngine) -> None:
    """It tells and shows what it has."""
    for path in ("/_ping", "/info", "/containers/json?all=1", "/images/json", "/volumes"):
        assert engine.api("GET", path).status == 200


def test_create(small: SmallEngine, disk: SmallDisk) -> None:
    """Nothing of it is left, its name neither."""
    before = small.tree()
    with disk.full():
        check_full(try_create(small, "true", name="wanted"))
        check_answers(small)
        assert small.api("GET", "/containers/json?all=1").json() == []
    assert not settled_tree(small, before)
    create(small, "true", name="wanted")


def test_start(small: SmallEngine, disk: SmallDisk) -> None:
    """It stays as it was created, and starts when there is room."""
    key = create(small, "sleep", "1000")
    with disk.full():
        check_full(small.api("POST", f"/containers/{key}/start"))
        check_answers(small)
        state = state_of(small, key)
        assert (state["Status"], state["Pid"]) == ("created", 0)
        assert FULL.search(state["Error"])
        assert key not in entries(small.exec_root / "containers")
    assert small.api("POST", f"/containers/{key}/start").status == 204
    assert state_of(small, key)["Error"] == ""


def test_log(small: SmallEngine, disk: SmallDisk) -> None:
    """What writes goes on; its log has a gap, and is whole before and after it."""
    script = "i=0; while true; do echo line $i; i=$((i+1)); sleep 0.005; done"
    key = run(small, "sh", "-c", script)
    until(lambda: len(log_of(small, key)) > 20, "it writes")
    pid = state_of(small, key)["Pid"]
    with disk.full():
        until(lambda: _stands(small, key), "the log does not grow any more")
        check_answers(small)
        assert state_of(small, key)["Pid"] == pid
    last = len(log_of(small, key))
    until(lambda: len(log_of(small, key)) > last + 20, "it is written again")
    numbers = [int(line.removeprefix("line ")) for line in log_of(small, key)]
    assert numbers == sorted(set(numbers))
    path = small.data_root / "containers" / key / f"{key}-json.log"
    for line in path.read_text().splitlines():
        assert json.loads(line)["stream"] == "stdout"
    assert state_of(small, key)["Pid"] == pid


def _stands(engine: SmallEngine, key: str) -> bool:
    import time

    before = len(log_of(engine, key))
    time.sleep(0.3)
    return len(log_of(engine, key)) == before


def test_exit(small: SmallEngine, disk: SmallDisk) -> None:
    """The status is told although it cannot be written down, and is not lost once it can."""
    ending, killed = run(small, "sh", "-c", "read x; exit 9"), run(small, "sleep", "1000")
    with disk.full():
        assert small.api("POST", f"/containers/{killed}/kill").status == 204
        assert state_of(small, killed)["ExitCode"] == 137
        assert small.api("POST", f"/containers/{ending}/stop?t=0").status in (204, 304)
        codes = {key: state_of(small, key)["ExitCode"] for key in (ending, killed)}
        check_answers(small)
    check_service(small)
    small.restart()
    for key, code in codes.items():
        state = state_of(small, key)
        assert (state["Status"], state["ExitCode"]) == ("exited", code)


def test_remove(small: SmallEngine, disk: SmallDisk) -> None:
    """Whoever wants room can make some: a full disk is no reason not to remove."""
    fat = "dd if=/dev/zero of=/fat bs=1M count=16 2>/dev/null; sync"
    running_, ended = run(small, "sleep", "1000"), run(small, "sh", "-c", fat)
    assert small.api("POST", f"/containers/{ended}/wait").json()["StatusCode"] == 0
    with disk.full():
        for key in (running_, ended):
            answer = small.api("DELETE", f"/containers/{key}?force=1")
            assert answer.status == 204, answer.body
        assert small.api("GET", "/containers/json?all=1").json() == []
        until(lambda: disk.room_left() > 15 << 20, "there is room")
        check_service(small)


def test_import(small: SmallEngine, disk: SmallDisk) -> None:
    """The image is not there, and nothing of it."""
    before, images = small.tree(), small.api("GET", "/images/json").json()
    where = "/images/create?fromSrc=-&repo=other&tag=1"
    headers = {"Content-Type": "application/x-tar"}
    # Other bytes than those that are there already.
    tar = busybox_tar().replace(b"root:x:0:0", b"root:y:0:0")
    assert tar != busybox_tar()
    with disk.full():
        answer = small.api("POST", where, tar, headers=headers)
        check_stream(answer)
        check_answers(small)
        assert small.api("GET", "/images/json").json() == images
    assert not settled_tree(small, before)
    answer = small.api("POST", where, tar, headers=headers)
    assert answer.status == 200
    assert b'"error"' not in answer.body
    assert small.api("DELETE", "/images/other:1").status == 200


@pytest.mark.parametrize("room", [0, 1 << 20, 4 << 20])
def test_pull(small: SmallEngine, disk: SmallDisk, room: int) -> None:
    """Full at once, in the download, while it is unpacked: nothing stays but what was fetched."""
    before, images = small.tree(), small.api("GET", "/images/json").json()
    tar = archive(entry("big", data=os.urandom(3 << 20)))
    with Scripted(tar).serving() as registry:
        where = f"/images/create?fromImage={quote(registry.image, safe='')}"
        with disk.full(but=room):
            check_stream(small.api("POST", where))
            check_answers(small)
            assert small.api("GET", "/images/json").json() == images
        more = settled_tree(small, before | fetched(small))
        assert not more
        answer = small.api("POST", where)
        assert answer.status == 200
        assert b'"error"' not in answer.body
        assert not fetched(small)
        assert small.api("DELETE", f"/images/{quote(registry.image, safe='')}").status == 200


def fetched(engine: SmallEngine) -> set[str]:
    """Return the paths of what is kept of downloads."""
    return {path for path in engine.tree() if path.startswith("content/partial/")}


def check_stream(answer: Answer) -> None:
    """The answer, or the last line of a stream, says that the disk is full."""
    if answer.status >= 400:
        check_full(answer)
        return
    last = json.loads(answer.body.strip().splitlines()[-1])
    assert FULL.search(last["error"]), last
    assert is_one_sentence(last["error"]), last


def test_load(small: SmallEngine, disk: SmallDisk, docker_archive: bytes) -> None:
    """As an import."""
    before, images = small.tree(), small.api("GET", "/images/json").json()
    headers = {"Content-Type": "application/x-tar"}
    with disk.full():
        check_stream(small.api("POST", "/images/load", docker_archive, headers=headers))
        check_answers(small)
        assert small.api("GET", "/images/json").json() == images
    assert not settled_tree(small, before)
    answer = small.api("POST", "/images/load", docker_archive, headers=headers)
    assert b"Loaded image: loaded:1" in answer.body
    assert small.api("DELETE", "/images/loaded:1").status == 200


@pytest.fixture(scope="module")
def docker_archive() -> bytes:
    """What `docker save` would write of a small image."""
    import hashlib

    layer = busybox_tar().replace(b"root:x:0:0", b"root:z:0:0")
    diff_id = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        }
    ).encode()
    manifest = [{"Config": "config.json", "RepoTags": ["loaded:1"], "Layers": ["layer.tar"]}]
    listed = json.dumps(manifest).encode()
    return tar_of({"config.json": config, "layer.tar": layer, "manifest.json": listed})


def test_volume(small: SmallEngine, disk: SmallDisk) -> None:
    """It is not there, and can be made when there is room."""
    before = small.tree()
    with disk.full():
        check_full(small.api("POST", "/volumes/create", {"Name": "wanted"}))
        assert not small.api("GET", "/volumes").json()["Volumes"]
    assert not settled_tree(small, before)
    assert small.api("POST", "/volumes/create", {"Name": "wanted"}).status == 201
    assert small.api("DELETE", "/volumes/wanted").status == 204


def test_start_of_the_daemon(small: SmallEngine, disk: SmallDisk) -> None:
    """It starts all the same, and what runs is not touched: somebody has to make room."""
    key = run(small, "sleep", "1000")
    pid = state_of(small, key)["Pid"]
    small.kill()
    with disk.full():
        small.start()
        assert state_of(small, key)["Pid"] == pid
        check_full(try_create(small, "true"))
        assert small.api("DELETE", f"/containers/{key}?force=1").status == 204
