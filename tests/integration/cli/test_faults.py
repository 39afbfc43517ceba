"""A session outlives the engine that began it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.support.engine import Engine
from tests.support.needs import until
from tests.support.paths import BOXWOOD

pytestmark = pytest.mark.root
COUNT = "echo begun; while ! [ -e /tmp/go ]; do sleep 0.05; done; echo done; exit 7"


def test_a_killed_engine_costs_neither_output_nor_exit_code(
    make_engine: Callable[..., Engine],
) -> None:
    engine = make_engine()
    client = subprocess.Popen(
        [BOXWOOD, "run", "--name", "kept", "--network", "none", "busybox", "sh", "-c", COUNT],
        env=engine.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert client.stdout is not None
    assert client.stdout.readline() == "begun\n"
    engine.kill()
    engine.start()
    until(
        lambda: engine.cli("exec", "kept", "touch", "/tmp/go", check=False).returncode == 0,
        "the engine has taken the container up again",
    )
    out, err = client.communicate(timeout=60)
    assert (out, err, client.returncode) == ("done\n", "", 7)
