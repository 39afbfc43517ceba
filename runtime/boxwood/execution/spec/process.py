"""The process of a container, and those that are started in it later."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from boxwood.drivers.isolation import Document, Machine
from boxwood.execution.spec import capabilities
from boxwood.model.container import Container

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ResolvedUser(msgspec.Struct, frozen=True, kw_only=True):
    """Who a process is, as looked up in the container's own files."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    """Supplementary groups, those of ``--group-add`` included."""
    home: str = "/"


class ExecRequest(Protocol):
    """What of an exec's configuration shapes its process."""

    @property
    def cmd(self) -> Sequence[str] | None: ...
    @property
    def env(self) -> Sequence[str] | None: ...
    @property
    def tty(self) -> bool: ...
    @property
    def privileged(self) -> bool: ...
    @property
    def working_dir(self) -> str: ...


def merge_env(base: Sequence[str], changes: Iterable[str]) -> list[str]:
    """Return ``base`` with ``changes`` over it; a name without ``=`` takes the variable out.

    A changed variable keeps its place, a new one goes to the end, as Docker shows them.
    """
    merged: dict[str, str] = {entry.partition("=")[0]: entry for entry in base}
    for change in changes:
        name, separator, _ = change.partition("=")
        if separator:
            merged[name] = change
        else:
            merged.pop(name, None)
    return list(merged.values())


def environment(container: Container, user: ResolvedUser) -> list[str]:
    """Return PATH, HOSTNAME, TERM, then the container's own, and HOME if nobody set it."""
    config = container.config
    base = [DEFAULT_PATH, f"HOSTNAME={config.hostname}"]
    if config.tty:
        base.append("TERM=xterm")
    return with_home(merge_env(base, config.env or ()), user)


def with_home(variables: list[str], user: ResolvedUser) -> list[str]:
    """Add HOME, which only the user's entry in the container's passwd knows, unless it is set."""
    if any(entry.startswith("HOME=") and entry != "HOME=" for entry in variables):
        return variables
    kept = [entry for entry in variables if entry != "HOME="]
    return [*kept, f"HOME={user.home or '/'}"]


def user_document(user: ResolvedUser) -> Document:
    """Return OCI ``process.user``; the primary group is among the others too (CVE-2022-36109:
    a process must not be able to leave a group that a file refuses things to)."""
    groups = tuple(dict.fromkeys((user.gid, *user.groups)))
    return {"uid": user.uid, "gid": user.gid, "additionalGids": groups}


def capabilities_document(names: tuple[str, ...]) -> Document:
    """Return OCI ``process.capabilities``: inheritable and ambient stay empty
    (CVE-2022-24769)."""
    return {"bounding": names, "effective": names, "permitted": names}


def build(
    container: Container,
    user: ResolvedUser,
    *,
    held: tuple[str, ...],
    rlimits: list[Document],
    oom_score_adj: int,
    no_new_privileges: bool,
) -> Document:
    """Return OCI ``process`` of the container itself."""
    config = container.config
    process: Document = {
        "terminal": config.tty,
        "user": user_document(user),
        "args": (container.path, *container.args),
        "env": environment(container, user),
        "cwd": config.working_dir or "/",
        "capabilities": capabilities_document(held),
        "rlimits": rlimits,
        "noNewPrivileges": no_new_privileges,
        "oomScoreAdj": oom_score_adj,
    }
    size = container.host_config.console_size
    if config.tty and size and all(size):
        process["consoleSize"] = {"height": size[0], "width": size[1]}
    return process


def build_exec(
    container: Container, spec: Document, request: ExecRequest, user: ResolvedUser, machine: Machine
) -> Document:
    """Return OCI ``process`` of an exec: the posture of the container's own process.

    The environment is the container's, without what only its first process has (TERM, HOME), and
    the exec's own over it. ``privileged`` gives every capability the daemon has; the seccomp
    filter stays.
    """
    first = spec["process"]
    names = first["capabilities"].get("bounding", ())
    if request.privileged:
        names = tuple(name for name in capabilities.NAMES if name in machine.capabilities)
    base = [DEFAULT_PATH, f"HOSTNAME={container.config.hostname}"]
    if request.tty:
        base.append("TERM=xterm")
    own = merge_env(base, container.config.env or ())
    return {
        "terminal": request.tty,
        "user": user_document(user),
        "args": tuple(request.cmd or ()),
        "env": with_home(merge_env(own, request.env or ()), user),
        "cwd": request.working_dir or container.config.working_dir or "/",
        "capabilities": capabilities_document(names),
        "rlimits": first.get("rlimits", []),
        "noNewPrivileges": first.get("noNewPrivileges", False),
        "oomScoreAdj": first.get("oomScoreAdj", 0),
    }
