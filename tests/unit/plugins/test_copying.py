"""A copy's source: broken off, asked for the rest, verified before its last piece goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from boxwood.copying import copying
from boxwood.copying.ends import End
from boxwood.drivers.registry import Credentials, RegistryTransport
from boxwood.errors import BoxwoodError, InvalidArgument, Unavailable
from boxwood.model.descriptor import Descriptor
from boxwood.model.digest import Digest

DATA = bytes(range(256)) * 40


class Breaking(RegistryTransport[str]):
    """It sends ``reach`` bytes at a time, in small pieces, and then breaks off."""

    scheme = "breaking"

    def __init__(self, data: bytes, reach: int) -> None:
        self._data, self._reach = data, reach
        self.sent = 0

    def parse(self, text: str) -> str:
        """All is a name."""
        return text

    async def resolve(self, name: str, credentials: Credentials | None = None) -> Descriptor:
        """Not asked."""
        raise NotImplementedError

    async def fetch(
        self,
        name: str,
        descriptor: Descriptor,
        offset: int = 0,
        credentials: Credentials | None = None,
    ) -> AsyncIterator[bytes]:
        """Send some."""
        del name, credentials
        for at in range(offset, min(offset + self._reach, len(self._data)), 100):
            piece = self._data[at : min(at + 100, offset + self._reach)]
            self.sent += len(piece)
            yield piece
        if offset + self._reach < descriptor.size:
            raise Unavailable("broken off")


async def taken(transport: Breaking) -> tuple[bytes, BoxwoodError | None]:
    """Return what a copy takes of DATA, and how it ends."""
    one = Descriptor(digest=str(Digest.of(DATA)), size=len(DATA))
    data = bytearray()
    try:
        async for piece in copying.checked(End(transport, "it", None), one, 0):
            data += piece
    except BoxwoodError as error:
        return bytes(data), error
    return bytes(data), None


@pytest.mark.parametrize("reach", [137, 1000, len(DATA)])
async def test_no_byte_travels_twice(reach: int) -> None:
    """However often it breaks off, as long as something comes each time."""
    transport = Breaking(DATA, reach)
    assert await taken(transport) == (DATA, None)
    assert transport.sent == len(DATA)


async def test_one_that_sends_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few attempts, with its own error."""
    monkeypatch.setattr(copying, "PAUSE", 0.0)
    data, error = await taken(Breaking(DATA, 0))
    assert data == b""
    assert isinstance(error, Unavailable)


async def test_wrong_bytes_never_go_on_whole() -> None:
    """The last piece is held back until the digest is right; so are bytes beyond the size."""
    data, error = await taken(Breaking(b"\x01" + DATA[1:], len(DATA)))
    assert isinstance(error, InvalidArgument)
    assert len(data) < len(DATA)
    data, error = await taken(Breaking(DATA + b"more", len(DATA) + 4))
    assert isinstance(error, InvalidArgument)
    assert len(data) < len(DATA)
