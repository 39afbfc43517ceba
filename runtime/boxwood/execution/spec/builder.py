"""One container to one OCI runtime-spec document.

Everything is decided here, so that an isolation driver has nothing to decide: what Docker would
do by default, what the container asks for, what the daemon's defaults say and what the machine
can give. The function is called on every start; it reads nothing but the devices that a container
names, and takes some tens of microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from boxwood.drivers.isolation import INIT_ANNOTATION, Document, Machine
from boxwood.execution.spec import (
    capabilities,
    devices,
    limits,
    mounts,
    namespaces,
    process,
    resources,
    security,
)
from boxwood.execution.spec.mounts import DEFAULT_SHM_SIZE, SpecMount
from boxwood.execution.spec.process import ExecRequest, ResolvedUser
from boxwood.execution.spec.seccomp_profile import Profile, resolve
from boxwood.model.config import Ulimit
from boxwood.model.container import Container

OCI_VERSION = "1.2.0"


class SpecDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """What the daemon's configuration and the machine put in where a container says nothing."""

    machine: Machine
    ulimits: Mapping[str, Ulimit] = msgspec.field(default_factory=dict)
    """By short name."""
    cgroup_parent: str = "/boxwood"
    cgroupns_mode: str = ""
    shm_size: int = DEFAULT_SHM_SIZE
    init: bool = False
    no_new_privileges: bool = False
    seccomp: Profile | None = None
    """The daemon's default profile; ``None``: our own. See ``unconfined``."""
    unconfined: bool = False
    """The daemon's default is no filter at all."""
    masked_paths: tuple[str, ...] = ()
    """More paths to hide, which only some machines have (``thermal_throttle`` of each cpu)."""


class SandboxInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the container's sandbox has made or found."""

    namespaces: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Namespaces to join, OCI name to path; the others are made."""
    shm: str = ""
    """Path to bind on /dev/shm, for a container that joins another's IPC namespace:
    ``/proc/<pid>/root/dev/shm`` of the other (a driver must be able to bind such a source).
    Empty: a tmpfs of the container's own."""
    hosts: str = ""
    resolv_conf: str = ""
    hostname_file: str = ""
    """Paths of the three files, bound on their places in /etc, writable unless the root
    is read-only; empty: not bound."""


_ALONE = SandboxInfo()


def build_spec(
    container: Container,
    *,
    user: ResolvedUser,
    daemon: SpecDefaults,
    sandbox: SandboxInfo = _ALONE,
    mounts: Iterable[SpecMount] = (),
) -> Document:
    """Return the document. Sequences in it are lists or tuples.

    Args:
        user: from the container's own files.
        mounts: binds and volumes, in any order.

    Raises:
        InvalidArgument: what ``validate`` would have refused, or a device that is gone.
    """
    host = container.host_config
    machine = daemon.machine
    options = security.of(host, no_new_privileges=daemon.no_new_privileges)
    held = capabilities.granted(host, machine)
    modes = namespaces.modes(host, machine, daemon.cgroupns_mode)
    rlimits, _ = limits.rlimits(limits.merge_ulimits(host.ulimits, daemon.ulimits), machine)
    score, _ = limits.oom_score_adj(host.oom_score_adj, machine)
    spec: Document = {
        "ociVersion": OCI_VERSION,
        "process": process.build(
            container,
            user,
            held=held,
            rlimits=rlimits,
            oom_score_adj=score,
            no_new_privileges=options.no_new_privileges,
        ),
        "root": {"path": "rootfs", "readonly": host.readonly_rootfs},
        "mounts": _mounts(container, daemon, sandbox, mounts, options),
        "linux": _linux(container, daemon, sandbox, modes, options),
    }
    profile = security.seccomp_profile(
        options, privileged=host.privileged, default=_default_profile(daemon)
    )
    if profile is not None:
        spec["linux"]["seccomp"] = resolve(profile, held, machine.architecture, machine.kernel)
    _names(spec, container, modes)
    annotations = dict(host.annotations or {})
    if daemon.init if host.init is None else host.init:
        annotations[INIT_ANNOTATION] = "true"
    if annotations:
        spec["annotations"] = annotations
    return spec


