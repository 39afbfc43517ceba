"""What tests may do to the daemon: kill it at named points, take its patience away.

``BOXWOOD_FAULT=start.prepared:3`` makes the process kill itself (SIGKILL) when it comes to that
point for the third time. Without the variable :func:`fault` costs one comparison.

``BOXWOOD_REGISTRY_WAITS=0.03``: all waits for registries are so many times as long.

``BOXWOOD_LIST_LIMIT=10000``: bytes of a list of chunks, so that a small layer has a too long one.
"""

from __future__ import annotations

import os
import signal

POINTS = (
    "create.begun", "create.volumes", "create.snapshot", "create.directory", "create.recorded",
    "start.begun", "net.addresses", "net.ports", "net.attached", "net.named",
    "start.volumes", "start.root", "start.files", "start.prepared", "start.spawned",
    "start.launched", "start.recorded",
    "exit.seen", "exit.cleaned", "exit.recorded",
    "connect.attached", "connect.joined", "connect.recorded",
    "take.moved", "take.recorded",
    "disconnect.recorded", "disconnect.detached",
    "exec.begun", "exec.launched",
    "stop.begun", "stop.signalled", "kill.signalled",
    "remove.begun", "remove.snapshot", "remove.recorded", "remove.directory",
)  # fmt: skip
"""Of containers, in the order of their life."""
IMAGE_POINTS = (
    "load.ahead", "load.rebased", "load.unpacked", "load.settled", "load.recorded",
    "drop.verified", "drop.recorded",
)  # fmt: skip
"""Of images and their layers."""
SHIP_POINTS = (
    "pull.documents", "pull.unpacked", "pull.settled", "pull.recorded",
    "push.packed", "push.sent", "push.layers", "push.manifest", "push.recorded",
)  # fmt: skip
"""Of images on their way from and to a registry, in the order of their life."""
NETWORK_POINTS = (
    "network.create.begun", "network.create.made", "network.create.recorded",
    "network.remove.begun", "network.remove.unmade", "network.remove.recorded",
)  # fmt: skip
"""Of networks, in the order of their life."""


def _parse() -> tuple[str, int]:
    name, _, count = os.environ.get("BOXWOOD_FAULT", "").partition(":")
    return name, int(count) if count.isdecimal() else 1


_armed, _left = _parse()
PATIENCE = float(os.environ.get("BOXWOOD_REGISTRY_WAITS") or 1)
"""By what the waits for registries are multiplied."""

LIST_LIMIT = int(os.environ.get("BOXWOOD_LIST_LIMIT") or 32 << 20)
"""Bytes of a list of a layer's chunks (:mod:`boxwood.store.chunklists`)."""


def fault(name: str) -> None:
    """Die here if the environment says so."""
    global _left
    if name != _armed:
        return
    _left -= 1
    if _left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
