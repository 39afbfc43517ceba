"""`./dev bench layers`: unpacking, comparing, packing, saving and loading, beside other tools.

Everything runs in one go on one machine, on a tmpfs and on a fresh ext4 in a file, with three
trees: a Debian, one of many small files, one of few big ones. The engine's own work runs in its
confined workers, as in the daemon, and makes both digests of what it unpacks; the tools make none.
Nothing is synced. Printed are medians with intervals and the bars that the project holds itself to;
`--json`, `--html` and `--table` write what the frame of `boxwood bench` writes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import io
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from boxwood.bench import frame, page, places, storage, text, trees
from boxwood.drivers.storage import ApplyRequest
from boxwood.execution.worker import WorkerPool
from tests.bench import floor, plot
from tests.support.dockerd import Dockerd
from tests.support.engine import Engine, Server, running
from tests.support.needs import need_program
from tests.support.paths import clean_environment, clear_room, make_room

OURS = "Boxwood"
FLOOR = "isal, a bare C extractor"
PLACES = ("tmpfs", "ext4")
TREES = ("debian", "small", "big")
# (scenario's head, what ours is held against, bar): the work of issue 4, section 6
BARS = (
    ("apply-gzip", "pigz -dc | tar x", 1.0),
    ("apply-gzip", FLOOR, 1.3),
    ("apply-zstd", "zstd -dc | tar x", 1.0),
    ("load", "docker load, Docker", 0.5),
    ("compare-looks", "rsync -an", 0.25),
    ("compare-all", "rsync -anX", 0.25),
    ("snapshot", "rsync -an", 0.25),
    ("tar", "tar c", 1.0),
)
UNPACK = {
    "plain": {"tar x": "tar xf {layer} -C {to}", "bsdtar x": "bsdtar -xpf {layer} -C {to}"},
    "gzip": {
        "pigz -dc | tar x": "pigz -dc {layer} | tar x -C {to}",
        "tar xz": "tar xzf {layer} -C {to}",
        "bsdtar x": "bsdtar -xpf {layer} -C {to}",
    },
    "zstd": {
        "zstd -dc | tar x": "zstd -dcq {layer} | tar x -C {to}",
        "bsdtar x": "bsdtar -xpf {layer} -C {to}",
    },
}
GROUND = 64 << 30
"""Bytes of a place for growing trees: mkfs.ext4 makes 4.2 million inodes, for 3 trees of 10^6."""
MANY = 10**6
"""Files of a layer that are measured once: filling the place takes a minute by itself."""
Measure = Callable[[], Awaitable[float]]


def shell(words: str, **paths: Path) -> None:
    """Run a pipeline to its end; any part of it that fails stops the case."""
    line = words.format(**{name: shlex.quote(str(path)) for name, path in paths.items()})
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    if done.returncode:
        raise OSError(f"{line}: {done.stderr.decode(errors='replace')[-300:]}")


class Grounds:
    """One tree in one place: its files, a copy to compare with, and its tar in three forms."""

    def __init__(self, place: Path, tree: str, sources: dict[str, Path], pool: WorkerPool) -> None:
        self.place, self.tree, self.layers, self.pool = place, tree, sources, pool
        self.new, self.old, self.record = place / "new", place / "old", place / "record"
        self._count = 0

    async def fill(self) -> None:
        """Unpack the tree and copy it, as the driver vfs does."""
        self.old.mkdir()
        shell("tar xf {layer} -C {to}", layer=self.layers["plain"], to=self.old)
        self.new.mkdir()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        files = [(self.old, os.O_RDONLY), (self.new, os.O_RDONLY), (self.record, flags)]
        await self.job("copy_tree", {}, files)

    def clear(self) -> None:
        """Remove both."""
        shell("rm -rf {new} {old} {record}", new=self.new, old=self.old, record=self.record)

    @contextlib.contextmanager
    def fresh(self) -> Iterator[Path]:
        """Yield an empty folder, and remove it with what came into it."""
        self._count += 1
        path = self.place / f"to-{self._count}"
        path.mkdir()
        try:
            yield path
        finally:
            shell("rm -rf {path}", path=path)

    async def job(
        self, name: str, arguments: dict[str, Any], files: list[tuple[Path, int]]
    ) -> None:
        """Run a job of the workers on files that are opened for it."""
        with contextlib.ExitStack() as stack:
            fds = []
            for path, flags in files:
                fds.append(os.open(path, flags | os.O_CLOEXEC, 0o600))
                stack.callback(os.close, fds[-1])
            await self.pool.offload(name, arguments, fds)


def apply_ours(grounds: Grounds, form: str) -> Measure:
    """Unpack with both digests, in a worker."""
    arguments = {
        **msgspec.to_builtins(ApplyRequest()),
        "recipe": False,
        "growing": False,
        "whiteouts": "overlay",
        "user_xattr": False,
        "devices": True,
    }

    async def measure() -> float:
        with grounds.fresh() as to:
            files = [(grounds.layers[form], os.O_RDONLY), (to, os.O_RDONLY)]
            began = time.perf_counter()
            await grounds.job("unpack_layer", arguments, files)
            return time.perf_counter() - began

    return measure


def apply_theirs(grounds: Grounds, form: str, words: str) -> Measure:
    """Unpack by a pipeline of tools."""

    async def measure() -> float:
        with grounds.fresh() as to:
            began = time.perf_counter()
            shell(words, layer=grounds.layers[form], to=to)
            return time.perf_counter() - began

    return measure


def apply_floor(grounds: Grounds, least: floor.Floor) -> Measure:
    """Unpack gzip with nothing but what must be."""

    async def measure() -> float:
        with grounds.fresh() as to:
            began = time.perf_counter()
            least.unpack(grounds.layers["gzip"], to)
            return time.perf_counter() - began

    return measure


def copy_ours(grounds: Grounds) -> Measure:
    """Copy the tree as the driver vfs does for each snapshot."""

    async def measure() -> float:
        with grounds.fresh() as to:
            began = time.perf_counter()
            await grounds.job("copy_tree", {}, [(grounds.new, os.O_RDONLY), (to, os.O_RDONLY)])
            return time.perf_counter() - began

    return measure


def diff_ours(
    grounds: Grounds, *, whole: bool = False, known: bool = False, looks: bool = False
) -> Measure:
    """Compare the two trees; or (`whole`) the tree with nothing, written as a tar.

    `known`: by the record of the copy; `looks`: without attributes.
    """

    async def measure() -> float:
        with grounds.fresh() as to:
            files = [(to / "out", os.O_WRONLY | os.O_CREAT), (grounds.new, os.O_RDONLY)]
            if not whole:
                files.append((grounds.old, os.O_RDONLY))
            if known:
                files.append((grounds.record, os.O_RDONLY))
            arguments = {"form": "tree", "user_xattr": False, "listing": not whole, "looks": looks}
            began = time.perf_counter()
            await grounds.job("diff_layer", arguments, files)
            return time.perf_counter() - began

    return measure


def theirs(grounds: Grounds, words: str) -> Measure:
    """Run a pipeline of tools on the two trees, with an empty folder at hand."""

    async def measure() -> float:
        with grounds.fresh() as to:
            began = time.perf_counter()
            shell(words, new=grounds.new, old=grounds.old, to=to)
            return time.perf_counter() - began

    return measure


def tool_cases(grounds: Grounds, where: str, rounds: int, least: floor.Floor) -> list[frame.Case]:
    """All cases that need no engine, of one tree in one place."""
    tail = f"{grounds.tree}-{where}"
    on = f"({grounds.tree}, {where})"
    found: list[tuple[str, str, str, Measure]] = []
    for form, tools in UNPACK.items():
        name, title = f"apply-{form}-{tail}", f"unpack {form} {on}"
        found.append((name, title, OURS, apply_ours(grounds, form)))
        found += [(name, title, tool, apply_theirs(grounds, form, tools[tool])) for tool in tools]
        if form == "gzip":
            found.append((name, title, FLOOR, apply_floor(grounds, least)))
    name, title = f"compare-looks-{tail}", f"compare two equal trees, without attributes {on}"
    found.append((name, title, OURS, diff_ours(grounds, looks=True)))
    found.append((name, title, "rsync -an", theirs(grounds, "rsync -an {new}/ {old}/")))
    # Only so does it look at attributes, as we do; and so at access lists too.
    name, title = f"compare-all-{tail}", f"compare two equal trees, attributes too {on}"
    found.append((name, title, OURS, diff_ours(grounds)))
    found.append((name, title, "rsync -anX", theirs(grounds, "rsync -anX {new}/ {old}/")))
    found.append((name, title, "rsync -anAX", theirs(grounds, "rsync -anAX {new}/ {old}/")))
    found.append((name, title, "rsync -an", theirs(grounds, "rsync -an {new}/ {old}/")))
    name, title = f"snapshot-{tail}", f"compare a copy with its original, as vfs does {on}"
    found.append((name, title, OURS, diff_ours(grounds, known=True)))
    found.append((name, title, "rsync -an", theirs(grounds, "rsync -an {new}/ {old}/")))
    name, title = f"tar-{tail}", f"write a tree as a tar {on}"
    found.append((name, title, OURS, diff_ours(grounds, whole=True)))
    found.append((name, title, "tar c", theirs(grounds, "tar cf {to}/out -C {new} .")))
    found.append((name, title, "bsdtar c", theirs(grounds, "bsdtar -cf {to}/out -C {new} .")))
    name, title = f"copy-{tail}", f"copy a tree, as vfs does {on}"
    found.append((name, title, OURS, copy_ours(grounds)))
    found.append((name, title, "cp -a", theirs(grounds, "cp -a {new} {to}/")))
    return [
        frame.Case(frame.Scenario(name, title), subject, measure, rounds)
        for name, title, subject, measure in found
    ]


def docker_archive(layers: Sequence[Path], target: Path) -> None:
    """Write an image of layers, the lowest first, in the form that `docker load` takes."""
    diff_ids = []
    for layer in layers:
        with layer.open("rb") as file:
            diff_ids.append(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}")
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": ["bench:1"], "Layers": names}]
    with tarfile.open(target, "w") as archive:
        for name, value in (("config.json", config), ("manifest.json", manifest)):
            data = json.dumps(value).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for layer, name in zip(layers, names, strict=True):
            archive.add(layer, name)


def engine_cases(servers: dict[str, Server], image: Path, out: Path) -> list[frame.Case]:
    """Load and save through the same client, on each engine."""
    docker = need_program("docker")

    def client(server: Server, *words: str) -> float:
        began = time.perf_counter()
        done = subprocess.run(
            [docker, *words], env=server.environment(), capture_output=True, text=True
        )
        took = time.perf_counter() - began
        if done.returncode:
            raise OSError(f"docker {words[0]}: {done.stderr[-300:]}")
        return took

    def load(server: Server) -> Measure:
        async def measure() -> float:
            took = client(server, "load", "-q", "-i", str(image))
            client(server, "rmi", "-f", "bench:1")
            return took

        return measure

    def save(server: Server) -> Measure:
        async def measure() -> float:
            client(server, "load", "-q", "-i", str(image))
            try:
                return client(server, "save", "-o", str(out / "saved.tar"), "bench:1")
            finally:
                (out / "saved.tar").unlink(missing_ok=True)
                client(server, "rmi", "-f", "bench:1")

        return measure

    found = []
    for name, server in servers.items():
        subject = OURS if name == OURS else f"docker {{}}, {name}"
        for word, make in (("load", load), ("save", save)):
            scenario = frame.Scenario(word, f"docker {word} (debian)")
            found.append(frame.Case(scenario, subject.format(word), make(server)))
    return found


def umoci_case(image: Path, room: Path) -> frame.Case:
    """`umoci unpack` of the same image, uncompressed layers become gzip in its layout."""
    shell("skopeo copy -q docker-archive:{image} oci:{to}:bench", image=image, to=room / "layout")

    async def measure() -> float:
        to = room / "bundle"
        began = time.perf_counter()
        try:
            shell("umoci unpack --image {layout}:bench {to}", layout=room / "layout", to=to)
            return time.perf_counter() - began
        finally:
            shutil.rmtree(to, ignore_errors=True)

    return frame.Case(frame.Scenario("load", "docker load (debian)"), "umoci unpack", measure)


def write_tree(kind: str, target: Path, debian: Path | None) -> None:
    """Write the plain tar of a tree to `target`."""
    if kind == "debian" and debian is not None:
        shutil.copyfile(debian, target)
    elif kind == "debian":
        words = "mmdebstrap --quiet --variant=minbase --include=python3,git,perl bookworm {to}"
        shell(words, to=target)
    else:
        source = random.Random(kind)
        count, low, high = (20_000, 100, 8000) if kind == "small" else (4, 50 << 20, 80 << 20)
        write_synthetic(target, count, low, high, source)


def write_synthetic(target: Path, count: int, low: int, high: int, source: random.Random) -> None:
    """Write a tar of `count` files of `low` to `high` bytes, half of which compress away."""
    with tarfile.open(target, "w") as archive:
        for number in range(count):
            size = source.randrange(low, high)
            half = source.randbytes(min(size, 1 << 20) // 2 + 1)
            data = (half + bytes(len(half))) * (size // len(half) // 2 + 1)
            info = tarfile.TarInfo(f"{number // 200}/{number}")
            info.size, info.mode, info.mtime = size, 0o644, 1_700_000_000
            archive.addfile(info, io.BytesIO(data[:size]))


def compressed(plain: Path) -> dict[str, Path]:
    """Return the tar in its three forms, as registries hold them."""
    shell("pigz -6 -k {plain} && zstd -q -3 {plain}", plain=plain)
    return {
        "plain": plain,
        "gzip": plain.with_name(f"{plain.name}.gz"),
        "zstd": plain.with_name(f"{plain.name}.zst"),
    }


def growth_cases(grounds: Grounds, where: str) -> list[frame.Case]:
    """What is done with so many files."""
    count = grounds.tree
    found = []
    for word, measure in (
        ("unpack", apply_ours(grounds, "plain")),
        ("compare", diff_ours(grounds)),
        ("recorded", diff_ours(grounds, known=True)),
        ("tar", diff_ours(grounds, whole=True)),
    ):
        scenario = frame.Scenario(
            f"grow-{word}-{count}-{where}", f"{word}: {count} files ({where})"
        )
        found.append(frame.Case(scenario, OURS, measure, 1 if int(count) >= MANY else 3))
    return found


async def measure_growth(
    run: frame.Run, options: argparse.Namespace, pool: WorkerPool, memory: Path
) -> None:
    """How cost grows: with the files of a layer, and with the layers below a snapshot."""
    (memory / "grow").mkdir()
    counts = [10**3, 10**4, 10**5] + [MANY] * options.full
    for count in counts:
        # Empty ones: of content others tell, and a million pages would be 4 GiB of a tmpfs, thrice.
        write_synthetic(memory / f"grow/{count}.tar", count, 0, 1, random.Random(count))
    for where in options.fs:
        with places.place(where, memory / "grow", GROUND) as place:
            for count in counts:
                layer = {"plain": memory / f"grow/{count}.tar"}
                grounds = Grounds(place, str(count), layer, pool)
                await grounds.fill()
                await run.measure(growth_cases(grounds, where))
                grounds.clear()
            await measure_depths(run, pool, place, where)
    await run.measure(memory_cases(memory / "grow"))


async def measure_depths(run: frame.Run, pool: WorkerPool, place: Path, where: str) -> None:
    """A snapshot on many layers, with overlay."""
    shape = trees.Shape(big=1 << 20, files=100, depths=(10, 100, 500))
    (place / "layers").mkdir()
    (place / "overlay").mkdir()
    layers = trees.write_layers(place / "layers", shape, 1)
    async with storage.bed("overlay", place / "overlay", shape, layers, pool.offload) as bed:
        for case in storage.cases(OURS, bed):
            if case.scenario.name.startswith("deep-"):
                name, title = f"{case.scenario.name}-{where}", f"{case.scenario.title} ({where})"
                scenario = frame.Scenario(name, title)
                await run.measure([frame.Case(scenario, OURS, case.measure, case.rounds)])


MEMORY = """
import os, sys
from boxwood.execution.worker_jobs import JOBS
import msgspec
from boxwood.drivers.storage import ApplyRequest
def peak():
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM"))
before = peak()
fds = [os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[2], os.O_RDONLY)]
arguments = msgspec.to_builtins(ApplyRequest()) | {
    "recipe": False, "growing": False, "whiteouts": "overlay", "user_xattr": False, "devices": True}
