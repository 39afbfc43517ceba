"""The two places of a copy: which transports they are of, and with whose login."""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from boxwood.drivers import manager
from boxwood.drivers.documents import shown
from boxwood.drivers.registry import DEFAULT_SCHEME, Credentials, scheme_of
from boxwood.errors import InvalidArgument
from boxwood.registries import load_registries

if TYPE_CHECKING:
    from boxwood.drivers.registry import RegistryTransport


class Place(msgspec.Struct, frozen=True):
    """What a command says of one place.

    Attributes:
        text: the name, with its scheme if it has one.
        credentials: the login for it.
        options: of its transport (``insecure``, say).
    """

    text: str
    credentials: Credentials | None = None
    options: Mapping[str, str] = {}


class End(NamedTuple):
    """A place that is open."""

    transport: RegistryTransport[Any]
    name: Hashable
    credentials: Credentials | None

    def __str__(self) -> str:
        return shown(self.name)

    def at(self, name: Hashable) -> End:
        """Return another name in the same place."""
        return End(self.transport, name, self.credentials)


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[End]:
    """Load a place's transport and have it parse the name; it is closed at the end.

    Raises:
        InvalidArgument, NotFound, PluginError; Unavailable: registries.toml cannot be read
    """
    installed = [info.name for info in manager.available("registry")]
    scheme = scheme_of(place.text, installed) or DEFAULT_SCHEME
    if not place.text:
        raise InvalidArgument("copy: a place without a name")
    rules = msgspec.json.encode(load_registries("")).decode()
    transport: RegistryTransport[Any] = manager.select(
        "registry", scheme, options={"registries": rules, **place.options}
    )
    try:
        yield End(transport, transport.parse(place.text), place.credentials)
    finally:
        await transport.close()
