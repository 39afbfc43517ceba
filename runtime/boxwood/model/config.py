"""What a client asks for when it creates a container (Engine API ``ContainerCreate``).

Field names and meanings: the OpenAPI file's ContainerConfig, HostConfig and EndpointSettings.
Sizes are bytes, durations nanoseconds unless said otherwise.
"""

from __future__ import annotations

import msgspec

from boxwood.model.wire import Wire


class HealthConfig(Wire):
    """How health is probed; a zero means: inherit from the image, else the default."""

    test: tuple[str, ...] | None = msgspec.field(default=None, name="Test")
    interval: int = msgspec.field(default=0, name="Interval")
    timeout: int = msgspec.field(default=0, name="Timeout")
    retries: int = msgspec.field(default=0, name="Retries")
    start_period: int = msgspec.field(default=0, name="StartPeriod")
    start_interval: int = msgspec.field(default=0, name="StartInterval")


class RestartPolicy(Wire):
    """``no`` | ``always`` | ``unless-stopped`` | ``on-failure`` with a bound (0: none)."""

    name: str = msgspec.field(default="", name="Name")
    maximum_retry_count: int = msgspec.field(default=0, name="MaximumRetryCount")


class LogConfig(Wire):
    """Log driver by name and its options; an empty type means the daemon's default."""

    type: str = msgspec.field(default="", name="Type")
    config: dict[str, str] | None = msgspec.field(default=None, name="Config")


class PortBinding(Wire):
    """Where a port of the container is published on the host."""

    host_ip: str = msgspec.field(default="", name="HostIp")
    host_port: str = msgspec.field(default="", name="HostPort")


class ThrottleDevice(Wire):
    """Bytes or operations a second for one block device."""

    path: str = msgspec.field(default="", name="Path")
    rate: int = msgspec.field(default=0, name="Rate")


class WeightDevice(Wire):
    """The block I/O weight of one device."""

    path: str = msgspec.field(default="", name="Path")
    weight: int = msgspec.field(default=0, name="Weight")


class DeviceMapping(Wire):
    """A device of the host, and where and how the container has it."""

    path_on_host: str = msgspec.field(default="", name="PathOnHost")
    path_in_container: str = msgspec.field(default="", name="PathInContainer")
    cgroup_permissions: str = msgspec.field(default="", name="CgroupPermissions")


class DeviceRequest(Wire):
    """A request to a device driver (`--gpus`)."""

    driver: str = msgspec.field(default="", name="Driver")
    count: int = msgspec.field(default=0, name="Count")
    device_ids: tuple[str, ...] | None = msgspec.field(default=None, name="DeviceIDs")
    capabilities: tuple[tuple[str, ...], ...] | None = msgspec.field(
        default=None, name="Capabilities"
    )
    options: dict[str, str] | None = msgspec.field(default=None, name="Options")


class Ulimit(Wire):
    """A resource limit by its short name (``nofile``); -1 is unlimited."""

    name: str = msgspec.field(default="", name="Name")
    soft: int = msgspec.field(default=0, name="Soft")
    hard: int = msgspec.field(default=0, name="Hard")


class BindOptions(Wire):
    """What only a bind mount is asked for."""

    propagation: str = msgspec.field(default="", name="Propagation")
    non_recursive: bool = msgspec.field(default=False, name="NonRecursive")
    create_mountpoint: bool = msgspec.field(default=False, name="CreateMountpoint")
    read_only_non_recursive: bool = msgspec.field(default=False, name="ReadOnlyNonRecursive")
    read_only_force_recursive: bool = msgspec.field(default=False, name="ReadOnlyForceRecursive")


class VolumeDriverConfig(Wire):
    """The driver of a volume that is made on the way, with its options."""

    name: str = msgspec.field(default="", name="Name")
    options: dict[str, str] | None = msgspec.field(default=None, name="Options")


