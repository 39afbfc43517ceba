"""The daemon's configuration: dockerd's keys that this engine honours, from a file and from flags.

The file is JSON (``/etc/boxwood/daemon.json`` unless said otherwise) under dockerd's key names;
each flag sets one key. A key that is unknown, of a wrong type, or given in both places is an
error that names it: what a person wrote is never silently without effect.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from boxwood.errors import InvalidArgument, Unavailable
from boxwood.model.compression import Compression
from boxwood.model.config import Ulimit
from boxwood.model.policy import RegistryRule, check_rules
from boxwood.model.sizes import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DEFAULT_FILE = Path("/etc/boxwood/daemon.json")
DEFAULT_DATA_ROOT = "/var/lib/boxwood"
DEFAULT_EXEC_ROOT = "/run/boxwood"
DEFAULT_GROUP = "boxwood"
_FILE_LIMIT = 1 << 20
"""Bytes: a configuration is some kilobytes."""

_MIB = 1 << 20
_RUNTIMES = {"runc": "native", "io.containerd.runc.v2": "native"}
"""Names that clients send because Docker's ``info`` once gave them."""
_ROTATION = {"max-size": "10m", "max-file": "5"}
"""A log without a bound fills the disk: the most reported of Docker's defaults."""


_KEEP_BLOBS = ("always", "until-pushed", "never")
_RANGES = (
    ("layer_max_entries", 1, 1 << 32),
    ("layer_max_ratio", 0, 1 << 32),
    ("layer_max_name", 16, 4095),
)
"""Of numbers: a key, its least and its greatest value."""


class AddressPool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A block that subnets of new networks are cut from, and the bits of their prefix."""

    base: str
    size: int


class Proxies(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """Proxies between the daemon and registries, as in Docker's daemon.json."""

    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: str = ""


class Configuration(msgspec.Struct, frozen=True, kw_only=True, rename="kebab",
                    forbid_unknown_fields=True):  # fmt: skip
    """All keys with their defaults; :data:`DOCS` says what each means."""

    data_root: str = DEFAULT_DATA_ROOT
    exec_root: str = DEFAULT_EXEC_ROOT
    pidfile: str = ""
    hosts: tuple[str, ...] = ()
    group: str = ""
    tls: bool = False
    tlsverify: bool = False
    tlscacert: str = ""
    tlscert: str = ""
    tlskey: str = ""
    insecure_tcp: bool = False
    debug: bool = False
    log_level: str = "info"
    labels: tuple[str, ...] = ()
    storage_driver: str = ""
    storage_opts: tuple[str, ...] = ()
    keep_blobs: str = "never"
    layer_max_entries: int = 2_000_000
    layer_max_size: int | str = "1t"
    layer_max_ratio: int = 0
    layer_max_name: int = 4095
    default_runtime: str = "native"
    runtimes: dict[str, str] = msgspec.field(default_factory=lambda: dict(_RUNTIMES))
    default_network: str = "bridge"
    exec_opts: tuple[str, ...] = ()
    cgroup_parent: str = "/boxwood"
    default_cgroupns_mode: str = ""
    default_ipc_mode: str = "private"
    default_shm_size: int | str = 64 * _MIB
    default_ulimits: dict[str, Ulimit] = msgspec.field(default_factory=dict)
    default_stop_timeout: int = 10
    init: bool = False
    no_new_privileges: bool = False
    seccomp_profile: str = ""
    log_driver: str = "json-file"
    log_opts: dict[str, str] = msgspec.field(default_factory=lambda: dict(_ROTATION))
    bridge: str = ""
    bip: str = ""
    bip6: str = ""
    fixed_cidr: str = ""
    fixed_cidr_v6: str = ""
    default_gateway: str = ""
    default_gateway_v6: str = ""
    ipv6: bool = False
    mtu: int = 1500
    icc: bool = True
    ip_masq: bool = True
    ip: str = "0.0.0.0"
    ip_forward: bool = True
    host_gateway_ip: str = ""
    respect_host_firewall: bool = False
    default_address_pools: tuple[AddressPool, ...] = ()
    default_network_opts: dict[str, dict[str, str]] = msgspec.field(default_factory=dict)
    dns: tuple[str, ...] = ()
    dns_opts: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    live_restore: bool = True
    shutdown_timeout: int = 15
    idle_timeout: int = 0
    registry_mirrors: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    registries_config: str = ""
    proxies: Proxies = Proxies()
    registry_policy: tuple[RegistryRule, ...] = ()
    signature_verifier: str = "cosign"
    max_concurrent_downloads: int = 3
    max_concurrent_ranges: int = 4
    max_concurrent_uploads: int = 5
    max_download_attempts: int = 5
    push_compression: str = "gzip"
    min_api_version: str = "1.24"
    plugins: tuple[str, ...] = ()

    @property
    def shm_size(self) -> int:
        """Bytes of :attr:`default_shm_size`, which may be written with a unit."""
        return parse_bytes("default-shm-size", self.default_shm_size)

    @property
    def layer_size(self) -> int:
        """Bytes of :attr:`layer_max_size`, which may be written with a unit."""
        return parse_bytes("layer-max-size", self.layer_max_size)


