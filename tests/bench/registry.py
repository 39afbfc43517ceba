"""`./dev bench registry`: pull and push, beside Debian's docker.io, podman and skopeo.

All against the same docker-registry on the loopback, with their data on one fresh ext4 whose file
is in memory, interleaved round by round: a Debian image of one layer, and the same in 20. docker.io
and Boxwood are asked by the same client; skopeo unpacks nothing (`copy` to `dir:`). Then the same
through long and narrow lines (:mod:`tests.bench.line`); and, of Boxwood alone, the memory of the
daemon during a pull of 2 GiB, and how pull and push grow (:mod:`tests.bench.registry_growth`).
Printed are medians with intervals and the bars that the project holds itself to; `--json`, `--html`
and `--table` write what the frame of `boxwood bench` writes.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from boxwood.bench import frame, places
from tests.bench import layers
from tests.bench.layers import OURS, Bar, tell, write_tree
from tests.bench.line import line
from tests.bench.registry_growth import MEMORY_BAR, MEMORY_BYTES, growth, memory_cases
from tests.bench.registry_tools import Client, Tool, fill, timed, tools_on
from tests.support.engine import Server
from tests.support.needs import need_program
from tests.support.paths import clear_room, make_room
from tests.support.registry import Registry, serving

LAYERS = 20


class Far(NamedTuple):
    """A line: a name, seconds there and back, bytes a second, and bytes of one connection."""

    name: str
    rtt: float
    rate: float
    window: int

    @property
    def words(self) -> str:
        """As a title has it."""
        return f"{self.rtt * 1000:.0f} ms, {self.rate / 1e6:.4g} MB/s"


FAR = (
    Far("20ms", 0.02, 50e6, 4 << 20),
    Far("100ms", 0.1, 50e6, 2 << 20),
    Far("20ms-narrow", 0.02, 12.5e6, 4 << 20),
    Far("100ms-narrow", 0.1, 12.5e6, 2 << 20),
)
"""Narrow ones have 100 Mbit/s."""
# (scenario, what ours is held against, bar): the work of issue 6, section 5
BARS = (
    ("pull-", "docker.io", 0.5),
    ("push-", "docker.io", 0.7),
    ("far-", "docker.io", 1.0),
    ("far-", "podman", 1.0),
    ("far-", "skopeo to dir:", 1.0),
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
            with line(registry.port, far.rtt, far.rate, far.window) as port:
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


async def measure(options: argparse.Namespace, room: Path) -> frame.Report:
    """Run all parts that were asked for."""
    run = frame.Run("registry", options.rounds, options.seed, tell)
    if {"pull", "push", "far"} & {*options.part}:
        with places.place("tmpfs", room, 20 << 30) as memory:
            await beside_others(run, options, memory)
    if "memory" in options.part:
        with memory_cases(room, MEMORY_BYTES[: 1 if options.quick else None]) as cases:
            await run.measure(cases)
    if "growth" in options.part:
        with (
            places.place("tmpfs", room, 20 << 30) as memory,
            contextlib.closing(growth(room, memory, quick=options.quick)) as images,
        ):
            for cases in images:
                await run.measure(cases)
    return run.report()


async def beside_others(run: frame.Run, options: argparse.Namespace, memory: Path) -> None:
    """Measure what all tools do, on one file system whose file is in `memory`."""
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(places.place("ext4", memory, 10 << 30))
        registry = stack.enter_context(serving(parent=place))
        images = make_images(memory, options.debian)
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
        for far in FAR if "far" in options.part else ():
            if not options.line or far.name in options.line:
                port = stack.enter_context(line(registry.port, far.rtt, far.rate, far.window))
                await run.measure(far_cases(chosen, images, far, port))


def far_cases(
    tools: Sequence[Tool], images: dict[str, Path], far: Far, port: int
) -> list[frame.Case]:
    """Return the cases of a line, whose near end is `port`."""
    cases = []
    for name, archive in images.items():
        pull = frame.Scenario(f"far-{far.name}-pull-{name}", f"pull ({name}), {far.words}")
        cases += pulls(tools, f"127.0.0.1:{port}", pull, f"{name}:1")
        push = frame.Scenario(f"far-{far.name}-push-{name}", f"push ({name}), {far.words}")
        cases += pushes(tools, push, archive, far)
    return cases


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
        if result.scenario.startswith("memory-daemon-") and not result.error:
            found.append(Bar(result.scenario, "100 MiB", result.median / MEMORY_BAR, 1.0))
    return found


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("pull", "push", "far", "memory", "growth")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--part", action="append", choices=parts, help="default: all")
    parser.add_argument("--subject", action="append", help="default: all")
    lines = [far.name for far in FAR]
    parser.add_argument("--line", action="append", choices=lines, help="of far; default: all")
    parser.add_argument("--quick", action="store_true", help="of memory and growth the small cases")
    layers.add_outputs(parser)
    options = parser.parse_args(arguments)
    options.part = options.part or list(parts)
    return options


def main() -> int:
    """Measure, print, write; 1 when a bar is not held."""
    return layers.run_main("registry", parse(sys.argv[1:]), measure, judged)


if __name__ == "__main__":
    sys.exit(main())
