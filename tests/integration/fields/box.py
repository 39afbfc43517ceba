"""Containers over one keep-alive connection of the Engine API, made, asked and removed."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tests.support.engine import Engine
from tests.support.http import Answer, UnixConnection

TIMEOUT = 60.0


def split_frames(data: bytes, tty: bool) -> dict[int, str]:
    """Take a multiplexed stream apart: text by stream number. A terminal's is all of stream 1."""
    found: dict[int, bytes] = {1: b"", 2: b""}
    if tty:
        return {1: data.decode(errors="replace"), 2: ""}
    while data:
        size = int.from_bytes(data[4:8], "big")
        found[data[0]] = found.get(data[0], b"") + data[8 : 8 + size]
        data = data[8 + size :]
    return {number: text.decode(errors="replace") for number, text in found.items()}


@dataclass(frozen=True)
class Outcome:
    """What a container that ran to its end has left."""

    code: int
    out: str
    err: str
    warnings: list[str]

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@dataclass
class Box:
    """A container that is there until the end of the `with` block."""

    api: Api
    id: str
    warnings: list[str] = field(default_factory=list)

    def inspect(self) -> dict[str, Any]:
        """Its inspect document."""
        document = self.api.ok("GET", f"/containers/{self.id}/json")
        assert isinstance(document, dict)
        return document

    @property
    def pid(self) -> int:
        return int(self.inspect()["State"]["Pid"])

    @property
    def status(self) -> str:
        return str(self.inspect()["State"]["Status"])

    def start(self) -> None:
        self.api.ok("POST", f"/containers/{self.id}/start")

    def wait(self) -> int:
        """Wait until it does not run; return its exit code."""
        return int(self.api.ok("POST", f"/containers/{self.id}/wait")["StatusCode"])

    def logs(self, more: str = "") -> Answer:
        """Its log, both streams, as the API frames it."""
        return self.api.call("GET", f"/containers/{self.id}/logs?stdout=1&stderr=1{more}")

    def exec(self, *words: str, **config: Any) -> Outcome:
        """Run a command in it; the fields of ExecConfig as keywords."""
        body = {"AttachStdout": True, "AttachStderr": True, "Cmd": words} | config
        key = self.api.ok("POST", f"/containers/{self.id}/exec", body)["Id"]
        start = {"Detach": False, "Tty": bool(config.get("Tty"))}
        answer = self.api.engine.api("POST", f"/exec/{key}/start", start, timeout=TIMEOUT)
        assert answer.status == 200, answer.body
        code = self.api.ok("GET", f"/exec/{key}/json")["ExitCode"]
        streams = split_frames(answer.body, start["Tty"])
        return Outcome(code, streams[1], streams[2], [])

    def sh(self, script: str, **config: Any) -> str:
        """Run shell text in it and return what it wrote, both streams."""
        done = self.exec("/bin/sh", "-c", script, **config)
        return done.out + done.err


class Api:
    """One keep-alive connection to an engine. An engine that was restarted: `reconnect`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.connection = UnixConnection(engine.socket, TIMEOUT)

    def reconnect(self) -> None:
        self.connection.close()

    def call(self, method: str, path: str, body: Any = None) -> Answer:
        """Make one request and read the whole answer."""
        data = None if body is None else json.dumps(body).encode()
        self.connection.request(method, path, data, {"Content-Type": "application/json"})
        response: http.client.HTTPResponse = self.connection.getresponse()
        text = response.read()
        names = {key.lower(): value for key, value in response.getheaders()}
        return Answer(response.status, names, text)

    def ok(self, method: str, path: str, body: Any = None) -> Any:
        """The same, and it must succeed; the JSON of the answer."""
        answer = self.call(method, path, body)
        assert 200 <= answer.status < 300, (method, path, answer.status, answer.body)
        return json.loads(answer.body) if answer.body else None

    def create(self, body: dict[str, Any], name: str = "") -> Answer:
        """Ask for a container and give back the raw answer; what it made is not removed."""
        query = f"?name={quote(name)}" if name else ""
        return self.call("POST", f"/containers/create{query}", body)

    def refused(self, status: int = 400, **parts: Any) -> str:
        """Ask for a container that must be refused; return the message."""
        answer = self.create(body_of(**parts))
        if answer.status == 201:
            self.remove(answer.json()["Id"])
        assert answer.status == status, (answer.status, answer.body)
        return answer.message

    @contextmanager
    def made(self, *words: str, name: str = "", **parts: Any) -> Iterator[Box]:
        """A container that is not started; `body_of` tells the keywords."""
        answer = self.create(body_of(*words, **parts), name)
        assert answer.status == 201, (answer.status, answer.body)
        document = answer.json()
        try:
            yield Box(self, document["Id"], document["Warnings"])
        finally:
            self.remove(document["Id"])

    @contextmanager
    def living(self, *words: str, **parts: Any) -> Iterator[Box]:
        """A container that runs (sleeps, unless words say otherwise)."""
        with self.made(*(words or ("sleep", "600")), **parts) as box:
            box.start()
            yield box

    def run(self, *words: str, **parts: Any) -> Outcome:
        """Run a container to its end."""
        with self.made(*words, **parts) as box:
            box.start()
            code = box.wait()
            streams = split_frames(box.logs().body, bool((parts.get("config") or {}).get("Tty")))
            return Outcome(code, streams[1], streams[2], box.warnings)

    def sh(self, script: str, **parts: Any) -> str:
        """Run shell text in a container of its own; return what it wrote, both streams."""
        done = self.run("/bin/sh", "-c", script, **parts)
        return done.out + done.err

    def remove(self, key: str) -> None:
        answer = self.call("DELETE", f"/containers/{key}?force=1&v=1")
        assert answer.status in (204, 404, 409), (answer.status, answer.body)


def body_of(
    *words: str,
    host: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    networking: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A create body of the busybox image without a network.

    Args:
        words: the command.
        host: fields of HostConfig; `config`: of the container's config; `networking` likewise.
    """
    body: dict[str, Any] = {"Image": "busybox", "HostConfig": {"NetworkMode": "none"}}
    if words:
        body["Cmd"] = words
    body |= config or {}
    body["HostConfig"] |= host or {}
    if networking is not None:
        body["NetworkingConfig"] = networking
    return body
