"""`./dev bench start`: starting containers, beside Debian's docker.io, podman and runc.

Everything runs in one go on one machine, interleaved round by round, on the same image, without a
network. Printed are medians, the ratios that the project holds itself to, and a file with all of
it as JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench import figures
from tests.support.busybox import busybox_tar
from tests.support.dockerd import Dockerd
from tests.support.engine import Engine, Server, running
from tests.support.http import UnixConnection
from tests.support.needs import need_program
from tests.support.paths import clean_environment, clear_room, make_room

RUN = ("run", "--rm", "--network", "none", "busybox", "true")
IDLE_SECONDS = 5.0
CONTAINERS = 10

# (what is held against what, numerator, denominator, bar)
BARS = (
    ("boxwood run / docker run on Docker", "boxwood run", "docker run, Docker", 0.5),
    ("docker run on Boxwood / on Docker", "docker run, Boxwood", "docker run, Docker", 0.4),
    ("API on Boxwood / runc run", "API, Boxwood", "runc run", 1.0),
)


class ApiRun:
    """create, start, wait, remove: one container's life on one connection."""

    def __init__(self, server: Server) -> None:
        self._connection = UnixConnection(server.socket)

    def __call__(self) -> None:
        body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}}
        made = self._ask("POST", "/containers/create", body)["Id"]
        self._ask("POST", f"/containers/{made}/start")
        ended = self._ask("POST", f"/containers/{made}/wait")
        assert ended["StatusCode"] == 0, ended
        self._ask("DELETE", f"/containers/{made}")

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json"} if data else {}
        self._connection.request(method, path, data, headers)
        response = self._connection.getresponse()
        text = response.read()
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {response.status}: {text!r}")
        return json.loads(text) if text else None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def runc_subject(room: Path) -> Callable[[], None]:
    """Prepare a bundle of the same files for `runc run`."""
    runc = need_program("runc")
    bundle = room / "bundle"
    (bundle / "rootfs").mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(busybox_tar())) as archive:
        archive.extractall(bundle / "rootfs", filter="fully_trusted")
    subprocess.run([runc, "spec"], cwd=bundle, check=True)
    config = bundle / "config.json"
    spec = json.loads(config.read_text())
    spec["process"] |= {"args": ["true"], "terminal": False}
    spec["process"].pop("rlimits", None)
    config.write_text(json.dumps(spec))
    arguments = [runc, "--root", str(room / "state"), "run", "--bundle", str(bundle), "bench"]
    return figures.command(arguments, clean_environment())


def podman_subject(
    room: Path, words: tuple[str, ...] = RUN, before: tuple[str, ...] = ()
) -> Callable[[], None]:
    """Prepare podman on storage of its own, with the same image; ``before``: what it runs under."""
    podman = [
        *(need_program("podman"), "--root", str(room / "root"), "--runroot", str(room / "run")),
        *("--cgroup-manager", "cgroupfs", "--runtime", need_program("runc")),
        *("--log-level", "error"),
    ]
    environment = clean_environment()
    load = [*podman, "import", "-q", "-c", "CMD sh", "-", "busybox"]
    subprocess.run(
        load, input=busybox_tar(), env=environment, check=True, stdout=subprocess.DEVNULL
    )
    # Its own default limits may be above what this machine lets anybody have.
    limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
    run = [*before, *podman, words[0], *limits, "--pull=never", *words[1:]]
    return figures.command(run, environment)


