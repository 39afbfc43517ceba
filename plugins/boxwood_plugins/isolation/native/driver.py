"""The native isolation driver: the document becomes a launch program, run by the shim."""

from __future__ import annotations

import os
from pathlib import Path

from boxwood.drivers.isolation import (
    INIT_ANNOTATION,
    Bundle,
    Document,
    IsolationDriver,
    Launch,
    Machine,
    TaskHandle,
)
from boxwood.errors import (
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from boxwood.model.config import HostConfig
from boxwood_ext import program
from boxwood_ext.wire import ProgramError
from boxwood_plugins.isolation.native import compiler
from boxwood_plugins.isolation.native.compiler import Slots
from boxwood_plugins.isolation.native.groups import FREEZE_BOUND, Groups, wait_for
from boxwood_plugins.isolation.native.groups1 import has_weights
from boxwood_plugins.isolation.native.machine import find_groups, probe
from boxwood_plugins.isolation.native.mounts import Ops, foreign_pids
from boxwood_plugins.isolation.native.seccomp import Cache, Filter

DEFAULT_PARENT = "/boxwood"


class NativeDriver(IsolationDriver):
    """Control groups of either version, namespaces and seccomp, without a runtime of others."""

    name = "native"

    def __init__(self, root: Path) -> None:
        """Args:
        root: for the compiled filters; made when the first is kept.
        """
        self._root = root
        self._groups: Groups | None = find_groups()
        self._machine = probe(self._groups)
        self._filters = Cache(root / "seccomp")
        # One file a task, with the path of its group in it: other engines have their groups
        # below the same parents, and only these are this one's to find and to remove.
        self._marks = root / "tasks"

    def machine(self) -> Machine:
        return self._machine

    def warm(self, seccomp: Document) -> None:
        if not self._machine.seccomp:
            self._filters.get(seccomp)

    def prepare(self, bundle: Bundle) -> Launch:
        spec = bundle.spec
        seccomp = self._filter(spec)
        path = group_path(spec, bundle.id)
        groups = self._need_groups()
        fds: list[int] = []
        owned: list[int] = []
        try:
            self._mark(bundle.id, path)
            owned += groups.create(path, spec["linux"].get("resources") or {})
            fds = [bundle.root_fd, *owned]
            joined = self._open_namespaces(spec, fds, owned)
            slots = self._slots(root=0, first=1, count=len(owned) - len(joined), joined=joined)
            slots = self._open_foreign(spec, slots, fds, owned)
            ops = compiler.compile_container(
                spec,
                slots._replace(total=len(fds)),
                name=bundle.id,
                seccomp=seccomp,
                cgroup_binds=groups.binds(path),
                init=spec.get("annotations", {}).get(INIT_ANNOTATION) == "true",
            )
            return Launch(_encode(ops), tuple(fds), borrowed=frozenset((bundle.root_fd,)))
        except BaseException:
            for fd in owned:
                os.close(fd)
            groups.discard(path)
            self._mark_of(bundle.id).unlink(missing_ok=True)
            raise

    def exec(self, task: TaskHandle, process: Document) -> Launch:
        seccomp = self._filter(task.spec)
        path = group_path(task.spec, task.id)
        groups = self._need_groups()
        fds: list[int] = []
        try:
            fds.append(self._pidfd(task, path))
            fds += groups.enter(path)
            flags = compiler.joined_flags(task.spec)
            slots = self._slots(root=-1, first=1, count=len(fds) - 1, joined=[(0, flags)])
            ops = compiler.compile_exec(task.spec, process, slots, name=task.id, seccomp=seccomp)
            return Launch(_encode(ops), tuple(fds))
        except BaseException as error:
            for fd in fds:
                os.close(fd)
            if isinstance(error, FileNotFoundError | ProcessLookupError):
                raise NotFound(f"exec: {task.id}: the container is not running") from error
            raise

    def _pidfd(self, task: TaskHandle, path: str) -> int:
        """Open the first process, and prove that it is still the container's.

        Raises:
            NotFound: it is gone, or its pid is another's by now.
        """
        if task.pid <= 0:
            raise NotFound(f"exec: {task.id}: the container is not running")
        fd = os.pidfd_open(task.pid)
        try:
            own = f"{path}\n" in Path(f"/proc/{task.pid}/cgroup").read_text()
        except OSError:
            own = False
        # a container may move its first process down: then the line has more behind the path
        if not own and task.pid not in self._need_groups().processes(path):
            os.close(fd)
            raise NotFound(f"exec: {task.id}: the container is not running")
        return fd

    def _need_groups(self) -> Groups:
        if self._groups is None:
            raise Unavailable(
                "cgroup: no control groups are mounted: mount -t cgroup2 none /sys/fs/cgroup"
            )
        return self._groups

    def _filter(self, spec: Document) -> Filter | None:
        profile = spec["linux"].get("seccomp")
        if profile is None:
            return None
        if self._machine.seccomp:
            raise Unavailable(
                f"seccomp: {self._machine.seccomp}; or run with --security-opt seccomp=unconfined"
            )
        return self._filters.get(profile)

    def _slots(self, *, root: int, first: int, count: int, joined: list[tuple[int, int]]) -> Slots:
        numbers = tuple(range(first, first + count))
        if self._need_groups().version == 2:
            return Slots(root=root, group=numbers[0], namespaces=tuple(joined))
        return Slots(root=root, tasks=numbers, namespaces=tuple(joined))

    @staticmethod
    def _open_namespaces(spec: Document, fds: list[int], owned: list[int]) -> list[tuple[int, int]]:
        """Open the namespaces to join; return (slot, flag) of each."""
        joined = []
        for namespace in spec["linux"].get("namespaces", ()):
            path = namespace.get("path")
            if not path:
                continue
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise InvalidArgument(
                    f"namespace: {namespace['type']}: {path}: {error.strerror}"
                ) from error
            joined.append((len(fds), compiler.CLONE_FLAGS[namespace["type"]]))
            fds.append(fd)
            owned.append(fd)
        return joined

    @staticmethod
    def _open_foreign(spec: Document, slots: Slots, fds: list[int], owned: list[int]) -> Slots:
        """Open the mount namespaces that binds come from (``/proc/<pid>/root/...``)."""
        foreign = []
        for pid in foreign_pids(spec.get("mounts", ())):
            try:
                fd = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError as error:
                raise NotFound(f"mount: process {pid}: is gone") from error
            foreign.append((pid, len(fds)))
            fds.append(fd)
            owned.append(fd)
        if not foreign:
            return slots
        fds.append(os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC))
        owned.append(fds[-1])
        return slots._replace(foreign=tuple(foreign), home=len(fds) - 1)

    async def pause(self, task: TaskHandle) -> None:
        groups, path = self._need_groups(), group_path(task.spec, task.id)
        try:
            groups.freeze(path)
            if await wait_for(lambda: groups.frozen(path), FREEZE_BOUND):
                return
            groups.thaw(path)
        except FileNotFoundError as error:
            raise NotFound(f"pause: {task.id}: the container is not running") from error
        raise DeadlineExceeded(
            f"pause: {task.id}: a process in it cannot be stopped (it waits in the kernel)"
        )

    async def resume(self, task: TaskHandle) -> None:
        self._need_groups().thaw(group_path(task.spec, task.id))

    def update(self, task: TaskHandle, resources: Document) -> None:
        self._need_groups().update(group_path(task.spec, task.id), resources)

    def stats(self, task: TaskHandle) -> Document:
        return self._need_groups().stats(group_path(task.spec, task.id))

    def oom_killed(self, task: TaskHandle) -> bool:
        if self._groups is None:
            return False
        return self._groups.oom_kills(group_path(task.spec, task.id)) > 0

    def processes(self, task: TaskHandle) -> list[int]:
        return self._need_groups().processes(group_path(task.spec, task.id))

    async def delete(self, task: TaskHandle) -> None:
        mark = self._mark_of(task.id)
        if self._groups is not None:
            path = group_path(task.spec, task.id)
            if not task.spec and mark.exists():
                # A daemon killed while it wrote the mark has made no group yet, and left the mark
                # empty or short: what does not end in the id is never taken for a path.
                noted = mark.read_text()
                if noted.startswith("/") and noted.endswith(f"/{task.id}"):
                    path = noted
            await self._groups.destroy(path)
        mark.unlink(missing_ok=True)

    def adopt(self, task: TaskHandle) -> bool:
        if self._groups is None:
            return False
        return bool(self._groups.directories(group_path(task.spec, task.id)))

    def walk(self) -> list[str]:
        """Return the ids of this engine's tasks whose groups may be there."""
        if self._groups is None or not self._marks.is_dir():
            return []
        return sorted(path.name for path in self._marks.iterdir())

    def _mark_of(self, task: str) -> Path:
        return self._marks / task

    def _mark(self, task: str, path: str) -> None:
        """Note a task as this engine's, before anything of it is there."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            fd = os.open(self._mark_of(task), flags, 0o600)
        except FileNotFoundError:
            self._marks.mkdir(parents=True, exist_ok=True)
            fd = os.open(self._mark_of(task), flags, 0o600)
        try:
            os.write(fd, path.encode())
        finally:
            os.close(fd)

    def check(self, host_config: HostConfig) -> list[str]:
        """Nothing beyond what the machine says, but what only this driver does not do."""
        warnings = []
        if self._groups is None:
            warnings.append("No control groups are mounted: limits cannot be set.")
        if self._machine.seccomp and not host_config.privileged:
            warnings.append(f"seccomp: {self._machine.seccomp}")
        if self._machine.cgroup_version == 1 and "blkio-weight-device" in self._machine.features:
            warnings += _weightless(host_config)
        return warnings

    def describe(self) -> Document:
        machine = self._machine
        return {
            "driver": self.name,
            "cgroup_driver": "cgroupfs",
            "cgroup_version": machine.cgroup_version,
            "controllers": sorted(machine.controllers),
            "features": sorted(machine.features),
            "namespaces": sorted(machine.namespaces),
            "seccomp": machine.seccomp or "builtin",
            "limits_clamped": not machine.may_raise_limits,
            "capabilities": len(machine.capabilities),
        }


def _weightless(host_config: HostConfig) -> list[str]:
    """Return a warning for each disk whose weight cannot be set; one that is not there fails the
    start."""
    warnings = []
    for device in host_config.blkio_weight_device or ():
        try:
            number = os.stat(device.path).st_rdev
        except OSError:
            continue
        if not has_weights(os.major(number), os.minor(number)):
            warnings.append(
                f"BlkioWeightDevice: {device.path}: its scheduler is not BFQ. Weight discarded."
            )
    return warnings


def group_path(spec: Document, container_id: str) -> str:
    """Return the group's path below each hierarchy.

    Raises:
        InvalidArgument: it does not end in the id (``walk`` and ``delete`` rely on it), or leaves
            the hierarchy.
    """
    path = str((spec.get("linux") or {}).get("cgroupsPath") or f"{DEFAULT_PARENT}/{container_id}")
    parts = path.split("/")
    if parts[0] or parts[-1] != container_id or any(part in ("", ".", "..") for part in parts[1:]):
        raise InvalidArgument(f"cgroup: {path}: want /<parent>/{container_id}")
    return path


def _encode(ops: Ops) -> bytes:
    try:
        return program.encode(ops)
    except ProgramError as error:
        raise InvalidArgument(f"launch: {error}") from error
