"""The daemon: one process that owns a data root and serves its API."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import gc
import grp
import logging
import os
import resource
import signal
import socket
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxwood.api import ApiServer, Listener, activated_sockets, open_tcp, open_unix
from boxwood.api.versions import parse_minimum
from boxwood.configuration import DEFAULT_GROUP, Configuration, load, reloaded
from boxwood.engine import Engine
from boxwood.errors import BoxwoodError, Conflict, InvalidArgument, Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger("boxwood.daemon")

SOCKET = "boxwood.sock"
REQUEST_GRACE = 5.0
"""Seconds that running requests have to end when the daemon stops."""
EMBEDDED = "BOXWOOD_EMBEDDED"
"""Set by a command line that started the engine itself: nobody will stop it."""
EMBEDDED_IDLE = 300
"""Seconds of idleness after which such an engine goes."""
_IDLE_STEP = 1.0
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}


def main(options: dict[str, Any]) -> int:
    """Be the daemon until a signal ends it; returns the exit status.

    Args:
        options: flags of the command line that were given, by name.
    """
    try:
        config = _embedded(load(options))
        _set_up_log(config)
        if options.get("validate"):
            print("configuration OK")  # noqa: T201 - what the flag is for
            return 0
        with _locked(config), _pidfile(config):
            _raise_limits()
            asyncio.run(_Daemon(config, options).run())
    except BoxwoodError as error:
        print(f"boxwood daemon: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


def _embedded(config: Configuration) -> Configuration:
    if os.environ.pop(EMBEDDED, "") and not config.idle_timeout:
        import msgspec

        return msgspec.structs.replace(config, idle_timeout=EMBEDDED_IDLE)
    return config


def _set_up_log(config: Configuration) -> None:
    level = logging.DEBUG if config.debug else _LEVELS[config.log_level]
    logging.basicConfig(
        level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    # asyncio tells of every slow callback in debug; its own news is not ours.
    logging.getLogger("asyncio").setLevel(max(level, logging.WARNING))


@contextlib.contextmanager
def _locked(config: Configuration) -> Any:
    """Hold the locks of both roots: two daemons on one root would undo each other's work."""
    files = []
    try:
        for root, mode in ((config.exec_root, 0o711), (config.data_root, 0o710)):
            files.append(_lock(Path(root), mode))
        yield
    finally:
        for fd in files:
            os.close(fd)


def _lock(root: Path, mode: int) -> int:
    try:
        root.mkdir(mode=mode, parents=True, exist_ok=True)
        fd = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise Unavailable(f"start: {root}: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise Conflict(
            f"start: {root}: another Boxwood daemon is using it; stop that one, or give this one "
            "its own --data-root and --exec-root"
        ) from error
    return fd


