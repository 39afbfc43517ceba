"""An image from one engine to another: both are asked here, and what they say is carried across.

Neither engine has the keys and the rights of the user: so neither speaks to the other by itself.
The frames are described in `boxwood.services.images.peers.channel`.
"""

from __future__ import annotations

import select

from boxwood.cli.creation import with_tag
from boxwood.cli.errors import CliError
from boxwood.cli.progress import show
from boxwood.client import jsonwire
from boxwood.client.errors import ApiError, ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from boxwood.cli.context import Context
    from boxwood.client.client import Client, Query
    from boxwood.client.duplex import Duplex

SCHEMES = ("ssh://", "unix://", "tcp://")
TYPE, VERSION = "application/vnd.boxwood.store.v", "1"
"""What an engine says that it speaks: boxwood.services.images.peers.channel."""
_STRANGER = "is no Boxwood that takes and gives images"
HEAD = 5
FRAME_LIMIT = 8 << 20
ROOM = 1 << 20
"""Bytes that wait for one side: above that the other is not read."""
READ_SIZE = 256 * 1024
_HEX = frozenset("0123456789abcdef")


def split(args: list[str]) -> tuple[str, str] | None:
    """The other engine's address and the image, in any order; None where no engine is named."""
    for at, arg in enumerate(args):
        if arg.startswith(SCHEMES):
            others = args[:at] + args[at + 1 :]
            if len(others) != 1 or others[0].startswith(SCHEMES):
                raise CliError(f"{arg}: name one image beside it")
            return arg, others[0]
    return None


def push(ctx: Context, far: str, image: str, *, quiet: bool, exact: bool = False) -> int:
    """Bring an image of ours to another engine. Raises ClientError, CliError."""
    done = bring(ctx.client, ctx.client_at(far), image, quiet=quiet, exact=exact)
    ctx.out(done["name"] or done["id"] if quiet else f"{_told(done)} to {far}")
    return 0


def pull(ctx: Context, far: str, image: str, *, quiet: bool, exact: bool = False) -> int:
    """Fetch an image of another engine. Raises ClientError, CliError."""
    done = bring(ctx.client_at(far), ctx.client, image, quiet=quiet, exact=exact)
    ctx.out(done["name"] or done["id"] if quiet else f"{_told(done)} from {far}")
    return 0


def _told(done: dict[str, Any]) -> str:
    from boxwood.cli.format import human_size

    name = done["name"] or done["id"]
    if not done["layers"]:
        return f"{name}: no layer was missing, nothing travelled"
    layers = "1 new layer" if done["layers"] == 1 else f"{done['layers']} new layers"
    size, travelled = human_size(done["size"]), human_size(done["travelled"])
    return f"{name}: {layers} of {size}, {travelled} travelled,"


def bring(
    source: Client,
    target: Client,
    image: str,
    *,
    quiet: bool,
    called: str = "",
    exact: bool = False,
) -> dict[str, Any]:
    """Carry it, showing progress; what the receiving engine says at the end.

    `called` is its name there; empty: the same. `exact`: compressed bytes travel where nobody can
    make them again. Raises ClientError, CliError.
    """
    name = "" if _is_id(image) else with_tag(image)
    sending = _End(source, "send", {"image": name or image})
    name = with_tag(called) if called else name
    try:
        receiving = _End(target, "receive", {"name": name or None, "exact": "1" if exact else None})
    except BaseException:
        sending.close()
        raise
    try:
        carrying = _Carrying(sending, receiving)
        show(carrying.messages(), 1, quiet=quiet)
        return carrying.done
    finally:
        receiving.close()
        sending.close()


def _is_id(image: str) -> bool:
    """An id, or enough of one: such an image goes without a name."""
    digits = image.removeprefix("sha256:")
    return 12 <= len(digits) <= 64 and _HEX.issuperset(digits)


