"""The API as a whole: from an HTTP request to a route, and from an error to its answer."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from boxwood.api import query, routing, versions
from boxwood.api.admission import Admission, Hooks, hooks_of
from boxwood.api.call import Call
from boxwood.api.http.message import (
    TEXT,
    BadRequest,
    ClientGone,
    Request,
    Response,
    error_response,
    json_response,
)
from boxwood.api.http.server import HttpServer
from boxwood.api.routes import all_routes
from boxwood.drivers.extensions import register_routes
from boxwood.errors import AlreadyExists, BoxwoodError, InvalidArgument

if TYPE_CHECKING:
    import pluggy

    from boxwood.api.http.listen import Listener
    from boxwood.engine import Engine

log = logging.getLogger("boxwood.api")

_EXHAUSTED = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors of system calls that say what is used up on this machine."""

MAX_JSON = 4 * 1024 * 1024
"""Bytes of a JSON body: a seccomp profile of 20 KiB and long label lists fit by far."""
BODY_TIMEOUT = 30.0
"""Seconds for a body that is read whole before its route runs (slow senders)."""
MAX_IGNORED = 64 * 1024
"""Bytes of a body that the route does not look at."""
EXTENSION_PREFIX = "/ext/"


class ApiServer:
    """Serves the Engine API for one engine.

    Args:
        engine: the engine; it is started, and stopped, by the caller.
        extensions: the plugins that admit requests and add routes.
        server_version: the version in the ``Server`` header.
        minimum: minor of the oldest version of the API that is served.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        extensions: pluggy.PluginManager | None = None,
        server_version: str = "",
        minimum: int = versions.MINIMUM,
    ) -> None:
        self._engine = engine
        self._minimum = minimum
        self._router = routing.Router()
        for route in all_routes():
            self._router.add(route)
        self._admit = self._extend(extensions) if extensions is not None else None
        self._http = HttpServer(
            self.handle,
            (
                ("Api-Version", versions.text(versions.NEWEST)),
                ("Docker-Experimental", "false"),
                ("Ostype", "linux"),
                ("Server", f"Docker/{server_version or _own_version()} (linux)"),
            ),
        )

    def _extend(self, plugins: pluggy.PluginManager) -> Hooks | None:
        """Add the extensions' routes; returns what asks their ``admit``.

        Routes first: a plugin that fails in them is gone for good.
        """
        tables = register_routes(plugins, lambda name: ExtensionRoutes(self._router, name))
        for _, table in tables:
            for route in table:
                self._router.add(route)
        return hooks_of(plugins)

    async def start(self, listeners: Sequence[Listener]) -> None:
        """Accept connections on ``listeners``, which are ours from now on."""
        await self._http.start(listeners)

    async def stop(self, timeout: float = 10.0) -> None:
        """Accept no more, give running requests ``timeout`` seconds, cut the rest off."""
        await self._http.stop(timeout)

    @property
    def connections(self) -> int:
        """Number of open client connections."""
        return self._http.connections

    async def handle(self, request: Request) -> Response | None:
        """Answer one request; every error of ours becomes an answer here."""
        try:
            return await self._dispatch(request)
        except BoxwoodError as error:
            return self._failed(request, error.status, str(error))
        except (ClientGone, BadRequest):
            raise
        except Exception as error:
            log.exception("api: %s %s: unexpected error", request.method, request.path)
            if isinstance(error, OSError) and error.errno in _EXHAUSTED:
                # Nobody's bug: whoever reads it can do something about it.
                cause = f"{request.operation}: {error.filename or 'engine'}: {error.strerror}"
                return self._failed(request, 500, cause)
            return self._failed(request, 500, f"{request.operation}: internal error; see the log")

    async def _dispatch(self, request: Request) -> Response | None:
        refused = self._address(request)
        if refused is not None:
            return refused
        found = self._router.find(request.method, request.path)
        if found is None:
            if request.method == "OPTIONS":
                return Response(200, b"", "")
            return error_response(404, "page not found")
        route, params = found
        request.operation = f"{route.method} {route.pattern}"
        if route.cancel:
            request.exchange.let_cancel()
        await _take_body(request, route)
        admission = Admission(self._admit, route.action, params.get(route.about, ""), request.peer)
        if not route.typed:
            admission.typed(None)
        return await route.handler(Call(request, self._engine, params, admission))

    def _address(self, request: Request) -> Response | None:
        """Fill in path, version and query; return an answer if they are no good."""
        target, _, fields = request.head.target.partition(b"?")
        try:
            path = unquote_to_bytes(_origin_form(target)).decode("utf-8")
            request.query = query.parse(fields.decode("ascii"))
        except UnicodeDecodeError as error:
            raise InvalidArgument("request target: not UTF-8") from error
        version, request.path = versions.split(path)
        request.minor = versions.NEWEST if version is None else version[1]
        if version is None:
            return None
        refusal = versions.refusal(version, self._minimum)
        if refusal is None:
            return None
        if version < (1, self._minimum):
            return Response(400, refusal.encode() + b"\n", TEXT)
        return error_response(400, refusal)

    def _failed(self, request: Request, status: int, message: str) -> Response | None:
        if request.started:
            # The head is out: only a cut connection can say that the body is not whole.
            log.warning("api: %s: failed while streaming: %s", request.operation, message)
            raise ClientGone(message)
        return error_response(status, message)


class ExtensionRoutes:
    """The table that ``register_routes`` of one extension gets; served once that returned."""

    def __init__(self, router: routing.Router, plugin: str) -> None:
        """``plugin`` is the extension's name; ``router`` says what is served already."""
        self._router = router
        self._prefix = f"{EXTENSION_PREFIX}{plugin}/"
        self._routes: dict[tuple[str, str], routing.Route] = {}

    def add(self, method: str, path: str, handler: Callable[[Any], Awaitable[Any]]) -> None:
        """Serve ``path`` below ``/ext/<plugin>/`` with what ``handler(call)`` returns.

        Raises:
            InvalidArgument: the path is not below ``/ext/<plugin>/``.
            AlreadyExists: it is served already.
        """
        if not path.startswith(self._prefix):
            raise InvalidArgument(f"register route: {path}: not below {self._prefix}")
        key = (method.upper(), path)
        if key in self._routes or key in self._router:
            raise AlreadyExists(f"route: {key[0]} {path}: is served already")
        self._routes[key] = routing.Route(
            *key,
            _answering(handler),
            body=routing.JSON_BODY,
            action="extension.call",
            state=routing.OWN,
        )

    def __iter__(self) -> Iterator[routing.Route]:
        return iter(self._routes.values())


