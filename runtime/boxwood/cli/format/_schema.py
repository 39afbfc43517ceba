"""The Go types of what `inspect` shows, so that templates see fields that the JSON leaves out.

Docker's client runs a template over a Go struct first. There every field exists, with its zero
value, and its name is Go's (`.ID`, where the JSON has `Id`). A type is written as a line of
fields: `Name[=JsonName][?][:type]`; `?` leaves a zero value out of JSON; without a type it is a
string. Types: `s` string, `b` bool, `i` int, `f` float, `t` time, `a` anything; `[]T` slice,
`{}T` map by string, `*Name` pointer to and `Name` a struct of the table.
"""

from __future__ import annotations

from boxwood.cli.template import List, Map, NilPointer, Struct
from boxwood.cli.template._values import Time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


_ENDPOINT_IPAM = "IPv4Address? IPv6Address? LinkLocalIPs?:[]s"
_RESOURCES = (
    "CpuShares:i Memory:i NanoCPUs=NanoCpus:i CgroupParent BlkioWeight:i "
    "BlkioWeightDevice:[]*blkiodev.WeightDevice BlkioDeviceReadBps:[]*blkiodev.ThrottleDevice "
    "BlkioDeviceWriteBps:[]*blkiodev.ThrottleDevice "
    "BlkioDeviceReadIOps:[]*blkiodev.ThrottleDevice "
    "BlkioDeviceWriteIOps:[]*blkiodev.ThrottleDevice CPUPeriod=CpuPeriod:i CPUQuota=CpuQuota:i "
    "CPURealtimePeriod=CpuRealtimePeriod:i CPURealtimeRuntime=CpuRealtimeRuntime:i CpusetCpus "
    "CpusetMems Devices:[]container.DeviceMapping DeviceCgroupRules:[]s "
    "DeviceRequests:[]container.DeviceRequest KernelMemory?:i KernelMemoryTCP?:i "
    "MemoryReservation:i MemorySwap:i MemorySwappiness:*i OomKillDisable:*b PidsLimit:*i "
    "Ulimits:[]*units.Ulimit CPUCount=CpuCount:i CPUPercent=CpuPercent:i IOMaximumIOps:i "
    "IOMaximumBandwidth:i"
)
_TYPES = {
    "container.InspectResponse": (
        "ID=Id Created Path Args:[]s State:*container.State Image ResolvConfPath HostnamePath "
        "HostsPath LogPath Name RestartCount:i Driver Platform MountLabel ProcessLabel "
        "AppArmorProfile ExecIDs:[]s HostConfig:*container.HostConfig "
        "GraphDriver:storage.DriverData SizeRw?:*i SizeRootFs?:*i Mounts:[]container.MountPoint "
        "Config:*container.Config NetworkSettings:*container.NetworkSettings "
        "ImageManifestDescriptor?:*v1.Descriptor"
    ),
    "container.State": (
        "Status Running:b Paused:b Restarting:b OOMKilled:b Dead:b Pid:i ExitCode:i Error "
        "StartedAt FinishedAt Health?:*container.Health"
    ),
    "container.Health": "Status FailingStreak:i Log:[]*container.HealthcheckResult",
    "container.HealthcheckResult": "Start:t End:t ExitCode:i Output",
    "container.HostConfig": (
        "Binds:[]s ContainerIDFile LogConfig:container.LogConfig NetworkMode "
        "PortBindings:nat.PortMap "
        ""
        "RestartPolicy:container.RestartPolicy AutoRemove:b VolumeDriver VolumesFrom:[]s "
        "ConsoleSize:[]i Annotations?:{}s CapAdd:[]s CapDrop:[]s CgroupnsMode DNS=Dns:[]s "
        "DNSOptions=DnsOptions:[]s DNSSearch=DnsSearch:[]s ExtraHosts:[]s GroupAdd:[]s IpcMode "
        "Cgroup Links:[]s OomScoreAdj:i PidMode Privileged:b PublishAllPorts:b ReadonlyRootfs:b "
        "SecurityOpt:[]s StorageOpt?:{}s Tmpfs?:{}s UTSMode UsernsMode ShmSize:i Sysctls?:{}s "
        f"Runtime? Isolation {_RESOURCES} Mounts?:[]mount.Mount MaskedPaths:[]s ReadonlyPaths:[]s "
        "Init?:*b"
    ),
    "container.LogConfig": "Type Config:{}s",
    "container.RestartPolicy": "Name MaximumRetryCount:i",
    "container.DeviceMapping": "PathOnHost PathInContainer CgroupPermissions",
    "container.DeviceRequest": "Driver Count:i DeviceIDs:[]s Capabilities:[][]s Options:{}s",
    "blkiodev.WeightDevice": "Path Weight:i",
    "blkiodev.ThrottleDevice": "Path Rate:i",
    "units.Ulimit": "Name Hard:i Soft:i",
    "nat.PortBinding": "HostIP=HostIp HostPort",
    "mount.Mount": (
        "Type? Source? Target? ReadOnly?:b Consistency? BindOptions?:*mount.BindOptions "
        "VolumeOptions?:*mount.VolumeOptions ImageOptions?:*mount.ImageOptions "
        "TmpfsOptions?:*mount.TmpfsOptions ClusterOptions?:a"
    ),
    "mount.BindOptions": (
        "Propagation? NonRecursive?:b CreateMountpoint?:b ReadOnlyNonRecursive?:b "
        "ReadOnlyForceRecursive?:b"
    ),
    "mount.VolumeOptions": "NoCopy?:b Labels?:{}s Subpath? DriverConfig?:*mount.Driver",
    "mount.Driver": "Name? Options?:{}s",
    "mount.ImageOptions": "Subpath?",
    "mount.TmpfsOptions": "SizeBytes?:i Mode?:i Options?:[][]s",
    "storage.DriverData": "Data:{}s Name",
    "container.MountPoint": "Type? Name? Source Destination Driver? Mode RW:b Propagation",
    "container.Config": (
        "Hostname Domainname User AttachStdin:b AttachStdout:b AttachStderr:b "
        "ExposedPorts?:{}struct Tty:b OpenStdin:b StdinOnce:b Env:[]s Cmd:[]s "
        "Healthcheck?:*v1.HealthcheckConfig ArgsEscaped?:b Image Volumes:{}struct WorkingDir "
        "Entrypoint:[]s NetworkDisabled?:b MacAddress? OnBuild:[]s Labels:{}s StopSignal? "
        "StopTimeout?:*i Shell?:[]s"
    ),
    "v1.HealthcheckConfig": (
        "Test?:[]s Interval?:i Timeout?:i StartPeriod?:i StartInterval?:i Retries?:i"
    ),
    "struct": "",
    "container.NetworkSettings": (
        "Bridge SandboxID SandboxKey Ports:nat.PortMap HairpinMode:b LinkLocalIPv6Address "
        "LinkLocalIPv6PrefixLen:i SecondaryIPAddresses:[]network.Address "
        "SecondaryIPv6Addresses:[]network.Address EndpointID Gateway GlobalIPv6Address "
        "GlobalIPv6PrefixLen:i IPAddress IPPrefixLen:i IPv6Gateway MacAddress "
        "Networks:{}*network.EndpointSettings"
    ),
    "network.Address": "Addr PrefixLen:i",
    "network.EndpointSettings": (
        "IPAMConfig:*network.EndpointIPAMConfig Links:[]s Aliases:[]s MacAddress DriverOpts:{}s "
        "GwPriority:i NetworkID EndpointID Gateway IPAddress IPPrefixLen:i IPv6Gateway "
        "GlobalIPv6Address GlobalIPv6PrefixLen:i DNSNames:[]s"
    ),
    "network.EndpointIPAMConfig": _ENDPOINT_IPAM,
    "v1.Descriptor": (
        "MediaType=mediaType Digest=digest Size=size:i URLs=urls?:[]s Annotations=annotations?:{}s "
        "Data=data?:a Platform=platform?:*v1.Platform ArtifactType=artifactType?"
    ),
    "v1.Platform": (
        "Architecture=architecture OS=os OSVersion=os.version? OSFeatures=os.features?:[]s "
        "Variant=variant?"
    ),
    "image.InspectResponse": (
        "ID=Id RepoTags:[]s RepoDigests:[]s Parent Comment Created? Container? "
        "ContainerConfig?:*container.Config DockerVersion Author "
        "Config:*dockerspec.DockerOCIImageConfig Architecture Variant? Os OsVersion? Size:i "
        "VirtualSize?:i GraphDriver:storage.DriverData RootFS:image.RootFS "
        "Metadata:image.Metadata Descriptor?:*v1.Descriptor Manifests?:[]a"
    ),
    "dockerspec.DockerOCIImageConfig": (
        "User? ExposedPorts?:{}struct Env?:[]s Entrypoint?:[]s Cmd?:[]s Volumes?:{}struct "
        "WorkingDir? Labels?:{}s StopSignal? ArgsEscaped?:b Healthcheck?:*v1.HealthcheckConfig "
        "OnBuild?:[]s Shell?:[]s"
    ),
    "image.RootFS": "Type? Layers?:[]s",
    "image.Metadata": "LastTagTime?:t",
    "network.Inspect": (
        "Name ID=Id Created:t Scope Driver EnableIPv4:b EnableIPv6:b IPAM:network.IPAM Internal:b "
        "Attachable:b Ingress:b ConfigFrom:network.ConfigReference ConfigOnly:b "
        "Containers:{}network.EndpointResource Options:{}s Labels:{}s Peers?:[]a Services?:{}a"
    ),
    "network.IPAM": "Driver Options:{}s Config:[]network.IPAMConfig",
    "network.IPAMConfig": ("Subnet? IPRange? Gateway? AuxAddress=AuxiliaryAddresses?:{}s"),
    "network.ConfigReference": "Network",
    "network.EndpointResource": "Name EndpointID MacAddress IPv4Address IPv6Address",
    "volume.Volume": (
        "ClusterVolume?:*volume.ClusterVolume CreatedAt? Driver Labels:{}s Mountpoint "
        "Name Options:{}s Scope Status?:{}a UsageData?:*volume.UsageData"
    ),
    "volume.UsageData": "RefCount:i Size:i",
    "volume.ClusterVolume": "ID",
    "events.Message": (
        "Status=status? ID=id? From=from? Type Action Actor:events.Actor Scope=scope? "
        "Time=time?:i TimeNano=timeNano?:i"
    ),
    "events.Actor": "ID Attributes:{}s",
    "system.versionInfo": "Client:system.clientVersion Server:*types.Version",
    "system.clientVersion": (
        "Platform?:*system.platformInfo Version? APIVersion=ApiVersion? "
        "DefaultAPIVersion=DefaultAPIVersion? GitCommit? GoVersion? Os? Arch? BuildTime? Context"
    ),
    "system.platformInfo": "Name?",
    "types.Version": (
        "Platform?:types.Platform Components?:[]types.ComponentVersion Version "
        "APIVersion=ApiVersion MinAPIVersion? GitCommit GoVersion Os Arch KernelVersion? "
        "Experimental?:b BuildTime?"
    ),
    "types.Platform": "Name",
    "types.ComponentVersion": "Name Version Details?:{}s",
}
_ROOTS = {
    "container": "container.InspectResponse",
    "image": "image.InspectResponse",
    "network": "network.Inspect",
    "volume": "volume.Volume",
    "event": "events.Message",
    "version": "system.versionInfo",
}
# Kinds whose template is tried again over the plain JSON when the typed object has no such field.
RAW_FALLBACK = frozenset(("container", "image", "network", "version"))
_ALIASES = {"nat.PortMap": "{}[]nat.PortBinding"}
_SCALARS: dict[str, tuple[str, object]] = {
    "s": ("string", ""),
    "b": ("bool", False),
    "i": ("int", 0),
    "f": ("float64", 0.0),
    "t": ("time.Time", ""),
    "a": ("interface {}", None),
}