DOCS: dict[str, str] = {
    "data-root": "Folder of all that is kept: images, containers, volumes, records.",
    "exec-root": "Folder of what runs: sockets, pids. Best on a tmpfs.",
    "pidfile": "File in which the daemon writes its process number; empty: none.",
    "hosts": "Where to listen: `unix://PATH`, `fd://` (systemd), `tcp://HOST:PORT`. "
    "Default: `unix://<exec-root>/boxwood.sock`.",
    "group": "Group that may use the unix socket, by name or number. Default: `boxwood` if there "
    "is one, else root alone.",
    "tls": "Speak TLS on TCP sockets; `tlsverify` implies it.",
    "tlsverify": "Speak TLS on TCP sockets, and only with clients whose certificate verifies.",
    "tlscacert": "File of the authority that signs the clients' certificates.",
    "tlscert": "File of the daemon's certificate.",
    "tlskey": "File of the key to it.",
    "insecure-tcp": "Listen on TCP without verified clients all the same: whoever reaches the "
    "port is root on this machine.",
    "debug": "Log what helps to find a fault; the same as `log-level: debug`.",
    "log-level": "Least important message that is logged: debug, info, warn, error, fatal.",
    "labels": "Labels of the engine (`KEY=VALUE`), shown in `info`.",
    "storage-driver": "Driver that keeps file trees: an entry point of `boxwood.storage`; empty: "
    "the one whose snapshots are in the data root, else the best that works.",
    "storage-opts": "Options of the storage driver (`KEY=VALUE`).",
    "keep-blobs": "Whether layers' archives are kept beside their files: `always`, `until-pushed`, "
    "or `never`: an archive goes once it was made again of the files and was the same.",
    "layer-max-entries": "Entries that one layer may have.",
    "layer-max-size": "Bytes of one layer's tar, uncompressed; with a unit if you like.",
    "layer-max-ratio": "Bytes that a layer may have for each compressed one; 0: what its "
    "compression can do at most (1200).",
    "layer-max-name": "Bytes of a name in a layer, and of a link's target.",
    "default-runtime": "Driver that isolates containers: an entry point of `boxwood.isolation`.",
    "runtimes": "Other names under which clients may ask for an isolation driver.",
    "default-network": "Network of a container that asks for none.",
    "exec-opts": "Options of the isolation driver (`KEY=VALUE`).",
    "cgroup-parent": "Control group below which those of the containers are made.",
    "default-cgroupns-mode": "Cgroup namespace of containers: `private` or `host`. Default: "
    "private with cgroup v2, host with v1.",
    "default-ipc-mode": "IPC namespace of containers: `private` or `shareable`.",
    "default-shm-size": "Size of `/dev/shm`, in bytes or with a unit (`64m`).",
    "default-ulimits": 'Limits by name: `{"nofile": {"Name": "nofile", "Soft": 1024, '
    '"Hard": 4096}}`.',
    "default-stop-timeout": "Seconds between the stop signal and SIGKILL.",
    "init": "Put a small init before each container's process.",
    "no-new-privileges": "Containers gain no privileges by setuid programs.",
    "seccomp-profile": "Default seccomp profile: a file in Docker's form, `builtin` or "
    "`unconfined`.",
    "log-driver": "Driver that keeps containers' logs: an entry point of `boxwood.log`.",
    "log-opts": "Options of the log driver for containers that give none; none at all by default "
    "for another driver than `json-file`.",
    "bridge": "Name of the default network's link; empty: the driver's choice.",
    "bip": "Address of the host in the default network, with the length of the subnet's prefix "
    "(`172.17.0.1/16`); empty: chosen once, from the address pools.",
    "bip6": "The same for IPv6.",
    "fixed-cidr": "Part of the default network's subnet that containers get addresses of.",
    "fixed-cidr-v6": "The same for IPv6.",
    "default-gateway": "Address in the default network's subnet by which its containers reach the "
    "outside; empty: the host's.",
    "default-gateway-v6": "The same for IPv6.",
    "ipv6": "Give IPv6 addresses in the default network.",
    "mtu": "Bytes of a packet in the default network, at most.",
    "icc": "Let containers of the default network reach each other.",
    "ip-masq": "Hide the default network's addresses behind the host's.",
    "ip": "Address of the host at which ports are published that name none.",
    "ip-forward": "Let network drivers turn on forwarding between the host's links.",
    "host-gateway-ip": "Address that `--add-host NAME:host-gateway` stands for; empty: the host's "
    "in the default network.",
    "respect-host-firewall": "Add no rule to another program's firewall, even where its own rules "
    "keep containers from being reached.",
    "default-address-pools": "Blocks that subnets of networks are chosen from: "
    '`[{"base": "10.10.0.0/16", "size": 24}]`; empty: Docker\'s, then /24 of 10.200.0.0/13, and a '
    "/48 of the engine's own for IPv6.",
    "default-network-opts": "Options of new networks, by driver: "
    '`{"bridge": {"com.docker.network.driver.mtu": "1400"}}`.',
    "dns": "DNS servers of containers; empty: the host's.",
    "dns-opts": "Resolver options of containers.",
    "dns-search": "DNS domains that containers search.",
    "live-restore": "Leave containers running when the daemon ends. Docker's default is false, "
    "ours is true.",
    "shutdown-timeout": "Seconds that containers have to stop when `live-restore` is false.",
    "idle-timeout": "Seconds without a request and without a running container after which the "
    "daemon ends; 0: never.",
    "registry-mirrors": "Registries to ask before Docker Hub (`https://HOST[:PORT]`).",
    "insecure-registries": "Registries to speak to without proof of their identity: `HOST[:PORT]` "
    "or a range of addresses. Loopback always is.",
    "registry-policy": "What may be pulled and pushed, and whose signature it must bear: "
    '`[{"match": "registry.example/team", "push": "deny", "require": ["/etc/boxwood/team.pub"]}]`; '
    "see [registries.md](registries.md).",
    "signature-verifier": "Extension that verifies the signatures that `registry-policy` requires; "
    "empty: none.",
    "registries-config": "File of mirrors, rewrites, blocks and TLS settings for any registry; "
    "empty: `/etc/boxwood/registries.toml`, if it is there.",
    "proxies": 'Proxies to registries: `{"http-proxy": "http://HOST:PORT", "https-proxy": ..., '
    '"no-proxy": "example.com,10.0.0.0/8"}`; before the environment\'s.',
    "max-concurrent-downloads": "Layers that are fetched side by side.",
    "max-concurrent-ranges": "Connections that one layer is fetched over, at most: more than one "
    "where it takes long and the registry gives parts of it.",
    "push-compression": "How layers without a compressed form go to a registry: `gzip` or `zstd`, "
    "with a level if wanted (`gzip:1` to `3`, `zstd:1` to `19`).",
    "max-concurrent-uploads": "Layers that are sent side by side.",
    "max-download-attempts": "Attempts at one layer.",
    "min-api-version": "Oldest version of the API that is served.",
    "plugins": "Extensions to load: entry points of `boxwood.extension`.",
}
"""What each key means; a test compares it with the fields, and the docs with it."""