@contextlib.contextmanager
def _pidfile(config: Configuration) -> Any:
    if not config.pidfile:
        yield
        return
    path = Path(config.pidfile)
    try:
        path.write_text(f"{os.getpid()}\n", encoding="ascii")
    except OSError as error:
        raise Unavailable(f"write pid file: {path}: {error.strerror}") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _raise_limits() -> None:
    """Use all the descriptors that the daemon may have: each container takes a few."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Daemon:
    """The life of the process inside the event loop."""

    def __init__(self, config: Configuration, options: dict[str, Any]) -> None:
        self._config = config
        self._options = options
        self._end: asyncio.Event

    async def run(self) -> None:
        self._end = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end.set)
        minimum = parse_minimum(self._config.min_api_version)
        # Open before anything is touched: an address that is taken costs nobody a container, and
        # who connects while the engine comes up waits instead of being refused.
        listeners = open_listeners(self._config)
        try:
            engine = await Engine.start(self._config)
        except BaseException:
            _close(listeners)
            raise
        try:
            server = ApiServer(engine, extensions=engine.extensions, minimum=minimum)
            await server.start(listeners)
            loop.add_signal_handler(signal.SIGHUP, self._reload, engine)
            for listener in listeners:
                log.info("listening on %s", listener.address)
            _settle_memory()
            _notify("READY=1")
            await self._serve(engine, server)
            _notify("STOPPING=1")
            engine.events.close()
            await server.stop(REQUEST_GRACE)
        finally:
            await engine.stop()

    async def _serve(self, engine: Engine, server: ApiServer) -> None:
        idle_since = loop_time()
        while True:
            timeout = _IDLE_STEP if self._config.idle_timeout else None
            try:
                async with asyncio.timeout(timeout):
                    await self._end.wait()
                log.info("told to end")
                return
            except TimeoutError:
                if server.connections or engine.busy():
                    idle_since = loop_time()
                elif loop_time() - idle_since >= self._config.idle_timeout:
                    log.info("nothing to do for %d s: ending", self._config.idle_timeout)
                    return

    def _reload(self, engine: Engine) -> None:
        try:
            fresh = reloaded(self._config, load(self._options))
            engine.reconfigure(fresh)
        except BoxwoodError as error:
            log.error("reload: %s; the configuration stays as it was", error)
            return
        self._config = fresh
        _set_up_log(self._config)
        engine.events.publish("daemon", "reload", engine.id, {"name": socket.gethostname()})
        log.info("configuration reloaded")


def _settle_memory() -> None:
    """After the start: what it made stays for good, what it let go of goes back to the kernel.

    No later collection looks at the former again: 30,000 objects, 3 ms each time in the middle of
    somebody's request. The latter is 1 MiB; a C library without malloc_trim(3) keeps it.
    """
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def loop_time() -> float:
    """Return the event loop's clock, in seconds."""
    return asyncio.get_running_loop().time()


def open_listeners(config: Configuration) -> list[Listener]:
    """Open everything in ``hosts``.

    Raises:
        InvalidArgument: an address that is none, TCP that anybody could use.
        AlreadyExists, Unavailable: it is taken, or refused.
    """
    hosts: Sequence[str] = config.hosts or (f"unix://{config.exec_root}/{SOCKET}",)
    found: list[Listener] = []
    try:
        for host in hosts:
            found += _open(host, config)
    except BaseException:
        _close(found)
        raise
    return found


def _close(listeners: Sequence[Listener]) -> None:
    for listener in listeners:
        listener.socket.close()
        if listener.path is not None:
            listener.path.unlink(missing_ok=True)


def _open(host: str, config: Configuration) -> list[Listener]:
    scheme, separator, rest = host.partition("://")
    if not separator:
        scheme, rest = "tcp", host
    if scheme == "unix":
        path = Path(rest or f"{config.exec_root}/{SOCKET}")
        path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        return [open_unix(path, _group(config))]
    if scheme == "fd":
        return activated_sockets(rest.strip("*"))
    if scheme == "tcp":
        name, _, port = rest.rpartition(":")
        if not port.isdecimal():
            raise InvalidArgument(f"listen: {host}: want tcp://HOST:PORT")
        return [open_tcp(name.strip("[]") or "127.0.0.1", int(port), _tls(host, config))]
    raise InvalidArgument(f"listen: {host}: want unix://, fd:// or tcp://")


def _group(config: Configuration) -> str:
    if config.group:
        return config.group
    try:
        grp.getgrnam(DEFAULT_GROUP)
    except KeyError:
        return ""
    return DEFAULT_GROUP


def _tls(host: str, config: Configuration) -> ssl.SSLContext | None:
    if not config.tlsverify and not config.insecure_tcp:
        raise InvalidArgument(
            f"listen: {host}: whoever reaches this port would be root on this machine: use "
            "--tlsverify with --tlscacert, --tlscert and --tlskey, or set insecure-tcp to true in "
            "the configuration file if that is what you want"
        )
    if not (config.tls or config.tlsverify):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(config.tlscert, config.tlskey)
        if config.tlsverify:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(config.tlscacert)
    except (OSError, ssl.SSLError) as error:
        raise InvalidArgument(f"listen: {host}: TLS material: {error}") from error
    return context


def _notify(text: str) -> None:
    """Tell the service manager (sd_notify(3)); nothing happens without one."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(text.encode(), address)
        except OSError as error:
            log.warning("notify the service manager: %s", error)