def typed(value: Any, kind: str) -> Struct | None:
    """An inspected object as its Go struct; None when `kind` has none or it is no object."""
    root = _ROOTS.get(kind)
    if root is None or not isinstance(value, dict):
        return None
    found = _struct(value, root)
    found.pointer = kind == "event"
    return found


def _struct(raw: dict[str, Any], name: str) -> Struct:
    """The struct `name` with the values of a JSON object."""
    found = Struct()
    found.go_name = name
    shown: dict[str, object] = {}
    for field in _TYPES[name].split():
        go, json_name, omit, kind = _field(field)
        given = raw.get(json_name)
        try:
            found[go] = _value(given, kind)
        except (TypeError, ValueError, AttributeError):
            found[go] = given  # not what Docker has there: shown as it is
        if not (omit and not found[go] and not _is_set_pointer(given, kind)):
            shown[json_name] = found[go]
    found.json = shown
    return found


def _is_set_pointer(given: object, kind: str) -> bool:
    """Whether a pointer is there, if to something empty."""
    return kind.startswith("*") and given is not None


def _field(text: str) -> tuple[str, str, bool, str]:
    """Go name, JSON name, whether a zero value is left out, type."""
    names, _, kind = text.partition(":")
    omit = names.endswith("?")
    go, _, json_name = names.removesuffix("?").partition("=")
    kind = _ALIASES.get(kind, kind) or "s"
    return go, json_name or go, omit, kind


