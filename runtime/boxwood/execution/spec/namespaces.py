"""Which namespaces a container has of its own, joins, or shares with the host."""

from __future__ import annotations

from boxwood.drivers.isolation import Document, Machine
from boxwood.errors import InvalidArgument
from boxwood.model.config import HostConfig

HOST = "host"
PRIVATE = "private"
CONTAINER = "container:"


def modes(host_config: HostConfig, machine: Machine, cgroupns_default: str = "") -> dict[str, str]:
    """Return OCI namespace name to ``private``, ``host`` or ``container:<reference>``.

    The cgroup namespace is private on cgroup v2 and the host's on v1 unless said otherwise, as
    Docker has it; a privileged container likewise (the newest Docker's way).
    """
    ipc = host_config.ipc_mode
    cgroup = host_config.cgroupns_mode or cgroupns_default
    if not cgroup:
        cgroup = PRIVATE if machine.cgroup_version == 2 else HOST
    network = host_config.network_mode
    return {
        "mount": PRIVATE,
        "pid": host_config.pid_mode or PRIVATE,
        "ipc": PRIVATE if ipc in ("", "none", PRIVATE, "shareable") else ipc,
        "uts": host_config.uts_mode or PRIVATE,
        "network": network if network == HOST or network.startswith(CONTAINER) else PRIVATE,
        "cgroup": cgroup,
    }


def private(modes_: dict[str, str]) -> frozenset[str]:
    """Return the namespaces that are not the host's (a joined one is not either)."""
    return frozenset(name for name, mode in modes_.items() if mode != HOST)


def check(host_config: HostConfig) -> None:
    """Refuse what is not in the grammar of the modes.

    Raises:
        InvalidArgument: in Docker's words.
    """
    _check_mode("PID", host_config.pid_mode, (HOST,), joins=True)
    _check_mode("IPC", host_config.ipc_mode, (HOST, PRIVATE, "shareable", "none"), joins=True)
    _check_mode("UTS", host_config.uts_mode, (HOST,), joins=False)
    _check_mode("user namespace", host_config.userns_mode, (HOST,), joins=False)
    _check_mode("cgroup namespace", host_config.cgroupns_mode, (HOST, PRIVATE), joins=False)


def _check_mode(what: str, mode: str, words: tuple[str, ...], *, joins: bool) -> None:
    if not mode or mode in words:
        return
    if joins and mode.startswith(CONTAINER) and len(mode) > len(CONTAINER):
        return
    label = f"{what} mode"
    raise InvalidArgument(f"invalid {label}: {mode}")


def build(modes_: dict[str, str], paths: dict[str, str]) -> list[Document]:
    """Return OCI ``linux.namespaces``.

    Args:
        paths: namespaces to join, by OCI name: a path that setns(2) takes. One that is private by
            its mode may be there too (a network namespace that was made beforehand).

    Raises:
        InvalidArgument: one is to be joined and no path is known.
    """
    result: list[Document] = []
    for name, mode in modes_.items():
        path = paths.get(name)
        if mode == HOST:
            continue
        if path:
            result.append({"type": name, "path": path})
        elif mode.startswith(CONTAINER):
            raise InvalidArgument(f"namespace: {name}: {mode}: no such namespace to join")
        else:
            result.append({"type": name})
    if "user" in paths:
        result.append({"type": "user", "path": paths["user"]})
    return result
