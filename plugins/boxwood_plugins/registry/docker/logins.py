"""Logins that this machine has of its own, for mirrors: from a file, or a credential helper.

Each is of one mirror (``host[:port]``) and shown to no other host. The file is as Docker's client
keeps its logins (``config.json``: ``auths``), the helper is asked as that client asks
(``docker-credential-NAME get``; docker-credential-helpers' protocol).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import os
import signal
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import msgspec

from boxwood.drivers.registry import Credentials
from boxwood.errors import BoxwoodError, InvalidArgument, Unavailable

if TYPE_CHECKING:
    from boxwood_plugins.registry.docker.hosts import Host

log = logging.getLogger(__name__)

LIMIT = 64 << 10
"""Bytes of a file, or of a helper's answer."""
KEPT = 60.0
"""Seconds after which a login is looked for again: helpers give such as end."""
PATIENCE = 10.0
"""Seconds that a helper may take."""
TOKEN = "<token>"
"""The user's name in whose place a secret is an identity token."""


class _Entry(msgspec.Struct):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""


class _File(msgspec.Struct):
    auths: dict[str, _Entry] = {}


class _Answer(msgspec.Struct):
    user: str = msgspec.field(default="", name="Username")
    secret: str = msgspec.field(default="", name="Secret")


class Logins:
    """The logins of mirrors, each kept for a while."""

    def __init__(self) -> None:
        self._kept: dict[Host, tuple[float, Credentials | BoxwoodError]] = {}
        self._asking: WeakValueDictionary[Host, asyncio.Lock] = WeakValueDictionary()

    async def of(self, host: Host) -> Credentials | None:
        """Return a mirror's own login; None: the configuration gives it none.

        Raises:
            InvalidArgument: the file is wrong, has none for this host, or others may read it.
            Unavailable: the file or the helper does not answer.
        """
        if not host.credentials and not host.helper:
            return None
        lock = self._asking.setdefault(host, asyncio.Lock())
        async with lock:
            since, login = self._kept.get(host, (0.0, None))
            if login is None or time.monotonic() - since > KEPT:
                login = await self._found(host)
        if isinstance(login, BoxwoodError):
            raise type(login)(str(login))
        return login

    async def _found(self, host: Host) -> Credentials | BoxwoodError:
        login: Credentials | BoxwoodError
        try:
            if host.helper:
                login = _helped(await _asked(host), host)
            else:
                login = await asyncio.to_thread(_read, host.credentials, host.authority)
        except (InvalidArgument, Unavailable) as error:
            # The registry itself may be asked next, and then nobody would hear of it.
            log.warning("%s: it is not asked", error)
            login = error
        if host.helper or isinstance(login, Credentials):
            # A helper that hangs is not waited for at each request; a file is soon put right.
            self._kept[host] = (time.monotonic(), login)
        return login


def _read(path: str, authority: str) -> Credentials:
    where = f"registry mirror {authority}: {path}"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise Unavailable(f"{where}: {error.strerror}") from error
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidArgument(f"{where}: not a regular file")
        if status.st_mode & 0o077 or status.st_uid not in (0, os.geteuid()):
            raise InvalidArgument(
                f"{where}: others may read or write it (mode {status.st_mode & 0o777:04o}, owner "
                f"{status.st_uid}): it must be 0600 and of the engine's own user"
            )
        data = file.read(LIMIT + 1)
    if len(data) > LIMIT:
        raise InvalidArgument(f"{where}: larger than {LIMIT} bytes")
    try:
        entry = msgspec.json.decode(data, type=_File).auths.get(authority)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        # Its own words may show a part of a password.
        raise InvalidArgument(f"{where}: not of the form of Docker's config.json") from None
    login = _login(entry, where) if entry is not None else None
    if login is None:
        raise InvalidArgument(f"{where}: no login for {authority} in it")
    return login


def _login(entry: _Entry, where: str) -> Credentials | None:
    user, password = entry.username, entry.password
    if entry.auth:
        try:
            text = base64.b64decode(entry.auth, validate=True).decode()
        except (binascii.Error, ValueError):
            raise InvalidArgument(f"{where}: auth: not base64 of USER:PASSWORD") from None
        user, _, password = text.partition(":")
    if not entry.identitytoken and not (user and password):
        return None
    return Credentials(user, password, entry.identitytoken)


async def _asked(host: Host) -> bytes:
    """Return what a helper answers; it is ended when it takes too long or says too much."""
    where = f"registry mirror {host.authority}: docker-credential-{host.helper}"
    try:
        process = await asyncio.create_subprocess_exec(
            f"docker-credential-{host.helper}",
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise Unavailable(f"{where}: {error.strerror}") from error
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            with suppress(BrokenPipeError, ConnectionResetError):
                process.stdin.write(host.authority.encode())
                process.stdin.close()
            data = b""
            while len(data) <= LIMIT and (piece := await process.stdout.read(LIMIT)):
                data += piece
            if len(data) > LIMIT:
                raise InvalidArgument(f"{where}: says more than {LIMIT} bytes")
            if await process.wait() != 0:
                raise Unavailable(f"{where}: has no login for it (status {process.returncode})")
    except TimeoutError:
        raise Unavailable(f"{where}: no answer within {PATIENCE:.0f} s") from None
    finally:
        await _ended(process)
    return data


async def _ended(process: asyncio.subprocess.Process) -> None:
    """End a helper that still runs, with what it has started; what it says is thrown away.

    Its end is seen when nobody holds its pipe any more, so that is read, for a second: what has
    left the group may hold it.
    """
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    assert process.stdout is not None
    with suppress(TimeoutError):
        async with asyncio.timeout(1):
            while await process.stdout.read(LIMIT):
                pass
            await process.wait()


def _helped(data: bytes, host: Host) -> Credentials:
    try:
        answer = msgspec.json.decode(data, type=_Answer)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        answer = _Answer()
    if not answer.user or not answer.secret:
        raise InvalidArgument(
            f"registry mirror {host.authority}: docker-credential-{host.helper}: no login in its "
            "answer"
        )
    if answer.user == TOKEN:
        return Credentials("", "", answer.secret)
    return Credentials(answer.user, answer.secret)