class VolumeOptions(Wire):
    """What only a volume is asked for."""

    no_copy: bool = msgspec.field(default=False, name="NoCopy")
    labels: dict[str, str] | None = msgspec.field(default=None, name="Labels")
    driver_config: VolumeDriverConfig | None = msgspec.field(default=None, name="DriverConfig")
    subpath: str = msgspec.field(default="", name="Subpath")


class ImageOptions(Wire):
    """What only an image that is mounted is asked for."""

    subpath: str = msgspec.field(default="", name="Subpath")


class TmpfsOptions(Wire):
    """What only a tmpfs is asked for."""

    size_bytes: int = msgspec.field(default=0, name="SizeBytes")
    mode: int = msgspec.field(default=0, name="Mode")
    options: tuple[tuple[str, ...], ...] | None = msgspec.field(default=None, name="Options")


class MountRequest(Wire):
    """One entry of ``HostConfig.Mounts`` (``--mount``)."""

    target: str = msgspec.field(default="", name="Target")
    source: str = msgspec.field(default="", name="Source")
    type: str = msgspec.field(default="", name="Type")
    read_only: bool = msgspec.field(default=False, name="ReadOnly")
    consistency: str = msgspec.field(default="", name="Consistency")
    bind_options: BindOptions | None = msgspec.field(default=None, name="BindOptions")
    volume_options: VolumeOptions | None = msgspec.field(default=None, name="VolumeOptions")
    image_options: ImageOptions | None = msgspec.field(default=None, name="ImageOptions")
    tmpfs_options: TmpfsOptions | None = msgspec.field(default=None, name="TmpfsOptions")


class EndpointIPAMConfig(Wire):
    """The addresses that a client wants for an endpoint."""

    ipv4_address: str = msgspec.field(default="", name="IPv4Address")
    ipv6_address: str = msgspec.field(default="", name="IPv6Address")
    link_local_ips: tuple[str, ...] | None = msgspec.field(default=None, name="LinkLocalIPs")


class ContainerConfig(Wire):
    """What a container is wherever it runs; an image has one too."""

    hostname: str = msgspec.field(default="", name="Hostname")
    domainname: str = msgspec.field(default="", name="Domainname")
    user: str = msgspec.field(default="", name="User")
    attach_stdin: bool = msgspec.field(default=False, name="AttachStdin")
    attach_stdout: bool = msgspec.field(default=False, name="AttachStdout")
    attach_stderr: bool = msgspec.field(default=False, name="AttachStderr")
    exposed_ports: dict[str, dict[str, object]] | None = msgspec.field(
        default=None, name="ExposedPorts"
    )
    tty: bool = msgspec.field(default=False, name="Tty")
    open_stdin: bool = msgspec.field(default=False, name="OpenStdin")
    stdin_once: bool = msgspec.field(default=False, name="StdinOnce")
    env: tuple[str, ...] | None = msgspec.field(default=None, name="Env")
    cmd: tuple[str, ...] | None = msgspec.field(default=None, name="Cmd")
    healthcheck: HealthConfig | None = msgspec.field(default=None, name="Healthcheck")
    args_escaped: bool | None = msgspec.field(default=None, name="ArgsEscaped")
    image: str = msgspec.field(default="", name="Image")
    volumes: dict[str, dict[str, object]] | None = msgspec.field(default=None, name="Volumes")
    working_dir: str = msgspec.field(default="", name="WorkingDir")
    entrypoint: tuple[str, ...] | None = msgspec.field(default=None, name="Entrypoint")
    network_disabled: bool | None = msgspec.field(default=None, name="NetworkDisabled")
    on_build: tuple[str, ...] | None = msgspec.field(default=None, name="OnBuild")
    labels: dict[str, str] | None = msgspec.field(default=None, name="Labels")
    stop_signal: str | None = msgspec.field(default=None, name="StopSignal")
    stop_timeout: int | None = msgspec.field(default=None, name="StopTimeout")
    shell: tuple[str, ...] | None = msgspec.field(default=None, name="Shell")


