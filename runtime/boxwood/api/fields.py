"""Every field of the create body, and what becomes of it.

No field is ignored in silence: it is honoured, or kept and shown because it means nothing on
this system, or answered in ``Warnings``, or refused by name. A test holds this table against
Docker's OpenAPI file.
"""

from __future__ import annotations

from typing import NamedTuple

HONOURED = "honoured"
RECORDED = "recorded"
"""Kept and shown by inspect; by its meaning it changes nothing in a running container here."""
WARNED = "warned"
REFUSED = "refused"
ANSWER = "answer"
"""A field of answers only; in a request Docker, too, makes nothing of it."""


class Rule(NamedTuple):
    """What becomes of a field when a client sets it to anything but its zero value."""

    state: str
    text: str = ""
    """The warning, or why it is refused."""
    accepted: tuple[object, ...] = ()
    """Values of a refused field that are fine."""


_YES = Rule(HONOURED)
_KEPT = Rule(RECORDED)
_SHOWN = Rule(ANSWER)
_NO_QOS = "invalid QoS settings: linux does not support"


def _all(rule: Rule, names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


def _honoured(names: str) -> dict[str, Rule]:
    return _all(_YES, names)


TABLE: dict[str, dict[str, Rule]] = {
    "ContainerConfig": {
        **_honoured(
            "Hostname Domainname User AttachStdin AttachStdout AttachStderr ExposedPorts Tty "
            "OpenStdin StdinOnce Env Cmd Healthcheck Image Volumes WorkingDir Entrypoint "
            "NetworkDisabled Labels StopSignal StopTimeout Shell"
        ),
        "ArgsEscaped": _KEPT,
        "OnBuild": _KEPT,
    },
    "HealthConfig": _honoured("Test Interval Timeout Retries StartPeriod StartInterval"),
    "HostConfig": {
        **_honoured(
            "CpuShares Memory CgroupParent BlkioWeight BlkioWeightDevice BlkioDeviceReadBps "
            "BlkioDeviceWriteBps BlkioDeviceReadIOps BlkioDeviceWriteIOps CpuPeriod CpuQuota "
            "CpuRealtimePeriod CpuRealtimeRuntime CpusetCpus CpusetMems Devices "
            "DeviceCgroupRules MemoryReservation MemorySwap MemorySwappiness NanoCpus "
            "OomKillDisable Init PidsLimit Ulimits Binds LogConfig NetworkMode RestartPolicy "
            "AutoRemove VolumeDriver VolumesFrom Mounts ConsoleSize Annotations CapAdd CapDrop "
            "CgroupnsMode Dns DnsOptions DnsSearch ExtraHosts GroupAdd IpcMode OomScoreAdj "
            "PidMode Privileged ReadonlyRootfs SecurityOpt StorageOpt Tmpfs UTSMode ShmSize "
            "Sysctls Runtime MaskedPaths ReadonlyPaths PortBindings PublishAllPorts Links"
        ),
        "ContainerIDFile": _KEPT,
        "CpuCount": Rule(WARNED, "is a limit of Windows: discarded"),
        "CpuPercent": Rule(WARNED, "is a limit of Windows: discarded"),
        "IOMaximumIOps": Rule(REFUSED, f"{_NO_QOS} Maximum IO IOps"),
        "IOMaximumBandwidth": Rule(REFUSED, f"{_NO_QOS} Maximum IO Bandwidth"),
        "Cgroup": Rule(REFUSED, "joining another container's cgroup is not served"),
        "Isolation": Rule(REFUSED, "is for Windows", ("default",)),
        "UsernsMode": Rule(REFUSED, "user namespaces are not served yet", ("host",)),
        "DeviceRequests": Rule(REFUSED, "no driver for device requests"),
    },
    "LogConfig": _honoured("Type Config"),
    "RestartPolicy": _honoured("Name MaximumRetryCount"),
    "PortBinding": _honoured("HostIp HostPort"),
    "ThrottleDevice": _honoured("Path Rate"),
    "DeviceMapping": _honoured("PathOnHost PathInContainer CgroupPermissions"),
    "Mount": {
        **_honoured("Target Source Type ReadOnly BindOptions VolumeOptions TmpfsOptions"),
        "Consistency": _KEPT,
        "ImageOptions": Rule(REFUSED, "image mounts are not served yet"),
    },
    "BindOptions": _honoured(
        "Propagation NonRecursive CreateMountpoint ReadOnlyNonRecursive ReadOnlyForceRecursive"
    ),
    "VolumeOptions": _honoured("NoCopy Labels DriverConfig Subpath"),
    "TmpfsOptions": _honoured("SizeBytes Mode Options"),
    "NetworkingConfig": _honoured("EndpointsConfig"),
    "EndpointSettings": {
        **_honoured("IPAMConfig Links MacAddress Aliases DriverOpts GwPriority"),
        **_all(
            _SHOWN,
            "NetworkID EndpointID Gateway IPAddress IPPrefixLen IPv6Gateway GlobalIPv6Address "
            "GlobalIPv6PrefixLen DNSNames",
        ),
    },
}
"""By struct of the OpenAPI file, by JSON name. Structs that are inline there (BindOptions, ...)
are here under the name that Docker's Go API gives them."""
