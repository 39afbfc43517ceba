"""The sandbox: what one or more tasks share. Namespaces to join, and the three files of identity.

A sandbox of one container has its namespaces from that container's first process; others join
them by way of it (``/proc/<pid>/ns``). The files are kept on the host, so that they outlive every
process, and bound into each task.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from boxwood.errors import InvalidArgument, ResourceExhausted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HOSTS, RESOLV_CONF, HOSTNAME = "hosts", "resolv.conf", "hostname"

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
        addresses: the sandbox's own, for its host name.
        extra_hosts: ``name:address``.
        host_network: the files begin with what the host has.
        nameservers, search, options: instead of the host's, each where it is not empty.
    """

    hostname: str
    domainname: str = ""
    addresses: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    host_network: bool = False
    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def write_files(directory: Path, identity: Identity) -> None:
    """Write the files, each only if it would change: they are bound into what runs.

    Raises:
        ResourceExhausted: the disk is full.
        InvalidArgument: an extra host that makes no sense.
    """
    for name, text in (
        (HOSTNAME, identity.hostname + "\n"),
        (HOSTS, hosts(identity)),
        (RESOLV_CONF, resolv_conf(identity)),
    ):
        _write(directory / name, text.encode())


def _write(path: Path, data: bytes) -> None:
    try:
        fd = _fresh(path)
        if fd is None:
            if path.read_bytes() == data:
                return
            # Not by rename: a running container of the same sandbox has this very file bound.
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
    except OSError as error:
        raise ResourceExhausted(f"write file: {path}: {error.strerror}") from error


def _fresh(path: Path) -> int | None:
    """Make the file, as the first start does; None when it is there."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        return None


def hosts(identity: Identity) -> str:
    """Return the text of ``/etc/hosts`` (hosts(5))."""
    text = _host_file(Path("/etc/hosts")) if identity.host_network else _LOCAL
    if text and not text.endswith("\n"):
        text += "\n"
    for entry in identity.extra_hosts:
        name, address = split_host(entry)
        text += f"{address}\t{name}\n"
    names = identity.hostname
    if identity.domainname:
        names = f"{identity.hostname}.{identity.domainname} {identity.hostname}"
    return text + "".join(f"{address}\t{names}\n" for address in identity.addresses)


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
        "nameserver": identity.nameservers, "search": identity.search, "options": identity.options
    }  # fmt: skip
    lines = []
    for line in _host_file(Path("/etc/resolv.conf")).splitlines():
        words = line.split()
        if not words or words[0][0] in "#;" or own.get(words[0]):
            continue
        if words[0] == "domain" and own["search"]:
            continue
        if words[0] == "nameserver" and not identity.host_network and _loopback(words[1:]):
            continue
        lines.append(line)
    lines += [f"nameserver {server}" for server in identity.nameservers]
    if identity.search and identity.search != (".",):
        lines.append("search " + " ".join(identity.search))
    if identity.options:
        lines.append("options " + " ".join(identity.options))
    return "".join(f"{line}\n" for line in lines)


def _loopback(words: Sequence[str]) -> bool:
    return bool(words) and (words[0].startswith("127.") or words[0] == "::1")


def _host_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_HOST_FILE_LIMIT).decode(errors="replace")
    except OSError:
        return ""


def namespaces_of(pid: int, names: Iterable[str]) -> dict[str, str]:
    """Return paths by which the namespaces of a process are joined, by OCI name."""
    return {name: f"/proc/{pid}/ns/{NAMESPACES[name]}" for name in names}
