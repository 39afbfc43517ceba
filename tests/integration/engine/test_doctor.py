"""What is missing is said in a sentence, with the way out: doctor, and the errors one meets."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from ctypes.util import find_library
from pathlib import Path

import pytest

from tests.support.engine import Engine
from tests.support.needs import need_program, need_root
from tests.support.networks import links_of
from tests.support.paths import BOXWOOD, clean_environment

NOBODY = 65534


def without(library: str) -> list[str]:
    """A command that runs another where the library is there by name only."""
    need_root()
    name = find_library(library)
    assert name is not None
    cache = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    paths = [line.split()[-1] for line in cache.splitlines() if line.strip().startswith(name)]
    hide = "".join(f"mount --bind /dev/null {path} && " for path in paths)
    return [need_program("unshare"), "--mount", "sh", "-c", f'{hide}exec "$@"', "sh"]


def checks(output: str) -> dict[str, dict[str, str]]:
    """The lines of `doctor --format json` by name."""
    return {found["name"]: found for found in map(json.loads, output.splitlines())}


def test_all_is_well_where_it_is(engine: Engine) -> None:
    done = engine.cli("doctor", "--format", "json")
    found = checks(done.stdout)
    assert found["seccomp"]["state"] == found["libseccomp"]["state"] == "ok"
    assert found["engine"]["state"] == found["storage"]["state"] == "ok"
    assert "FAIL" not in engine.cli("doctor").stdout


def test_doctor_misses_the_library_without_an_engine(tmp_path: Path) -> None:
    nowhere = clean_environment(BOXWOOD_HOST=f"unix://{tmp_path}/no.sock")
    command = [*without("seccomp"), str(BOXWOOD), "doctor"]
    done = subprocess.run(command, env=nowhere, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("FAIL  libseccomp"))
    assert "-> install libseccomp2" in lines[at + 1]
    assert "Traceback" not in done.stderr


@pytest.fixture
def crippled() -> Iterator[Engine]:
    """An engine without the library."""
    engine = Engine(before=without("seccomp"))
    try:
        engine.start()
        engine.add_busybox()
        yield engine
    finally:
        engine.close()


def test_an_engine_without_the_library_says_what_to_install(crippled: Engine) -> None:
    found = checks(crippled.cli("doctor", "--format", "json", check=False).stdout)
    assert found["seccomp"]["state"] == "fail"
    assert "libseccomp" in found["seccomp"]["advice"]
    refused = crippled.docker("run", "--rm", "busybox", "true", check=False)
    assert refused.returncode == 125
    assert "libseccomp" in refused.stderr
    open_one = ("run", "--rm", "--security-opt", "seccomp=unconfined", "busybox", "echo", "on")
    assert crippled.docker(*open_one).stdout == "on\n"


def test_an_engine_without_nftables_says_what_to_install() -> None:
    """It starts, runs what needs no bridge, and says what the rest needs."""
    engine = Engine(before=without("nftables"))
    try:
        engine.start()
        engine.add_busybox()
        found = checks(engine.cli("doctor", "--format", "json", check=False).stdout)
        assert found["network bridge"]["state"] == "fail"
        assert "libnftables1" in found["network bridge"]["advice"]
        refused = engine.docker("run", "--rm", "busybox", "true", check=False)
        assert refused.returncode == 125
        assert "install the package libnftables1" in refused.stderr
        refused = engine.docker("network", "create", "web", check=False)
        assert "install the package libnftables1" in refused.stderr
        assert "web" not in engine.docker("network", "ls", "--format", "{{.Name}}").stdout
        alone = ("run", "--rm", "--network", "none", "busybox", "echo", "on")
        assert engine.docker(*alone).stdout == "on\n"
        assert links_of(engine.exec_root) == {}
    finally:
        engine.close()


def test_a_socket_that_one_may_not_use(engine: Engine) -> None:
    done = engine.run(
        "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", BOXWOOD, "ps",
        check=False, env={"HOME": "/nonexistent"},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("permission denied while trying to connect to the Boxwood daemon")
    assert "be root, or in the group that owns the socket" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_file_system_that_holds_no_overlay(tmp_path: Path) -> None:
    """ramfs has no extended attributes."""
    need_root()
    script = f'mount -t ramfs none {tmp_path}; "$1" daemon --storage-driver overlay '
    script += f"--data-root {tmp_path}/d --exec-root {tmp_path}/e -H unix://{tmp_path}/s"
    command = [need_program("unshare"), "--mount", "sh", "-ec", script, "sh", str(BOXWOOD)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 20, done.stderr
    assert "cannot hold an overlay (ramfs: " in done.stderr
    assert "or use --storage-driver vfs" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_daemon_that_is_not_there(tmp_path: Path) -> None:
    environment = clean_environment(BOXWOOD_HOST=f"unix://{tmp_path}/no.sock")
    done = subprocess.run(
        [BOXWOOD, "ps"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"Cannot connect to the Boxwood daemon at unix://{tmp_path}/no.sock. "
        "Is the boxwood daemon running?\n"
    )
