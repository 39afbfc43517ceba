"""The record of a container: what was asked for, what became of it.

A :class:`Container` is immutable. The containers service is the only one that makes a new version
of it, under the container's lock and in one database transaction.
"""

from __future__ import annotations

import msgspec

from boxwood.model.config import ContainerConfig, EndpointSettings, HostConfig
from boxwood.model.endpoint import SandboxState
from boxwood.model.wire import Wire

CREATED = "created"
RUNNING = "running"
PAUSED = "paused"
RESTARTING = "restarting"
REMOVING = "removing"
EXITED = "exited"
DEAD = "dead"


class ProbeResult(Wire):
    """One run of the health check; times are RFC 3339 strings, output at most 4096 bytes."""

    start: str = msgspec.field(default="", name="Start")
    end: str = msgspec.field(default="", name="End")
    exit_code: int = msgspec.field(default=0, name="ExitCode")
    output: str = msgspec.field(default="", name="Output")


class Health(Wire):
    """``starting`` | ``healthy`` | ``unhealthy``, and the last five probes."""

    status: str = msgspec.field(default="starting", name="Status")
    failing_streak: int = msgspec.field(default=0, name="FailingStreak")
    log: tuple[ProbeResult, ...] = msgspec.field(default=(), name="Log")


class MountPoint(Wire):
    """A mount as inspect shows it, and what is needed to make it again."""

    type: str = msgspec.field(default="", name="Type")
    name: str = msgspec.field(default="", name="Name")
    source: str = msgspec.field(default="", name="Source")
    destination: str = msgspec.field(default="", name="Destination")
    driver: str = msgspec.field(default="", name="Driver")
    mode: str = msgspec.field(default="", name="Mode")
    rw: bool = msgspec.field(default=True, name="RW")
    propagation: str = msgspec.field(default="", name="Propagation")
    # not shown to clients:
    options: tuple[str, ...] = ()
    """Extra mount options: ``nocopy``, ``z``, ``recursive-ro``, tmpfs options, ..."""
    subpath: str = ""
    anonymous: bool = False


class State(Wire):
    """Where the container is in its life. Times are nanoseconds since the epoch, 0: never."""

    status: str = CREATED
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_at: int = 0
    finished_at: int = 0
    restart_count: int = 0
    manually_stopped: bool = False
    """Stopped by a client: ``unless-stopped`` does not start it again."""
    has_started: bool = False
    health: Health | None = None

    @property
    def running(self) -> bool:
        """Whether a process lives (also when paused)."""
        return self.status in (RUNNING, PAUSED)


class Container(Wire, kw_only=True):
    """Everything known of one container. ``name`` has no leading slash."""

    id: str
    name: str
    created_at: int
    """Nanoseconds since the epoch."""
    image_id: str
    """Config digest, ``sha256:...``."""
    image_ref: str
    """The image as the client named it."""
    path: str
    args: tuple[str, ...]
    config: ContainerConfig
    """Merged with the image's config."""
    host_config: HostConfig
    networks: dict[str, EndpointSettings]
    """What is asked of each network; what it got is in ``sandbox``."""
    mounts: tuple[MountPoint, ...] = ()
    storage_driver: str
    isolation_driver: str = ""
    snapshot_key: str
    platform: str = "linux"
    state: State = State()
    sandbox: SandboxState = SandboxState()
