"""The sandbox: what one or more tasks share. Namespaces to join, and the three files of identity.

A sandbox of one container has its namespaces from that container's first process; others join
them by way of it (``/proc/<pid>/ns``). The files are kept on the host, so that they outlive every
process, and bound into each task.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from boxwood.errors import InvalidArgument, ResourceExhausted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HOSTS, RESOLV_CONF, HOSTNAME = "hosts", "resolv.conf", "hostname"
RESOLVER = "127.0.0.11"
"""Where the engine's own name server listens inside a sandbox of a user network."""
HOST_GATEWAY = "host-gateway"
"""What stands for the host's address in an extra host."""

_FALLBACK = ("8.8.8.8", "8.8.4.4")
_FALLBACK6 = ("2001:4860:4860::8888", "2001:4860:4860::8844")
"""Name servers where the host names none that a container could reach (Docker's)."""

_LOCAL = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::\tip6-localnet\n"
    "ff00::\tip6-mcastprefix\n"
    "ff02::1\tip6-allnodes\n"
    "ff02::2\tip6-allrouters\n"
)
_HOST_FILE_LIMIT = 1 << 20
"""Bytes: no /etc/hosts or /etc/resolv.conf of a host is larger."""

NAMESPACES = {
    "ipc": "ipc", "network": "net", "pid": "pid", "uts": "uts", "user": "user", "cgroup": "cgroup",
    "mount": "mnt", "time": "time",
}  # fmt: skip
"""OCI name to the file's name in ``/proc/<pid>/ns``."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What the three files say.

    Attributes:
        addresses: the sandbox's own, without prefix length, for its host name.
        extra_hosts: ``name:address``; :data:`HOST_GATEWAY` for the address is ``gateways``.
        gateways: the host's addresses as containers reach them; of each family at most one.
        links: (address, names) of linked containers.
        host_network: the files begin with what the host has.
        connected: it has a network of its own, and asks a name server that is reachable from it.
        resolver: it asks the engine's name server, which asks the others.
        silent: it asks none of the host's, and nobody in their stead.
        nameservers, search, options: instead of the host's, each where it is not empty.
    """

    hostname: str
    domainname: str = ""
    addresses: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    host_network: bool = False
    connected: bool = False
    resolver: bool = False
    silent: bool = False
    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def names(self) -> str:
        """Its host name as a line of ``/etc/hosts`` has it: the whole one, then its first part."""
        whole = f"{self.hostname}.{self.domainname}" if self.domainname else self.hostname
        first, dot, _ = whole.partition(".")
        return f"{whole} {first}" if dot else whole


def write_files(directory: Path, identity: Identity) -> None:
    """Write the files, each only if it would change: they are bound into what runs.

    A ``resolv.conf`` that somebody edited since it was written is left alone.

    Raises:
        ResourceExhausted: the disk is full.
        InvalidArgument: an extra host that makes no sense.
    """
    _write(directory / HOSTNAME, identity.hostname.encode() + b"\n")
    _write(directory / HOSTS, hosts(identity).encode())
    write_resolv_conf(directory, identity)


def write_resolv_conf(directory: Path, identity: Identity) -> None:
    """Write ``resolv.conf`` unless it was edited; see :func:`write_files`."""
    path, mark = directory / RESOLV_CONF, directory / f"{RESOLV_CONF}.hash"
    written = _content(mark)
    if written and hashlib.sha256(_content(path)).hexdigest().encode() != written:
        return
    text = resolv_conf(identity).encode()
    _write(path, text)
    _write(mark, hashlib.sha256(text).hexdigest().encode(), mode=0o600)


def _content(path: Path) -> bytes:
    """Return a file's content; a container may have made it larger than anybody should read."""
    try:
        with path.open("rb") as file:
            return file.read(_HOST_FILE_LIMIT)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ResourceExhausted(f"read file: {path}: {error.strerror}") from error


def change_hosts(
    directory: Path, drop: Iterable[str], add: Iterable[tuple[str, str]], alias: str = ""
) -> None:
    """Change ``hosts`` while it is used: other lines, also those that a user wrote, stay.

    Args:
        drop: addresses whose lines go.
        add: (address, names) of lines that come.
        alias: lines whose first name this is go too.

    Raises:
        ResourceExhausted: the disk is full.
    """
    path, gone = directory / HOSTS, set(drop)
    before = _host_file(path)
    kept = []
    for line in before.splitlines():
        address, first, *_ = (*line.split(), "", "")
        if address not in gone and (not alias or first != alias):
            kept.append(line)
    kept += [f"{address}\t{names}" for address, names in add]
    _write(path, "".join(f"{line}\n" for line in kept).encode())


def _write(path: Path, data: bytes, mode: int = 0o644) -> None:
    try:
        fd = _fresh(path, mode)
        if fd is None:
            if path.stat().st_size == len(data) and _content(path) == data:
                return
            # Not by rename: a running container of the same sandbox has this very file bound.
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
    except OSError as error:
        raise ResourceExhausted(f"write file: {path}: {error.strerror}") from error