class HostConfig(Wire):
    """What a container is given on this host."""

    cpu_shares: int = msgspec.field(default=0, name="CpuShares")
    memory: int = msgspec.field(default=0, name="Memory")
    cgroup_parent: str = msgspec.field(default="", name="CgroupParent")
    blkio_weight: int = msgspec.field(default=0, name="BlkioWeight")
    blkio_weight_device: tuple[WeightDevice, ...] | None = msgspec.field(
        default=None, name="BlkioWeightDevice"
    )
    blkio_device_read_bps: tuple[ThrottleDevice, ...] | None = msgspec.field(
        default=None, name="BlkioDeviceReadBps"
    )
    blkio_device_write_bps: tuple[ThrottleDevice, ...] | None = msgspec.field(
        default=None, name="BlkioDeviceWriteBps"
    )
    blkio_device_read_iops: tuple[ThrottleDevice, ...] | None = msgspec.field(
        default=None, name="BlkioDeviceReadIOps"
    )
    blkio_device_write_iops: tuple[ThrottleDevice, ...] | None = msgspec.field(
        default=None, name="BlkioDeviceWriteIOps"
    )
    cpu_period: int = msgspec.field(default=0, name="CpuPeriod")
    cpu_quota: int = msgspec.field(default=0, name="CpuQuota")
    cpu_realtime_period: int = msgspec.field(default=0, name="CpuRealtimePeriod")
    cpu_realtime_runtime: int = msgspec.field(default=0, name="CpuRealtimeRuntime")
    cpuset_cpus: str = msgspec.field(default="", name="CpusetCpus")
    cpuset_mems: str = msgspec.field(default="", name="CpusetMems")
    devices: tuple[DeviceMapping, ...] | None = msgspec.field(default=None, name="Devices")
    device_cgroup_rules: tuple[str, ...] | None = msgspec.field(
        default=None, name="DeviceCgroupRules"
    )
    device_requests: tuple[DeviceRequest, ...] | None = msgspec.field(
        default=None, name="DeviceRequests"
    )
    memory_reservation: int = msgspec.field(default=0, name="MemoryReservation")
    memory_swap: int = msgspec.field(default=0, name="MemorySwap")
    memory_swappiness: int | None = msgspec.field(default=None, name="MemorySwappiness")
    nano_cpus: int = msgspec.field(default=0, name="NanoCpus")
    oom_kill_disable: bool | None = msgspec.field(default=None, name="OomKillDisable")
    init: bool | None = msgspec.field(default=None, name="Init")
    pids_limit: int | None = msgspec.field(default=None, name="PidsLimit")
    ulimits: tuple[Ulimit, ...] | None = msgspec.field(default=None, name="Ulimits")
    cpu_count: int = msgspec.field(default=0, name="CpuCount")
    cpu_percent: int = msgspec.field(default=0, name="CpuPercent")
    io_maximum_iops: int = msgspec.field(default=0, name="IOMaximumIOps")
    io_maximum_bandwidth: int = msgspec.field(default=0, name="IOMaximumBandwidth")
    binds: tuple[str, ...] | None = msgspec.field(default=None, name="Binds")
    container_id_file: str = msgspec.field(default="", name="ContainerIDFile")
    log_config: LogConfig = msgspec.field(default=LogConfig(), name="LogConfig")
    network_mode: str = msgspec.field(default="", name="NetworkMode")
    port_bindings: dict[str, tuple[PortBinding, ...] | None] | None = msgspec.field(
        default=None, name="PortBindings"
    )
    restart_policy: RestartPolicy = msgspec.field(default=RestartPolicy(), name="RestartPolicy")
    auto_remove: bool = msgspec.field(default=False, name="AutoRemove")
    volume_driver: str = msgspec.field(default="", name="VolumeDriver")
    volumes_from: tuple[str, ...] | None = msgspec.field(default=None, name="VolumesFrom")
    mounts: tuple[MountRequest, ...] | None = msgspec.field(default=None, name="Mounts")
    console_size: tuple[int, int] | None = msgspec.field(default=None, name="ConsoleSize")
    annotations: dict[str, str] | None = msgspec.field(default=None, name="Annotations")
    cap_add: tuple[str, ...] | None = msgspec.field(default=None, name="CapAdd")
    cap_drop: tuple[str, ...] | None = msgspec.field(default=None, name="CapDrop")
    cgroupns_mode: str = msgspec.field(default="", name="CgroupnsMode")
    dns: tuple[str, ...] | None = msgspec.field(default=None, name="Dns")
    dns_options: tuple[str, ...] | None = msgspec.field(default=None, name="DnsOptions")
    dns_search: tuple[str, ...] | None = msgspec.field(default=None, name="DnsSearch")
    extra_hosts: tuple[str, ...] | None = msgspec.field(default=None, name="ExtraHosts")
    group_add: tuple[str, ...] | None = msgspec.field(default=None, name="GroupAdd")
    ipc_mode: str = msgspec.field(default="", name="IpcMode")
    cgroup: str = msgspec.field(default="", name="Cgroup")
    links: tuple[str, ...] | None = msgspec.field(default=None, name="Links")
    oom_score_adj: int = msgspec.field(default=0, name="OomScoreAdj")
    pid_mode: str = msgspec.field(default="", name="PidMode")
    privileged: bool = msgspec.field(default=False, name="Privileged")
    publish_all_ports: bool = msgspec.field(default=False, name="PublishAllPorts")
    readonly_rootfs: bool = msgspec.field(default=False, name="ReadonlyRootfs")
    security_opt: tuple[str, ...] | None = msgspec.field(default=None, name="SecurityOpt")
    storage_opt: dict[str, str] | None = msgspec.field(default=None, name="StorageOpt")
    tmpfs: dict[str, str] | None = msgspec.field(default=None, name="Tmpfs")
    uts_mode: str = msgspec.field(default="", name="UTSMode")
    userns_mode: str = msgspec.field(default="", name="UsernsMode")
    shm_size: int = msgspec.field(default=0, name="ShmSize")
    sysctls: dict[str, str] | None = msgspec.field(default=None, name="Sysctls")
    runtime: str | None = msgspec.field(default=None, name="Runtime")
    isolation: str = msgspec.field(default="", name="Isolation")
    masked_paths: tuple[str, ...] | None = msgspec.field(default=None, name="MaskedPaths")
    readonly_paths: tuple[str, ...] | None = msgspec.field(default=None, name="ReadonlyPaths")


