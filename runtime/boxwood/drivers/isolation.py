"""The isolation contract: from an OCI runtime document to a process tree that is shut in.

**Words.** A *bundle* is what is to be run: an OCI runtime-spec document and an open root. A
*launch* is what the shim needs to start it: a launch program and the descriptors it names by
slot. A *task* is the process tree that came of it; it is known by the container's id and by the
pid of its first process. The *machine* is what the kernel and the daemon's own privileges allow.

**Life**, in the order of the calls::

    machine() / describe() / check()      any time, nothing is changed
    prepare(bundle) -> Launch             makes the control groups, sets limits, opens slots
        the shim runs the program; the pid it answers with makes a TaskHandle
    exec(task, process) -> Launch         any number of times while the task lives
    pause / resume / update / stats / oom_killed / processes     likewise
    delete(task)                          once it is dead, or to make it so
    adopt(id)                             instead of prepare, after the daemon came back
    walk()                                what of ours is there, for the reconciliation

**What must hold after a crash.** Everything a driver makes outside the process tree is named
after the container's id and is found again by ``walk``; ``delete`` of an id that was prepared by a
daemon that died, that is half prepared, or that is gone already does what is left to do and
raises nothing. ``prepare`` of an id that was prepared before starts over with what it finds.
Nothing that a driver keeps in memory is needed for ``delete``.

**What a driver may not do.** Touch a file below the container's root (the root is a descriptor
for the launch program), wait without a bound for anything a container can hold up, or log or
store what stands in the environment of a process.

**Errors.** ``InvalidArgument`` for a document that makes no sense, ``Unsupported`` for what this
driver does not do, ``Unavailable`` for what this machine lacks (it says what to install or to
mount), ``NotFound`` for a task that is gone, ``DeadlineExceeded`` for a freezer or a process that
does not obey, ``Internal`` for a kernel answer that nothing explains. What fails in the launched
process itself is not raised here: the shim reports it as ``LaunchError``.

**Example**::

    driver = isolation_driver("native", Path("/run/boxwood/isolation"), {})
    with driver.prepare(Bundle(id=cid, directory=run, spec=document, root_fd=root)) as launch:
        pid = await shim.start(launch.program, launch.fds, clients=[])
    task = TaskHandle(id=cid, pid=pid, spec=document)
    ...
    await driver.delete(task)
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from boxwood.errors import Unsupported
from boxwood.model.config import HostConfig

INIT_ANNOTATION = "boxwood.init"
"""``true``: put a small init before the process (``--init``), for which the OCI document has no
word. Users may not set an annotation below ``boxwood.``: a label never becomes an order."""

CAPABILITIES = tuple(
    f"CAP_{name}"
    for name in """
        CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
        NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO
        SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME
        SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG
        WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
    """.split()
)
"""In the kernel's order (linux/capability.h): the place of a name is its number."""

Document = dict[str, Any]
"""An OCI runtime-spec document (1.1 and later) or a part of one, as decoded JSON. Sequences in it
may be tuples; whoever changes one replaces it."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What this machine lets the daemon do. Read once when the driver is made."""

    architecture: str
    """As ``uname -m`` has it: ``x86_64``, ``aarch64``."""
    kernel: tuple[int, int]
    cpus: frozenset[int]
    """Numbers of the processors the daemon may use."""
    nodes: frozenset[int]
    """Memory nodes likewise."""
    memory: int
    """Bytes of main memory."""
    cgroup_version: int
    """1 or 2; 0 when no control group is mounted writable."""
    controllers: frozenset[str]
    """In v1's words: ``memory cpu cpuacct cpuset pids devices blkio hugetlb freezer``."""
    features: frozenset[str] = frozenset()
    """Finer than a controller: ``swap oom-kill-disable swappiness cpu-realtime blkio-weight
    blkio-weight-device blkio-throttle cgroupns kernel-memory-tcp``."""
    namespaces: frozenset[str]
    """OCI names of the namespaces that the kernel has."""
    capabilities: frozenset[str]
    """The daemon's bounding set, ``CAP_`` names: the most that a container can be given."""
    may_raise_limits: bool
    """Whether the daemon holds CAP_SYS_RESOURCE."""
    hard_limits: dict[str, int]
    """The daemon's own hard limits by ``RLIMIT_`` name; -1 is unlimited."""
    oom_score_adj: int
    """The daemon's own: without CAP_SYS_RESOURCE nothing lower can be set."""
    seccomp: str = ""
    """Empty: filters can be compiled and loaded. Else why not, and what to do."""
    apparmor: bool = False
    selinux: bool = False


