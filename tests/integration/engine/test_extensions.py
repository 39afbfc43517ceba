"""Plugins of strangers in a real daemon: hooks, failures, drivers by name, commands."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import Engine
from tests.support.http import Answer
from tests.support.needs import need_root, until
from tests.support.paths import ROOT
from tests.support.strangers import install, install_package

NOBODY = 65534
GUARD = ROOT / "examples" / "extension-guard"
Start = Callable[..., Engine]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where strangers' packages are installed."""
    path = tmp_path / "site"
    path.mkdir()
    return path


@pytest.fixture
def start(folder: Path, tmp_path: Path) -> Iterator[Start]:
    """Start an engine that finds what is in `folder`, with these extensions enabled."""
    need_root()
    with contextlib.ExitStack() as made:

        def run(*plugins: str, busybox: bool = True, **settings: Any) -> Engine:
            file = tmp_path / "daemon.json"
            file.write_text(json.dumps({"plugins": plugins, **settings}))
            variables = {"PYTHONPATH": str(folder), "GUARD_JOURNAL": str(tmp_path / "journal")}
            engine = Engine("--config-file", str(file), variables=variables)
            made.callback(engine.close)
            engine.start()
            if busybox:
                engine.add_busybox()
            return engine

        yield run


@contextlib.contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """Be somebody else for the kernel."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


def create(engine: Engine, name: str, **host: Any) -> Answer:
    body = {"Image": "busybox", "Cmd": ["env"], "HostConfig": host}
    return engine.api("POST", f"/containers/create?name={name}", body)


def test_every_hook_of_the_example_has_its_effect(
    start: Start, folder: Path, tmp_path: Path
) -> None:
    install_package(folder, GUARD)
    engine = start("guard")
    done = engine.docker("run", "--name", "seen", "busybox", "env")
    assert "GUARDED=seen" in done.stdout.splitlines()
    found = engine.api("GET", "/containers/seen/json").json()["Id"]
    journal = (tmp_path / "journal").read_text().splitlines()
    for action in ("create", "start", "die"):
        assert f"container {action} {found[:12]}" in journal
    engine.docker("run", "-d", "--name", "runs", "busybox", "sleep", "100")
    specs = (engine.exec_root / "containers").glob("*/*spec*")
    documents = [json.loads(path.read_bytes()) for path in specs]
    assert "runs" in [found["annotations"].get("org.example.guarded") for found in documents]
    answer = engine.api("GET", "/ext/guard/hello/world?loud=1")
    assert (answer.status, answer.json()) == (200, {"hello": "world", "loud": True})
    assert engine.api("GET", "/v1.43/ext/guard/hello/world").status == 200
    assert engine.cli("guard", "moon").stdout == "moon\n"


def test_the_guard_knows_who_asks(start: Start, folder: Path) -> None:
    install_package(folder, GUARD)
    engine = start("guard")
    assert create(engine, "by-root", Privileged=True).status == 201
    engine.exec_root.chmod(0o711)
    engine.socket.chmod(0o666)
    with acting_as(NOBODY):
        refused = create(engine, "by-nobody", Privileged=True)
        allowed = create(engine, "plain")
    assert (refused.status, refused.message) == (
        403, f"guard: user {NOBODY} may not have privileged containers",
    )  # fmt: skip
    assert allowed.status == 201
    assert engine.api("GET", "/containers/by-nobody/json").status == 404
    metrics = engine.api("GET", "/boxwood/metrics").body.decode().splitlines()
    assert "# TYPE boxwood_guard_refused_total counter" in metrics
    assert "boxwood_guard_refused_total 1" in metrics
    assert "boxwood_containers_running 0" in metrics


def listed(engine: Engine, name: str) -> str:
    """The status of a plugin in `plugin ls`."""
    done = engine.cli("plugin", "ls", "--format", "{{.Name}} {{.Status}}")
    return next(line for line in done.stdout.splitlines() if line.startswith(f"{name} "))


def test_one_that_cannot_be_imported_is_named_and_left_out(start: Start, folder: Path) -> None:
    install(folder, "broken", {"broken": "import nothing_of_that_name\n"},
            "[boxwood.extension]\nbroken = broken\n")  # fmt: skip
    engine = start("broken", "missing")
    assert "extension/broken: No module named 'nothing_of_that_name'" in engine.log
    assert "extension/missing: not installed" in engine.log
    assert "nothing_of_that_name" in listed(engine, "broken")
    assert engine.docker("run", "--rm", "busybox", "echo", "on").stdout == "on\n"


def test_an_unknown_hook_is_an_error_at_the_start(start: Start, folder: Path) -> None:
    source = """
        from boxwood.drivers.hookspecs import hookimpl

        @hookimpl
        def admitt(request):
            raise PermissionError
    """
    install(folder, "typo", {"typo": source}, "[boxwood.extension]\ntypo = typo\n")
    with pytest.raises(RuntimeError, match=r"ended \(25\)") as caught:
        start("typo", busybox=False)
    assert "load plugin: extension/typo" in str(caught.value)
    assert "admitt" in str(caught.value)


FAILING = """
    from boxwood.drivers.hookspecs import hookimpl

    @hookimpl
    def adjust_spec(spec, container):
        if container.name == "unlucky":
            raise ValueError("not this one")

    @hookimpl
    def on_event(event):
        raise ValueError("no events please")

    @hookimpl
    def admit(request):
        if request.object == "cursed":
            raise ZeroDivisionError("oops")