def _go_name(kind: str) -> str:
    """The Go name of a type."""
    for mark, go in (("[]", "[]"), ("{}", "map[string]"), ("*", "*")):
        if kind.startswith(mark):
            return go + _go_name(kind.removeprefix(mark))
    return _SCALARS[kind][0] if kind in _SCALARS else kind


def _value(given: Any, kind: str) -> object:
    """A JSON value as a value of the type; None as the type's zero value."""
    if kind.startswith("[]"):
        items = List(_value(item, kind[2:]) for item in given or ())
        items.go_name = _go_name(kind)
        items.nil = given is None
        return items
    if kind.startswith("{}"):
        entries = Map((key, _value(item, kind[2:])) for key, item in (given or {}).items())
        entries.go_name = _go_name(kind)
        entries.nil = given is None
        entries.zero = _value(None, kind[2:])
        return entries
    if kind.startswith("*"):
        return _pointer(given, kind[1:])
    if kind == "t":
        return _time(given)
    if kind in _SCALARS:
        return _SCALARS[kind][1] if given is None else given
    return _struct(given or {}, kind)


def _pointer(given: Any, kind: str) -> object:
    if given is None:
        if kind in _SCALARS:
            return NilPointer(_SCALARS[kind][0])
        return NilPointer(kind, frozenset(_field(field)[0] for field in _TYPES[kind].split()))
    if kind in _SCALARS:
        return given
    found = _struct(given, kind)
    found.pointer = True
    return found


def _time(given: Any) -> Time:
    from boxwood.cli.format._rows import go_api_time

    found = Time(go_api_time(given or ""))
    found.json = given or "0001-01-01T00:00:00Z"
    return found
