"""Resource limits, kernel parameters, capabilities, labels, links: flags of single values."""

from __future__ import annotations

from boxwood.cli.opts._errors import OptError
from boxwood.cli.opts._scalars import parse_int

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ULIMITS = frozenset(
    [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ]
)
# What the IPC namespace has of its own (sysctl(2), kernel ipc_sysctl); besides net. and fs.mqueue.
_SYSCTLS = frozenset(
    [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ]
)


def ulimit(text: str) -> dict[str, Any]:
    """`NAME=SOFT[:HARD]`; -1 is no limit. Raises OptError."""
    name, equals, values = text.partition("=")
    if not equals:
        raise OptError(f"invalid ulimit argument: {text}")
    if name not in _ULIMITS:
        raise OptError(f"invalid ulimit type: {name}")
    parts = values.split(":")
    if len(parts) > 2:
        raise OptError(
            f"too many limit value arguments - {values}, can only have up to two, `soft[:hard]`"
        )
    soft = parse_int(parts[0])
    hard = parse_int(parts[1]) if len(parts) > 1 else soft
    if hard != -1:
        less = "ulimit soft limit must be less than or equal to hard limit:"
        if soft == -1:
            raise OptError(f"{less} soft: -1 (unlimited), hard: {hard}")
        if soft > hard:
            raise OptError(f"{less} {soft} > {hard}")
    return {"Name": name, "Hard": hard, "Soft": soft}


def sysctl(text: str) -> str:
    """`KEY=VALUE` of a kernel parameter that has a namespace. Raises OptError."""
    key, equals, _ = text.partition("=")
    if equals and (key in _SYSCTLS or key.startswith(("net.", "fs.mqueue."))):
        return text
    raise OptError(f"sysctl '{text}' is not allowed")


def capabilities(add: list[str], drop: list[str]) -> tuple[list[str] | None, list[str] | None]:
    """What is added and dropped: full names, sorted; the daemon weighs them."""
    added, dropped = _capability_set(add), _capability_set(drop)
    return sorted(added) or None, sorted(dropped) or None


def _capability_set(names: list[str]) -> set[str]:
    found = set()
    for name in names:
        upper = name.strip().upper()
        plain = upper == "ALL" or upper.startswith("CAP_")
        found.add(upper if plain else f"CAP_{upper}")
    return found


def label(text: str) -> str:
    """`KEY[=VALUE]`. Raises OptError."""
    key = text.partition("=")[0].lstrip(" \t")
    if not key:
        raise OptError(f"invalid label '{text}': empty name")
    if any(char.isspace() for char in key):
        raise OptError(f"label '{key}' contains whitespaces")
    return text


def link(text: str) -> str:
    """`CONTAINER[:ALIAS]`. Raises OptError."""
    if not text:
        raise OptError("empty string specified for links")
    if text.count(":") > 1:
        raise OptError(f"bad format for links: {text}")
    return text


def stream(text: str) -> str:
    """One of the three streams, in lower case. Raises OptError."""
    name = text.lower()
    if name not in ("stdin", "stdout", "stderr"):
        raise OptError("valid streams are STDIN, STDOUT and STDERR")
    return name


def restart_policy(text: str) -> dict[str, Any]:
    """`NAME[:RETRIES]`. Raises OptError."""
    name, colon, count = text.partition(":")
    start = "invalid restart policy format:"
    if colon and not name:
        raise OptError(f"{start} no policy provided before colon")
    retries = 0
    if count:
        try:
            retries = parse_int(count)
        except OptError:
            raise OptError(f"{start} maximum retry count must be an integer") from None
    return {"Name": name, "MaximumRetryCount": retries}


def empty_endpoint() -> dict[str, Any]:
    """Endpoint settings that ask for nothing, as Docker's client sends them."""
    return {
        "IPAMConfig": None,
        "Links": None,
        "Aliases": None,
        "MacAddress": "",
        "DriverOpts": None,
        "GwPriority": 0,
        "NetworkID": "",
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": None,
    }


def to_map(settings: list[str]) -> dict[str, str]:
    """KEY=VALUE settings as a mapping; a bare KEY has an empty value."""
    found = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        found[key] = value
    return found
