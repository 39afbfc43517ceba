"""What the running engine answers, held against Docker's OpenAPI file."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time

import pytest

from tests.support.engine import Engine
from tests.unit.api.openapi import validator

pytestmark = pytest.mark.root

SLEEP = ["sh", "-c", "trap exit TERM; while :; do sleep 0.1; done"]


def create(engine: Engine, name: str = "", /, **config):
    host = {"NetworkMode": "none", **config.pop("HostConfig", {})}
    body = {"Image": "busybox", "HostConfig": host, **config}
    answer = engine.api("POST", f"/containers/create?name={name}", body)
    assert answer.status == 201, answer.body
    validator("ContainerCreateResponse").validate(answer.json())
    return answer.json()["Id"]


def raw(engine: Engine) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(20)
    sock.connect(str(engine.socket))
    return sock


def request(sock: socket.socket, method: str, path: str, *headers: str) -> None:
    lines = "".join(f"{line}\r\n" for line in headers)
    sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())


def head_of(sock: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = sock.recv(1)
        assert piece, head
        head += piece
    return head


def rest_of(sock: socket.socket) -> bytes:
    parts = []
    while piece := sock.recv(65536):
        parts.append(piece)
    return b"".join(parts)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/version", "SystemVersion"),
        ("/info", "SystemInfo"),
        ("/images/busybox/json", "ImageInspect"),
        ("/volumes", "VolumeListResponse"),
        ("/networks/none", "NetworkInspect"),
    ],
)
@pytest.mark.parametrize("version", ["", "/v1.24", "/v1.43"])
def test_objects(engine, path, name, version):
    answer = engine.api("GET", version + path)
    assert answer.status == 200
    validator(name).validate(answer.json())


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/images/json", "ImageSummary"),
        ("/containers/json?all=1", "ContainerSummary"),
        ("/networks", "NetworkSummary"),
        ("/images/busybox/history", "ImageHistoryResponseItem"),
    ],
)
def test_lists(clean_engine, path, name):
    create(clean_engine, ExposedPorts={"80/tcp": {}}, Volumes={"/data": {}})
    answer = clean_engine.api("GET", path)
    assert answer.status == 200
    assert answer.json()
    for entry in answer.json():
        validator(name).validate(entry)


@pytest.mark.parametrize("version", ["/v1.24", "/v1.43", ""])
def test_inspect_of_a_running_container(clean_engine, version):
    key = create(clean_engine, "web", Cmd=SLEEP, Labels={"a": "b"}, ExposedPorts={"80/tcp": {}})
    assert clean_engine.api("POST", f"/containers/{key}/start").status == 204
    assert clean_engine.api("POST", f"/containers/{key}/start").status == 304
    answer = clean_engine.api("GET", f"{version}/containers/web/json?size=1")
    validator("ContainerInspectResponse").validate(answer.json())
    assert answer.json()["State"]["Running"]
    assert answer.json()["SizeRootFs"] > 0
    assert answer.json()["NetworkSettings"]["IPAddress"] == ""
    assert clean_engine.api("POST", f"/containers/{key}/stop").status == 204
    assert clean_engine.api("POST", f"/containers/{key}/stop").status == 304


def test_exec(clean_engine):
    key = create(clean_engine, Cmd=SLEEP)
    clean_engine.api("POST", f"/containers/{key}/start")
    made = clean_engine.api("POST", f"/containers/{key}/exec", {"Cmd": ["sh", "-c", "exit 3"]})
    assert made.status == 201
    exec_id = made.json()["Id"]
    fresh = clean_engine.api("GET", f"/exec/{exec_id}/json").json()
    assert fresh["ExitCode"] is None
    assert clean_engine.api("POST", f"/exec/{exec_id}/start", {"Detach": True}).status == 200
    deadline = time.monotonic() + 10
    while clean_engine.api("GET", f"/exec/{exec_id}/json").json()["Running"]:
        assert time.monotonic() < deadline
    assert clean_engine.api("GET", f"/exec/{exec_id}/json").json()["ExitCode"] == 3
    assert clean_engine.api("POST", f"/exec/{exec_id}/start", {"Detach": True}).status == 409
    assert clean_engine.api("POST", f"/containers/{key}/exec", {}).status == 400
    assert clean_engine.api("GET", "/exec/nonsense/json").status == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "text"),
    [
        ("GET", "/containers/nope/json", None, 404, "No such container: nope"),
        ("GET", "/images/nope/json", None, 404, "No such image: nope:latest"),
        ("GET", "/networks/nope", None, 404, "network nope not found"),
        ("GET", "/volumes/nope", None, 404, "get nope: no such volume"),
        ("GET", "/exec/nope/json", None, 404, "No such exec instance: nope"),
        ("POST", "/containers/create", {"Image": "nope"}, 404, "No such image: nope:latest"),
        ("GET", '/containers/json?filters={"x":["y"]}', None, 400, "invalid filter 'x'"),
        ("GET", '/volumes?filters={"x":["y"]}', None, 400, "invalid filter 'x'"),
        ("GET", '/images/json?filters={"x":["y"]}', None, 400, "invalid filter 'x'"),
        ("GET", '/networks?filters={"x":["y"]}', None, 400, "invalid filter 'x'"),
        ("GET", '/events?filters={"x":["y"]}', None, 400, "invalid filter 'x'"),
        ("POST", "/containers/create", {}, 400, "config cannot be empty"),
    ],
)
def test_errors_in_docker_s_words(engine, method, path, body, status, text):
    quoted = path.replace("{", "%7B").replace("}", "%7D").replace('"', "%22")
    answer = engine.api(method, quoted, body)
    assert answer.status == status
    assert text in answer.json()["message"]


def test_a_name_that_is_taken(clean_engine):
    key = create(clean_engine, "web")
    answer = clean_engine.api("POST", "/containers/create?name=web", {"Image": "busybox"})
    assert answer.status == 409
    assert answer.json()["message"] == (
        f'Conflict. The container name "/web" is already in use by container "{key}". You have to '
        "remove (or rename) that container to be able to reuse that name."
    )


def test_wait_sends_its_head_before_it_waits(clean_engine):
    key = create(clean_engine, Cmd=["sh", "-c", "exit 7"])
    with raw(clean_engine) as sock:
        request(sock, "POST", f"/containers/{key}/wait?condition=next-exit", "Connection: close")
        assert b"Transfer-Encoding: chunked" in head_of(sock)
        clean_engine.api("POST", f"/containers/{key}/start")
        body = rest_of(sock)
    assert b'{"StatusCode":7,"Error":null}' in body


def test_events_send_their_head_and_each_event_at_once(clean_engine):
    with raw(clean_engine) as sock:
        request(sock, "GET", "/v1.43/events?filters=%7B%22type%22:%5B%22container%22%5D%7D")
        assert b"Content-Type: application/json\r\n" in head_of(sock)
        key = create(clean_engine, "web", Labels={"a": "b"})
        size = int(_line(sock), 16)
        event = json.loads(sock.recv(size))
        validator("EventMessage").validate(event)
        assert (event["status"], event["id"], event["from"]) == ("create", key, "busybox")
        assert event["Actor"]["Attributes"] == {"a": "b", "image": "busybox", "name": "web"}


def _line(sock: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\r\n"):
        line += sock.recv(1)
    return line


def test_a_watcher_that_goes_away_is_forgotten(engine):
    before = engine.api("GET", "/info").json()["NEventsListener"]
    with raw(engine) as sock:
        request(sock, "GET", "/events")
        head_of(sock)
        assert engine.api("GET", "/info").json()["NEventsListener"] == before + 1
    deadline = time.monotonic() + 5
    while engine.api("GET", "/info").json()["NEventsListener"] != before:
        assert time.monotonic() < deadline


@pytest.mark.parametrize("upgrade", [True, False])
def test_attach_before_the_start_with_a_half_close(clean_engine, upgrade):
    key = create(
        clean_engine,
        Cmd=["sh", "-c", "cat; echo done; echo oops >&2"],
        OpenStdin=True,
        StdinOnce=True,
        AttachStdin=True,
    )
    headers = ("Connection: Upgrade", "Upgrade: tcp") if upgrade else ()
    with raw(clean_engine) as sock:
        path = f"/containers/{key}/attach?stream=1&stdin=1&stdout=1&stderr=1"
        request(sock, "POST", path, "Content-Length: 0", *headers)
        head = head_of(sock)
        if upgrade:
            assert head.startswith(b"HTTP/1.1 101 UPGRADED\r\n")
            assert b"application/vnd.docker.multiplexed-stream" in head
        else:
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        sock.sendall(b"early ")
        assert clean_engine.api("POST", f"/containers/{key}/start").status == 204
        sock.sendall(b"late\n")
        sock.shutdown(socket.SHUT_WR)
        frames = demultiplex(rest_of(sock))
    assert frames == {1: b"early late\ndone\n", 2: b"oops\n"}


def demultiplex(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while data:
        kind, size = struct.unpack(">BxxxI", data[:8])
        found[kind] = found.get(kind, b"") + data[8 : 8 + size]
        data = data[8 + size :]
    return found


def test_the_end_of_an_exec_s_output_comes_after_its_exit_code(clean_engine):
    key = create(clean_engine, Cmd=SLEEP)
    clean_engine.api("POST", f"/containers/{key}/start")
    for code in range(10):
        body = {"Cmd": ["sh", "-c", f"echo x; exit {code}"], "AttachStdout": True}
        exec_id = clean_engine.api("POST", f"/containers/{key}/exec", body).json()["Id"]
        with raw(clean_engine) as sock:
            content = b'{"Detach":false}'
            request(
                sock,
                "POST",
                f"/exec/{exec_id}/start",
                "Content-Type: application/json",
                f"Content-Length: {len(content)}",
                "Connection: Upgrade",
                "Upgrade: tcp",
            )
            sock.sendall(content)
            head_of(sock)
            assert demultiplex(rest_of(sock)) == {1: b"x\n"}
        shown = clean_engine.api("GET", f"/exec/{exec_id}/json").json()
        assert (shown["Running"], shown["ExitCode"]) == (False, code)


def test_logs_of_a_running_container_follow_in_chunks(clean_engine):
    key = create(clean_engine, Cmd=["sh", "-c", "echo a; echo b >&2; sleep 0.3; echo c"])
    clean_engine.api("POST", f"/containers/{key}/start")
    with raw(clean_engine) as sock:
        request(
            sock,
            "GET",
            f"/containers/{key}/logs?stdout=1&stderr=1&follow=1",
            "Connection: close",
        )
        head = head_of(sock)
        assert b"application/vnd.docker.multiplexed-stream" in head
        assert b"Transfer-Encoding: chunked" in head
        body = dechunk(rest_of(sock))
    assert demultiplex(body) == {1: b"a\nc\n", 2: b"b\n"}
    assert clean_engine.api("GET", f"/containers/{key}/logs").status == 400


def dechunk(data: bytes) -> bytes:
    parts = []
    while True:
        size, _, data = data.partition(b"\r\n")
        if int(size, 16) == 0:
            return b"".join(parts)
        parts.append(data[: int(size, 16)])
        data = data[int(size, 16) + 2 :]


def test_load_tells_what_is_wrong(engine):
    answer = engine.api("POST", "/images/load", b"this is no archive at all" * 100)
    assert answer.status in (200, 400)
    assert "error" in answer.body.decode() or "message" in answer.json()


def test_a_load_that_is_cut_off_leaves_the_engine_well(engine):
    with raw(engine) as sock:
        request(sock, "POST", "/images/load", "Content-Length: 100000000")
        sock.sendall(b"\0" * 100_000)
    assert engine.api("GET", "/_ping").status == 200


def test_what_is_not_honoured_is_in_the_warnings(clean_engine):
    body = {"Image": "busybox", "HostConfig": {"CpuCount": 2, "NetworkMode": "none"}}
    answer = clean_engine.api("POST", "/containers/create", body)
    assert "HostConfig.CpuCount: " in "\n".join(answer.json()["Warnings"])


def test_a_hundred_clients_at_once(engine):
    failures = []

    def ask() -> None:
        try:
            for _ in range(20):
                assert engine.api("GET", "/containers/json?all=1").status == 200
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=ask) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("path", ["/boxwood/doctor", "/boxwood/plugins"])
def test_what_is_ours(engine, path):
    answer = engine.api("GET", path)
    assert answer.status == 200
    assert answer.json()


def test_the_launch_program_is_shown(clean_engine):
    key = create(clean_engine, Cmd=SLEEP)
    assert clean_engine.api("GET", f"/boxwood/launch/{key}").status == 409
    clean_engine.api("POST", f"/containers/{key}/start")
    answer = clean_engine.api("GET", f"/boxwood/launch/{key}")
    assert answer.status == 200
    assert b"exec" in answer.body


def test_what_is_to_be_made_is_said_in_a_body(engine: Engine) -> None:
    """An empty one makes nothing, as with Docker: no volume or network of a random name."""
    for kind in ("containers", "networks", "volumes"):
        answer = engine.api("POST", f"/{kind}/create", headers={"Content-Type": "application/json"})
        assert (answer.status, "got EOF while reading" in answer.message) == (400, True), kind


def test_info_names_the_drivers_that_there_are(engine: Engine) -> None:
    """By the names that requests take: what is installed, and nothing that is no driver of one."""
    found = engine.api("GET", "/info").json()["Plugins"]
    assert {"bridge", "cni", "host", "ipvlan", "macvlan", "null"} <= set(found["Network"])
    assert not {"none", "container"} & set(found["Network"])
    assert found["Network"] == sorted(found["Network"])
