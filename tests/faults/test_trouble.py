"""Trouble that is not the daemon's death: floods of output, full disks, load."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.scenario import check_nothing_orphaned
from tests.support.engine import Engine
from tests.support.needs import need_program, need_root, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

Maker = Callable[..., Engine]


def create(engine: Engine, *command: str, **host: Any) -> str:
    body = {"Image": "busybox", "Cmd": command, "HostConfig": {"NetworkMode": "none", **host}}
    answer = engine.api("POST", "/containers/create", body)
    assert answer.status == 201, answer.body
    key: str = answer.json()["Id"]
    return key


def start(engine: Engine, key: str) -> None:
    answer = engine.api("POST", f"/containers/{key}/start")
    assert answer.status == 204, answer.body


def state(engine: Engine, key: str) -> dict[str, Any]:
    found: dict[str, Any] = engine.api("GET", f"/containers/{key}/json").json()["State"]
    return found


def quickly(engine: Engine, method: str, path: str, seconds: float = 2.0) -> None:
    """Make a request that nothing may hold up."""
    before = time.monotonic()
    assert engine.api(method, path, timeout=20).status in (200, 204)
    assert time.monotonic() - before < seconds, path


def test_a_log_that_nobody_reads_and_a_client_that_does_not_read(make_engine: Maker) -> None:
    engine = make_engine()
    key = create(engine, "sh", "-c", "yes | head -c 20000000; echo end", LogConfig={
        "Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}})  # fmt: skip
    start(engine, key)
    assert engine.api("POST", f"/containers/{key}/wait", timeout=60).json()["StatusCode"] == 0
    body = engine.api("GET", f"/containers/{key}/logs?stdout=1&tail=1").body
    assert body[8:] == b"end\n"
    used = sum(path.stat().st_size for path in (engine.data_root / "containers" / key).iterdir())
    assert used < 3 << 20


def fill(root: Path) -> Path:
    """Use up the file system."""
    path = root / "ballast"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    for size in (1 << 20, 4096, 1):
        with contextlib.suppress(OSError):
            while True:
                os.write(fd, b"\0" * size)
    os.close(fd)
    return path


def test_a_full_disk_is_said_and_survived() -> None:
    need_root()
    mount = need_program("mount")
    engine = Engine()
    subprocess.run([mount, "-t", "tmpfs", "-o", "size=64m", "tmpfs", engine.data_root], check=True)
    try:
        engine.start()
        engine.add_busybox()
        before, running = create(engine, "true"), create(engine, "sleep", "1000")
        start(engine, running)
        ballast = fill(engine.data_root)
        body = {"Image": "busybox", "HostConfig": {"NetworkMode": "none"}}
        answer = engine.api("POST", "/containers/create", body)
        assert answer.status == 500, answer.body
        assert "space" in answer.message or "full" in answer.message
        answer = engine.api("POST", f"/containers/{before}/start")
        assert answer.status in (204, 500), answer.body
        quickly(engine, "GET", "/containers/json?all=1")
        assert engine.api("POST", f"/containers/{running}/stop?t=0", timeout=30).status == 204
        ballast.unlink()
        again = create(engine, "sh", "-c", "exit 3")
        start(engine, again)
        assert engine.api("POST", f"/containers/{again}/wait").json()["StatusCode"] == 3
        engine.remove_containers()
        check_nothing_orphaned(engine, "", [])
    finally:
        if engine.process is not None:
            (engine.data_root / "ballast").unlink(missing_ok=True)
            engine.remove_containers()
            engine.stop()
        subprocess.run(["umount", "-l", engine.data_root], check=True)
        engine._clear()


def usage(pid: int) -> dict[str, int]:
    """Return descriptors, threads and resident memory (KiB) of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return {
        "descriptors": len(list(Path(f"/proc/{pid}/fd").iterdir())),
        "threads": int(fields["Threads"]),
        "memory": int(fields["VmRSS"].split()[0]),
    }


def run_one(engine: Engine) -> None:
    key = create(engine, "true", AutoRemove=True)
    start(engine, key)


def test_many_runs_leave_nothing(make_engine: Maker, soak: bool) -> None:
    engine = make_engine()
    for _ in range(50):
        run_one(engine)
    until(lambda: engine.api("GET", "/containers/json?all=1").json() == [], "all are gone")
    time.sleep(2)
    before = usage(engine.pid)
    for _ in range(1000 if soak else 100):
        run_one(engine)
    threads = [threading.Thread(target=run_one, args=(engine,)) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: engine.api("GET", "/containers/json?all=1").json() == [], "all are gone")
    check_nothing_orphaned(engine, "", [])
    until(
        lambda: usage(engine.pid)["descriptors"] <= before["descriptors"] + 2,
        f"no descriptor is left open: {before} {usage(engine.pid)}",
    )
    after = usage(engine.pid)
    assert after["threads"] <= before["threads"]
    assert after["memory"] <= before["memory"] + 8192


def test_many_at_once_are_listed_fast(make_engine: Maker, soak: bool) -> None:
    engine = make_engine()
    count = 200 if soak else 40
    for _ in range(count):
        start(engine, create(engine, "sleep", "1000"))
    quickly(engine, "GET", "/containers/json")
    assert len(engine.api("GET", "/containers/json").json()) == count