class EndpointSettings(Wire):
    """A container's place in one network: what is asked for, and what it got."""

    ipam_config: EndpointIPAMConfig | None = msgspec.field(default=None, name="IPAMConfig")
    links: tuple[str, ...] | None = msgspec.field(default=None, name="Links")
    mac_address: str = msgspec.field(default="", name="MacAddress")
    aliases: tuple[str, ...] | None = msgspec.field(default=None, name="Aliases")
    driver_opts: dict[str, str] | None = msgspec.field(default=None, name="DriverOpts")
    gw_priority: int = msgspec.field(default=0, name="GwPriority")
    network_id: str = msgspec.field(default="", name="NetworkID")
    endpoint_id: str = msgspec.field(default="", name="EndpointID")
    gateway: str = msgspec.field(default="", name="Gateway")
    ip_address: str = msgspec.field(default="", name="IPAddress")
    ip_prefix_len: int = msgspec.field(default=0, name="IPPrefixLen")
    ipv6_gateway: str = msgspec.field(default="", name="IPv6Gateway")
    global_ipv6_address: str = msgspec.field(default="", name="GlobalIPv6Address")
    global_ipv6_prefix_len: int = msgspec.field(default=0, name="GlobalIPv6PrefixLen")
    dns_names: tuple[str, ...] | None = msgspec.field(default=None, name="DNSNames")


class NetworkingConfig(Wire):
    """The endpoints of a new container, by network."""

    endpoints_config: dict[str, EndpointSettings | None] | None = msgspec.field(
        default=None, name="EndpointsConfig"
    )