JOBS["unpack_layer"].run(arguments, fds)
print(before * 1024, peak() * 1024)
"""


def peak_memory(layer: Path, to: Path) -> float:
    """Unpack in a process of its own and return the most bytes it ever had resident."""
    words = [sys.executable, "-c", MEMORY, str(layer), str(to)]
    done = subprocess.run(words, check=True, capture_output=True)
    return float(done.stdout.split()[1])


def memory_cases(room: Path) -> list[frame.Case]:
    """Peak memory of unpacking: it must not grow with the layer."""
    found = []
    for megabytes in (32, 256, 1024):
        layer = room / f"memory-{megabytes}.tar"
        size = megabytes << 20
        write_synthetic(layer, 1, size - 1, size, random.Random(megabytes))
        packed = Path(f"{layer}.gz")
        shell("pigz -1 {layer}", layer=layer)

        async def measure(packed: Path = packed) -> float:
            to = room / "memory"
            to.mkdir()
            try:
                return peak_memory(packed, to)
            finally:
                shutil.rmtree(to)

        title = f"peak memory, Python and all: unpack gzip of {megabytes} MiB"
        scenario = frame.Scenario(f"memory-{megabytes}", title, "bytes")
        found.append(frame.Case(scenario, OURS, measure, 1))
    return found


class Bar(msgspec.Struct, frozen=True):
    """One bar: what `scenario` came to beside `rival`, and what was asked for."""

    scenario: str
    rival: str
    ratio: float
    bar: float

    @property
    def held(self) -> bool:
        """Whether it was kept."""
        return self.ratio <= self.bar


def bars(report: frame.Report, wanted: Sequence[tuple[str, str, float]] = BARS) -> list[Bar]:
    """Return the bars that this run can judge; ``wanted`` as :data:`BARS` has them."""
    medians = {
        (result.scenario, result.subject): result.median
        for result in report.results
        if not result.error
    }
    return [
        Bar(scenario, rival, medians[scenario, OURS] / medians[scenario, rival], bar)
        for scenario in report.scenarios()
        for head, rival, bar in wanted
        if scenario.startswith(head) and {(scenario, OURS), (scenario, rival)} <= medians.keys()
    ]


def markdown(report: frame.Report, judged: Sequence[Bar]) -> str:
    """Return the tables for docs/performance.md."""
    lines = ["| what | to what | ratio | bar | |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| {bar.scenario} | `{bar.rival}` | {bar.ratio:.2f} | {bar.bar:.2f} | "
        f"{'✓' if bar.held else '✗'} |"
        for bar in judged
    ]
    lines += ["", "| | by | median | interval |", "| --- | --- | --- | --- |"]
    for name in report.scenarios():
        for result in text.of(report, name):
            if result.error:
                lines.append(f"| {result.title} | {result.subject} | failed | {result.error} |")
                continue
            middle, low, high = (
                text.amount(value, result.unit)
                for value in (result.median, result.low, result.high)
            )
            lines.append(f"| {result.title} | {result.subject} | {middle} | {low} to {high} |")
    return "\n".join([*lines, *growth_table(report)]) + "\n"


def growth_table(report: frame.Report) -> list[str]:
    """Return what was done with so many files as one table, in microseconds for each of them."""
    drawn = plot.lines(report, "grow-")
    if not drawn:
        return []
    words = list(dict.fromkeys(word for word, _ in drawn))
    lines = ["", f"| files | on | {' | '.join(words)} |", f"| --- | --- |{' --- |' * len(words)}"]
    for where in dict.fromkeys(where for _, where in drawn):
        for number in sorted({x for key in drawn if key[1] == where for x, _ in drawn[key]}):
            cells = (dict(drawn.get((word, where), ())).get(number) for word in words)
            shown = " | ".join(
                "" if cell is None else f"{cell / number * 1e6:.1f}" for cell in cells
            )
            lines.append(f"| {number:,.0f} | {where} | {shown} |")
    return lines


def tell(line: str) -> None:
    """Show progress, on a terminal only."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{line[:100]}")


