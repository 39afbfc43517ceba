"""`attach` with the log first: what was written before, then what comes, nothing twice."""

from __future__ import annotations

import os
import random
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.engine import Engine

# Two writers on two streams and a line that is begun long before it ends: what a hand-over may
# lose is a whole line, a part of one, or the order of them.
WRITER = """
i=0
while :; do
  echo out-$i; echo err-$i >&2; printf 'be%s' gun; printf -- '-%s\\n' $i
  i=$((i+1))
  [ $((i % 50)) = 0 ] && usleep 2000
done
"""
ATTACHES = 200
SECONDS = 0.05


@pytest.fixture
def writer(engine: Engine) -> Iterator[str]:
    body: dict[str, Any] = {"Image": "busybox", "Cmd": ["sh", "-c", WRITER]}
    body["HostConfig"] = {"LogConfig": {"Type": "json-file", "Config": {"max-size": "64m"}}}
    found = str(engine.api("POST", "/containers/create", body).json()["Id"])
    assert engine.api("POST", f"/containers/{found}/start").status == 204
    yield found
    assert engine.api("DELETE", f"/containers/{found}?force=1").status == 204


def attach(engine: Engine, container: str, query: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(20)
    sock.connect(str(engine.socket))
    sock.sendall(
        f"POST /containers/{container}/attach?{query} HTTP/1.1\r\nHost: x\r\n"
        "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    assert head.startswith(b"HTTP/1.1 101"), head
    return sock


def received(sock: socket.socket, seconds: float) -> dict[int, bytes]:
    """What came on each stream within so many seconds, at least up to the first byte of it."""
    data = b""
    end = time.monotonic() + seconds
    while time.monotonic() < end or not data:
        data += sock.recv(1 << 20)
    sock.close()
    streams = {1: b"", 2: b""}
    while len(data) >= 8:
        stream, size = struct.unpack(">BxxxI", data[:8])
        streams[stream] += data[8 : 8 + size]
        data = data[8 + size :]
    return streams


def check_whole(streams: dict[int, bytes]) -> int:
    """Every line from the first on, once and in order; returns how many there are."""
    out = streams[1].split(b"\n")[:-1]
    words = (b"out-%d", b"begun-%d")
    wanted = [words[i % 2] % (i // 2) for i in range(len(out))]
    assert out == wanted, next(pair for pair in zip(out, wanted, strict=True) if len({*pair}) > 1)
    err = streams[2].split(b"\n")[:-1]
    assert err == [b"err-%d" % i for i in range(len(err))]
    return len(out)


def test_no_line_is_lost_or_doubled_between_log_and_stream(engine: Engine, writer: str) -> None:
    chance = random.Random(8)
    lines = 0
    for _ in range(ATTACHES):
        sock = attach(engine, writer, "logs=1&stream=1&stdout=1&stderr=1")
        streams = received(sock, chance.random() * SECONDS)
        lines = max(lines, check_whole(streams))
    assert lines > ATTACHES


def log_of(engine: Engine, container: str) -> str:
    return str(engine.data_root / "containers" / container / f"{container}-json.log")


def test_the_log_is_readable_by_its_group_alone(engine: Engine, writer: str) -> None:
    assert os.stat(log_of(engine, writer)).st_mode & 0o777 == 0o640


def test_replay_of_one_that_ended_waits_for_the_next_start(engine: Engine) -> None:
    body = {"Image": "busybox", "Cmd": ["sh", "-c", "echo first; echo second"]}
    found = engine.api("POST", "/containers/create", body).json()["Id"]
    engine.api("POST", f"/containers/{found}/start")
    engine.api("POST", f"/containers/{found}/wait")
    sock = attach(engine, found, "logs=1&stream=1&stdout=1")
    assert sock.recv(100) == b"\1\0\0\0\0\0\0\6first\n\1\0\0\0\0\0\0\7second\n"
    engine.api("POST", f"/containers/{found}/start")
    assert received_all(sock) == b"first\nsecond\n"
    engine.api("DELETE", f"/containers/{found}?force=1")


def received_all(sock: socket.socket) -> bytes:
    """Everything up to the end of the stream, without the headers."""
    data = b""
    while part := sock.recv(65536):
        data += part
    sock.close()
    text = b""
    while data:
        (size,) = struct.unpack(">xxxxI", data[:8])
        text, data = text + data[8 : 8 + size], data[8 + size :]
    return text


def test_a_log_that_cannot_be_read_is_an_error_before_the_upgrade(engine: Engine) -> None:
    body = {"Image": "busybox", "HostConfig": {"LogConfig": {"Type": "none"}}}
    found = engine.api("POST", "/containers/create", body).json()["Id"]
    answer = engine.api("POST", f"/containers/{found}/attach?logs=1&stream=1&stdout=1")
    assert answer.message == "configured logging driver does not support reading"
    engine.api("DELETE", f"/containers/{found}?force=1")