_PLURAL = {
    "host": "hosts", "label": "labels", "storage_opt": "storage_opts", "dns_opt": "dns_opts",
    "exec_opt": "exec_opts", "log_opt": "log_opts", "default_ulimit": "default_ulimits",
    "registry_mirror": "registry_mirrors", "insecure_registry": "insecure_registries",
    "add_runtime": "runtimes", "default_address_pool": "default_address_pools",
    "default_network_opt": "default_network_opts",
}  # fmt: skip
"""Flags that may be repeated, and the key that they fill."""
_NOT_KEYS = frozenset({"config_file", "validate"})
_PROXIES = frozenset({"http_proxy", "https_proxy", "no_proxy"})
"""Flags that make up the key ``proxies``, as with dockerd."""
_REFUSED = {
    "userns_remap": "user namespaces are not supported yet",
    "init_path": "the init is the engine's own",
}
_LEVELS = frozenset({"debug", "info", "warn", "error", "fatal"})
_DEFAULTS = Configuration()
_FIELDS = {field.name: field for field in msgspec.structs.fields(Configuration)}


def load(options: dict[str, Any]) -> Configuration:
    """Return the configuration of a file and flags.

    Args:
        options: flags by name (dashes or underscores); only those that were given.
            ``config_file`` names the file; one that was named must be there.

    Raises:
        InvalidArgument: an unknown key, one given twice, a wrong value. Names the key.
        Unavailable: the file cannot be read.
    """
    given = {key.replace("-", "_"): value for key, value in options.items()}
    named = given.get("config_file")
    path = Path(named) if named else DEFAULT_FILE
    from_file = _read(path, must_exist=bool(named))
    from_flags = _flags(given)
    for key in from_flags:
        if key in from_file:
            raise InvalidArgument(
                f"configuration: {key}: given both as a flag and in {path}: remove one"
            )
    return _convert({**from_file, **from_flags}, path)


