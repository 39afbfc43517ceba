"""What a route gets: the request, its variables, and the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from boxwood.api import decode, query
from boxwood.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from boxwood.api.admission import Admission
    from boxwood.api.http.message import Request
    from boxwood.engine import Engine

T = TypeVar("T", bound=msgspec.Struct)

UINT32 = 2**32 - 1
INT64 = 2**63 - 1


class Call:
    """One request on its way through a route.

    Attributes:
        minor: minor of the API version asked for.
        params: the variables of the route's pattern.
    """

    __slots__ = ("admit", "engine", "minor", "params", "request")

    def __init__(
        self, request: Request, engine: Engine, params: dict[str, str], admit: Admission
    ) -> None:
        self.request = request
        self.engine = engine
        self.params = params
        self.minor = request.minor
        self.admit = admit

    def text(self, name: str, default: str = "") -> str:
        """Return the first value of a query field."""
        values = self.request.query.get(name)
        return values[0] if values else default

    def has(self, name: str) -> bool:
        """Whether a query field is there, be it empty."""
        return name in self.request.query

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a boolean query field; ``default`` when it is absent."""
        values = self.request.query.get(name)
        return query.flag(values[0]) if values else default

    def number(self, name: str, default: int, low: int = -INT64 - 1, high: int = INT64) -> int:
        """Return a number of the query; ``default`` when absent or empty."""
        text = self.text(name)
        return query.number(name, text, low, high) if text else default

    def filters(self) -> query.Filters:
        """Return the field ``filters``. Raises InvalidArgument."""
        return query.filters(self.text("filters"))

    def json(self) -> Any:
        """Return the body as JSON, None when there is none. Raises InvalidArgument."""
        if not self.request.content:
            return None
        return decode.parse(self.request.content)

    def body(self, into: type[T]) -> T:
        """Return the body as a struct; an empty body is one without a field set."""
        return decode.convert(self.json(), into)

    def required(self) -> Any:
        """Return the body as a JSON object. Raises InvalidArgument when there is none."""
        value = self.json()
        if value is None:
            raise InvalidArgument("invalid JSON: got EOF while reading request body")
        return value

    async def pour(
        self,
        source: AsyncIterator[Any],
        content_type: str,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Answer with the pieces of bytes of ``source``, which the caller closes.

        An error before the first piece is a plain HTTP error; none at all is an empty answer.
        """
        first = await anext(source, b"")
        stream = self.request.stream(content_type, headers=headers)
        await stream.write(first)
        async for piece in source:
            await stream.write(piece)
