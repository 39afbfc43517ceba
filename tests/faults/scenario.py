"""What the fault tests do to an engine while it is killed, and what must hold afterwards."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.engine import Engine
from tests.support.http import Answer
from tests.support.needs import need_root, until
from tests.support.networks import links_of

GONE = (OSError, http.client.HTTPException)
"""What a request meets when the daemon dies under it."""
KILLED = 0.05
"""Seconds between two looks whether the daemon has died."""
WITNESS = "i=0; while true; do echo $i; i=$((i+1)); sleep 0.02; done"
EXIT_CODE = 9
NETWORK = "faults"


class FaultyEngine(Engine):
    """An engine that kills itself at a named point."""

    fault = ""

    def environment(self) -> dict[str, str]:
        found = super().environment()
        if self.fault:
            found["BOXWOOD_FAULT"] = self.fault
        return found

    def start_with(self, fault: str) -> None:
        """Start it so that it dies at ``fault`` (``point:hit``); empty: it does not."""
        self.fault = fault
        try:
            self.start()
        finally:
            self.fault = ""

    def reap(self) -> int:
        """Wait for a daemon that has killed itself; returns its status."""
        assert self.process is not None
        process, self.process = self.process, None
        return process.wait(20)


@contextlib.contextmanager
def faulty_engine(*, busybox: bool) -> Iterator[FaultyEngine]:
    """An engine that tests kill and start again, with or without the image busybox."""
    need_root()
    server = FaultyEngine()
    try:
        server.start()
        if busybox:
            server.add_busybox()
        yield server
    finally:
        if server.process is None:
            server.start()
        server.close()


@dataclass
class Known:
    """What the engine has acknowledged."""

    seen: set[str] = field(default_factory=set)
    created: set[str] = field(default_factory=set)
    exited: dict[str, int] = field(default_factory=dict)
    removing: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)


class Load:
    """One client that creates, starts, executes, stops and removes until the daemon is gone."""

    def __init__(self, engine: Engine, known: Known) -> None:
        self._engine = engine
        self._known = known

    def run(self, rounds: int = 1) -> bool:
        """Do it ``rounds`` times; False as soon as the daemon does not answer any more."""
        try:
            for _ in range(rounds):
                self._quick()
                self._long()
        except GONE:
            return False
        return True

    def _call(self, method: str, path: str, body: Any = None, *good: int) -> Answer:
        answer = self._engine.api(method, path, body, timeout=30)
        assert answer.status in (good or (200, 201, 204)), (method, path, answer.body)
        return answer

    def _create(
        self,
        *command: str,
        remove: bool = False,
        volume: bool = False,
        network: str = "none",
        publish: bool = True,
    ) -> str:
        host: dict[str, Any] = {"NetworkMode": network, "AutoRemove": remove}
        if network != "none" and publish:
            host["PortBindings"] = {"80/tcp": [{"HostIp": "127.0.0.1"}]}
        body = {"Image": "busybox", "Cmd": command, "HostConfig": host}
        if volume:
            host["Binds"] = ["data:/data"]
        key: str = self._call("POST", "/containers/create", body).json()["Id"]
        self._known.seen.add(key)
        if not remove:
            self._known.created.add(key)
        return key

    def _quick(self) -> None:
        key = self._create("sh", "-c", f"exit {EXIT_CODE}", volume=True)
        self._call("POST", f"/containers/{key}/start")
        code = self._call("POST", f"/containers/{key}/wait").json()["StatusCode"]
        assert code == EXIT_CODE
        self._known.exited[key] = code
        self._remove(key)
        auto = self._create("true", remove=True)
        self._call("POST", f"/containers/{auto}/start")

    def _network(self) -> str:
        """A network of a user's, made by whoever comes first."""
        answer = self._engine.api("POST", "/networks/create", {"Name": NETWORK}, timeout=30)
        assert answer.status in (201, 409), answer.body
        return NETWORK

    def _remove(self, key: str, force: str = "") -> None:
        self._known.removing.add(key)
        self._call("DELETE", f"/containers/{key}?v=1{force}")
        self._known.removed.add(key)

    def _long(self) -> None:
        key = self._create("sleep", "1000", network=self._network())
        self._call("POST", f"/containers/{key}/start")
        self._call("POST", "/networks/bridge/connect", {"Container": key})
        self._call("POST", "/networks/bridge/disconnect", {"Container": key})
        heir = self._create("sleep", "1000", network=self._network(), publish=False)
        self._call("POST", f"/containers/{heir}/start")
        self._call("POST", f"/boxwood/containers/{heir}/ports", {"From": key})
        self._remove(heir, "&force=1")
        body = {"Cmd": ["true"], "AttachStdout": True}
        exec_id = self._call("POST", f"/containers/{key}/exec", body).json()["Id"]
        self._call("POST", f"/exec/{exec_id}/start", {"Detach": True})
        self._call("POST", f"/containers/{key}/stop?t=0")
        self._known.exited[key] = 137
        self._call("POST", f"/containers/{key}/start")
        self._call("POST", f"/containers/{key}/kill")
        self._remove(key, "&force=1")


