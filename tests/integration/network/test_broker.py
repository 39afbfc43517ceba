"""The egress broker by itself: what it holds, whoever speaks to it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from boxwood.execution.name_rules import NETLINK_NETFILTER
from boxwood.execution.shim_process import seal
from boxwood_ext import broker_protocol as protocol
from boxwood_ext import launch
from tests.support.needs import need_root, until

pytestmark = pytest.mark.root

SOURCE = bytes([4, 192, 0, 2, 1])
RULE = bytes([0, 0, 0, 11]) + b"example.org"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """The pid of a broker, and the socket on which it listens."""
    need_root()
    path = tmp_path / "broker.sock"
    executable = seal(Path(str(resources.files("boxwood_ext") / "bin/boxwood-broker")))
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with netlink, listener:
        listener.bind(str(path))
        listener.listen()
        fds, words = [listener.fileno(), netlink.fileno()], (b"boxwood-broker", b"build", b"table")
        pid, pidfd = launch.spawn_shim(executable, fds, words)
    os.close(executable)
    yield pid, path
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)


def descriptors(pid: int) -> int:
    """How many a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def connect(path: Path) -> socket.socket:
    """Connect, and hear that it is ready."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.settimeout(5)
    made.connect(str(path))
    assert protocol.decode(made.recv(1 << 16)).name == "ready"
    return made


def test_more_descriptors_than_a_message_has(broker: tuple[int, Path]) -> None:
    """Who sends them is hung up on, and none of them stays open."""
    pid, path = broker
    with connect(path) as made:
        # With a policy it is there although nobody is connected.
        made.send(protocol.encode("policy", 1, "somebody", SOURCE, RULE))
        assert protocol.decode(made.recv(1 << 16)).values == (1, 0)
        usual = descriptors(pid)
    null = os.open(os.devnull, os.O_RDONLY)
    try:
        for count in (2, 3, 200):
            with connect(path) as made:
                message = protocol.encode("close", 1, "nobody")
                socket.send_fds(made, [message], [null] * count)
                assert made.recv(1 << 16) == b""
        with connect(path) as made:
            made.send(protocol.encode("close", 2, "nobody"))
            assert protocol.decode(made.recv(1 << 16)).values == (2, 0)
            until(lambda: descriptors(pid) <= usual, "nothing stays open")
    finally:
        os.close(null)
