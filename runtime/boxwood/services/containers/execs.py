"""More processes in a running container."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from typing import TYPE_CHECKING, Any

from boxwood.errors import BoxwoodError, Conflict, InvalidArgument, LaunchError, NotFound
from boxwood.execution.shim import Client
from boxwood.execution.spec import build_exec_process
from boxwood.faultpoints import fault
from boxwood.model import container as states
from boxwood.model import ids
from boxwood.model.request import MULTIPLEXED_STREAM, RAW_STREAM, ExecConfig
from boxwood.services.containers import failures
from boxwood.services.containers.attach import parse_detach_keys
from boxwood.services.containers.live import Exec
from boxwood.services.containers.logs import frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boxwood.execution.shim import ExitStatus
    from boxwood.model.container import Container
    from boxwood.model.request import ExecStart, Upgrade
    from boxwood.services.containers.context import Context
    from boxwood.services.containers.live import Live
    from boxwood.services.containers.users import UserLookup

log = logging.getLogger(__name__)

KEPT = 300.0
"""Seconds that the record of an ended exec is kept: what clients that inspect late rely on."""
LIMIT = 1024
"""Records of one container; beyond it the ones that ended are forgotten early."""
RESIZE_WAIT = 1.0
"""Seconds: a launch takes some milliseconds, a loaded machine's more."""


