"""Engines that the command line is tried against.

`BOXWOOD_TEST_HOST` names one that runs already; else each test runs against our own engine and
against Debian's Docker daemon, both on roots of their own.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.busybox import busybox_tar
from tests.support.needs import need_program, need_root
from tests.support.paths import BOXWOOD, clean_environment

GIVEN = os.environ.get("BOXWOOD_TEST_HOST")
ENGINES = ["given"] if GIVEN else ["boxwood", "dockerd"]
IMAGE = "busybox"


@dataclass(frozen=True)
class Shell:
    """Runs command lines against one engine; names it makes carry no other test's."""

    host: str
    config: Path

    def run(self, *words: object, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run our own command line; nothing is checked."""
        return self._run([str(BOXWOOD)], words, more)

    def docker(self, *words: object, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run the stock client."""
        return self._run([need_program("docker")], words, more)

    @property
    def environment(self) -> dict[str, str]:
        """Leads both clients to the engine, with an empty configuration."""
        return clean_environment(
            BOXWOOD_HOST=self.host,
            DOCKER_HOST=self.host,
            DOCKER_CONFIG=str(self.config),
            BOXWOOD_CONFIG=str(self.config),
            BOXWOOD_AUTOSTART="0",
            TZ="UTC",
        )

    def _run(
        self, program: list[str], words: tuple[object, ...], more: dict[str, Any]
    ) -> subprocess.CompletedProcess[str]:
        options: dict[str, Any] = {"text": True, "timeout": 60, "env": self.environment} | more
        if "input" not in options and "stdin" not in options:
            options["stdin"] = subprocess.DEVNULL
        if "stdout" not in options:
            options["capture_output"] = True
        return subprocess.run([*program, *map(str, words)], check=False, **options)


@pytest.fixture(scope="session", params=ENGINES)
def engine_host(request: pytest.FixtureRequest) -> str:
    """The address of an engine."""
    need_root()
    if request.param == "given":
        assert GIVEN is not None
        return GIVEN
    server = request.getfixturevalue("engine" if request.param == "boxwood" else "dockerd")
    return str(server.host)


@pytest.fixture
def shell(engine_host: str, tmp_path: Path) -> Iterator[Shell]:
    """A shell on an engine that has busybox and, before and after, no container."""
    made = Shell(engine_host, tmp_path / "config")
    made.config.mkdir()
    if made.run("image", "inspect", IMAGE).returncode:
        done = made.run("import", "-c", 'CMD ["sh"]', "-", IMAGE, input=busybox_tar(), text=False)
        assert done.returncode == 0, done.stderr
    _clear(made)
    yield made
    _clear(made)


def _clear(shell: Shell) -> None:
    """Remove the containers that these tests made: they are all named, or labelled by the image."""
    names = shell.run("ps", "-aq", "--filter", f"ancestor={IMAGE}").stdout.split()
    if names:
        done = shell.run("rm", "-f", "-v", *names)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def sleeper(shell: Shell) -> Callable[..., str]:
    """Start a container that sleeps, under a name."""

    def start(name: str, *flags: str) -> str:
        done = shell.run("run", "-d", "--name", name, "--network", "none", *flags, IMAGE,
                         "sleep", "1000")  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return start