SUBPATH = "boxwood.subpath="
"""An option of a bind: what is bound is this path beneath the source. Containers can write there:
it must be resolved in one go, without leaving the source through a link (openat2(2),
RESOLVE_BENEATH), and what was found is what is bound."""


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be run. The caller keeps ``root_fd`` open until ``Launch`` was handed over."""

    id: str
    directory: Path
    """``<exec-root>/containers/<id>``: there, 0700, the driver may keep small files in it."""
    spec: Document
    """The source of a bind in it may be ``/proc/<pid>/root/...``, a path in another container's
    mount namespace, and a bind may have an option :data:`SUBPATH`; a driver that can do neither
    raises Unsupported."""
    root_fd: int
    """A detached mount of the root file system (open_tree(2)); ``spec["root"]["path"]`` is only
    a label."""


class TaskHandle(msgspec.Struct, frozen=True, kw_only=True):
    """A task as the caller remembers it. ``pid`` 0: never started, or not known to live."""

    id: str
    pid: int = 0
    spec: Document = msgspec.field(default_factory=dict)
    """The document it was launched from: ``exec`` takes the posture of it."""


class Launch:
    """A launch program and the descriptors that it names by slot number.

    The launch owns its ``fds`` but the ``borrowed`` ones (a bundle's root, say), which it never
    closes. Use it as a context manager around the hand-over to the shim.
    """

    __slots__ = ("_owned", "argv", "fds", "program", "warnings")

    def __init__(
        self,
        program: bytes,
        fds: tuple[int, ...] = (),
        *,
        borrowed: frozenset[int] = frozenset(),
        warnings: tuple[str, ...] = (),
        argv: tuple[str, ...] = (),
    ) -> None:
        self.program = program
        self.fds = fds
        self.warnings = warnings
        self.argv = argv
        """Command line of an external runtime; empty when ``program`` does it all."""
        self._owned = [fd for fd in fds if fd not in borrowed]

    def close(self) -> None:
        """Close the descriptors that are the launch's own. Idempotent."""
        while self._owned:
            os.close(self._owned.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class IsolationDriver(ABC):
    """See the module. Plain methods are short and local (well under a millisecond); coroutines
    may wait, with a bound. All are called from the daemon's one thread, for one id never two at a
    time."""

    name: str = ""

    @abstractmethod
    def machine(self) -> Machine:
        """Return what this machine can do. Always the same object."""

    @abstractmethod
    def prepare(self, bundle: Bundle) -> Launch:
        """Make everything that must be there before the first process, and the program of it.

        Idempotent for one id. When it raises, what it made is gone again.

        Raises:
            InvalidArgument: the document.
            Unsupported: the driver never does this.
            Unavailable: the machine does not (no cgroups, no libseccomp).
        """

    @abstractmethod
    def exec(self, task: TaskHandle, process: Document) -> Launch:
        """Return the launch of one more process (OCI ``process``) in a task.

        The posture (seccomp filter, control groups, namespaces) is the task's; capabilities, user,
        limits, environment and directory are those of ``process``.

        Raises:
            NotFound: the task does not live any more.
        """

    @abstractmethod
    async def delete(self, task: TaskHandle) -> None:
        """Kill what is left of the task and remove what ``prepare`` made. Idempotent.

        Raises:
            DeadlineExceeded: a process did not die within the driver's bound (it hangs in the
                kernel); the rest was removed as far as it goes, and a later call goes on.
        """

    async def pause(self, task: TaskHandle) -> None:
        """Stop every process of the task at once.

        Raises:
            DeadlineExceeded: some process could not be frozen; the others were thawed again.
        """
        raise Unsupported(f"pause: {task.id}: the {self.name} driver cannot")

    async def resume(self, task: TaskHandle) -> None:
        """Undo ``pause``. Idempotent."""
        raise Unsupported(f"resume: {task.id}: the {self.name} driver cannot")

    def update(self, task: TaskHandle, resources: Document) -> None:
        """Set the limits in ``resources`` (OCI ``linux.resources``); others stay as they are."""
        raise Unsupported(f"update: {task.id}: the {self.name} driver cannot")

    def stats(self, task: TaskHandle) -> Document:
        """Return the raw numbers in the Engine API's shape.

        Keys: ``cpu_stats`` (``cpu_usage``, ``throttling_data``; nanoseconds), ``memory_stats``
        (bytes), ``blkio_stats``, ``pids_stats``. What the machine does not count is absent.
        """
        raise Unsupported(f"stats: {task.id}: the {self.name} driver cannot")

    def oom_killed(self, task: TaskHandle) -> bool:
        """Say whether the kernel killed a process of the task for want of memory.

        Still answers after the task died, until ``delete``.
        """
        return False

    def processes(self, task: TaskHandle) -> list[int]:
        """Return the pids (of the daemon's namespace) in the task, ascending; empty if gone."""
        return [task.pid] if task.pid else []

    def adopt(self, task: TaskHandle) -> bool:
        """Take up a task that an earlier daemon prepared. ``False``: nothing of it is there."""
        return task.id in self.walk()

    def walk(self) -> list[str]:
        """Return the ids of everything of ours that is there, whoever made it."""
        return []

    def warm(self, seccomp: Document) -> None:
        """Do ahead what a start with this OCI ``linux.seccomp`` would have to do. Called when the
        daemon starts; may take some milliseconds, and raises nothing for a machine that cannot."""

    def check(self, host_config: HostConfig) -> list[str]:
        """Return warnings about what was asked for and this machine cannot do.

        Raises:
            InvalidArgument, Unsupported: it cannot be started at all.
        """
        return []

    def describe(self) -> Document:
        """Return facts for ``info`` and ``doctor``: names to strings, numbers and lists."""
        return {}