"""


def test_a_hook_that_raises_is_named_and_hurts_nobody_else(start: Start, folder: Path) -> None:
    install(folder, "failing", {"failing": FAILING}, "[boxwood.extension]\nfailing = failing\n")
    engine = start("failing")
    done = engine.docker("run", "--name", "unlucky", "busybox", "true", check=False)
    assert done.returncode == 125
    assert "failing: not this one" in done.stderr
    answer = engine.api("POST", "/containers/cursed/kill")
    assert (answer.status, answer.message) == (500, "admit: container.kill: failing: oops")
    assert engine.docker("run", "--rm", "busybox", "echo", "on").stdout == "on\n"
    assert engine.log.count("extension: failing: on_event: no events please") == 1


def test_one_that_fails_in_its_registration_is_gone_for_good(start: Start, folder: Path) -> None:
    source = """
        from boxwood.drivers.hookspecs import hookimpl

        @hookimpl
        def register_routes(api):
            async def here(call):
                return "here"
            api.add("GET", "/ext/thief/here", here)
            api.add("GET", "/containers/json", here)

        @hookimpl
        def adjust_spec(spec, container):
            spec["process"]["env"].append("STOLEN=1")
    """
    install(folder, "thief", {"thief": source}, "[boxwood.extension]\nthief = thief\n")
    engine = start("thief")
    assert "not below /ext/thief/" in listed(engine, "thief")
    assert engine.api("GET", "/ext/thief/here").status == 404
    assert engine.api("GET", "/containers/json").json() == []
    assert "STOLEN" not in engine.docker("run", "--rm", "busybox", "env").stdout


DRIVERS = '''
    """A volume driver and a log driver, as small as they get."""
    from pathlib import Path

    from boxwood.drivers.hookspecs import hookimpl
    from boxwood.drivers.log import READS, LogDriver, LogRecord
    from boxwood.drivers.volume import Volume, VolumeDriver


    class Shelf(VolumeDriver):
        name = "shelf"

        def __init__(self, root):
            self.root = root.parent / "shelf"
            self.root.mkdir(exist_ok=True)

        def volume(self, name):
            return Volume(name=name, mountpoint=str(self.root / name))

        async def create(self, name, options):
            (self.root / name).mkdir(exist_ok=True)
            return self.volume(name)

        async def remove(self, name):
            gone = self.root.parent / "trash" / f"shelf-{name}"
            if (self.root / name).exists():
                (self.root / name).rename(gone)
            return gone

        async def mount(self, name, user):
            return self.root / name

        async def list(self):
            return [self.volume(path.name) for path in self.root.iterdir()]


    class Poem(LogDriver):
        name = "poem"
        capabilities = frozenset({READS})

        def spool(self, source, options):
            return None

        async def read(self, source, options, wanted, ended):
            for word in ("roses", "violets"):
                yield LogRecord("stdout", f"{word}\\n".encode(), "2026-01-01T00:00:00Z")


    @hookimpl
    def volume_driver(name, root, options):
        return Shelf(root) if name == "shelf" else None
'''


def test_drivers_of_strangers_are_chosen_by_name(start: Start, folder: Path) -> None:
    log = DRIVERS.partition("    @hookimpl")[0] + (
        "    @hookimpl\n    def log_driver(name, options):\n        return Poem()\n"
    )
    install(folder, "strange", {"strange": DRIVERS, "poem": log},
            "[boxwood.volume]\nshelf = strange\n[boxwood.log]\npoem = poem\n")  # fmt: skip
    engine = start()
    engine.docker("volume", "create", "--driver", "shelf", "books")
    run = ("run", "--rm", "-v", "books:/books", "busybox")
    engine.docker(*run, "sh", "-c", "echo read > /books/me")
    assert engine.docker(*run, "cat", "/books/me").stdout == "read\n"
    assert (engine.data_root / "shelf" / "books" / "me").read_text() == "read\n"
    assert engine.api("GET", "/volumes/books").json()["Driver"] == "shelf"
    engine.docker("volume", "rm", "books")
    assert not (engine.data_root / "shelf" / "books").exists()
    engine.docker("run", "--log-driver", "poem", "--name", "poet", "busybox", "echo", "prose")
    assert engine.docker("logs", "poet").stdout == "roses\nviolets\n"
    done = engine.docker("run", "--log-driver", "ode", "busybox", "true", check=False)
    assert (done.returncode, 'plugin "ode" not found' in done.stderr) == (125, True)
    done = engine.docker("volume", "create", "--driver", "attic", check=False)
    assert done.returncode == 1
    assert "attic" in done.stderr


def test_a_command_that_cannot_load_is_named(start: Start, folder: Path) -> None:
    install(folder, "bad-command", {"bad_command": "import nothing_of_that_name\n"},
            "[boxwood.command]\nwreck = bad_command:run\n")  # fmt: skip
    engine = start(busybox=False)
    done = engine.cli("wreck", check=False)
    assert done.returncode != 0
    assert "plugin command: wreck: bad_command:run: No module" in done.stderr
    assert engine.cli("version").returncode == 0


def test_metrics_that_fail(start: Start, folder: Path) -> None:
    """One that cannot be read is left out; a plugin that cannot register is gone."""
    source = """
        from boxwood.drivers.hookspecs import hookimpl

        @hookimpl
        def register_metrics(registry):
            registry.gauge("depth", "How deep.", lambda: 1 / 0)
            registry.gauge("height", "How high.", lambda: 2.5)
    """
    twice = source.replace("height", "depth")
    install(folder, "deep", {"deep": source, "twice": twice},
            "[boxwood.extension]\ndeep = deep\ntwice = twice\n")  # fmt: skip
    engine = start("deep", "twice", busybox=False)
    for _ in range(2):
        text = engine.api("GET", "/boxwood/metrics").body.decode()
        assert "boxwood_deep_height 2.5" in text.splitlines()
        assert "depth" not in text
    assert engine.log.count("metric: boxwood_deep_depth: ") == 1
    assert "is there already" in listed(engine, "twice")


def test_events_reach_the_journal_in_time(start: Start, folder: Path, tmp_path: Path) -> None:
    """An extension hears of an event when it happens, not when somebody asks."""
    install_package(folder, GUARD)
    engine = start("guard")
    journal = tmp_path / "journal"
    before = time.monotonic()
    engine.docker("volume", "create", "heard")
    until(lambda: "volume create heard" in journal.read_text(), "the journal has it", seconds=5)
    assert time.monotonic() - before < 5


CHOOSER = """
    from boxwood.drivers.hookspecs import hookimpl
    from boxwood.errors import Unavailable

    @hookimpl
    def choose_subnet(network, version):
        if network.name == "wrong":
            return 5
        if network.name == "full":
            raise Unavailable("choose subnet: full: no more")
        return "10.197.96.0/24" if version == 4 and network.name == "mine" else None

    @hookimpl
    def choose_address(network, endpoint, version):
        return "10.197.96.77" if network.name == "mine" else None
