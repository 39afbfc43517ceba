"""Who pulls and pushes in `./dev bench registry`: the engines by one client, podman, skopeo."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.layers import OURS
from tests.bench.start import podman_clean
from tests.support.dockerd import Dockerd
from tests.support.engine import Engine, Server, running
from tests.support.needs import need_program
from tests.support.paths import clean_environment, clear_room, make_room
from tests.support.registry import Registry

IDLE_SECONDS = 0.5
"""After a removal: trash is emptied in the background."""


class Tool:
    """One that pulls, pushes and loads; each method returns the seconds that it took."""

    name = ""
    pushes = True

    def pull(self, address: str, image: str) -> float:
        """Fetch `image` of the registry, and throw it away (not timed)."""
        raise NotImplementedError

    def push(self, archive: Path, address: str) -> float:
        """Send the image of an archive, which was loaded before (not timed)."""
        raise NotImplementedError


def timed(words: Sequence[str], environment: dict[str, str]) -> float:
    """Run a command and return its seconds; what it says is in the error."""
    began = time.perf_counter()
    done = subprocess.run(
        words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    took = time.perf_counter() - began
    if done.returncode:
        raise OSError(f"{' '.join(words[:3])}: {(done.stderr or done.stdout)[-300:]}")
    return took


class Client(Tool):
    """The stock client on an engine."""

    def __init__(self, name: str, server: Server, program: str = "docker") -> None:
        self.name, self._server, self._program = name, server, need_program(program)

    def _run(self, *words: str) -> float:
        return timed([self._program, *words], self._server.environment())

    def pull(self, address: str, image: str) -> float:
        name = f"{address}/{image}"
        took = self._run("pull", "-q", name)
        self._run("rmi", "-f", name)
        time.sleep(IDLE_SECONDS)
        return took

    def push(self, archive: Path, address: str) -> float:
        name = f"{address}/pushed:1"
        self._run("load", "-q", "-i", str(archive))
        self._run("tag", "bench:1", name)
        took = self._run("push", "-q", name)
        self._run("rmi", "-f", name, "bench:1")
        time.sleep(IDLE_SECONDS)
        return took


class Podman(Tool):
    """podman, on storage of its own."""

    name = "podman"

    def __init__(self, room: Path, run: Path) -> None:
        program = need_program("podman")  # which wants a run root of a short name
        self._podman = [program, "--root", str(room / "root"), "--runroot", str(run)]
        self._podman += ["--log-level", "error", "--storage-driver", "overlay"]

    def _run(self, *words: str) -> float:
        return timed([*self._podman, *words], clean_environment())

    def pull(self, address: str, image: str) -> float:
        name = f"{address}/{image}"
        took = self._run("pull", "-q", "--tls-verify=false", name)
        self._run("rmi", "-f", name)
        return took

    def push(self, archive: Path, address: str) -> float:
        self._run("load", "-q", "-i", str(archive))
        name = f"{address}/pushed:1"
        took = self._run("push", "-q", "--tls-verify=false", "localhost/bench:1", name)
        self._run("rmi", "-f", "localhost/bench:1")
        return took


class Skopeo(Tool):
    """skopeo, which stores and unpacks nothing."""

    name = "skopeo to dir:"

    def __init__(self, room: Path) -> None:
        self._skopeo, self._room = [need_program("skopeo"), "copy", "-q"], room

    def pull(self, address: str, image: str) -> float:
        to = self._room / "dir"
        try:
            return timed(
                [
                    *self._skopeo,
                    "--src-tls-verify=false",
                    f"docker://{address}/{image}",
                    f"dir:{to}",
                ],
                clean_environment(),
            )
        finally:
            shutil.rmtree(to, ignore_errors=True)

    def push(self, archive: Path, address: str) -> float:
        target = f"docker://{address}/pushed:1"
        return timed(
            [*self._skopeo, "--dest-tls-verify=false", f"docker-archive:{archive}", target],
            clean_environment(),
        )


def fill(registry: Registry, archive: Path, name: str, *more: str) -> None:
    """Put the image of an archive into a registry, as skopeo compresses it."""
    target = f"docker://{registry.address}/{name}"
    words = [need_program("skopeo"), "copy", "-q", "--dest-tls-verify=false", *more]
    timed([*words, f"docker-archive:{archive}", target], clean_environment())


@contextlib.contextmanager
def tools_on(place: Path) -> Iterator[tuple[Server, list[Tool]]]:
    """Start the engines, and prepare the tools, all with their data below `place`."""
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(running(Engine(place=place), busybox=False))
        theirs = stack.enter_context(running(Dockerd(place), busybox=False))
        tools: list[Tool] = [Client(OURS, ours), Client("docker.io", theirs)]
        if shutil.which("podman"):
            pods = make_room("p", parent=place)
            pods_run = make_room("p", memory=True)
            stack.callback(podman_clean, pods_run)
            stack.callback(podman_clean, pods)
            tools.append(Podman(pods, pods_run))
        if shutil.which("skopeo"):
            copies = make_room("s", parent=place)
            stack.callback(clear_room, copies)
            tools.append(Skopeo(copies))
        yield ours, tools