async def measure(options: argparse.Namespace, room: Path) -> frame.Report:
    """Run all parts that were asked for."""
    run = frame.Run("layers", options.rounds, options.seed, tell)
    pool = WorkerPool()
    try:
        with places.place("tmpfs", room, 20 << 30) as memory:
            sources = {}
            wanted = options.tree if {"tools", "engines"} & {*options.part} else []
            for tree in wanted:
                (memory / tree).mkdir()
                write_tree(tree, memory / tree / "layer.tar", options.debian)
                sources[tree] = compressed(memory / tree / "layer.tar")
            if "tools" in options.part:
                await measure_tools(run, options, sources, pool, room)
            if "engines" in options.part and "debian" in sources:
                await measure_engines(run, sources["debian"]["plain"], memory)
            if "growth" in options.part:
                await measure_growth(run, options, pool, memory)
    finally:
        await pool.close()
    return run.report()


async def measure_tools(
    run: frame.Run,
    options: argparse.Namespace,
    sources: dict[str, dict[str, Path]],
    pool: WorkerPool,
    room: Path,
) -> None:
    """Measure what needs no engine, tree by tree, each in a place that was just made."""
    (room / "places").mkdir()
    least = floor.Floor(floor.build(room))
    for where in options.fs:
        with places.place(where, room / "places", 6 << 30) as place:
            for tree, layers in sources.items():
                grounds = Grounds(place, tree, layers, pool)
                await grounds.fill()
                await run.measure(tool_cases(grounds, where, 0, least))
                grounds.clear()