class Witness:
    """A container that runs through all of it and writes a counter to its log."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        body = {
            "Image": "busybox",
            "Cmd": ["sh", "-c", WITNESS],
            "HostConfig": {
                "NetworkMode": "bridge",
                "LogConfig": {"Type": "json-file", "Config": {"max-size": "0"}},
            },
        }
        self.id: str = engine.api("POST", "/containers/create", body).json()["Id"]
        assert engine.api("POST", f"/containers/{self.id}/start").status == 204
        self.pid = self._state()["Pid"]
        self.address = self._address()

    def _address(self) -> str:
        found = self._engine.api("GET", f"/containers/{self.id}/json").json()
        address: str = found["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        return address

    def _state(self) -> dict[str, Any]:
        found: dict[str, Any] = self._engine.api("GET", f"/containers/{self.id}/json").json()
        return found["State"]

    def check(self) -> None:
        """It runs under the same pid, and its log has every number up to now."""
        state = self._state()
        assert (state["Status"], state["Pid"]) == ("running", self.pid)
        assert self._address() == self.address
        carrier = Path(f"/proc/{self.pid}/net/route").read_text()
        assert "eth0" in carrier, "it has lost its network"
        os.kill(self.pid, 0)
        path = f"/containers/{self.id}/logs?stdout=1"
        body = self._engine.api("GET", path).body
        numbers = [int(line) for line in unframed(body).split()]
        assert numbers == list(range(len(numbers)))
        assert numbers


def unframed(body: bytes) -> bytes:
    """Return what the frames of a multiplexed stream hold."""
    found, at = [], 0
    while at < len(body):
        size = int.from_bytes(body[at + 4 : at + 8], "big")
        found.append(body[at + 8 : at + 8 + size])
        at += 8 + size
    return b"".join(found)


def check_known(engine: Engine, known: Known) -> None:
    """Nothing acknowledged is lost, nothing removed is back."""
    found = {entry["Id"]: entry for entry in engine.api("GET", "/containers/json?all=1").json()}
    for key in known.created - known.removing:
        assert key in found, f"acknowledged and lost: {key}"
    for key in known.removed:
        assert key not in found, f"removed and back: {key}"
    for key, code in known.exited.items():
        if key in found and key not in known.removing:
            state = engine.api("GET", f"/containers/{key}/json").json()["State"]
            if state["Status"] == "exited":
                assert state["ExitCode"] == code, (key, state)


def check_nothing_orphaned(engine: Engine, kept: str, books: Sequence[Known]) -> None:
    """Only what belongs to the container ``kept`` is there."""
    wanted = {kept}
    until(
        lambda: not groups_of(book.seen for book in books),
        f"no control group is orphaned: {groups_of(book.seen for book in books)}",
        seconds=15,
    )
    until(
        lambda: not orphans(engine, wanted),
        f"nothing is orphaned, but there is: {orphans(engine, wanted)}\n{engine.log[-3000:]}",
        seconds=15,
    )


def groups_of(seen: Iterable[set[str]]) -> list[str]:
    """Return the control groups of these containers."""
    wanted = set().union(*seen)
    root = Path("/sys/fs/cgroup")
    parents = [root / "boxwood", *(entry / "boxwood" for entry in root.iterdir())]
    paths = (parent / key for parent in parents for key in wanted)
    return [str(path) for path in paths if path.exists()]


def orphans(engine: Engine, wanted: set[str]) -> list[str]:
    """Name what is there for no container of ``wanted``."""
    found = []
    for place in (
        engine.data_root / "containers",
        engine.exec_root / "containers",
        engine.data_root / "storage" / "overlay" / "active",
        engine.data_root / "storage" / "overlay" / "trash",
        engine.data_root / "storage" / "overlay" / "new",
    ):
        if place.is_dir():
            found += [str(path) for path in place.iterdir() if path.name not in wanted]
    found += [f"mount {line}" for line in _mounts() if f"{engine.data_root}/" in line]
    keys = {key[:12] for key in wanted}
    netns = engine.exec_root / "netns"
    found += [str(path) for path in netns.iterdir() if path.name not in keys]
    endpoints = {
        at["EndpointID"]
        for key in wanted - {""}
        for at in engine.api("GET", f"/containers/{key}/json")
        .json()["NetworkSettings"]["Networks"]
        .values()
    }
    known = {network["Id"] for network in engine.api("GET", "/networks").json()} | endpoints
    found += [
        f"link {name}" for name, key in links_of(engine.exec_root).items() if key not in known
    ]
    found += [f"shim {pid}" for pid in shims_of(engine) if not _serves(pid, wanted)]
    return found


def _mounts() -> list[str]:
    return Path("/proc/self/mountinfo").read_text().splitlines()


def shims_of(engine: Engine) -> list[int]:
    """Return the shims that have a file of this engine open."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if (process / "comm").read_text().strip() != "boxwood-shim":
                continue
            links = [os.readlink(fd) for fd in (process / "fd").iterdir()]
            if any(
                str(engine.exec_root) in link or str(engine.data_root) in link for link in links
            ):
                found.append(int(process.name))
    return found


def _serves(pid: int, wanted: set[str]) -> bool:
    with contextlib.suppress(OSError):
        links = " ".join(os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir())
        return any(key in links for key in wanted)
    return True  # it has just gone


def in_parallel(engine: Engine, known: list[Known], rounds: int) -> None:
    """Put load on the engine with as many clients as there are books."""
    errors: list[BaseException] = []

    def work(book: Known) -> None:
        try:
            Load(engine, book).run(rounds)
        except BaseException as error:  # noqa: BLE001 - raised by the caller's thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(book,)) for book in known]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def kill_after(engine: Engine, seconds: float) -> threading.Thread:
    """Kill the daemon in a while."""
    assert engine.process is not None
    pid = engine.process.pid

    def work() -> None:
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=work)
    thread.start()
    return thread