def _answering(
    handler: Callable[[Any], Awaitable[Any]],
) -> Callable[[Call], Awaitable[Response | None]]:
    """A plugin knows no class of the API: what it returns is sent as JSON."""

    async def answer(call: Call) -> Response | None:
        value = await handler(call)
        return value if isinstance(value, Response) else json_response(value)

    return answer


async def _take_body(request: Request, route: routing.Route) -> None:
    if route.body == routing.STREAM_BODY:
        return
    if route.body == routing.NO_BODY:
        await _read_body(request, MAX_IGNORED)
        return
    kind = request.header("content-type")
    has_body = request.body.length is None or request.body.length > 0
    if has_body and kind and kind.partition(";")[0].strip().lower() != "application/json":
        raise InvalidArgument(
            f"unsupported Content-Type header ({kind}): must be 'application/json'"
        )
    request.content = await _read_body(request, MAX_JSON)
    if request.content and not kind:
        raise InvalidArgument("unsupported Content-Type header (): must be 'application/json'")


async def _read_body(request: Request, limit: int) -> bytes:
    if request.body.complete:
        return await request.body.read(limit)
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            return await request.body.read(limit)
    except TimeoutError as error:
        raise BadRequest(408, "request body took too long") from error


def _origin_form(target: bytes) -> bytes:
    """Return the path of ``/path``, ``http://host/path`` (RFC 9112 3.2) or ``*``."""
    if target.startswith(b"/"):
        return target
    if target.startswith(b"http://"):
        rest = target[len(b"http://") :]
        return rest[rest.find(b"/") :] if b"/" in rest else b"/"
    return b"/"


def _own_version() -> str:
    from boxwood import __version__

    return __version__