"""


def test_subnets_and_addresses_are_chosen(start: Start, folder: Path) -> None:
    """What it chooses is checked as a client's wish is; what it leaves open, the engine chooses."""
    install(folder, "chooser", {"chooser": CHOOSER}, "[boxwood.extension]\nchooser = chooser\n")
    engine = start("chooser")

    def subnet(name: str) -> str:
        engine.docker("network", "create", name)
        return str(engine.api("GET", f"/networks/{name}").json()["IPAM"]["Config"][0]["Subnet"])

    assert subnet("mine") == "10.197.96.0/24"
    assert not subnet("other").startswith("10.197.96.")
    run = ("run", "--rm", "--network", "mine", "busybox")
    assert "10.197.96.77/24" in engine.docker(*run, "ip", "-4", "addr", "show", "eth0").stdout
    engine.docker("run", "-d", "--name", "one", "--network", "mine", "busybox", "sleep", "100")
    taken = engine.docker(*run, "true", check=False)
    assert "Address already in use" in taken.stderr
    own = ("run", "--rm", "--network", "mine", "--ip", "10.197.96.9", "busybox", "ip", "addr")
    assert "10.197.96.9/24" in engine.docker(*own).stdout
    wrong = engine.docker("network", "create", "wrong", check=False)
    assert "choose_subnet: chooser: not a text: 5" in wrong.stderr
    full = engine.docker("network", "create", "full", check=False)
    assert "choose subnet: full: no more" in full.stderr


def test_files_of_transports_are_asked_about(start: Start, folder: Path, tmp_path: Path) -> None:
    """Who may pull and push may not have the engine's root read and write files by it."""
    code = """
    from boxwood.drivers.hookspecs import hookimpl
    from boxwood.errors import PermissionDenied

    @hookimpl
    def admit(request):
        if request.action == "image.transport":
            raise PermissionDenied(f"no {request.object}")
    """
    install(folder, "careful", {"careful": code}, "[boxwood.extension]\ncareful = careful\n")
    engine = start("careful")
    place = f"oci:{tmp_path / 'layout'}"
    for command in (("push", "busybox", place), ("pull", place)):
        done = engine.cli(*command, check=False)
        assert done.returncode == 1
        assert f"no {place}" in done.stderr
    assert not (tmp_path / "layout").exists()