def _default_profile(daemon: SpecDefaults) -> Profile | None:
    if daemon.unconfined:
        return None
    return daemon.seccomp or security.builtin_profile()


def _names(spec: Document, container: Container, modes: Mapping[str, str]) -> None:
    """Set host and domain name, unless they would be the host's own."""
    if modes["uts"] == namespaces.HOST:
        return
    spec["hostname"] = container.config.hostname
    if container.config.domainname:
        spec["domainname"] = container.config.domainname


def _mounts(
    container: Container,
    daemon: SpecDefaults,
    sandbox: SandboxInfo,
    given: Iterable[SpecMount],
    options: security.Security,
) -> list[Document]:
    own = list(given)
    taken = {mount.destination for mount in own}
    access = ("rbind", "rprivate", "ro" if container.host_config.readonly_rootfs else "rw")
    for source, destination in (
        (sandbox.resolv_conf, "/etc/resolv.conf"),
        (sandbox.hostname_file, "/etc/hostname"),
        (sandbox.hosts, "/etc/hosts"),
    ):
        if source and destination not in taken:
            own.append(SpecMount(destination=destination, source=source, options=access))
    return mounts.build(
        container.host_config,
        own,
        shm_size=daemon.shm_size,
        shm=sandbox.shm,
        writable_cgroups=options.writable_cgroups,
    )


def _linux(
    container: Container,
    daemon: SpecDefaults,
    sandbox: SandboxInfo,
    modes: dict[str, str],
    options: security.Security,
) -> Document:
    host = container.host_config
    nodes, rules = devices.gather(host)
    linux: Document = {
        "namespaces": namespaces.build(modes, dict(sandbox.namespaces)),
        "cgroupsPath": cgroups_path(host.cgroup_parent or daemon.cgroup_parent, container.id),
        "resources": resources.build(host, rules),
        "maskedPaths": mounts.masked(host, daemon.masked_paths, unmask=options.unmask),
        "readonlyPaths": mounts.readonly(host, unmask=options.unmask),
    }
    if nodes:
        linux["devices"] = nodes
    sysctls = dict(host.sysctls or {})
    # A joined network namespace is another's: what it has set there stays.
    if modes["network"] == namespaces.PRIVATE:
        sysctls = {**limits.NETWORK_SYSCTLS, **sysctls}
    if sysctls:
        linux["sysctl"] = sysctls
    propagation = _root_propagation(mount.propagation for mount in container.mounts)
    if propagation:
        linux["rootfsPropagation"] = propagation
    return linux


def _root_propagation(asked: Iterable[str]) -> str:
    """A shared or slave bind only works when the tree above it is not private."""
    modes = {mode.removeprefix("r") for mode in asked if mode}
    return "shared" if "shared" in modes else "rslave" if "slave" in modes else ""


def cgroups_path(parent: str, container_id: str) -> str:
    """Return ``<parent>/<id>``, always absolute and without ``..``.

    A parent is taken from the root of the hierarchy, whatever is before it.
    """
    parts = [part for part in parent.split("/") if part not in ("", ".", "..")]
    return "/" + "/".join((*parts, container_id))


def build_exec_process(
    container: Container,
    spec: Document,
    request: ExecRequest,
    user: ResolvedUser,
    machine: Machine,
) -> Document:
    """Return the OCI ``process`` of an exec in a container that was started from ``spec``."""
    return process.build_exec(container, spec, request, user, machine)


def default_seccomp(daemon: SpecDefaults) -> Document | None:
    """Return the ``linux.seccomp`` of a container that asks for nothing: what to warm up."""
    profile = _default_profile(daemon)
    machine = daemon.machine
    if profile is None:
        return None
    held = [name for name in capabilities.DEFAULT if name in machine.capabilities]
    return resolve(profile, held, machine.architecture, machine.kernel)
