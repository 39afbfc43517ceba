"""Containers by the raw API, for tests that want no client between."""

from __future__ import annotations

from typing import Any

from tests.support.engine import Engine


def create(engine: Engine, *command: str, **more: Any) -> str:
    """Make a container; returns its id."""
    host = {"NetworkMode": "none"} | more.pop("host", {})
    body = {"Image": "busybox", "Cmd": command, "HostConfig": host} | more
    answer = engine.api("POST", "/containers/create", body)
    assert answer.status == 201, answer.body
    key: str = answer.json()["Id"]
    return key


def start(engine: Engine, *command: str, **more: Any) -> str:
    """Make a container and start it."""
    key = create(engine, *command, **more)
    assert engine.api("POST", f"/containers/{key}/start").status == 204
    return key


def state_of(engine: Engine, key: str, timeout: float = 30) -> dict[str, Any]:
    """Return the state that inspect shows."""
    found = engine.api("GET", f"/containers/{key}/json", timeout=timeout).json()
    state: dict[str, Any] = found["State"]
    return state