def _fresh(path: Path, mode: int) -> int | None:
    """Make the file, as the first start does; None when it is there."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        return None


def hosts(identity: Identity) -> str:
    """Return the text of ``/etc/hosts`` (hosts(5))."""
    text = _host_file(Path("/etc/hosts")) if identity.host_network else _LOCAL
    if text and not text.endswith("\n"):
        text += "\n"
    lines = [line for entry in identity.extra_hosts for line in _extra(entry, identity.gateways)]
    lines += identity.links
    lines += [(address, identity.names) for address in identity.addresses]
    return text + "".join(f"{address}\t{names}\n" for address, names in lines)


def _extra(entry: str, gateways: Iterable[str]) -> list[tuple[str, str]]:
    name, address = split_host(entry)
    if address != HOST_GATEWAY:
        return [(address, name)]
    found = [(gateway, name) for gateway in gateways]
    if not found:
        raise InvalidArgument(f"unable to derive the IP value for {HOST_GATEWAY}")
    return found


def split_host(entry: str) -> tuple[str, str]:
    """Split ``name:address`` or ``name=address``; an IPv6 address may be in brackets.

    Raises:
        InvalidArgument: in Docker's words.
    """
    equals, colon = entry.find("="), entry.find(":")
    at = equals if equals >= 0 and (colon < 0 or equals < colon) else colon
    name, address = (entry[:at], entry[at + 1 :].strip("[]")) if at > 0 else ("", "")
    if not name or not address or not set(name + address).isdisjoint(" \t\n\r"):
        raise InvalidArgument(f'bad format for add-host: "{entry}"')
    return name, address


def resolv_conf(identity: Identity) -> str:
    """Return the text of ``/etc/resolv.conf`` (resolv.conf(5)).

    A name server on the host's loopback is left out where the container has another loopback.
    """
    own: dict[str, Sequence[str]] = {
        "nameserver": (RESOLVER,) if identity.resolver else identity.nameservers,
        "search": identity.search,
        "options": identity.options,
    }
    lines, options, servers = [], list(identity.options), list(own["nameserver"])
    for line in _host_file(Path("/etc/resolv.conf")).splitlines():
        words = line.split()
        if not words or words[0][0] in "#;" or own.get(words[0]):
            continue
        if words[0] == "domain" and own["search"]:
            continue
        if words[0] == "options":
            options = words[1:]
        elif words[0] != "nameserver":
            lines.append(line)
        elif not identity.silent and (identity.host_network or _reachable(words[1:], identity)):
            servers += words[1:2]
    if identity.connected and not servers and not identity.silent:
        servers = _fallback(identity)
    if identity.resolver and not any(option.startswith("ndots:") for option in options):
        options.append("ndots:0")
    lines = [*(f"nameserver {server}" for server in servers), *lines]
    if identity.search and identity.search != (".",):
        lines.append("search " + " ".join(identity.search))
    if options:
        lines.append("options " + " ".join(options))
    if identity.resolver:
        shown = (one if inside else f"host({one})" for one, inside in upstreams(identity))
        lines.append(f"# ExtServers: [{' '.join(shown)}]")
    return "".join(f"{line}\n" for line in lines)


def upstreams(identity: Identity) -> list[tuple[str, bool]]:
    """Return whom the engine's name server asks for a sandbox: (address, asked from inside it).

    The host's own servers are asked as the host asks them, on its loopback too.
    """
    if identity.nameservers:
        return [(address, True) for address in identity.nameservers]
    words = [line.split() for line in _host_file(Path("/etc/resolv.conf")).splitlines()]
    found = [line[1] for line in words if line[:1] == ["nameserver"] and len(line) > 1]
    return [(address, False) for address in found] or [
        (address, True) for address in _fallback(identity)
    ]


def sets_ndots(identity: Identity) -> bool:
    """Whether ``ndots`` is set, to more than 0: the asker tries its search domains itself."""
    options = list(identity.options)
    for line in _host_file(Path("/etc/resolv.conf")).splitlines():
        words = line.split()
        if words[:1] == ["options"] and not identity.options:
            options = words[1:]
    return any(option.startswith("ndots:") and option != "ndots:0" for option in options)


def _fallback(identity: Identity) -> list[str]:
    six = any(":" in address for address in identity.addresses)
    return [*_FALLBACK, *(_FALLBACK6 if six else ())]


def _reachable(words: Sequence[str], identity: Identity) -> bool:
    """Whether a name server of the host's can be asked from a network namespace of its own."""
    try:
        address = ipaddress.ip_address(words[0].partition("%")[0])
    except (IndexError, ValueError):
        return False
    if address.is_loopback:
        return False
    six = any(":" in own for own in identity.addresses)
    return address.version == 4 or six or not identity.connected


def _host_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_HOST_FILE_LIMIT).decode(errors="replace")
    except OSError:
        return ""


def namespaces_of(pid: int, names: Iterable[str]) -> dict[str, str]:
    """Return paths by which the namespaces of a process are joined, by OCI name."""
    return {name: f"/proc/{pid}/ns/{NAMESPACES[name]}" for name in names}