async def measure_engines(run: frame.Run, layer: Path, memory: Path) -> None:
    """Measure load and save on Docker's engine and ours."""
    image = memory / "image.tar"
    docker_archive([layer], image)
    with contextlib.ExitStack() as stack:
        # A fresh file system whose file is in memory: whoever else writes to the disk is not heard.
        place = stack.enter_context(places.place("ext4", memory, 8 << 30))
        servers: dict[str, Server] = {
            OURS: stack.enter_context(running(Engine(place=place), busybox=False)),
            "Docker": stack.enter_context(running(Dockerd(place), busybox=False)),
        }
        cases = engine_cases(servers, image, memory)
        if shutil.which("umoci") and shutil.which("skopeo"):
            cases.append(umoci_case(image, memory))
        await run.measure(cases)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("tools", "engines", "growth")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--part", action="append", choices=parts, help="default: all")
    parser.add_argument("--tree", action="append", choices=TREES, help="default: all")
    parser.add_argument("--fs", action="append", choices=places.KINDS, help="tmpfs and ext4")
    parser.add_argument("--full", action="store_true", help="10^6 files too")
    add_outputs(parser)
    options = parser.parse_args(arguments)
    options.part = options.part or list(parts)
    options.tree = options.tree or list(TREES)
    options.fs = options.fs or list(PLACES)
    return options


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """Add the flags that every bench with this main has."""
    parser.add_argument("--debian", type=Path, help="a tar of the Debian tree (else mmdebstrap)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--html", type=Path)
    parser.add_argument("--table", type=Path, help="Markdown for docs/performance.md")


