"""The PORTS column: published and exposed ports, consecutive ones as ranges."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any


def ports_column(ports: Iterable[Mapping[str, Any]] | None) -> str:
    """The Engine API's port list as `docker ps` shows it.

    Ports whose number is the same on both sides are merged into ranges by address and protocol;
    those that are mapped to another number follow, one by one.
    """
    runs: dict[str, tuple[int, int]] = {}
    shown: list[str] = []
    mapped: list[str] = []
    for port in sorted(ports or (), key=_order):
        private, kind, address = port["PrivatePort"], port["Type"], port.get("IP") or ""
        public = port.get("PublicPort") or 0
        if address and public != private:
            mapped.append(f"{_host(address)}:{public}->{private}/{kind}")
            continue
        key = f"{address}/{kind}" if address else kind
        first, last = runs.get(key, (private, private - 1))
        if private != last + 1:
            shown.append(_run(key, first, last))
            first = private
        runs[key] = (first, private)
    shown += [_run(key, first, last) for key, (first, last) in runs.items()]
    return ", ".join(shown + mapped)


def _order(port: Mapping[str, Any]) -> tuple[int, str, int, str]:
    return (
        port["PrivatePort"],
        port.get("IP") or "",
        port.get("PublicPort") or 0,
        port["Type"],
    )


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _run(key: str, first: int, last: int) -> str:
    """One range: `key` is the protocol, or address/protocol."""
    address, _, kind = key.rpartition("/")
    span = str(first) if first == last else f"{first}-{last}"
    return f"{_host(address)}:{span}->{span}/{kind}" if address else f"{span}/{kind}"