class _End:
    """One engine: its connection, and what waits to be looked at and to be sent."""

    def __init__(self, client: Client, what: str, query: Query) -> None:
        self.where = client.address.text
        connection = client.send_hijack(f"/boxwood/store/{what}", query)
        try:
            self._response = client.receive_hijack(connection)
        except ApiError as error:
            if error.status == 404 and error.message == "page not found":
                raise CliError(f"{self.where}: {_STRANGER}") from error
            raise
        self._check(self._response.headers.get("content-type", ""))
        self.wire: Duplex = connection.duplex()
        self.held = bytearray(self.wire.early)
        self.out = bytearray()

    def _check(self, kind: str) -> None:
        """Raises CliError for an engine that speaks another protocol."""
        version = kind.removeprefix(TYPE)
        if kind.startswith(TYPE) and version == VERSION:
            return
        self.close()
        if kind.startswith(TYPE) and version.isdecimal():
            raise CliError(
                f"{self.where}: speaks version {version[:20]} of the protocol between engines, "
                f"and this command version {VERSION}: let both be of one release"
            )
        raise CliError(f"{self.where}: {_STRANGER}")

    def close(self) -> None:
        self._response.close()

    def frame(self) -> tuple[bytes, bytes] | None:
        """The next whole frame's letter and all its bytes. Raises ProtocolError."""
        if len(self.held) < HEAD:
            return None
        size = HEAD + int.from_bytes(self.held[1:HEAD], "big")
        if size > HEAD + FRAME_LIMIT:
            raise ProtocolError(f"{self.where}: a frame of {size} bytes")
        if len(self.held) < size:
            return None
        data = bytes(self.held[:size])
        del self.held[:size]
        return data[:1], data

    def flush(self) -> None:
        """Send what goes now. Raises ProtocolError when the engine has gone."""
        while self.out:
            count = self.wire.send(memoryview(bytes(self.out[:READ_SIZE])))
            if count is None:
                raise ProtocolError(f"{self.where}: the engine has gone")
            if not count:
                return
            del self.out[:count]
        self.wire.flush()

    def read(self, buffer: memoryview) -> None:
        """Read what is there. Raises ProtocolError at the end of the stream."""
        count = self.wire.receive(buffer)
        if count == 0:
            raise ProtocolError(f"{self.where}: the engine has gone")
        self.held += buffer[: count or 0]


class _Carrying:
    """Frames both ways; `done` is what the receiving engine said at the end."""

    def __init__(self, sending: _End, receiving: _End) -> None:
        self._sending, self._receiving = sending, receiving
        self.done: dict[str, Any] = {}

    def messages(self) -> Iterator[dict[str, Any]]:
        """Carry all, yielding messages of progress, and of failure. Raises ProtocolError."""
        buffer = memoryview(bytearray(READ_SIZE))
        while True:
            moved = False
            for end, other in (
                (self._receiving, self._sending),
                (self._sending, self._receiving),
            ):
                while len(other.out) < ROOM and (found := end.frame()) is not None:
                    yield from self._pass(end, other, *found)
                    moved = True
                if not self.done or other is self._sending:
                    other.flush()
            if self.done and not self._sending.out:
                return
            if not moved:  # else what was sent may have made room for frames that are here
                self._wait(buffer)

    def _pass(self, end: _End, other: _End, kind: bytes, data: bytes) -> Iterator[dict[str, Any]]:
        if kind == b"S":
            yield _value(data)
            return
        other.out += data
        if kind == b"Z" and end is self._receiving:
            self.done = _value(data)
        elif kind == b"F":
            other.flush()
            yield {"error": f"{end.where}: {data[HEAD:].decode(errors='replace')}"}

    def _wait(self, buffer: memoryview) -> None:
        poller = select.poll()
        ends = {}
        at_once = False
        for end, other in (
            (self._receiving, self._sending),
            (self._sending, self._receiving),
        ):
            if self.done and end is self._receiving:
                continue  # it has said its last word, and may be gone
            wanted = select.POLLIN if len(other.out) < ROOM else 0
            at_once = at_once or (bool(wanted) and end.wire.buffered)
            wanted |= select.POLLOUT if end.out or end.wire.unsent else 0
            ends[end.wire.fileno()] = end
            poller.register(end.wire.fileno(), wanted)
        ready = dict(poller.poll(0 if at_once else None))
        for fd, end in ends.items():
            if ready.get(fd, 0) & ~select.POLLOUT or end.wire.buffered:
                end.read(buffer)


def _value(data: bytes) -> dict[str, Any]:
    try:
        value: dict[str, Any] = jsonwire.loads(data[HEAD:])
    except ValueError as error:
        raise ProtocolError(f"read: frame: not JSON: {error}") from error
    return value
