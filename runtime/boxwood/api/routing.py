"""From method and path to a route. Patterns are Docker's: a variable also matches slashes."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from boxwood.errors import AlreadyExists

if TYPE_CHECKING:
    from boxwood.api.call import Call
    from boxwood.api.http.message import Response

NO_BODY = "none"
"""The route does not look at a body: up to a few KiB are read and dropped."""
JSON_BODY = "json"
STREAM_BODY = "stream"
"""The route reads the body itself, piece by piece."""

SERVED = "served"
REFUSED = "refused"
"""Answers by name that it is not there, and never will be in this form (swarm, plugins)."""
NOT_YET = "not yet"
OWN = "own"
"""Boxwood's own, not in Docker's API."""


class Route(NamedTuple):
    """One operation.

    Attributes:
        pattern: path with ``{name}`` for variables, which match slashes too.
        body: how the request's body is read.
        cancel: whether a client that goes away cancels it: it only waits or reads.
        action: its name for ``admit`` hooks: ``container.create``.
        about: name of the variable that names the object.
        typed: the route asks the hooks itself, with its decoded body.
        state: SERVED, REFUSED, NOT_YET or OWN, for the coverage table.
    """

    method: str
    pattern: str
    handler: Callable[[Call], Awaitable[Response | None]]
    body: str = NO_BODY
    cancel: bool = False
    action: str = ""
    about: str = ""
    typed: bool = False
    state: str = SERVED


_VARIABLE = re.compile(r"\{(\w+)\}")


def _compile(pattern: str) -> re.Pattern[str]:
    parts = _VARIABLE.split(pattern)
    text = "".join(
        f"(?P<{part}>.+)" if index % 2 else re.escape(part) for index, part in enumerate(parts)
    )
    return re.compile(text, re.DOTALL)


class Router:
    """Routes by method; fixed paths first, then patterns in the order in which they came."""

    def __init__(self) -> None:
        self._fixed: dict[tuple[str, str], Route] = {}
        self._patterns: dict[tuple[str, str], list[tuple[re.Pattern[str], Route]]] = {}
        self._routes: dict[tuple[str, str], Route] = {}

    def add(self, route: Route) -> None:
        """Serve ``route``. Raises AlreadyExists if method and pattern are served already."""
        key = (route.method, route.pattern)
        if key in self._routes:
            raise AlreadyExists(f"route: {route.method} {route.pattern}: is served already")
        self._routes[key] = route
        if "{" not in route.pattern:
            self._fixed[key] = route
            return
        group = (route.method, _first(route.pattern))
        self._patterns.setdefault(group, []).append((_compile(route.pattern), route))

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        """Return the route and the values of its variables, or None."""
        fixed = self._fixed.get((method, path))
        if fixed is not None:
            return fixed, {}
        for expression, route in self._patterns.get((method, _first(path)), ()):
            found = expression.fullmatch(path)
            if found is not None:
                return route, found.groupdict()
        return None

    def __contains__(self, key: tuple[str, str]) -> bool:
        """Whether method and pattern are served."""
        return key in self._routes

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes.values())


def _first(path: str) -> str:
    return path[1:].partition("/")[0]
