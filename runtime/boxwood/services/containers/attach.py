"""Attaching clients: their sockets go to the shim."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from typing import TYPE_CHECKING

from boxwood.errors import BoxwoodError, Conflict, InvalidArgument
from boxwood.execution.shim import Client
from boxwood.model import container as states
from boxwood.model import times
from boxwood.model.request import MULTIPLEXED_STREAM, RAW_STREAM, LogOptions

if TYPE_CHECKING:
    from boxwood.model.container import Container
    from boxwood.model.request import AttachOptions, Upgrade
    from boxwood.services.containers.context import Context
    from boxwood.services.containers.logs import LogReader

REPLAY_DEADLINE = 60.0
"""Seconds that a client may leave a piece of the replayed log unread."""

_CTRL = re.compile(r"ctrl-([a-z@\[\\\]^_])\Z")


def parse_detach_keys(text: str) -> bytes:
    """Return the bytes of ``ctrl-p,ctrl-q``; empty text is no keys at all.

    Raises:
        InvalidArgument: not in the grammar (a letter, or ``ctrl-`` and a letter or ``@[\\]^_``).
    """
    keys = bytearray()
    for part in text.split(",") if text else ():
        match = _CTRL.match(part)
        if match is not None:
            keys.append(ord(match[1].upper()) ^ 0x40)
        elif len(part) == 1 and part.isascii():
            keys.append(ord(part))
        else:
            raise InvalidArgument(
                f"Invalid detach keys ({text}) provided: Unknown character: '{part}'"
            )
    return bytes(keys)


class Attacher:
    """``attach``: before the start the client waits here, later the shim has it."""

    def __init__(self, context: Context, logs: LogReader) -> None:
        self._context = context
        self._logs = logs

    async def attach(self, key: str, options: AttachOptions, upgrade: Upgrade) -> None:
        """Attach a client; returns once its socket belongs to somebody else.

        Raises, before the upgrade:
            Conflict: paused or restarting. InvalidArgument: the detach keys.
        """
        context = self._context
        container = context.store.current(key)
        if container.state.status == states.PAUSED:
            raise Conflict(f"container {key} is paused, unpause the container before attach")
        if container.state.status == states.RESTARTING:
            raise Conflict(f"container {key} is restarting, wait until the container is running")
        replays = options.logs and (options.stdout or options.stderr)
        if replays:
            self._logs.check(container)
        text = options.detach_keys
        keys = parse_detach_keys(context.settings.detach_keys if text is None else text)
        tty = container.config.tty
        fd, preread = await upgrade.accept(RAW_STREAM if tty else MULTIPLEXED_STREAM)
        try:
            context.publish(container, "attach")
            client = Client(
                fd=fd,
                stdin=options.stdin and container.config.open_stdin,
                stdout=options.stdout,
                stderr=options.stderr,
                framed=not tty,
                preread=preread,
                detach_keys=keys if options.stdin else b"",
            )
            if replays and options.stream:
                fd = await self._replay_and_follow(key, client)
            elif replays:
                await self._replay(container, client)
            elif options.stream:
                fd = -1
                await self._hand_over(key, client)
        finally:
            if fd >= 0:
                os.close(fd)

    async def _replay_and_follow(self, key: str, client: Client) -> int:
        """Send the log, then all that comes: no line is lost or sent twice in between.

        Returns the descriptor that is left to close, -1: none.
        """
        context = self._context
        container, since = context.store.current(key), 0
        if not container.state.running:
            moment = times.now()
            if not await self._replay(container, client, until=moment):
                return client.fd
            if key not in context.store:
                return client.fd
            container, since = context.store.current(key), moment + 1
        shim = context.of(key).shim
        if not container.state.running or shim is None:
            context.of(key).pending.append(client)
            return -1
        held = await shim.attach_held(client)
        try:
            if await self._replay(container, client, since=since, until=held.moment):
                held.release()
        finally:
            held.drop()
        return client.fd

    async def _hand_over(self, key: str, client: Client) -> None:
        context = self._context
        live = context.of(key)
        try:
            if key not in context.store:
                os.close(client.fd)
                return
            state = context.store.current(key).state
            if state.running and live.shim is not None:
                await live.shim.attach(client)
            else:
                # Attaching to what has ended waits for the next start, as with Docker.
                live.pending.append(client)
        except BoxwoodError:
            os.close(client.fd)
            raise

    async def _replay(
        self, container: Container, client: Client, *, since: int = 0, until: int = 0
    ) -> bool:
        """Write what the log has of these times; False: the client is gone or does not read."""
        wanted = LogOptions(stdout=client.stdout, stderr=client.stderr, since=since, until=until)
        connection = socket.socket(fileno=os.dup(client.fd))
        try:
            connection.setblocking(False)
            loop = asyncio.get_running_loop()
            async for piece in self._logs.read(container, wanted):
                async with asyncio.timeout(REPLAY_DEADLINE):
                    await loop.sock_sendall(connection, piece)
        except (OSError, TimeoutError):
            return False
        finally:
            connection.close()
        return True
