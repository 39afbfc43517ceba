"""What was asked and made, on disk: so that it can be undone after a crash, as it was asked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from boxwood_plugins.network.cni.calls import Call
from boxwood_plugins.network.cni.config import ConfigList
from boxwood_plugins.network.cni.leftovers import Identity


class Kept(msgspec.Struct, frozen=True):
    """One attachment. ``result`` is empty as long as it is under way.

    ``sandbox``: the namespace, so that it is found again after a crash if it lives on.
    """

    network: str
    config: ConfigList
    call: Call
    result: dict[str, Any] = {}
    sandbox: Identity = Identity()


class Results:
    """A file for each attachment, one of the bridges that plugins made for each network."""

    def __init__(self, root: Path) -> None:
        self._results, self._bridges = root / "results", root / "bridges"
        self._running = root / "running"

    def keep(self, kept: Kept) -> None:
        """Write it, whole or not at all."""
        _write(self._results / f"{kept.call.id}.json", msgspec.json.encode(kept))

    def get(self, endpoint: str) -> Kept | None:
        """Return what is kept of an attachment."""
        try:
            data = (self._results / f"{endpoint}.json").read_bytes()
        except FileNotFoundError:
            return None
        return msgspec.json.decode(data, type=Kept)

    def running(self, endpoint: str) -> Path:
        """Return the file that plugins hold which work for an attachment."""
        return self._running / endpoint

    def forget(self, endpoint: str) -> None:
        """Remove it; idempotent."""
        self.running(endpoint).unlink(missing_ok=True)
        (self._results / f"{endpoint}.json").unlink(missing_ok=True)

    def all(self) -> Iterator[str]:
        """Yield the ids of all that is kept."""
        for file in sorted(self._results.glob("*.json")):
            yield file.stem

    def bridges(self, network: str) -> set[str]:
        """Return the bridges that plugins made for a network."""
        try:
            return set((self._bridges / network).read_text().split())
        except FileNotFoundError:
            return set()

    def add_bridges(self, network: str, names: set[str]) -> None:
        """Remember more of them."""
        known = self.bridges(network)
        if names - known:
            _write(self._bridges / network, "\n".join(sorted(known | names)).encode())

    def forget_bridges(self, network: str) -> None:
        """Remove the network's file; idempotent."""
        (self._bridges / network).unlink(missing_ok=True)

    def networks(self) -> list[str]:
        """Return the networks with bridges."""
        return sorted(file.name for file in self._bridges.glob("[0-9a-f]*"))


def _write(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    passing = file.with_name(f".{file.name}")
    passing.write_bytes(data)
    os.replace(passing, file)
