"""Health checks: a command run in the container now and then."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from typing import TYPE_CHECKING

from boxwood.errors import BoxwoodError, LaunchError
from boxwood.execution.shim import Client
from boxwood.model import container as states
from boxwood.model import ids, times
from boxwood.model.container import Health, ProbeResult
from boxwood.model.request import ExecConfig
from boxwood.model.signals import SIGKILL
from boxwood.model.wire import replace
from boxwood.services.containers import failures
from boxwood.services.containers.live import Exec

if TYPE_CHECKING:
    from boxwood.model.config import ContainerConfig, HealthConfig
    from boxwood.services.containers.context import Context
    from boxwood.services.containers.execs import Execs

log = logging.getLogger(__name__)

INTERVAL = 30.0
"""Seconds, as the three below: Docker's defaults."""
TIMEOUT = 30.0
START_INTERVAL = 5.0
START_PERIOD = 0.0
RETRIES = 3
OUTPUT_LIMIT = 4096
"""Bytes of a probe's output that are kept."""
KEPT = 5
"""Probes that are kept."""
_DEFAULT_SHELL = ("/bin/sh", "-c")


def has_probe(config: ContainerConfig) -> bool:
    """Whether there is anything to run."""
    health = config.healthcheck
    return health is not None and (health.test or ("NONE",))[0] in ("CMD", "CMD-SHELL")


def _seconds(nanoseconds: int, default: float) -> float:
    return nanoseconds / times.SECOND if nanoseconds else default


class Schedule:
    """The durations of one health check, in seconds."""

    def __init__(self, config: HealthConfig) -> None:
        self.interval = _seconds(config.interval, INTERVAL)
        self.timeout = _seconds(config.timeout, TIMEOUT)
        self.start_period = _seconds(config.start_period, START_PERIOD)
        self.start_interval = _seconds(config.start_interval, START_INTERVAL)
        self.retries = config.retries or RETRIES

    def delay(self, health: Health, age: float) -> float:
        """Return how long to wait for the next probe.

        Args:
            age: seconds since the start.
        """
        if health.status == "starting" and age < self.start_period:
            return min(self.start_interval, self.interval)
        return self.interval


def judge(health: Health, result: ProbeResult, age: float, schedule: Schedule) -> Health:
    """Return the state of health after a probe. Pure."""
    entries = (*health.log, result)[-KEPT:]
    if result.exit_code == 0:
        return Health(status="healthy", failing_streak=0, log=entries)
    streak = health.failing_streak
    if not (health.status == "starting" and age < schedule.start_period):
        streak += 1
    status = "unhealthy" if streak >= schedule.retries else health.status
    return Health(status=status, failing_streak=streak, log=entries)


class HealthMonitor:
    """Runs the probes of a container while it runs."""

    def __init__(self, context: Context, execs: Execs) -> None:
        self._context = context
        self._execs = execs

    async def watch(self, key: str) -> None:
        """Probe until cancelled or the run is over."""
        config = self._context.store.current(key).config
        assert config.healthcheck is not None
        schedule = Schedule(config.healthcheck)
        began = time.monotonic()
        while True:
            health = self._health(key)
            if health is None:
                return
            await asyncio.sleep(schedule.delay(health, time.monotonic() - began))
            container = self._context.store.current(key)
            if container.state.status == states.PAUSED:
                continue
            if container.state.status != states.RUNNING:
                return
            result = await self._probe(key, schedule.timeout)
            if result is not None:
                self._note(key, result, time.monotonic() - began, schedule)

    def _health(self, key: str) -> Health | None:
        if key not in self._context.store:
            return None
        state = self._context.store.current(key).state
        return state.health if state.running else None

    def _note(self, key: str, result: ProbeResult, age: float, schedule: Schedule) -> None:
        before = self._health(key)
        if before is None:
            return
        after = judge(before, result, age, schedule)
        store = self._context.store
        container = store.current(key)
        container = replace(container, state=replace(container.state, health=after))
        if after.status == before.status:
            store.show(container)  # the log of probes is not worth a write each
            return
        store.keep(container)
        self._context.publish(container, f"health_status: {after.status}")

    async def _probe(self, key: str, timeout: float) -> ProbeResult | None:
        """Run the command once. None: the container has ended meanwhile."""
        context = self._context
        live = context.of(key)
        container = context.store.current(key)
        test = container.config.healthcheck and container.config.healthcheck.test
        if not test:
            return None
        words = test[1:]
        if test[0] == "CMD-SHELL":
            words = (*(container.config.shell or _DEFAULT_SHELL), *words)
        config = ExecConfig(cmd=words, attach_stdout=True, attach_stderr=True)
        entry = Exec(id=ids.new_id(), container=key, config=config, started=True)
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        near.setblocking(False)
        client = Client(
            fd=far.detach(), stdin=False, stdout=True, stderr=True, framed=False, preread=b"",
            detach_keys=b"",
        )  # fmt: skip
        start = times.now()
        try:
            try:
                await self._execs.launch(container, live, entry, [client])
            except BaseException:
                os.close(client.fd)
                raise
            return await self._finish(key, entry, near, start, timeout)
        except LaunchError as error:
            text, code = failures.exec_failure(error)
            return _result(start, code, text)
        except BoxwoodError as error:
            return _result(start, -1, str(error)) if self._health(key) is not None else None
        finally:
            near.close()

    async def _finish(
        self, key: str, entry: Exec, near: socket.socket, start: int, timeout: float
    ) -> ProbeResult | None:
        output = bytearray()
        reading = asyncio.ensure_future(_collect(near, output))
        try:
            async with asyncio.timeout(timeout):
                await entry.done.wait()
                await reading
        except TimeoutError:
            live = self._context.of(key)
            if live.shim is not None:
                try:
                    await live.shim.signal(SIGKILL, entry.id)
                except BoxwoodError as error:
                    log.debug("health %s: %s", key[:12], error)
            said = bytes(output[:OUTPUT_LIMIT]).decode(errors="replace")
            text = f"Health check exceeded timeout ({_go_duration(timeout)})"
            return _result(start, -1, f"{text}: {said}" if said else text)
        finally:
            reading.cancel()
        if self._health(key) is None:
            return None
        text = bytes(output[:OUTPUT_LIMIT]).decode(errors="replace")
        if len(output) > OUTPUT_LIMIT:
            text += "..."
        return _result(start, entry.exit_code or 0, text)


def _result(start: int, code: int, output: str) -> ProbeResult:
    return ProbeResult(
        start=times.rfc3339(start), end=times.rfc3339(times.now()), exit_code=code, output=output
    )


async def _collect(near: socket.socket, output: bytearray) -> None:
    """Read to the end; keep a little more than what is shown."""
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(near, 4096):
        if len(output) <= OUTPUT_LIMIT:
            output += data


def _go_duration(seconds: float) -> str:
    """Return ``30s``, ``1m30s``, ``500ms``."""
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    text = f"{hours:.0f}h" if hours else ""
    text += f"{minutes:.0f}m" if minutes or hours else ""
    return f"{text}{rest:g}s"
