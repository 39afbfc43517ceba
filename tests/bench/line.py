"""A long and narrow line to a server on the loopback: bytes arrive late, and so many a second.

Run as `python -m tests.bench.line PORT --rtt MS --rate BYTES --window BYTES`; it prints the port it
listens on, and ends with its standard input. Each way has half of the round trip; what a client
says first on a connection comes one more round trip late, as the handshake would have it. `rate` is
the line's, for all connections together and each way by itself; `window` is how much of one
connection may be on its way: that much a round trip is all that it carries.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator

from tests.support.paths import ROOT

PIECE = 1 << 16


class Way:
    """One direction of the line, shared by all connections."""

    def __init__(self, delay: float, rate: float) -> None:
        self.delay, self._rate = delay, rate
        self._free = 0.0

    def due(self, size: int) -> float:
        """Return when so many bytes, given now, have arrived at the other end."""
        now = asyncio.get_running_loop().time()
        self._free = max(self._free, now) + (size / self._rate if self._rate else 0)
        return self._free + self.delay


async def carry(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    way: Way,
    window: int,
    late: float = 0,
) -> None:
    """Carry one connection's bytes one way, until their end."""
    # Half of a window is on its way at once: the other half is that of the acknowledgements.
    flying: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(max(window // 2 // PIECE, 1))
    loop = asyncio.get_running_loop()

    async def arrive() -> None:
        while True:
            due, data = await flying.get()
            await asyncio.sleep(max(due - loop.time(), 0))
            if not data:
                break
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()

    arriving = asyncio.ensure_future(arrive())
    try:
        data = b"first"
        while data:
            data = await reader.read(PIECE)
            await flying.put((way.due(len(data)) + late, data))
            late = 0
        await arriving
    except OSError:
        writer.close()
    finally:
        arriving.cancel()


async def serve(port: int, rtt: float, rate: float, window: int) -> None:
    """Serve until the standard input ends."""
    up, down = Way(rtt / 2, rate), Way(rtt / 2, rate)
    # Nobody else holds a connection that waits for its other end: it would be garbage.
    held: set[asyncio.Task[None] | None] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.add(task := asyncio.current_task())
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port, limit=PIECE)
        try:
            await asyncio.gather(
                carry(reader, far_writer, up, window, late=rtt),
                carry(far_reader, writer, down, window),
            )
        finally:
            held.discard(task)
            far_writer.close()
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=PIECE)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


@contextlib.contextmanager
def line(port: int, rtt: float, rate: float, window: int) -> Iterator[int]:
    """Have a line to ``port`` in a process of its own; yields the port of its near end.

    Args:
        port: of the server, on 127.0.0.1.
        rtt: seconds there and back.
        rate: bytes a second; 0: as many as it can.
        window: bytes of one connection under way.
    """
    words = [sys.executable, "-m", "tests.bench.line", port, "--rtt", rtt, "--rate", rate]
    process = subprocess.Popen(
        [str(word) for word in [*words, "--window", window]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("--rtt", type=float, default=0.0)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--window", type=int, default=4 << 20)
    options = parser.parse_args()
    asyncio.run(serve(options.port, options.rtt, options.rate, options.window))


if __name__ == "__main__":
    main()