def podman_clean(room: Path) -> None:
    """Remove podman's storage: it holds mounts of its own."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4]
        if point.startswith(f"{room}/"):
            subprocess.run(["umount", "-l", point], check=True)
    clear_room(room)


def idle_pss(server: Server) -> int:
    """Return the KiB that the daemon and what it keeps around take when nothing happens."""
    time.sleep(IDLE_SECONDS)
    return sum(figures.pss(pid) for pid in figures.family(server.pid))


def is_shim(server: Server, pid: int) -> bool:
    """Whether a process is a shim of this very engine: others may be at work meanwhile.

    Ours descend from the daemon; Docker's leave their parent, and name its folder.
    """
    if "shim" not in figures.name_of(pid):
        return False
    named = str(server.exec_root) in figures.arguments_of(pid)
    return named or pid in figures.family(server.pid)


def container_pss(server: Server) -> float:
    """Return the KiB that a running container costs beyond its own process: the mean of ten."""
    before = figures.processes()
    names = [f"cost{number}" for number in range(CONTAINERS)]
    for name in names:
        server.docker("run", "-d", "--name", name, "--network", "none", "busybox", "sleep", "1000")
    time.sleep(1.0)
    shims = [pid for pid in figures.processes() - before if is_shim(server, pid)]
    cost = sum(figures.pss(pid) for pid in shims)
    server.docker("rm", "-f", *names)
    return cost / CONTAINERS


def measure(rounds: int) -> dict[str, Any]:
    """Run the whole of it."""
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(running(Engine()))
        theirs = stack.enter_context(running(Dockerd()))
        assert isinstance(ours, Engine)
        room = make_room("bench")
        stack.callback(clear_room, room)
        pods = make_room("pods")
        stack.callback(podman_clean, pods)
        api, their_api = ApiRun(ours), ApiRun(theirs)
        stack.callback(api.close)
        stack.callback(their_api.close)
        docker = need_program("docker")
        subjects: dict[str, Callable[[], None]] = {
            "boxwood run": figures.command([str(ours.program), *RUN], ours.environment()),
            "docker run, Boxwood": figures.command([docker, *RUN], ours.environment()),
            "docker run, Docker": figures.command([docker, *RUN], theirs.environment()),
            "API, Boxwood": api,
            "API, Docker": their_api,
            "runc run": runc_subject(room),
        }
        if shutil.which("podman"):
            subjects["podman run"] = podman_subject(pods)
        times = figures.interleaved(subjects, rounds)
        memory = {
            "daemon idle, Boxwood": idle_pss(ours),
            "daemon idle, Docker": idle_pss(theirs),
            "a container's own, Boxwood": container_pss(ours),
            "a container's own, Docker": container_pss(theirs),
        }
    return {
        "rounds": rounds,
        "ms": {name: figures.summary(values) for name, values in times.items()},
        "pss_kib": memory,
    }


def report(result: dict[str, Any]) -> str:
    """Draw the tables: times, memory, and the bars."""
    times = [("", "median ms", "min", "p90")]
    for name, row in sorted(result["ms"].items(), key=lambda pair: pair[1]["median"]):
        times.append((name, f"{row['median']:.1f}", f"{row['min']:.1f}", f"{row['p90']:.1f}"))
    memory = [("", "PSS, MiB")]
    memory += [(name, f"{kib / 1024:.2f}") for name, kib in result["pss_kib"].items()]
    bars = [("ratio", "is", "bar", "")]
    for words, over, under, bar in BARS:
        ratio = result["ms"][over]["median"] / result["ms"][under]["median"]
        bars.append((words, f"{ratio:.2f}", f"{bar:.2f}", "holds" if ratio <= bar else "MISSED"))
    pss = result["pss_kib"]
    ratio = pss["daemon idle, Boxwood"] / pss["daemon idle, Docker"]
    held = "holds" if ratio <= 0.5 else "MISSED"
    bars.append(("idle daemon, Boxwood / Docker", f"{ratio:.2f}", "0.50", held))
    cost = pss["a container's own, Boxwood"] / 1024
    held = "holds" if cost <= 1 else "MISSED"
    bars.append(("a container's own memory, MiB", f"{cost:.2f}", "1.00", held))
    return "\n\n".join(figures.table(rows) for rows in (times, memory, bars))


if __name__ == "__main__":
    sys.exit(figures.main("start", 50, measure, report))