def interrupt(number: int, _: object) -> None:
    """End as Ctrl-C does: daemons and mounts go."""
    raise KeyboardInterrupt(number)


def main() -> int:
    """Measure, print, write; 1 when a bar is not held."""
    return run_main("layers", parse(sys.argv[1:]), measure, bars)


def run_main(
    name: str,
    options: argparse.Namespace,
    measure: Callable[[argparse.Namespace, Path], Awaitable[frame.Report]],
    judge: Callable[[frame.Report], list[Bar]],
) -> int:
    """Measure in a room of the bench's own, print, write; 1 when a bar is not held."""
    signal.signal(signal.SIGTERM, interrupt)
    room = make_room(name, parent=None if os.environ.get("BOXWOOD_TEST_DIR") else Path("/var/tmp"))

    async def run() -> frame.Report:
        return await measure(options, room)

    try:
        report = asyncio.run(run())
    finally:
        clear_room(room)
    print(text.describe(report))
    judged = judge(report)
    rows = [("BAR", "TO", "IS", "ASKED", "")]
    rows += [
        (
            bar.scenario,
            bar.rival,
            f"{bar.ratio:.2f}",
            f"{bar.bar:.2f}",
            "ok" if bar.held else "FAIL",
        )
        for bar in judged
    ]
    print(text.table(rows))
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    if options.html:
        options.html.write_text(page.render(report))
    if options.table:
        options.table.write_text(markdown(report, judged))
    return 0 if all(bar.held for bar in judged) else 1


if __name__ == "__main__":
    sys.exit(main())
