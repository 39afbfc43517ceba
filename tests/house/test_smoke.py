"""The few tests that show that the engine works at all: what a fresh machine runs of them all."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.engine import Engine

pytestmark = [pytest.mark.root, pytest.mark.smoke]


def test_run(clean_engine: Engine) -> None:
    """A container's words, its errors and its status come back."""
    script = "echo out; echo err >&2; exit 3"
    done = clean_engine.cli(
        *("run", "--rm", "--network", "none", "busybox", "sh", "-c", script), check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 3)


def test_life(clean_engine: Engine) -> None:
    """One container, from its start to its end, by the command line."""
    cli = clean_engine.cli
    loop = "echo hello; while :; do sleep 0.1; done"
    cli("run", "-d", "--name", "loop", "--network", "none", "busybox", "sh", "-c", loop)
    assert cli("ps", "--format", "{{.Names}}").stdout == "loop\n"
    assert cli("exec", "loop", "cat", "/proc/1/comm").stdout == "sh\n"
    assert cli("logs", "loop").stdout == "hello\n"
    cli("kill", "loop")
    assert cli("wait", "loop").stdout == "137\n"
    cli("rm", "loop")
    assert cli("ps", "-aq").stdout == ""


def test_survives_the_daemon(clean_engine: Engine) -> None:
    """A container runs on when the daemon is killed, and is known to the next one."""
    cli = clean_engine.cli
    cli("run", "-d", "--name", "stays", "--network", "none", "busybox", "sleep", "100")
    pid = cli("inspect", "-f", "{{.State.Pid}}", "stays").stdout
    clean_engine.restart()
    assert cli("inspect", "-f", "{{.State.Pid}}", "stays").stdout == pid
    assert cli("exec", "stays", "echo", "there").stdout == "there\n"
    cli("rm", "-f", "stays")


def test_engines_side_by_side(clean_engine: Engine, make_engine: Callable[..., Engine]) -> None:
    """An engine that starts leaves the containers of another alone."""
    run = ("run", "-d", "--network", "none", "busybox", "sleep", "100")
    ident = clean_engine.cli(*run).stdout.strip()
    second = make_engine()
    assert second.cli("ps", "-aq").stdout == ""
    second.cli(*run)
    second.restart()
    assert clean_engine.cli("ps", "-q", "--no-trunc").stdout.strip() == ident
