"""All flags of `run` and `create` as the body of `POST /containers/create`."""

from __future__ import annotations

import os

from boxwood.cli.opts import _limits as limits
from boxwood.cli.opts._errors import FlagError, OptError
from boxwood.cli.opts._scalars import parse_bytes, parse_cpus, parse_duration, parse_int

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    Flags = Mapping[str, Any]

# Flags that have a letter are named with it in messages.
_LETTERS = {"attach": "a", "env": "e", "label": "l", "memory": "m", "cpu-shares": "c"}


class CreateRequest:
    """What to send: the `body`; `name` and `platform` go into the query (`query` has it).

    `warnings` are what the command line itself has to say of the flags. Unpacks into body,
    name and query.
    """

    __slots__ = ("body", "name", "platform", "warnings")

    def __init__(
        self,
        body: dict[str, Any],
        name: str | None,
        platform: str | None,
        warnings: list[str],
    ) -> None:
        self.body = body
        self.name = name
        self.platform = platform
        self.warnings = warnings

    @property
    def query(self) -> dict[str, str]:
        """The query besides the name."""
        return {"platform": self.platform} if self.platform else {}

    def __iter__(self) -> Iterator[Any]:
        return iter((self.body, self.name, self.query))


def build_create_body(
    flags: Flags, image: str | None = None, command: list[str] | None = None
) -> CreateRequest:
    """The request for these flags.

    `flags` has the values by long name with underscores: lists for what may be repeated, None or
    nothing for what was not given. `image` and `command` may stand in it too, and `given`, the
    names of the flags that were there: only then is `--init=false` more than no `--init`.
    Relative paths, bare environment names, and files that flags name are read here, as the caller
    sees them. Raises OptError in Docker's words; its `in_flag` says that the value did not suit
    its flag.
    """
    builder = _Builder(flags)
    chosen = image if image is not None else str(flags["image"])
    words = command if command is not None else list(flags.get("command") or ())
    body = builder.config(chosen, words)
    return CreateRequest(
        body, flags.get("name") or None, flags.get("platform") or None, builder.warnings
    )


