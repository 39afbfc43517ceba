"""The seed's walk, whole: pull, run, logs, attach, ps, stop, ps, from an empty data root.

A local registry stands in for the Hub, as the configured mirror. In CI the image is busybox's, with
``--soak`` a Debian base.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.busybox import busybox_tar
from tests.support.engine import Engine, running
from tests.support.needs import need_program, need_root, until
from tests.support.paths import BOXWOOD
from tests.support.registry import Registry, serving

pytestmark = [pytest.mark.root, pytest.mark.timeout(400)]

LOOP = "while true; do echo hello world; sleep 1; done"


@pytest.fixture(scope="module")
def mirror(soak: bool) -> Iterator[Registry]:
    """A registry with ``library/ubuntu:latest``."""
    need_root()
    with serving() as registry, running(Engine(), busybox=False) as maker:
        tree = maker.data_root.with_name("ubuntu.tar")
        try:
            if soak:
                words = [need_program("mmdebstrap"), "-q", "--variant=minbase", "bookworm", tree]
                subprocess.run(words, check=True)
            else:
                tree.write_bytes(busybox_tar())
            name = f"{registry.address}/library/ubuntu"
            maker.docker("import", "-c", 'CMD ["/bin/sh"]', tree, name, timeout=120)
            maker.docker("push", name, timeout=120)
        finally:
            tree.unlink(missing_ok=True)
        yield registry


@pytest.mark.parametrize("program", ["boxwood", "docker"])
def test_walk(mirror: Registry, program: str) -> None:
    """Each step, as somebody types it."""
    engine = Engine("--registry-mirror", f"http://{mirror.address}")
    with running(engine, busybox=False):
        assert list(engine.api("GET", "/images/json").json()) == []
        run = engine.cli if program == "boxwood" else engine.docker
        pulled = run("pull", "ubuntu").stdout.splitlines()
        assert pulled[0] == "Using default tag: latest"
        assert "latest: Pulling from library/ubuntu" in pulled
        assert "Status: Downloaded newer image for ubuntu:latest" in pulled
        assert pulled[-1] == "docker.io/library/ubuntu:latest"
        key = run("run", "-d", "ubuntu", "/bin/sh", "-c", LOOP).stdout.strip()
        assert len(key) == 64
        until(lambda: run("logs", key).stdout.count("hello world\n") >= 2, "it says hello")
        words = [BOXWOOD if program == "boxwood" else need_program("docker")]
        attached = subprocess.Popen(
            [*words, "attach", "--sig-proxy=false", key],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=engine.environment(),
            start_new_session=True,
        )
        with attached:
            assert attached.stdout is not None
            assert attached.stdout.readline() == b"hello world\n"
            # Ctrl-C ends who looks on, not the container.
            os.killpg(attached.pid, 2)
        (line,) = run("ps").stdout.splitlines()[1:]
        assert line.startswith(key[:12])
        assert line.split()[1] == "ubuntu"
        assert " Up " in line
        assert run("stop", "-t", "1", key).stdout == f"{key}\n"
        assert run("ps").stdout.splitlines()[1:] == []
        (line,) = run("ps", "-a").stdout.splitlines()[1:]
        assert " Exited (137) " in line
