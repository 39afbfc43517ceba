"""`stats`: what containers use, now or again and again."""

from __future__ import annotations

import os
import sys

from boxwood.cli.command import Command, Flag
from boxwood.cli.listing import format_flag, show
from boxwood.client.client import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxwood.cli.command import Values
    from boxwood.cli.context import Context

TABLE = (
    "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}"
    "\t{{.PIDs}}"
)
HEADERS = {
    "BlockIO": "BLOCK I/O",
    "CPUPerc": "CPU %",
    "Container": "CONTAINER",
    "ID": "CONTAINER ID",
    "MemPerc": "MEM %",
    "MemUsage": "MEM USAGE / LIMIT",
    "Name": "NAME",
    "NetIO": "NET I/O",
    "PIDs": "PIDS",
}


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Print a table; without --no-stream a new one for every pair of samples."""
    template = values["format"] or ctx.config.get("statsFormat")
    while True:
        names = args or [
            item["Id"]
            for item in ctx.client.get("/containers/json", {"all": values["all"] or None})
        ]
        rows = [_row(name, _sample(ctx, name), values["no_trunc"]) for name in names]
        if not values["no_stream"] and os.isatty(1):
            sys.stdout.write("\x1b[2J\x1b[H")
        show(rows, template=template, table=TABLE, headers=HEADERS)
        sys.stdout.flush()
        if values["no_stream"] or not names:
            return 0


def _sample(ctx: Context, name: str) -> dict[str, Any]:
    """Two samples, a second apart: the engine takes that time."""
    sample: dict[str, Any] = ctx.client.get(f"/containers/{quote(name)}/stats", {"stream": False})
    return sample


def _row(name: str, sample: dict[str, Any], no_trunc: bool) -> dict[str, str]:
    from boxwood.cli.format import human_size, human_size_binary, short_id

    memory = sample.get("memory_stats") or {}
    details = memory.get("stats") or {}
    cache = details.get("inactive_file", details.get("total_inactive_file", 0))
    used, limit = memory.get("usage", 0) - cache, memory.get("limit", 0)
    received, sent = _network(sample)
    read, written = _block(sample)
    ident = sample.get("id") or name
    return {
        "BlockIO": f"{human_size(read)} / {human_size(written)}",
        "CPUPerc": f"{_cpu(sample):.2f}%",
        "Container": name,
        "ID": ident if no_trunc else short_id(ident),
        "MemPerc": f"{used / limit * 100 if limit else 0:.2f}%",
        "MemUsage": f"{human_size_binary(used)} / {human_size_binary(limit)}",
        "Name": str(sample.get("name", "")).lstrip("/"),
        "NetIO": f"{human_size(received)} / {human_size(sent)}",
        "PIDs": str((sample.get("pids_stats") or {}).get("current", 0)),
    }


def _cpu(sample: dict[str, Any]) -> float:
    """Per cent of one CPU, as Docker reckons it (facts/docker-api.md section 4)."""
    now, before = sample.get("cpu_stats") or {}, sample.get("precpu_stats") or {}
    used = _total(now) - _total(before)
    system = now.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    return used / system * now.get("online_cpus", 1) * 100 if used > 0 and system > 0 else 0.0


def _total(stats: dict[str, Any]) -> int:
    return int((stats.get("cpu_usage") or {}).get("total_usage", 0))


def _network(sample: dict[str, Any]) -> tuple[int, int]:
    links = (sample.get("networks") or {}).values()
    return sum(link["rx_bytes"] for link in links), sum(link["tx_bytes"] for link in links)


def _block(sample: dict[str, Any]) -> tuple[int, int]:
    entries = (sample.get("blkio_stats") or {}).get("io_service_bytes_recursive") or []
    sums = {"read": 0, "write": 0}
    for entry in entries:
        operation = str(entry["op"]).lower()
        if operation in sums:
            sums[operation] += entry["value"]
    return sums["read"], sums["write"]


COMMAND = Command(
    run,
    "Display a live stream of container(s) resource usage statistics",
    "[OPTIONS] [CONTAINER...]",
    (
        Flag("all", "bool", "Show stopped containers too", "a"),
        format_flag(),
        Flag("no-stream", "bool", "Print once and quit"),
        Flag("no-trunc", "bool", "Shorten nothing"),
    ),
)