class _Builder:
    """Reads the flags one by one; each method makes a part of the body."""

    def __init__(self, flags: Flags) -> None:
        self.flags = flags
        self.warnings: list[str] = []

    # -- reading flags

    def text(self, name: str) -> str:
        """A text; empty when it was not given."""
        return self.flags.get(name) or ""

    def items(self, name: str) -> list[str]:
        """A repeated flag's values, once each."""
        return list(dict.fromkeys(self.flags.get(name) or ()))

    def checked(self, name: str, check: Callable[[str], Any]) -> list[Any]:
        """A repeated flag's values through `check`. Raises FlagError."""
        return [self.one(name, value, check) for value in self.items(name)]

    def one(self, name: str, value: str, check: Callable[[str], Any]) -> Any:
        """One value through `check`. Raises FlagError."""
        try:
            return check(value)
        except OptError as error:
            long = name.replace("_", "-")
            shown = f"-{_LETTERS[long]}, --{long}" if long in _LETTERS else f"--{long}"
            raise FlagError(value, shown, str(error)) from None

    def number(self, name: str, check: Callable[[str], int] = parse_int) -> int:
        """A number; 0 when it was not given."""
        value = self.flags.get(name)
        if value is None:
            return 0
        return value if isinstance(value, int) else self.one(name, value, check)

    # -- the container

    def config(self, image: str, command: list[str]) -> dict[str, Any]:
        """The whole body."""
        self.check_pull()
        streams = self.streams()
        binds, volumes = self.volumes()
        host = self.host_config(binds)
        bindings = host["PortBindings"]
        body: dict[str, Any] = {
            "Hostname": self.text("hostname"),
            "Domainname": self.text("domainname"),
            "User": self.text("user"),
            **streams,
            "Tty": bool(self.flags.get("tty")),
            "OpenStdin": bool(self.flags.get("interactive")),
            "StdinOnce": bool(self.flags.get("interactive")) and streams["AttachStdin"],
            "Env": self.environment() or None,
            "Cmd": command or None,
            "Image": image,
            "Volumes": volumes,
            "WorkingDir": self.text("workdir"),
            "Entrypoint": self.entrypoint(),
            "OnBuild": None,
            "Labels": self.labels(),
            "HostConfig": host,
        }
        ports = self.exposed(bindings)
        if ports:
            body["ExposedPorts"] = ports
        self.optional(body)
        mode, endpoints = self.networks()
        host["NetworkMode"] = mode
        body["NetworkingConfig"] = {"EndpointsConfig": endpoints}
        return body

    def optional(self, body: dict[str, Any]) -> None:
        """The fields that a body has only when they were asked for."""
        health = self.health()
        if health is not None:
            body["Healthcheck"] = health
        if self.text("stop_signal"):
            body["StopSignal"] = self.text("stop_signal")
        if self.flags.get("stop_timeout") is not None:
            body["StopTimeout"] = self.number("stop_timeout")

    def check_pull(self) -> None:
        """`--pull` has three values."""
        pull = self.text("pull")
        if pull not in ("", "always", "missing", "never"):
            raise OptError(
                f'invalid pull option: \'{pull}\': must be one of "always", "missing" or "never"'
            )

    def streams(self) -> dict[str, bool]:
        """Which streams the caller attaches to."""
        asked = self.checked("attach", limits.stream)
        if self.flags.get("detach"):
            if asked:
                raise OptError("conflicting options: cannot specify both --attach and --detach")
            return {"AttachStdin": False, "AttachStdout": False, "AttachStderr": False}
        return {
            "AttachStdin": "stdin" in asked or bool(self.flags.get("interactive")),
            "AttachStdout": "stdout" in asked or not asked,
            "AttachStderr": "stderr" in asked or not asked,
        }

    def entrypoint(self) -> list[str] | None:
        """The entrypoint; an empty one resets the image's."""
        value = self.flags.get("entrypoint")
        return None if value is None else [str(value)]

    def environment(self) -> list[str]:
        """Files first, then single settings; the last of a name's single settings counts."""
        if not self.flags.get("env") and not self.flags.get("env_file"):
            return []
        from boxwood.cli.opts._files import parse_env, parse_env_file

        single = self.checked("env", lambda text: parse_env(text, os.environ))
        found = [line for path in self.items("env_file") for line in parse_env_file(path)]
        latest = {setting.partition("=")[0]: setting for setting in single}
        return found + list(latest.values())

    def labels(self) -> dict[str, str]:
        """Labels of files and of the command line."""
        given = self.checked("label", limits.label)
        if not self.flags.get("label_file"):
            return limits.to_map(given)
        from boxwood.cli.opts._files import parse_label_file

        files = [line for path in self.items("label_file") for line in parse_label_file(path)]
        return limits.to_map(files + given)

    def volumes(self) -> tuple[list[str], dict[str, dict[str, str]]]:
        """Binds and anonymous volumes of `--volume`."""
        binds: list[str] = []
        anonymous: dict[str, dict[str, str]] = {}
        if not self.flags.get("volume"):
            return binds, anonymous
        from boxwood.cli.opts._mounts import volume

        for spec in self.items("volume"):
            bind, path = volume(spec)
            if bind is not None:
                binds.append(bind)
            elif path is not None:
                anonymous[path] = {}
        return binds, anonymous

    def exposed(self, bindings: Mapping[str, Any]) -> dict[str, dict[str, str]]:
        """Every port that is published or exposed."""
        if not bindings and not self.flags.get("expose"):
            return {}
        from boxwood.cli.opts._ports import exposed

        return {port: {} for port in [*bindings, *exposed(self.items("expose"))]}

    def networks(self) -> tuple[str, dict[str, Any]]:
        """The network mode and the endpoints."""
        if not any(self.flags.get(name) for name in _NETWORK_FLAGS):
            return "default", {"default": limits.empty_endpoint()}
        from boxwood.cli.opts import _net

        if self.text("mac_address"):
            _net.check_mac(self.text("mac_address"))
        return _net.endpoints(self.flags)

    def health(self) -> dict[str, Any] | None:
        """The health check; None when the image's stays."""
        flags = self.flags
        command = self.text("health_cmd")
        times = {
            field: self.number(name, parse_duration)
            for field, name in (
                ("Interval", "health_interval"),
                ("Timeout", "health_timeout"),
                ("Retries", "health_retries"),
                ("StartPeriod", "health_start_period"),
                ("StartInterval", "health_start_interval"),
            )
        }
        asked = bool(command) or any(times.values())
        if flags.get("no_healthcheck"):
            if asked:
                raise OptError("--no-healthcheck conflicts with --health-* options")
            return {"Test": ["NONE"]}
        for field, value in times.items():
            if value < 0:
                raise OptError(f"--health-{_dashed(field)} cannot be negative")
        if not asked:
            return None
        test = {"Test": ["CMD-SHELL", command]} if command else {}
        return test | {field: value for field, value in times.items() if value}

    # -- the host's part

    def host_config(self, binds: list[str]) -> dict[str, Any]:
        """HostConfig, its network mode apart."""
        add, drop = limits.capabilities(self.items("cap_add"), self.items("cap_drop"))
        unconfined = self.unconfined_paths()
        host: dict[str, Any] = {
            "Binds": binds or None,
            "ContainerIDFile": self.text("cidfile"),
            "LogConfig": self.log_config(),
            "PortBindings": self.published(),
            "RestartPolicy": self.restart(),
            "AutoRemove": bool(self.flags.get("rm")),
            "VolumeDriver": self.text("volume_driver"),
            "VolumesFrom": self.items("volumes_from") or None,
            "ConsoleSize": [0, 0],
            "CapAdd": add,
            "CapDrop": drop,
            **self.names(),
            "GroupAdd": self.items("group_add") or None,
            **self.namespaces(),
            "Cgroup": "",
            "Links": self.checked("link", limits.link) or None,
            "OomScoreAdj": self.number("oom_score_adj"),
            "Privileged": bool(self.flags.get("privileged")),
            "PublishAllPorts": bool(self.flags.get("publish_all")),
            "ReadonlyRootfs": bool(self.flags.get("read_only")),
            "SecurityOpt": self.security(),
            "ShmSize": self.number("shm_size", parse_bytes),
            "Isolation": self.text("isolation"),
            **self.resources(),
            **self.devices(),
            "MaskedPaths": unconfined,
            "ReadonlyPaths": unconfined,
        }
        self.host_options(host)
        return host

    def host_options(self, host: dict[str, Any]) -> None:
        """The fields that HostConfig has only when they were asked for."""
        annotations = limits.to_map(self.items("annotation"))
        if self.items("egress"):
            annotations["boxwood.egress"] = " ".join(self.items("egress"))
        tmpfs = {}
        for text in self.items("tmpfs"):
            path, _, options = text.partition(":")
            tmpfs[path] = options
        extra = {
            "Annotations": annotations,
            "Tmpfs": tmpfs,
            "Sysctls": limits.to_map(self.checked("sysctl", limits.sysctl)),
            "StorageOpt": self.storage(),
            "Mounts": self.mounts(),
            "Runtime": self.text("runtime"),
        }
        host.update({name: value for name, value in extra.items() if value})
        if self.flags.get("init") or "init" in (self.flags.get("given") or ()):
            host["Init"] = bool(self.flags.get("init"))

    def unconfined_paths(self) -> list[str] | None:
        """No masked or read-only path at all, or (None) the daemon's."""
        return [] if "systempaths=unconfined" in self.items("security_opt") else None

    def security(self) -> list[str] | None:
        """The security options."""
        if not self.flags.get("security_opt"):
            return None
        from boxwood.cli.opts._security import security_options

        return security_options(self.items("security_opt"))

    def log_config(self) -> dict[str, Any]:
        """Driver and options of the log."""
        driver, options = self.text("log_driver"), limits.to_map(self.items("log_opt"))
        if driver == "none" and options:
            raise OptError(f"invalid logging opts for driver {driver}")
        return {"Type": driver, "Config": options}

    def published(self) -> dict[str, list[dict[str, str]]]:
        """The port bindings."""
        specs = self.flags.get("publish")
        if not specs:
            return {}
        from boxwood.cli.opts._ports import published

        return published(list(specs))

    def restart(self) -> dict[str, Any]:
        """The restart policy, which `--rm` excludes."""
        value = self.flags.get("restart")
        policy = limits.restart_policy("no" if value is None else str(value))
        if self.flags.get("rm") and policy["Name"] not in ("", "no"):
            raise OptError("conflicting options: cannot specify both --restart and --rm")
        return policy

    def names(self) -> dict[str, Any]:
        """What name resolution is given."""
        found: dict[str, Any] = {"Dns": [], "DnsOptions": [], "DnsSearch": [], "ExtraHosts": None}
        if any(self.flags.get(name) for name in ("dns", "dns_option", "dns_search", "add_host")):
            from boxwood.cli.opts import _net

            found["Dns"] = self.checked("dns", _net.dns_server)
            found["DnsOptions"] = self.items("dns_option")
            found["DnsSearch"] = self.checked("dns_search", _net.dns_search)
            found["ExtraHosts"] = self.checked("add_host", _net.extra_host) or None
            self.warn_of_local_dns(found["Dns"])
        return found

    def warn_of_local_dns(self, servers: list[str]) -> None:
        """A loopback address is the container's own."""
        for server in servers:
            if server.startswith("127.") or server == "::1":
                self.warnings.append(f"Localhost DNS ({server}) may fail in containers.")
                return

    def namespaces(self) -> dict[str, str]:
        """Whose namespaces the container has."""
        pid = self.text("pid")
        if pid not in ("", "host") and (not pid.startswith("container:") or pid == "container:"):
            raise OptError("--pid: invalid PID mode")
        found = {"PidMode": pid, "IpcMode": self.text("ipc")}
        for field, name, words, allowed in (
            ("UTSMode", "uts", "UTS", ("", "host")),
            ("UsernsMode", "userns", "USER", ("", "host")),
            ("CgroupnsMode", "cgroupns", "CGROUP", ("", "host", "private")),
        ):
            found[field] = self.text(name)
            if found[field] not in allowed:
                raise OptError(f"--{name}: invalid {words} mode")
        return found

    def resources(self) -> dict[str, Any]:
        """CPU, memory, processes."""
        swappiness = self.flags.get("memory_swappiness")
        swappiness = -1 if swappiness is None else self.number("memory_swappiness")
        if not -1 <= swappiness <= 100:
            raise OptError(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")
        memory = self.number("memory", parse_bytes)
        if self.flags.get("oom_kill_disable") and not memory:
            self.warnings.append(
                "Disabling the OOM killer on containers without setting a '-m/--memory' limit "
                "may be dangerous."
            )
        self.number("kernel_memory", parse_bytes)  # gone from the kernel, but still checked
        ulimits = {found["Name"]: found for found in self.checked("ulimit", limits.ulimit)}
        return {
            "CpuShares": self.number("cpu_shares"),
            "Memory": memory,
            "NanoCpus": self.number("cpus", parse_cpus),
            "CgroupParent": self.text("cgroup_parent"),
            "CpuPeriod": self.number("cpu_period"),
            "CpuQuota": self.number("cpu_quota"),
            "CpuRealtimePeriod": self.number("cpu_rt_period"),
            "CpuRealtimeRuntime": self.number("cpu_rt_runtime"),
            "CpusetCpus": self.text("cpuset_cpus"),
            "CpusetMems": self.text("cpuset_mems"),
            "MemoryReservation": self.number("memory_reservation", parse_bytes),
            "MemorySwap": self.number("memory_swap", _memory_swap),
            "MemorySwappiness": swappiness,
            "OomKillDisable": bool(self.flags.get("oom_kill_disable")),
            "PidsLimit": self.number("pids_limit"),
            "Ulimits": [ulimits[name] for name in sorted(ulimits)],
            "CpuCount": self.number("cpu_count"),
            "CpuPercent": self.number("cpu_percent"),
            "IOMaximumIOps": self.number("io_maxiops"),
            "IOMaximumBandwidth": self.number("io_maxbandwidth", parse_bytes),
        }

    def devices(self) -> dict[str, Any]:
        """Devices and what they may be used for, and how much."""
        found: dict[str, Any] = {
            "BlkioWeight": self.number("blkio_weight"),
            "BlkioWeightDevice": [],
            "BlkioDeviceReadBps": [],
            "BlkioDeviceWriteBps": [],
            "BlkioDeviceReadIOps": [],
            "BlkioDeviceWriteIOps": [],
            "Devices": [],
            "DeviceCgroupRules": None,
            "DeviceRequests": None,
        }
        if any(self.flags.get(name) for name in _DEVICE_FLAGS):
            self.fill_devices(found)
        return found

    def fill_devices(self, found: dict[str, Any]) -> None:
        """`devices` when any of its flags was given."""
        from boxwood.cli.opts import _devices as dev

        found["BlkioWeightDevice"] = self.checked("blkio_weight_device", dev.weight_device)
        found["BlkioDeviceReadBps"] = self.checked("device_read_bps", dev.bps_device)
        found["BlkioDeviceWriteBps"] = self.checked("device_write_bps", dev.bps_device)
        found["BlkioDeviceReadIOps"] = self.checked("device_read_iops", dev.iops_device)
        found["BlkioDeviceWriteIOps"] = self.checked("device_write_iops", dev.iops_device)
        found["DeviceCgroupRules"] = self.checked("device_cgroup_rule", dev.cgroup_rule) or None
        gpus = self.flags.get("gpus") or []
        given = [gpus] if isinstance(gpus, str) else gpus
        requests = [self.one("gpus", text, dev.gpus) for text in given]
        found["Devices"], names = dev.devices(self.items("device"))
        if names:
            cdi = {"Driver": "cdi", "Count": 0, "DeviceIDs": names}
            requests.append(cdi | {"Capabilities": None, "Options": None})
        found["DeviceRequests"] = requests or None

    def storage(self) -> dict[str, str]:
        """Options of the storage driver."""
        found = {}
        for text in self.items("storage_opt"):
            key, equals, value = text.partition("=")
            if not equals:
                raise OptError("invalid storage option")
            found[key] = value
        return found

    def mounts(self) -> list[dict[str, Any]]:
        """The mounts of `--mount`."""
        specs = self.flags.get("mount")
        if not specs:
            return []
        from boxwood.cli.opts._mounts import mount

        if self.text("volume_driver"):
            self.warnings.append(
                "`--volume-driver` is ignored for volumes specified via `--mount`. "
                "Use `--mount type=volume,volume-driver=...` instead"
            )
        return [mount(text) for text in specs]


_NETWORK_FLAGS = (
    "network",
    "network_alias",
    "link",
    "ip",
    "ip6",
    "mac_address",
    "link_local_ip",
)
_DEVICE_FLAGS = (
    "blkio_weight_device",
    "device_read_bps",
    "device_write_bps",
    "device_read_iops",
    "device_write_iops",
    "device_cgroup_rule",
    "device",
    "gpus",
)


def _dashed(field: str) -> str:
    """`StartPeriod` as `start-period`."""
    return "".join(f"-{char.lower()}" if char.isupper() else char for char in field)[1:]


def _memory_swap(text: str) -> int:
    """A size, or -1 for no limit."""
    return -1 if text == "-1" else parse_bytes(text)
