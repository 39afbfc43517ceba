"""`./dev bench registry`: pull and push, beside Debian's docker.io, podman and skopeo.

All against the same docker-registry on the loopback, with their data on one fresh ext4 whose file
is in memory, interleaved round by round: a Debian image of one layer, and the same in 20. docker.io
and Boxwood are asked by the same client; skopeo unpacks nothing (`copy` to `dir:`). Then the same
through long lines (:mod:`tests.bench.line`), and the memory of the daemon during a pull of 2 GiB.
Printed are medians with intervals and the bars that the project holds itself to; `--json`, `--html`
and `--table` write what the frame of `boxwood bench` writes.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import random
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from boxwood.bench import frame, places
from tests.bench import figures, layers
from tests.bench.layers import OURS, Bar, tell, write_synthetic, write_tree
from tests.bench.line import line
from tests.bench.start import podman_clean
from tests.support.dockerd import Dockerd
from tests.support.engine import Engine, Server, running
from tests.support.needs import need_program
from tests.support.paths import clean_environment, clear_room, make_room
from tests.support.registry import Registry, serving

LAYERS = 20
MEMORY_BYTES = 2 << 30
MEMORY_BAR = 100 << 20
IDLE_SECONDS = 0.5
"""After a removal: trash is emptied in the background."""


class Far(NamedTuple):
    """A line: a name, seconds there and back, bytes a second, and bytes of one connection."""

    name: str
    rtt: float
    rate: float
    window: int


FAR = (Far("20ms", 0.02, 50e6, 4 << 20), Far("100ms", 0.1, 50e6, 2 << 20))
# (scenario, what ours is held against, bar): the work of issue 6, section 5
BARS = (
    ("pull-", "docker.io", 0.5),
    ("push-", "docker.io", 0.7),
    ("far-", "docker.io", 1.0),
    ("far-", "podman", 1.0),
    ("far-", "skopeo to dir:", 1.0),
)
Measure = Callable[[], Awaitable[float]]


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


def split_tar(source: Path, room: Path, count: int) -> list[Path]:
    """Split a tree's tar into `count` of much the same size; returns their paths.

    Hard links to what stands in another one are left out.
    """
    part = source.stat().st_size // count + 1
    paths: list[Path] = []
    names: set[str] = set()
    with tarfile.open(source) as archive, contextlib.ExitStack() as stack:
        out: tarfile.TarFile | None = None
        for member in archive:
            if out is None or out.offset >= part:
                path = room / f"part-{len(paths)}.tar"
                paths.append(path)
                out, names = stack.enter_context(tarfile.open(path, "w")), set()
            if member.islnk() and member.linkname not in names:
                continue
            names.add(member.name)
            out.addfile(member, archive.extractfile(member) if member.isreg() else None)
    return paths


def fill(registry: Registry, archive: Path, name: str, *more: str) -> None:
    """Put the image of an archive into a registry, as skopeo compresses it."""
    target = f"docker://{registry.address}/{name}"
    words = [need_program("skopeo"), "copy", "-q", "--dest-tls-verify=false", *more]
    timed([*words, f"docker-archive:{archive}", target], clean_environment())


def pulls(
    tools: Sequence[Tool], address: str, scenario: frame.Scenario, image: str
) -> list[frame.Case]:
    """Return the case of each tool that pulls an image."""

    async def measure(tool: Tool) -> float:
        return tool.pull(address, image)

    return [frame.Case(scenario, tool.name, functools.partial(measure, tool)) for tool in tools]


def pushes(
    tools: Sequence[Tool], scenario: frame.Scenario, archive: Path, far: Far | None = None
) -> list[frame.Case]:
    """Return the case of each tool that pushes an image, to a registry that holds nothing yet."""

    async def measure(tool: Tool) -> float:
        with serving() as registry:
            if far is None:
                return tool.push(archive, registry.address)
            with line(registry.port, *far[1:]) as port:
                return tool.push(archive, f"127.0.0.1:{port}")

    return [frame.Case(scenario, tool.name, functools.partial(measure, tool)) for tool in tools]


def again(ours: Client, server: Server, registry: Registry, image: str) -> frame.Case:
    """Return the case of a pull of what is there: it asks one question."""
    name = f"{registry.address}/{image}"

    async def measure() -> float:
        server.docker("pull", "-q", name)
        before = len(registry.requests())
        took = timed([need_program("docker"), "pull", "-q", name], server.environment())
        asked = registry.requests()[before:]
        server.docker("rmi", "-f", name)
        if [request.split()[0] for request in asked] != ["HEAD"]:
            raise OSError(f"a pull of what is there asked {asked}")
        return took

    return frame.Case(frame.Scenario("again", "pull what is there"), OURS, measure, 3)


class Watch(threading.Thread):
    """Looks at the memory of processes until it is stopped; ``peak`` in bytes."""

    def __init__(self, pids: Callable[[], Sequence[int]]) -> None:
        super().__init__(daemon=True)
        self._pids, self._over = pids, threading.Event()
        self.peak = 0

    def run(self) -> None:
        while not self._over.wait(0.05):
            self.peak = max(self.peak, sum(figures.pss(pid) for pid in self._pids()) << 10)

    def stop(self) -> int:
        """End; returns the peak."""
        self._over.set()
        self.join()
        return self.peak


def memory(room: Path, registry: Registry) -> list[frame.Case]:
    """Return the cases of the memory that a pull of 2 GiB takes, in an engine of its own."""
    layer, archive = room / "big.tar", room / "big-image.tar"
    half = MEMORY_BYTES // 2
    write_synthetic(layer, 1, half - 1, half, random.Random("memory"))
    layers.docker_archive([layer, layer], archive)
    fill(registry, archive, "big:1", "--dest-compress-level=1")
    archive.unlink()

    async def measure(whole: bool) -> float:
        with running(Engine(place=room), busybox=False) as server:
            watch = Watch(lambda: list(figures.family(server.pid)) if whole else [server.pid])
            watch.start()
            try:
                server.docker("pull", "-q", f"{registry.address}/big:1", timeout=300)
            finally:
                peak = watch.stop()
            return peak

    return [
        frame.Case(
            frame.Scenario(f"memory-{word}", f"peak memory of {what}: pull of 2 GiB", "bytes"),
            OURS, functools.partial(measure, whole), 1,
        )
        for word, what, whole in (
            ("daemon", "the daemon", False), ("all", "the daemon and its workers", True)
        )
    ]  # fmt: skip


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


async def measure(options: argparse.Namespace, room: Path) -> frame.Report:
    """Run all parts that were asked for."""
    run = frame.Run("registry", options.rounds, options.seed, tell)
    with contextlib.ExitStack() as stack:
        memory_place = stack.enter_context(places.place("tmpfs", room, 20 << 30))
        place = stack.enter_context(places.place("ext4", memory_place, 10 << 30))
        registry = stack.enter_context(serving(parent=place))
        images = make_images(memory_place, options.debian)
        for name, archive in images.items():
            fill(registry, archive, f"{name}:1")
        ours, tools = stack.enter_context(tools_on(place))
        chosen = [tool for tool in tools if not options.subject or tool.name in options.subject]
        cases = []
        if "pull" in options.part:
            for name in images:
                scenario = frame.Scenario(f"pull-{name}", f"pull and unpack ({name})")
                cases += pulls(chosen, registry.address, scenario, f"{name}:1")
            cases.append(again(Client(OURS, ours), ours, registry, "debian:1"))
        if "push" in options.part:
            for name, archive in images.items():
                scenario = frame.Scenario(f"push-{name}", f"push to an empty registry ({name})")
                cases += pushes(chosen, scenario, archive)
        await run.measure(cases)
        if "far" in options.part:
            cases = []
            for far in FAR:
                port = stack.enter_context(line(registry.port, *far[1:]))
                for name in images:
                    scenario = frame.Scenario(
                        f"far-{far.name}-pull-{name}",
                        f"pull ({name}), {far.rtt * 1000:.0f} ms, {far.rate / 1e6:.0f} MB/s",
                    )
                    cases += pulls(chosen, f"127.0.0.1:{port}", scenario, f"{name}:1")
                if far is FAR[-1]:
                    scenario = frame.Scenario(
                        f"far-{far.name}-push-layers",
                        f"push (layers), {far.rtt * 1000:.0f} ms, {far.rate / 1e6:.0f} MB/s",
                    )
                    cases += pushes(chosen, scenario, images["layers"], far)
            await run.measure(cases)
        if "memory" in options.part:
            await run.measure(memory(place, registry))
    return run.report()


def make_images(room: Path, debian: Path | None) -> dict[str, Path]:
    """Write the archives of both images."""
    tree = room / "debian.tar"
    write_tree("debian", tree, debian)
    parts = make_room("parts", parent=room)
    found = {"debian": room / "debian-image.tar", "layers": room / "layers-image.tar"}
    layers.docker_archive([tree], found["debian"])
    layers.docker_archive(split_tar(tree, parts, LAYERS), found["layers"])
    clear_room(parts)
    return found


def judged(report: frame.Report) -> list[Bar]:
    """Return the bars that this run can judge."""
    found = layers.bars(report, BARS)
    for result in report.results:
        if result.scenario == "memory-daemon" and not result.error:
            found.append(Bar(result.scenario, "100 MiB", result.median / MEMORY_BAR, 1.0))
    return found


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("pull", "push", "far", "memory")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--part", action="append", choices=parts, help="default: all")
    parser.add_argument("--subject", action="append", help="default: all")
    layers.add_outputs(parser)
    options = parser.parse_args(arguments)
    options.part = options.part or list(parts)
    return options


def main() -> int:
    """Measure, print, write; 1 when a bar is not held."""
    return layers.run_main("registry", parse(sys.argv[1:]), measure, judged)


if __name__ == "__main__":
    sys.exit(main())
