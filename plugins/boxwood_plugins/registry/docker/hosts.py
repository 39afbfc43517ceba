"""Which hosts a repository is asked at, and how they are spoken to."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping
from pathlib import Path

import msgspec

from boxwood.errors import InvalidArgument
from boxwood.model.reference import DEFAULT_DOMAIN, Reference
from boxwood.model.registries import HostSettings, Mirror, Place, Registries
from boxwood_plugins.registry.docker.addresses import Unsafe

HUB = "registry-1.docker.io"
"""Where ``docker.io`` is served."""
CERTS = ("/etc/boxwood/certs.d", "/etc/docker/certs.d")
"""Directories of a directory for each registry: ``*.crt`` (CAs), ``*.cert`` with ``*.key``."""


class Host(msgspec.Struct, frozen=True):
    """A repository at a registry, or at a mirror of one.

    Attributes:
        authority: ``name[:port]``.
        schemes: what is tried, in order.
        path: the repository's path there.
        mirror_of: the domain that it stands in for; empty: it is the registry itself.
        tags: it may say what a tag means.
        push: what is pushed goes there.
        credentials, helper: where a mirror's own login is (boxwood.model.registries.Mirror).
    """

    authority: str
    schemes: tuple[str, ...]
    path: str = ""
    mirror_of: str = ""
    tags: bool = True
    push: bool = False
    credentials: str = ""
    helper: str = ""


class Hosts:
    """What the configuration says of registries."""

    def __init__(self, options: Mapping[str, str]) -> None:
        """Options: ``mirrors`` (of Docker Hub), ``insecure``: lists with commas; ``registries``:
        the JSON of boxwood.model.registries.Registries.

        Raises:
            InvalidArgument
        """
        self._insecure = _listed(options, "insecure")
        self._networks = _networks(self._insecure)
        self._mirrors = tuple(_mirror(text) for text in _listed(options, "mirrors"))
        text = options.get("registries") or "{}"
        try:
            self._registries = msgspec.json.decode(text, type=Registries)
        except msgspec.MsgspecError as error:
            raise InvalidArgument(f"registries: {error}") from error
        self._contexts: dict[str, ssl.SSLContext] = {}

    def of(self, name: Reference) -> tuple[Host, ...]:
        """Return where a repository is asked for, in order; the registry itself is the last.

        Raises:
            Unsafe: its registry is blocked.
        """
        domain, path = name.domain, name.path
        prefix, place = self._registries.place(domain, path) or (domain, Place())
        if place.blocked:
            raise Unsafe(f"{name.familiar_name}: {prefix} is blocked by registries.toml")
        rest = path.removeprefix(prefix.partition("/")[2]).lstrip("/")
        mirrors = [self._at(one.location, rest, domain, one) for one in place.mirrors]
        if domain == DEFAULT_DOMAIN:
            mirrors += [
                Host(authority, schemes, path, domain) for authority, schemes in self._mirrors
            ]
        own = self._at(place.location, rest) if place.location else self._at(domain, path)
        return (*mirrors, own)

    def written(self, name: Reference) -> Host:
        """Return where a repository is pushed to; raises as :meth:`of`."""
        hosts = self.of(name)
        return next((host for host in hosts if host.push), hosts[-1])

    def registry(self, domain: str) -> Host:
        """Return where a login for a registry is tried; raises as :meth:`of`."""
        return self.of(Reference(domain, "", None, None))[-1]

    def _at(
        self, location: str, rest: str, mirror_of: str = "", mirror: Mirror | None = None
    ) -> Host:
        authority, _, path = location.partition("/")
        authority = HUB if authority == DEFAULT_DOMAIN else authority
        whole = "/".join(part for part in (path, rest) if part)
        schemes = self._schemes(authority)
        if mirror is None:
            return Host(authority, schemes, whole)
        login = (mirror.credentials, mirror.helper)
        return Host(authority, schemes, whole, mirror_of, mirror.tags, mirror.push, *login)

    def _settings(self, authority: str) -> HostSettings:
        return self._registries.hosts.get(authority, HostSettings())

    def insecure(self, authority: str) -> bool:
        """May this host be spoken to without proof of its identity?"""
        settings = self._settings(authority)
        if settings.insecure or settings.plain_http:
            return True
        name = authority.rpartition(":")[0] if _has_port(authority) else authority
        name = name.strip("[]")
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name == "localhost" or authority in self._insecure or name in self._insecure
        if address.is_loopback or {authority, name} & set(self._insecure):
            return True
        return any(address in network for network in self._networks)

    def _schemes(self, authority: str) -> tuple[str, ...]:
        settings = self._settings(authority)
        if settings.plain_http:
            return ("http",)
        if settings.ca and not settings.insecure:
            return ("https",)
        return ("https", "http") if self.insecure(authority) else ("https",)

    def context(self, authority: str) -> ssl.SSLContext:
        """Return the TLS settings for a host: its own CAs and client certificates, if any.

        Raises:
            InvalidArgument: a certificate that cannot be read, or a key that is not there.
        """
        if authority not in self._contexts:
            self._contexts[authority] = self._context(authority)
        return self._contexts[authority]

    def _context(self, authority: str) -> ssl.SSLContext:
        settings = self._settings(authority)
        unproven = self.insecure(authority) and (settings.insecure or not settings.ca)
        if settings.ca or unproven:
            # Loading the system's authorities takes 50 ms.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        else:
            context = ssl.create_default_context()
        if settings.ca:
            _trust(context, Path(settings.ca), ".crt")  # these authorities and no others
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if unproven:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        folders = [Path(root, authority) for root in CERTS]
        if settings.certs:
            folders.append(Path(settings.certs))
        for folder in folders:
            for file in sorted(folder.glob("*.c*rt")):
                _trust(context, file, file.suffix)
        return context


def _trust(context: ssl.SSLContext, file: Path, kind: str) -> None:
    try:
        if kind == ".crt":
            context.load_verify_locations(file)
        elif kind == ".cert":
            context.load_cert_chain(file, file.with_suffix(".key"))
    except (OSError, ssl.SSLError) as error:
        raise InvalidArgument(f"registry certificates: {file}: {error}") from error


def _mirror(text: str) -> tuple[str, tuple[str, ...]]:
    scheme, marker, rest = text.partition("://")
    authority = rest.rstrip("/")
    if not marker or scheme not in ("http", "https") or not authority or "/" in authority:
        raise InvalidArgument(
            f"registry mirror: {text}: must be http:// or https:// and a host, without a path"
        )
    return authority, (scheme,)


def _listed(options: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(part for part in options.get(name, "").split(",") if part)


def _has_port(authority: str) -> bool:
    return authority.rpartition(":")[2].isdecimal() and not authority.endswith("]")


def _networks(entries: tuple[str, ...]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    found = []
    for entry in entries:
        try:
            found.append(ipaddress.ip_network(entry, strict=False))
        except ValueError:
            continue  # a name: compared as it is
    return found
