"""`./dev bench network`: containers on the default bridge, beside Debian's docker.io and podman.

Each engine has a network namespace of its own for its host, so that neither meets the other's
rules or this machine's. Measured are whole commands, what the network adds to a start and a stop,
and what goes through it: between two containers, and from the host through a published port.
"""

from __future__ import annotations

import contextlib
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.bench import figures
from tests.bench.start import ApiRun, podman_clean, podman_subject
from tests.support.dockerd import Dockerd
from tests.support.engine import Engine, Server, running
from tests.support.needs import need_program
from tests.support.paths import make_room

HOST = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
"""A network namespace that is the host of an engine."""
RUN = ("run", "--rm", "busybox", "true")
PUBLISHED = ("run", "--rm", "-p", "127.0.0.1:8080:80", "busybox", "true")
SECONDS = 2.0
"""Of one measurement of what goes through."""
TURNS = 6
"""Of such measurements, each engine the first in half of them."""
PIECE = 1 << 17
PORT = 5201

BARS = (
    ("boxwood run / docker run on Docker", "boxwood run", "docker run, Docker", 0.35),
    ("the same with a published port", "boxwood run -p", "docker run -p, Docker", 0.4),
)


class BridgedDockerd(Dockerd):
    """Docker as it comes: bridge, packet filter and all, on a host of its own."""

    def command(self) -> list[str]:
        return [
            *(*HOST, need_program("dockerd"), "-H", self.host, "--log-level=error"),
            *("--data-root", str(self.data_root), "--exec-root", str(self.exec_root)),
            *("--pidfile", str(self.exec_root / "dockerd.pid")),
        ]


class Life(ApiRun):
    """A container's life over the API on one connection, with the times of its steps."""

    def __init__(self, server: Server, network: str) -> None:
        super().__init__(server)
        self._network = network
        self.starts: list[float] = []
        self.stops: list[float] = []

    def __call__(self) -> None:
        host = {"NetworkMode": self._network}
        body = {"Image": "busybox", "Cmd": ["sleep", "100"], "HostConfig": host}
        made = self._ask("POST", "/containers/create", body)["Id"]
        began = time.perf_counter_ns()
        self._ask("POST", f"/containers/{made}/start")
        started = time.perf_counter_ns()
        self._ask("POST", f"/containers/{made}/kill")
        self._ask("POST", f"/containers/{made}/wait")
        self.starts.append((started - began) / 1e6)
        self.stops.append((time.perf_counter_ns() - started) / 1e6)
        self._ask("DELETE", f"/containers/{made}?force=1")


SERVE = """
import socket, sys, threading
def one(line):
    with line:
        first = line.recv(1)
        if first == b"e":
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := line.recv(64):
                line.sendall(data)
        else:
            buffer = bytearray(1 << 18)
            while line.recv_into(buffer):
                pass
            line.sendall(b"d")
with socket.create_server(("", int(sys.argv[1]))) as listener:
    print("here", flush=True)
    while True:
        threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()
"""

ASK = """
import socket, statistics, sys, time
address, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
with socket.create_connection((address, port), 10) as line:
    line.sendall(b"s")
    piece, sent = bytes(1 << 17), 0
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        line.sendall(piece)
        sent += len(piece)
    line.shutdown(socket.SHUT_WR)
    line.recv(1)
    rate = sent * 8 / (time.monotonic() - began) / 1e9
with socket.create_connection((address, port), 10) as line:
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    line.sendall(b"e")
    times = []
    for _ in range(2000):
        began = time.perf_counter()
        line.sendall(b"x")
        line.recv(1)
        times.append((time.perf_counter() - began) * 1e6)
opened, began = 0, time.monotonic()
while time.monotonic() - began < seconds:
    with socket.create_connection((address, port), 10) as line:
        line.sendall(b"ex")
        line.recv(1)
    opened += 1
print(rate, statistics.median(times), opened / seconds)
"""


def inside(pid: int, *command: str) -> list[str]:
    """Return the command line that runs a command in a process's network."""
    return [need_program("nsenter"), "-t", str(pid), "-n", *command]


@contextlib.contextmanager
def two_containers(server: Server) -> Iterator[tuple[int, int, str]]:
    """Two containers, one with a published port that something listens on; pids and address."""
    names = ("server", "client")
    more = ("-p", f"127.0.0.1:{PORT}:{PORT}")
    server.docker("run", "-d", "--name", "server", *more, "busybox", "sleep", "1000")
    server.docker("run", "-d", "--name", "client", "busybox", "sleep", "1000")
    shown = [server.api("GET", f"/containers/{name}/json").json() for name in names]
    pids = [one["State"]["Pid"] for one in shown]
    address = shown[0]["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    serving = subprocess.Popen(
        inside(pids[0], sys.executable, "-c", SERVE, str(PORT)), stdout=subprocess.PIPE
    )
    try:
        assert serving.stdout is not None
        serving.stdout.readline()
        yield pids[0], pids[1], address
    finally:
        serving.kill()
        serving.wait()
        server.docker("rm", "-f", *names)


