"""A shim with nothing to do sleeps, whatever its clients and its payload have closed.

A connection that hung up, or a pipe without a reader, is reported by epoll for as long as it is
registered, whatever is asked: each of them once took a whole processor.
"""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.integration.launch.programs import container
from tests.integration.launch.test_shim import _shim_pid

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

FLOOD = ["dd", "if=/dev/zero", "bs=1M", "count=100"]


def ticks(pid: int) -> int:
    """Processor time of a process so far, in hundredths of a second; source: proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


async def assert_idle(shim: Any) -> None:
    """What was under way gets a moment; then half a second may cost next to nothing."""
    pid = _shim_pid(shim)
    await asyncio.sleep(0.3)
    before = ticks(pid)
    await asyncio.sleep(0.5)
    assert ticks(pid) - before < 10


async def test_payload_that_closed_its_input(box: Any, wire: Any) -> None:
    line = wire(stdin=True)
    shim = await box(open_stdin=True).start(
        container(["sh", "-c", "exec <&-; echo closed; sleep 100"]), line.client
    )
    await line.until(b"closed\n")
    await assert_idle(shim)
    await line.send(b"nobody reads this")
    await assert_idle(shim)


async def test_payload_that_closed_its_terminal(box: Any, wire: Any) -> None:
    line = wire(stdin=True)
    script = "echo closing; exec <&- >&- 2>&-; exec sleep 100"
    shim = await box(open_stdin=True, tty=True).start(
        container(["sh", "-c", script], tty=True), line.client
    )
    await line.until(b"closing")
    await assert_idle(shim)


@pytest.mark.parametrize("stdin", [False, True])
async def test_client_that_left(box: Any, wire: Any, stdin: bool) -> None:
    line = wire(stdin=stdin)
    shim = await box(open_stdin=True).start(container(["sleep", "100"]), line.client)
    line.socket.close()
    await assert_idle(shim)


@pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR, None])
async def test_held_client_that_hangs_up(box: Any, wire: Any, how: int | None) -> None:
    shim = await box(open_stdin=True).start(
        container(["sh", "-c", "while echo x; do sleep 1; done"])
    )
    line = wire(stdin=True)
    held = await shim.attach_held(line.client)
    if how is None:
        os.close(line.client.fd)
        line.socket.close()
    else:
        line.socket.shutdown(how)
    await assert_idle(shim)
    held.drop()


@pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR, None])
async def test_client_of_a_paced_exec_that_hangs_up(box: Any, wire: Any, how: int | None) -> None:
    made, line = box(), wire(stdin=True)
    shim = await made.start(container(["sleep", "100"]))
    await made.exec("e", FLOOD, line.client)
    await asyncio.sleep(0.2)
    if how is None:
        line.socket.close()
    else:
        line.socket.shutdown(how)
    await assert_idle(shim)


async def test_input_that_waits_for_the_payload(box: Any, wire: Any) -> None:
    """More than the pipe takes; then the client goes, unread bytes in its connection."""
    line = wire(stdin=True)
    shim = await box(open_stdin=True).start(container(["sleep", "100"]), line.client)
    async with asyncio.timeout(10):
        await line.send(bytes(150_000))
    await assert_idle(shim)
    line.socket.close()
    await assert_idle(shim)


async def test_one_that_ends_its_input_late_gets_all_the_output(box: Any, wire: Any) -> None:
    """Its exec is over and forgotten, its output still queued."""
    made, line = box(), wire(stdin=True)
    shim = await made.start(container(["sleep", "100"]))
    await made.exec("e", ["dd", "if=/dev/zero", "bs=1k", "count=400"], line.client)
    assert (await shim.exec_wait("e")).code == 0
    await asyncio.sleep(0.3)
    line.socket.shutdown(socket.SHUT_WR)
    await asyncio.sleep(0.1)
    assert (await line.rest()).count(b"\0") >= 400 << 10