def _read(path: Path, must_exist: bool) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_LIMIT + 1)
    except FileNotFoundError as error:
        if must_exist:
            raise Unavailable(f"configuration: {path}: no such file") from error
        return {}
    except OSError as error:
        raise Unavailable(f"configuration: {path}: {error.strerror}") from error
    if len(data) > _FILE_LIMIT:
        raise InvalidArgument(f"configuration: {path}: larger than {_FILE_LIMIT} bytes")
    if not data.strip():
        return {}
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise InvalidArgument(f"configuration: {path}: not a JSON object: {error}") from error


def _flags(given: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name in _NOT_KEYS or value is None:
            continue
        if name in _PROXIES:
            found.setdefault("proxies", {})[name.replace("_", "-")] = value
            continue
        if name in _REFUSED:
            if value:
                raise InvalidArgument(f"configuration: {name.replace('_', '-')}: {_REFUSED[name]}")
            continue
        field = _PLURAL.get(name, name)
        if field not in _FIELDS:
            raise InvalidArgument(f"configuration: --{name.replace('_', '-')}: unknown flag")
        found[_FIELDS[field].encode_name] = _flag_value(field, value)
    return found


def _flag_value(field: str, value: Any) -> Any:
    if field in ("log_opts", "runtimes") and not isinstance(value, dict):
        return dict(_pair(field, text) for text in value)
    if field == "default_ulimits" and not isinstance(value, dict):
        return {limit.name: limit for limit in map(parse_ulimit, value)}
    if field == "default_address_pools":
        return [parse_pool(entry) if isinstance(entry, str) else entry for entry in value]
    if field == "default_network_opts" and not isinstance(value, dict):
        return _network_options(value)
    return value


def _pair(key: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise InvalidArgument(f"configuration: {key.replace('_', '-')}: {text!r}: not KEY=VALUE")
    return name, value


def _convert(values: dict[str, Any], path: Path) -> Configuration:
    for key in values:
        if key not in DOCS:
            raise InvalidArgument(
                f"configuration: {key}: unknown key in {path}; see `boxwood daemon --help` and "
                "docs/configuration.md for those that are known"
            )
    try:
        config = msgspec.convert(values, Configuration)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"configuration: {_key_of(error)}: {error}") from error
    if config.log_driver != _DEFAULTS.log_driver and "log-opts" not in values:
        config = msgspec.structs.replace(config, log_opts={})  # the default's are not another's
    _check(config)
    return config


def _key_of(error: msgspec.ValidationError) -> str:
    match = re.search(r"\$\.([A-Za-z0-9-]+)", str(error))
    return match[1] if match else "value"


def _check_compression(text: str) -> None:
    try:
        Compression.parse(text)
    except InvalidArgument as error:
        raise InvalidArgument(f"configuration: push-compression: {error}") from error


def _check(config: Configuration) -> None:
    for key in ("data_root", "exec_root"):
        if not getattr(config, key).startswith("/"):
            raise InvalidArgument(f"configuration: {key.replace('_', '-')}: not an absolute path")
    for key in (
        "max_concurrent_downloads",
        "max_concurrent_ranges",
        "max_concurrent_uploads",
        "max_download_attempts",
    ):
        if getattr(config, key) < 1:
            raise InvalidArgument(f"configuration: {key.replace('_', '-')}: must be 1 or more")
    _check_compression(config.push_compression)
    if config.log_level not in _LEVELS:
        raise InvalidArgument(
            f"configuration: log-level: {config.log_level}: not one of {', '.join(sorted(_LEVELS))}"
        )
    if config.default_cgroupns_mode not in ("", "private", "host"):
        raise InvalidArgument("configuration: default-cgroupns-mode: private or host")
    if config.default_ipc_mode not in ("private", "shareable"):
        raise InvalidArgument("configuration: default-ipc-mode: private or shareable")
    for key in ("storage_opts", "exec_opts", "labels"):
        for text in getattr(config, key):
            _pair(key, text)
    try:
        check_rules(config.registry_policy)
    except InvalidArgument as error:
        raise InvalidArgument(f"configuration: {error}") from error
    for key in ("shutdown_timeout", "default_stop_timeout", "idle_timeout"):
        if getattr(config, key) < 0:
            raise InvalidArgument(f"configuration: {key.replace('_', '-')}: less than 0")
    _check_layers(config)
    _check_network(config)
    if config.shm_size < 0:
        raise InvalidArgument("configuration: default-shm-size: less than 0")


def _check_network(config: Configuration) -> None:
    readers: tuple[tuple[str, Callable[[str], object]], ...] = (
        ("bip", ipaddress.IPv4Interface), ("bip6", ipaddress.IPv6Interface),
        ("fixed_cidr", ipaddress.IPv4Network), ("fixed_cidr_v6", ipaddress.IPv6Network),
        ("default_gateway", ipaddress.IPv4Address),
        ("default_gateway_v6", ipaddress.IPv6Address),
        ("ip", ipaddress.IPv4Address), ("host_gateway_ip", ipaddress.ip_address),
    )  # fmt: skip
    for key, read in readers:
        text = getattr(config, key)
        try:
            if text:
                read(text)
        except ValueError as error:
            raise InvalidArgument(f"configuration: {key.replace('_', '-')}: {error}") from error
    for key in ("bip", "bip6"):
        text = getattr(config, key)
        if text and "/" not in text:
            raise InvalidArgument(f"configuration: {key}: {text}: no length of a prefix")
    if not 68 <= config.mtu <= 65535:
        raise InvalidArgument("configuration: mtu: not between 68 and 65535")


def _check_layers(config: Configuration) -> None:
    if config.keep_blobs not in _KEEP_BLOBS:
        raise InvalidArgument(
            f"configuration: keep-blobs: {config.keep_blobs}: not one of {', '.join(_KEEP_BLOBS)}"
        )
    for key, low, high in _RANGES:
        if not low <= getattr(config, key) <= high:
            raise InvalidArgument(
                f"configuration: {key.replace('_', '-')}: not between {low} and {high}"
            )
    if config.layer_size < 1:
        raise InvalidArgument("configuration: layer-max-size: less than 1")


def parse_bytes(key: str, value: int | str) -> int:
    """Return bytes of ``64m``, ``1GiB``, ``65536`` or a number."""
    if isinstance(value, int):
        return value
    try:
        return parse_size(value)
    except InvalidArgument as error:
        raise InvalidArgument(f"configuration: {key}: {error}") from error


def parse_ulimit(text: str) -> Ulimit:
    """Return the limit of ``NAME=SOFT[:HARD]``."""
    name, value = _pair("default-ulimits", text)
    soft, _, hard = value.partition(":")
    try:
        return Ulimit(name=name, soft=int(soft), hard=int(hard or soft))
    except ValueError as error:
        raise InvalidArgument(f"configuration: default-ulimits: {text!r}: not a number") from error


def parse_pool(text: str) -> AddressPool:
    """Return the block of ``base=10.10.0.0/16,size=24``."""
    found = dict(_pair("default-address-pools", part) for part in text.split(","))
    try:
        return AddressPool(found.pop("base"), int(found.pop("size")), **found)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidArgument(
            f"configuration: default-address-pools: {text!r}: not base=CIDR,size=BITS"
        ) from error


def _network_options(texts: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return options by driver of ``DRIVER=KEY=VALUE``."""
    found: dict[str, dict[str, str]] = {}
    for text in texts:
        driver, rest = _pair("default-network-opts", text)
        key, value = _pair("default-network-opts", rest)
        found.setdefault(driver, {})[key] = value
    return found


def pairs(texts: tuple[str, ...]) -> dict[str, str]:
    """Return ``KEY=VALUE`` texts as a dictionary."""
    return dict(_pair("option", text) for text in texts)


RELOADED = frozenset(
    {
        "debug", "log-level", "labels", "live-restore", "shutdown-timeout", "default-stop-timeout",
        "registry-policy", "registry-mirrors", "insecure-registries", "registries-config",
        "proxies",
    }
)  # fmt: skip
"""Keys that a SIGHUP puts into effect without a restart."""


def reloaded(before: Configuration, after: Configuration) -> Configuration:
    """Return ``before`` with what of ``after`` can change while the daemon runs."""
    changes = {
        field.name: getattr(after, field.name)
        for field in _FIELDS.values()
        if field.encode_name in RELOADED
    }
    return msgspec.structs.replace(before, **changes)