class Execs:
    """All execs of all containers. None of them outlives the daemon as a record."""

    def __init__(self, context: Context, users: UserLookup) -> None:
        self._context = context
        self._users = users
        self._all: dict[str, Exec] = {}

    def create(self, container: Container, config: ExecConfig, ref: str = "") -> Exec:
        """Take note of an exec. ``ref``: what the client called the container.

        Raises:
            InvalidArgument: no command. Conflict: the container does not run, in Docker's words.
        """
        if not config.cmd:
            raise InvalidArgument("No exec command specified")
        if config.working_dir and not config.working_dir.startswith("/"):
            raise InvalidArgument(
                f"the working directory '{config.working_dir}' is invalid, it needs to be an "
                "absolute path"
            )
        parse_detach_keys(config.detach_keys)
        check_running(container, ref)
        live = self._context.of(container.id)
        self._forget_old(live)
        if len(live.execs) >= LIMIT:
            raise Conflict(f"container {container.id[:12]}: {LIMIT} execs at once are too many")
        entry = Exec(id=ids.new_id(), container=container.id, config=config)
        self._all[entry.id] = live.execs[entry.id] = entry
        self._publish(container, entry, f"exec_create: {join_words(config.cmd)}")
        return entry

    def get(self, key: str) -> Exec:
        """Return an exec by id or unique prefix of at least 12 digits; NotFound."""
        found = self._all.get(key)
        if found is None and len(key) >= ids.SHORT:
            matches = [entry for name, entry in self._all.items() if name.startswith(key)]
            found = matches[0] if len(matches) == 1 else None
        if found is None:
            raise NotFound(f"No such exec instance: {key}")
        return found

    async def start(self, key: str, options: ExecStart, upgrade: Upgrade | None) -> None:
        """Start an exec; with ``upgrade`` its client is attached, without it is detached.

        Raises, before the upgrade:
            NotFound, Conflict: in Docker's words.
            LaunchError: a detached one could not be started.
        """
        entry = self.get(key)
        if entry.started:
            raise Conflict(f"exec {entry.id} is already running" if entry.running else
                           f"exec command {entry.id} has already run")  # fmt: skip
        container = self._context.store.current(entry.container)
        check_running(container)
        # As Docker: a client that has all its output may look before we know the pid.
        entry.started = entry.running = True
        config = entry.config
        clients: list[Client] = []
        size = options.console_size or config.console_size
        if upgrade is not None:
            content = RAW_STREAM if config.tty else MULTIPLEXED_STREAM
            try:
                fd, preread = await upgrade.accept(content)
            except BaseException:
                entry.started = entry.running = False
                raise
            clients.append(self._client(entry, fd, preread))
        try:
            await self._run(container, entry, clients, size)
        except BoxwoodError as error:
            text, code = _failure(error)
            entry.exit_code = code
            self._ended(entry)
            for client in clients:
                await _tell(client, text)
            if upgrade is not None:
                return
            if isinstance(error, LaunchError):
                raise LaunchError(text, error.operation, error.target, error.errno) from error
            raise
        except BaseException:
            self._ended(entry)
            raise

    def _client(self, entry: Exec, fd: int, preread: bytes) -> Client:
        config = entry.config
        keys = config.detach_keys or self._context.settings.detach_keys
        return Client(
            fd=fd,
            stdin=config.attach_stdin,
            stdout=config.attach_stdout,
            stderr=config.attach_stderr,
            framed=not config.tty,
            preread=preread,
            detach_keys=parse_detach_keys(keys) if config.attach_stdin else b"",
        )

    async def _run(
        self,
        container: Container,
        entry: Exec,
        clients: Sequence[Client],
        size: tuple[int, int] | None,
    ) -> None:
        context = self._context
        live = context.of(container.id)
        async with live.lock:
            container = context.store.current(container.id)
            check_running(container)
            self._publish(container, entry, f"exec_start: {join_words(entry.config.cmd or ())}")
        await self.launch(container, live, entry, clients, size)
        fault("exec.launched")

    async def launch(
        self,
        container: Container,
        live: Live,
        entry: Exec,
        clients: Sequence[Client],
        size: tuple[int, int] | None = None,
    ) -> int:
        """Launch it in the shim; returns the pid.

        Without the lock: a container that is frozen, or whose files hang, hangs its exec, and is
        to be stopped all the same. The clients' descriptors are the shim's then, and still the
        caller's when it raises.
        """
        fault("exec.begun")
        context = self._context
        config = entry.config
        shim, handle = live.shim, live.handle
        if shim is None or handle is None:
            raise Conflict(f"container {container.id} is not running")
        driver = context.isolation(container.isolation_driver)
        root = _root_of(handle.pid)
        try:
            user = await self._users.lookup(
                root,
                config.user or container.config.user,
                tuple(container.host_config.group_add or ()),
            )
        finally:
            os.close(root)
        if live.shim is not shim:
            raise Conflict(f"container {container.id} is not running")
        process = build_exec_process(container, handle.spec, config, user, driver.machine())
        if config.tty and size and all(size):
            process["consoleSize"] = {"height": size[0], "width": size[1]}
        with driver.exec(handle, process) as launch:
            # The namespaces are held by descriptors from here on: no pid can come to mean another.
            pid = await shim.exec(
                entry.id,
                launch.program,
                launch.fds,
                tty=config.tty,
                size=size if config.tty and size and all(size) else None,
                open_stdin=config.attach_stdin,
                clients=clients,
                detach=not clients,
            )
        entry.running, entry.pid = True, pid
        entry.launched.set()
        shim.exec_wait(entry.id).add_done_callback(lambda done: self._exited(entry, done))
        return pid

    def _exited(self, entry: Exec, done: asyncio.Future[ExitStatus]) -> None:
        if done.cancelled():
            return
        live = self._context.live.get(entry.container)
        if live is not None and live.shim is not None:
            live.shim.forget(entry.id)
        if done.exception() is not None:
            entry.exit_code = 137
        else:
            entry.exit_code = done.result().code
        self._ended(entry)
        if entry.container in self._context.store and entry.id in self._all:
            container = self._context.store.current(entry.container)
            self._publish(container, entry, "exec_die", {"exitCode": str(entry.exit_code)})

    def _ended(self, entry: Exec) -> None:
        entry.running, entry.pid = False, 0
        entry.started = True
        entry.ended_at = time.monotonic()
        entry.launched.set()
        entry.done.set()

    async def resize(self, key: str, height: int, width: int) -> None:
        """Set the size of its terminal. NotFound, or Conflict while it does not run.

        A client asks for it beside the start, so what is being launched is waited for.
        """
        entry = self.get(key)
        live = self._context.of(entry.container)
        if entry.running:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(entry.launched.wait(), RESIZE_WAIT)
        if not entry.pid or live.shim is None:
            raise Conflict(f"exec {key}: it does not run (yet)")
        await live.shim.resize(entry.id, height, width)

    def inspect(self, key: str) -> dict[str, Any]:
        """Return the object of ``GET /exec/{id}/json``."""
        entry = self.get(key)
        config = entry.config
        words = config.cmd or ("",)
        return {
            "ID": entry.id,
            "Running": entry.running,
            "ExitCode": None if entry.running or not entry.started else entry.exit_code,
            "ProcessConfig": {
                "tty": config.tty,
                "entrypoint": words[0],
                "arguments": list(words[1:]),
                "privileged": config.privileged,
                "user": config.user,
            },
            "OpenStdin": config.attach_stdin,
            "OpenStderr": config.attach_stderr,
            "OpenStdout": config.attach_stdout,
            "CanRemove": False,
            "ContainerID": entry.container,
            "DetachKeys": config.detach_keys,
            "Pid": entry.pid,
        }

    def forget(self, live: Live) -> None:
        """Drop the records of a container that is gone."""
        for key in live.execs:
            self._all.pop(key, None)
        live.execs.clear()

    def _forget_old(self, wanting: Live) -> None:
        """Drop what ended long ago; of the container that wants another, what makes room."""
        limit = time.monotonic() - KEPT
        for entry in [entry for entry in self._all.values() if 0 < entry.ended_at < limit]:
            self._drop(entry)
        while len(wanting.execs) >= LIMIT:
            ended = next((entry for entry in wanting.execs.values() if entry.ended_at), None)
            if ended is None:
                return
            self._drop(ended)

    def _drop(self, entry: Exec) -> None:
        self._all.pop(entry.id, None)
        live = self._context.live.get(entry.container)
        if live is not None:
            live.execs.pop(entry.id, None)

    def _publish(
        self,
        container: Container,
        entry: Exec,
        action: str,
        attributes: dict[str, str] | None = None,
    ) -> None:
        self._context.publish(container, action, {"execID": entry.id, **(attributes or {})})


