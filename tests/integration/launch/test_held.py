"""A client that the shim holds until the daemon has written what the log has."""

from __future__ import annotations

import os
from typing import Any

import pytest

from boxwood.model.times import parse_rfc3339
from tests.integration.launch.programs import container
from tests.integration.launch.test_shim import entries

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

# Says what it was told: a line at once, half a line, and the rest of it when a byte comes.
SCRIPT = "echo first; printf half; read _; echo ' line'; echo last"


async def started(box: Any, wire: Any, **more: Any) -> tuple[Any, Any, Any]:
    """The container, its shim, and a client that types; all that comes before the wait is out."""
    made, typist = box(open_stdin=True, **more), wire(stdin=True)
    shim = await made.start(container(["sh", "-c", SCRIPT]), typist.client)
    assert await typist.until(b"half") == b"first\nhalf"
    return made, shim, typist


async def test_log_and_stream_meet_without_a_gap(box: Any, wire: Any) -> None:
    made, shim, typist = await started(box, wire)
    line = wire()
    held = await shim.attach_held(line.client)
    before = [
        e["log"] for e in entries(made.data / "log") if parse_rfc3339(e["time"]) < held.moment
    ]
    assert before == ["first\n"]
    await typist.send(b"\n")
    await shim.wait()
    os.write(line.client.fd, "".join(before).encode())
    os.close(line.client.fd)
    held.release()
    held.release()
    assert await line.rest() == b"first\nhalf line\nlast\n"
    late = [e["log"] for e in entries(made.data / "log") if parse_rfc3339(e["time"]) >= held.moment]
    assert late == ["half line\n", "last\n"]


async def test_a_client_that_is_given_up_gets_nothing(box: Any, wire: Any) -> None:
    _, shim, typist = await started(box, wire)
    line = wire()
    held = await shim.attach_held(line.client)
    os.close(line.client.fd)
    held.drop()
    assert await line.rest() == b""
    await typist.send(b"\n")
    assert (await shim.wait()).code == 0


async def test_one_that_goes_while_it_is_held(box: Any, wire: Any) -> None:
    _, shim, typist = await started(box, wire)
    line = wire()
    held = await shim.attach_held(line.client)
    os.close(line.client.fd)
    line.socket.close()
    await typist.send(b"\n")
    assert (await shim.wait()).code == 0
    held.release()
    assert await typist.rest() == b" line\nlast\n"
