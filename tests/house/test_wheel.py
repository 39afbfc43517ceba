"""The wheel: what is in it, and that it runs where nothing of the checkout can be seen."""

from __future__ import annotations

import contextlib
import functools
import gzip
import http.server
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.busybox import busybox_tar
from tests.support.engine import Engine, running
from tests.support.needs import need_program, need_root
from tests.support.paths import ROOT, clear_room, make_room

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def wheel() -> Path:
    """The wheel, as `./dev wheel` builds it."""
    done = subprocess.run(
        [ROOT / "dev", "wheel"], capture_output=True, text=True, check=False, timeout=400
    )
    assert done.returncode == 0, done.stderr
    return ROOT / done.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def elsewhere(wheel: Path) -> Iterator[Path]:
    """An empty virtual environment outside the checkout, with the wheel installed in it."""
    room = make_room("wheel")
    try:
        base = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
        subprocess.run([base, "-m", "venv", room / "venv"], check=True, timeout=120)
        pip = [room / "venv/bin/python", "-m", "pip", "--disable-pip-version-check", "-q"]
        done = subprocess.run(
            [*pip, "install", wheel], capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        yield room / "venv" / "bin"
    finally:
        clear_room(room)


def test_contents(wheel: Path) -> None:
    """Code, stubs, the shim and the units are in it; sources to compile and tests are not."""
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in (
        "boxwood/py.typed",
        "boxwood/systemd/boxwood.service",
        "boxwood/systemd/boxwood.socket",
        "boxwood_ext/bin/boxwood-broker",
        "boxwood_ext/bin/boxwood-helper",
        "boxwood_ext/bin/boxwood-shim",
        "boxwood_ext/tar.pyi",
        "boxwood_plugins/storage/overlay.py",
    ):
        assert wanted in names
    unwanted = [n for n in names if n.endswith((".c", ".h", ".pyx")) or n.startswith("tests")]
    assert unwanted == []
    compiled = [n for n in names if n.endswith(".so")]
    sources = list((ROOT / "ext/boxwood_ext").glob("*.pyx"))
    assert len(compiled) == len(sources) > 0


def test_programs_may_be_run(elsewhere: Path) -> None:
    """Installed, shim and helper are executable files."""
    programs = list(elsewhere.parent.glob("lib/python3*/site-packages/boxwood_ext/bin/*"))
    assert sorted(path.name for path in programs) == [
        "boxwood-broker", "boxwood-helper", "boxwood-shim"
    ]  # fmt: skip
    assert [path.stat().st_mode & 0o111 for path in programs] == [0o111] * 3


def test_runs_a_container(elsewhere: Path) -> None:
    """With the checkout hidden behind an empty folder, an engine runs a container."""
    need_root()
    hide = f"mount -t tmpfs -o ro hidden '{ROOT}' && exec \"$@\""
    before = ("unshare", "--mount", "sh", "-c", hide, "hide")
    engine = Engine(program=elsewhere / "boxwood", before=before)
    with running(engine):
        done = engine.run(
            *before, engine.program, "run", "--rm", "--network", "none", "busybox", "echo", "there"
        )
        assert done.stdout == "there\n"


def test_example_drivers_hold_every_law(elsewhere: Path, request: pytest.FixtureRequest) -> None:
    """A stranger's packages, installed by pip beside the wheel: no law fails, none is left out."""
    need_root()
    need_program("mkfs.ext4")
    python = elsewhere / "python"
    pip = [python, "-m", "pip", "--disable-pip-version-check", "-q", "install"]
    names = ("storage-plain", "storage-loop", "network-routed", "registry-http")
    examples = [ROOT / "examples" / name for name in names]
    with tempfile.TemporaryDirectory() as folder:
        # Copies: a build leaves its own folders beside the sources.
        copies = [shutil.copytree(source, Path(folder, source.name)) for source in examples]
        done = subprocess.run(
            [*pip, "pytest", *copies], capture_output=True, text=True, check=False, timeout=300
        )
    assert done.returncode == 0, done.stderr
    _graded([elsewhere / "boxwood", "plugin", "test", "plain"], "storage plain: grade A: ")
    # Ports, and what else it does not claim, are left out.
    command = [elsewhere / "boxwood", "plugin", "test", "--kind", "network", "routed"]
    _graded(command, "network routed: grade B: ")
    module = (ROOT / "examples/network-routed/boxwood_routed.py").read_text().splitlines()
    assert len([line for line in module if line]) <= 40
    _speak_over_routed(elsewhere)
    _pull_from_a_web_server(elsewhere)
    size = f"size={256 << 20}"
    if request.config.getoption("--soak"):
        command = [elsewhere / "boxwood", "plugin", "test", "loop", "--opt", size]
        _graded(command, "storage loop: grade A: ")
    else:
        # Crashes make some hundred disks: half a minute.
        command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not any_call"]
        command += ["--boxwood-storage=loop", f"--boxwood-storage-opt={size}"]
        said = _graded([*command, "--pyargs", "boxwood.testing.storage"], " passed, ")
        assert "skipped" not in said


def _speak_over_routed(elsewhere: Path) -> None:
    """In a running engine, two containers reach each other by name over the stranger's driver."""
    engine = Engine(program=elsewhere / "boxwood")
    with running(engine):
        said = engine.cli("network", "create", "-d", "routed", "--subnet", "10.97.3.0/24", "wire")
        assert len(said.stdout.strip()) == 64
        server = "echo over the wire >/index.html; exec httpd -f -h /"
        run = ("run", "-d", "--network", "wire", "--name", "web", "busybox", "sh", "-c", server)
        engine.cli(*run)
        fetch = "for i in 1 2 3 4 5 6 7 8 9; do wget -qO- web && exit; sleep 1; done; exit 1"
        client = ("run", "--rm", "--network", "wire", "busybox", "sh", "-c", fetch)
        assert engine.cli(*client).stdout == "over the wire\n"
        engine.cli("rm", "-f", "web")
        engine.cli("network", "rm", "wire")


def _pull_from_a_web_server(elsewhere: Path) -> None:
    """The archive of a tree on a web server becomes an image, by the stranger's transport."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "Small-Root.tar.gz").write_bytes(gzip.compress(busybox_tar(), 1))
        with (
            served(folder) as address,
            running(Engine(program=elsewhere / "boxwood"), busybox=False) as engine,
        ):
            assert isinstance(engine, Engine)
            source = f"{address}/Small-Root.tar.gz"
            said = engine.cli("pull", source).stdout
            assert f"Fetching {source}" in said
            assert "Status: Downloaded newer image for localhost/small-root:latest" in said
            assert "Image is up to date" in engine.cli("pull", source).stdout
            run = ("run", "--rm", "--network", "none", "localhost/small-root", "echo", "over HTTP")
            assert engine.cli(*run).stdout == "over HTTP\n"
            failed = engine.cli("pull", f"{address}/none.tar", check=False)
            assert failed.returncode == 1
            assert "404" in failed.stderr


@contextlib.contextmanager
def served(folder: str) -> Iterator[str]:
    """Serve a folder over HTTP; yields its address."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _graded(command: list[Path | str], words: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=200, cwd="/"
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert words in done.stdout
    return done.stdout