def _root_of(pid: int) -> int:
    """Open the root of a process: the tree as that process sees it. NotFound if it is gone."""
    try:
        return os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise NotFound(f"open root: process {pid}: {error.strerror}") from error


def check_running(container: Container, ref: str = "") -> None:
    """Raise Docker's conflicts unless something can be executed in the container."""
    status = container.state.status
    called = ref or container.id
    if status == states.PAUSED:
        raise Conflict(f"Container {called} is paused, unpause the container before exec")
    if status == states.RESTARTING:
        raise Conflict(f"Container {called} is restarting, wait until the container is running")
    if not container.state.running:
        raise Conflict(f"container {container.id} is not running")


def join_words(words: Sequence[str] | None) -> str:
    """Return a command as Docker's events show it: a blank follows the program in any case."""
    program, *arguments = words or ("",)
    return f"{program} {' '.join(arguments)}"


def _failure(error: BoxwoodError) -> tuple[str, int]:
    if isinstance(error, LaunchError):
        return failures.exec_failure(error)
    return str(error), 126


async def _tell(client: Client, text: str) -> None:
    """Write why it failed to a client that already has its headers, and close."""
    data = f"{text}\r\n".encode()
    os.set_blocking(client.fd, False)
    try:
        os.write(client.fd, frame(1, data) if client.framed else data)
    except OSError as error:
        log.debug("exec: the client is gone: %s", error)
    finally:
        os.close(client.fd)