@contextlib.contextmanager
def a_host() -> Iterator[tuple[str, ...]]:
    """A network namespace for who has no daemon; what a command begins with to run in it."""
    with subprocess.Popen([*HOST, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(b"\n")
        holder.stdin.flush()
        holder.stdout.readline()  # by then it is there
        yield tuple(inside(holder.pid))
        holder.stdin.close()


def through(pid: int, address: str) -> tuple[float, float, float]:
    """Return Gbit/s, the median round trip in us, and connections a second."""
    words = (sys.executable, "-c", ASK, address, str(PORT), str(SECONDS))
    done = subprocess.run(inside(pid, *words), capture_output=True, text=True, check=True)
    rate, latency, opened = (float(word) for word in done.stdout.split())
    return rate, latency, opened


def measure(rounds: int) -> dict[str, Any]:
    """Run the whole of it."""
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(running(Engine(before=HOST)))
        theirs = stack.enter_context(running(BridgedDockerd()))
        assert isinstance(ours, Engine)
        docker = need_program("docker")
        lives = {
            f"{name}, {network}": Life(server, network)
            for name, server in (("Boxwood", ours), ("Docker", theirs))
            for network in ("bridge", "none")
        }
        for life in lives.values():
            stack.callback(life.close)
        subjects: dict[str, Callable[[], None]] = {
            "boxwood run": figures.command([str(ours.program), *RUN], ours.environment()),
            "docker run, Boxwood": figures.command([docker, *RUN], ours.environment()),
            "docker run, Docker": figures.command([docker, *RUN], theirs.environment()),
            "boxwood run -p": figures.command([str(ours.program), *PUBLISHED], ours.environment()),
            "docker run -p, Docker": figures.command([docker, *PUBLISHED], theirs.environment()),
            **lives,
        }
        if shutil.which("podman"):
            pods = make_room("pods")
            stack.callback(podman_clean, pods)
            host = stack.enter_context(a_host())
            subjects["podman run"] = podman_subject(pods, RUN, host)
            subjects["podman run -p"] = podman_subject(pods, PUBLISHED, host)
        times = figures.interleaved(subjects, rounds)
        steps = {
            name: (statistics.median(life.starts), statistics.median(life.stops))
            for name, life in lives.items()
        }
        traffic: dict[str, list[tuple[float, float, float]]] = {}
        with two_containers(ours) as us, two_containers(theirs) as them:
            sides = [("Boxwood", ours, us), ("Docker", theirs, them)]
            for _ in range(TURNS):
                sides.reverse()  # neither is always the first
                for name, server, (_, client, address) in sides:
                    between = through(client, address)
                    port = through(server.pid, "127.0.0.1")
                    traffic.setdefault(f"{name}, between containers", []).append(between)
                    traffic.setdefault(f"{name}, published port", []).append(port)
    return {
        "rounds": rounds,
        "ms": {name: figures.summary(values) for name, values in times.items()},
        "steps_ms": steps,
        "traffic": {
            name: [statistics.median(column) for column in zip(*values, strict=True)]
            for name, values in traffic.items()
        },
    }


def report(result: dict[str, Any]) -> str:
    """Draw the tables: times, what the network adds, what goes through, and the bars."""
    times = [("", "median ms", "min", "p90")]
    for name, row in sorted(result["ms"].items(), key=lambda pair: pair[1]["median"]):
        times.append((name, f"{row['median']:.1f}", f"{row['min']:.1f}", f"{row['p90']:.1f}"))
    traffic = [("", "Gbit/s", "round trip us", "connections/s")]
    for name, (rate, latency, opened) in result["traffic"].items():
        traffic.append((name, f"{rate:.1f}", f"{latency:.1f}", f"{opened:.0f}"))
    bars = [("", "is", "bar", "")]
    for words, over, under, bar in BARS:
        ratio = result["ms"][over]["median"] / result["ms"][under]["median"]
        bars.append((words, f"{ratio:.2f}", f"{bar:.2f}", _held(ratio <= bar)))
    steps = result["steps_ms"]
    for index, (words, bar) in enumerate((("start", 5.0), ("stop", 2.0))):
        share = steps["Boxwood, bridge"][index] - steps["Boxwood, none"][index]
        row = (f"the network's share of a {words}, ms", f"{share:.2f}", f"{bar:.2f}")
        bars.append((*row, _held(share <= bar)))
    for path in ("between containers", "published port"):
        us, them = (result["traffic"][f"{name}, {path}"] for name in ("Boxwood", "Docker"))
        ratio = us[0] / them[0]
        bars.append((f"throughput, {path}", f"{ratio:.2f}", "0.95", _held(ratio >= 0.95)))
        ratio = us[1] / them[1]
        bars.append((f"latency, {path}", f"{ratio:.2f}", "1.05", _held(ratio <= 1.05)))
    return "\n\n".join(figures.table(rows) for rows in (times, traffic, bars))


def _held(holds: bool) -> str:
    return "holds" if holds else "MISSED"


if __name__ == "__main__":
    sys.exit(figures.main("network", 30, measure, report))
