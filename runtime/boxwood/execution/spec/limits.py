"""Resource limits, kernel parameters and the OOM score, within what the daemon may give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from boxwood.drivers.isolation import Machine
from boxwood.errors import InvalidArgument
from boxwood.model.config import Ulimit

# Docker's short names. Every resource of setrlimit(2) but RLIMIT_AS.
ULIMITS = {
    name: f"RLIMIT_{name.upper()}"
    for name in """
        core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending
        stack
    """.split()
}
INFINITY = (1 << 64) - 1

_IPC_SYSCTLS = frozenset(
    f"kernel.{name}"
    for name in "msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced".split()
)
_UTS_SYSCTLS = frozenset(("kernel.domainname", "kernel.hostname"))

# What Docker sets in a network namespace of the container's own: low ports and ping need no
# capability there (they guard nothing of the host).
NETWORK_SYSCTLS = {
    "net.ipv4.ip_unprivileged_port_start": "0",
    "net.ipv4.ping_group_range": "0 2147483647",
}


def merge_ulimits(
    asked: Iterable[Ulimit] | None, defaults: Mapping[str, Ulimit]
) -> dict[str, Ulimit]:
    """Return the limits by short name: the container's own win over the daemon's."""
    return {**defaults, **{limit.name.lower(): limit for limit in asked or ()}}


def check_ulimits(asked: Iterable[Ulimit] | None) -> None:
    """Refuse unknown names and a soft limit above its hard one.

    Raises:
        InvalidArgument: in Docker's words.
    """
    for limit in asked or ():
        if limit.name.lower() not in ULIMITS:
            raise InvalidArgument(f"invalid ulimit type: {limit.name}")
        if limit.hard != -1 and (limit.soft > limit.hard or limit.soft == -1):
            raise InvalidArgument(
                "ulimit soft limit must be less than or equal to hard limit: "
                f"{limit.soft} > {limit.hard}"
            )


def rlimits(
    limits: Mapping[str, Ulimit], machine: Machine
) -> tuple[list[dict[str, object]], list[str]]:
    """Return OCI ``process.rlimits``, clamped to what the daemon may give, and warnings.

    Without CAP_SYS_RESOURCE no hard limit can be raised above the daemon's own (setrlimit(2));
    a container that starts with a little less is better than one that does not start.
    """
    made: list[dict[str, object]] = []
    warnings: list[str] = []
    for name, limit in sorted(limits.items()):
        kind = ULIMITS[name]
        soft, hard = _unsigned(limit.soft), _unsigned(limit.hard)
        most = _unsigned(machine.hard_limits.get(kind, -1))
        if not machine.may_raise_limits and hard > most:
            warnings.append(
                f"ulimit {name}: lowered from {limit.soft}:{limit.hard} to "
                f"{_shown(min(soft, most))}:{_shown(most)}: the daemon lacks CAP_SYS_RESOURCE"
            )
            soft, hard = min(soft, most), most
        made.append({"type": kind, "soft": soft, "hard": hard})
    return made, warnings


def _unsigned(value: int) -> int:
    return INFINITY if value < 0 else value


def _shown(value: int) -> int:
    return -1 if value == INFINITY else value


def oom_score_adj(asked: int, machine: Machine) -> tuple[int, list[str]]:
    """Return the score that can be set, and a warning if it is another one.

    0 asks for nothing: the container keeps the daemon's when that is all it can have.
    """
    if machine.may_raise_limits or asked >= machine.oom_score_adj:
        return asked, []
    if asked == 0:
        return machine.oom_score_adj, []
    return machine.oom_score_adj, [
        f"OomScoreAdj: raised from {asked} to {machine.oom_score_adj}: "
        "the daemon lacks CAP_SYS_RESOURCE"
    ]


def check_sysctls(sysctls: Mapping[str, str], private: frozenset[str]) -> None:
    """Refuse every parameter that would change more than the container's own namespaces.

    Args:
        private: OCI names of the namespaces that are not the host's.

    Raises:
        InvalidArgument: in runc's words, which Docker passes on.
    """
    for name in sysctls:
        dotted = name.replace("/", ".")
        if ".." in dotted or dotted.startswith(".") or "\0" in name:
            raise InvalidArgument(f'sysctl "{name}": not a name')
        if dotted.startswith("net."):
            if "network" not in private:
                raise InvalidArgument(f'sysctl "{name}" not allowed in host network namespace')
        elif dotted in _IPC_SYSCTLS or dotted.startswith("fs.mqueue."):
            if "ipc" not in private:
                raise InvalidArgument(f'sysctl "{name}" is not allowed in the host ipc namespace')
        elif dotted in _UTS_SYSCTLS:
            if "uts" not in private:
                raise InvalidArgument(f'sysctl "{name}" is not allowed in the host uts namespace')
        else:
            raise InvalidArgument(f'sysctl "{name}" is not in a separate kernel namespace')
