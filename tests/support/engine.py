"""An engine of one's own: `boxwood daemon` on roots and a socket that nobody else uses."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.support.busybox import busybox_tar
from tests.support.http import Answer, call
from tests.support.needs import need_program, until
from tests.support.networks import clear_networks
from tests.support.paths import BOXWOOD, clean_environment, clear_room, make_room

START_SECONDS = 20.0
STOP_SECONDS = 20.0
ALONE = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
"""What starts a daemon in a network namespace of its own."""


class Server:
    """A daemon that serves the Engine API: what ours and Docker's have in common."""

    start_seconds = START_SECONDS

    def __init__(self, purpose: str, place: Path | None = None) -> None:
        self._place = place
        self.data_root = make_room(purpose, parent=place)
        self.exec_root = make_room(purpose, memory=True)
        self.socket = self.exec_root / "api.sock"
        self.log_path = self.data_root.with_name(self.data_root.name + ".log")
        self.process: subprocess.Popen[bytes] | None = None
        self._config = self.data_root.with_name(self.data_root.name + ".config")
        self._config.mkdir()

    @property
    def host(self) -> str:
        """The address as clients want it."""
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        assert self.process is not None, "the daemon does not run"
        return self.process.pid

    @property
    def log(self) -> str:
        """All that the daemon has said so far."""
        return self.log_path.read_text(errors="replace")

    def command(self) -> list[str]:
        """The command line of the daemon."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        assert self.process is None, "the daemon runs already"
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment(),
                start_new_session=True,
            )
        until(self._answers, f"the daemon answers\n{self.log}", seconds=self.start_seconds)

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"the daemon ended ({self.process.returncode}):\n{self.log}")
        try:
            return self.api("GET", "/_ping").status == 200
        except OSError:
            return False

    def stop(self) -> int:
        """End the daemon as a service manager would; return its exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """End the daemon as a crash would."""
        return self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> int:
        assert self.process is not None, "the daemon does not run"
        process, self.process = self.process, None
        process.send_signal(how)
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def restart(self) -> None:
        """Kill the daemon and start it again."""
        self.kill()
        self.start()

    def environment(self) -> dict[str, str]:
        """The environment that leads a client here and nowhere else."""
        return clean_environment(
            BOXWOOD_HOST=self.host, DOCKER_HOST=self.host, DOCKER_CONFIG=str(self._config)
        )

    def run(self, *command: object, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a command that finds this daemon; text in and out, both streams kept.

        Args:
            command: the program and its arguments.
            more: as for subprocess.run; `check` is True and `timeout` 60 s unless given.
        """
        options: dict[str, Any] = {"check": True, "timeout": 60, "text": True} | more
        if "input" not in options and "stdin" not in options:
            options["stdin"] = subprocess.DEVNULL
        if "stdout" not in options and "stderr" not in options:
            options["capture_output"] = True
        check = options.pop("check")
        environment = self.environment() | options.pop("env", {})
        done = subprocess.run([str(word) for word in command], env=environment, **options)
        if check and done.returncode:
            words = " ".join(str(word) for word in command)
            raise AssertionError(
                f"{words}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done

    def docker(self, *args: object, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run the stock docker client against this daemon."""
        return self.run(need_program("docker"), *args, **more)

    def api(self, method: str, path: str, body: Any = None, **more: Any) -> Answer:
        """Make one request of the Engine API; see tests.support.http.call."""
        return call(self.socket, method, path, body, **more)

    def add_busybox(self) -> None:
        """Import the busybox image as busybox:latest."""
        where = "/images/create?fromSrc=-&repo=busybox&tag=latest&changes=CMD%20%5B%22sh%22%5D"
        headers = {"Content-Type": "application/x-tar"}
        answer = self.api("POST", where, busybox_tar(), headers=headers)
        assert answer.status == 200, answer.body
        assert b'"error"' not in answer.body, answer.body

    def remove_containers(self) -> None:
        """Remove every container, whatever it is doing."""
        for container in self.api("GET", "/containers/json?all=1").json():
            path = f"/containers/{container['Id']}?force=1&v=1"
            answer = self.api("DELETE", path, timeout=60)
            assert answer.status in (204, 404, 409), answer.body
        until(
            lambda: self.api("GET", "/containers/json?all=1").json() == [],
            "every container is removed",
        )

    def images(self) -> dict[str, set[str]]:
        """Return the names of every image by its id."""
        listed = self.api("GET", "/images/json?all=1").json()
        return {
            image["Id"]: {*(image["RepoTags"] or ()), *(image["RepoDigests"] or ())}
            - {"<none>:<none>", "<none>@<none>"}
            for image in listed
        }

    @contextlib.contextmanager
    def as_it_was(self) -> Iterator[None]:
        """Have no container before and after, and at the end no image and name that was not."""
        self.remove_containers()
        before = self.images()
        try:
            yield
        finally:
            self.remove_containers()
            for image, names in self.images().items():
                for name in names - before[image] if image in before else {image}:
                    self.api("DELETE", f"/images/{quote(name, safe='')}?force=1")

    def close(self) -> None:
        """Remove what runs, end the daemon and remove its folders."""
        with contextlib.ExitStack() as last:
            last.callback(self._clear)
            if self.process is not None and self.process.poll() is None:
                last.callback(self._stop_if_running)
                self.remove_containers()

    def _stop_if_running(self) -> None:
        if self.process is not None:
            self.stop()

    def _clear(self) -> None:
        self.log_path.unlink(missing_ok=True)
        self._config.joinpath("config.json").unlink(missing_ok=True)
        if self._place is None:  # else it goes with the file system that was made for it
            clear_room(self.data_root)
        clear_room(self.exec_root)
        os.rmdir(self._config)


class Engine(Server):
    """`boxwood daemon` on roots of its own."""

    def __init__(
        self,
        *flags: str,
        program: Path = BOXWOOD,
        variables: dict[str, str] | None = None,
        before: Sequence[str] = (),
        place: Path | None = None,
    ) -> None:
        """Prepare an engine; it is not started yet.

        Args:
            flags: further flags of `boxwood daemon`.
            program: the console script to run.
            variables: further variables of the environment, the clients' too.
            before: a command that starts the daemon's command (unshare, say).
            place: the folder that the data root is made in.
        """
        super().__init__("e", place)
        self.flags = flags
        self.program = program
        self._variables = variables or {}
        self._before = before

    def environment(self) -> dict[str, str]:
        return super().environment() | self._variables

    def command(self) -> list[str]:
        return [
            *(*self._before, str(self.program), "daemon", "-H", self.host),
            *("--data-root", str(self.data_root), "--exec-root", str(self.exec_root)),
            *("--pidfile", str(self.exec_root / "daemon.pid"), *self._storage(), *self.flags),
        ]

    def _storage(self) -> tuple[str, ...]:
        """The driver that the environment names, unless the test names one."""
        chosen = os.environ.get("BOXWOOD_TEST_STORAGE", "")
        return ("--storage-driver", chosen) if chosen and not self._names_a_driver() else ()

    def _clear(self) -> None:
        clear_networks(self.exec_root)
        super()._clear()

    def _names_a_driver(self) -> bool:
        return any(flag.startswith("--storage-driver") for flag in self.flags)

    def cli(self, *args: object, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run our own command line against this engine."""
        return self.run(self.program, *args, **more)


@contextlib.contextmanager
def running(server: Server, *, busybox: bool = True) -> Iterator[Server]:
    """Start the server, with the busybox image in it; remove all of it at the end."""
    try:
        server.start()
        if busybox:
            server.add_busybox()
        yield server
    finally:
        server.close()
