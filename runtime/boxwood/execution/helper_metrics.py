"""What the helper counts, as the engine's metrics: names asked for, failures, latency, ports."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final

from boxwood.execution.names import Names

Add = Callable[[str, str, str, Callable[[], float]], None]
"""Kind, name, description, and how the value is read."""

_COUNTERS: Final = (
    ("dns_queries", "queries", "Questions of containers."),
    ("dns_queries_tcp", "queries_tcp", "Those of them over TCP."),
    ("dns_local", "local", "Questions answered with names of containers."),
    ("dns_forwarded", "forwarded", "Questions asked elsewhere."),
    ("dns_answered", "answered", "Answers from elsewhere."),
    ("dns_failures", "failed", "Questions that nobody answered well."),
    ("dns_refused", "refused", "Questions refused: internal networks, or too many at once."),
    ("dns_malformed", "malformed", "Messages that were no questions."),
    ("dns_timeouts", "timeouts", "Servers that did not answer in time."),
    ("dns_mismatched", "mismatched", "Messages that answered another question than ours."),
    ("proxy_connections", "connections", "Connections to published ports led by the helper."),
    ("proxy_failures", "connections_failed", "Those of them that nobody took."),
    ("proxy_datagrams", "datagrams", "Datagrams to published ports led by the helper."),
)
_GAUGES: Final = (
    ("dns_in_flight", "in_flight", "Questions that wait for others."),
    ("dns_sandboxes", "sandboxes", "Containers that the name server serves."),
    ("ports_held", "ports", "Sockets held on published ports."),
    ("proxy_open", "connections_now", "Connections led by the helper now."),
)


def register(names: Names, add: Add) -> None:
    """Add all of them; they are as :meth:`Names.measure` found them last."""

    def read(key: str) -> float:
        return float(names.measured.get(key, 0))

    for name, key, text in _COUNTERS:
        add("counter", f"boxwood_{name}_total", text, functools.partial(read, key))
    for name, key, text in _GAUGES:
        add("gauge", f"boxwood_{name}", text, functools.partial(read, key))
    seconds = "Time until answers from elsewhere came, all together."
    add("counter", "boxwood_dns_seconds_total", seconds, lambda: read("latency_us") / 1e6)
