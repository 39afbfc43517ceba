"""Which hosts a repository's registry is asked at, and how they are spoken to."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping
from pathlib import Path

import msgspec

from boxwood.errors import InvalidArgument
from boxwood.model.reference import DEFAULT_DOMAIN

HUB = "registry-1.docker.io"
"""Where ``docker.io`` is served."""
CERTS = ("/etc/boxwood/certs.d", "/etc/docker/certs.d")
"""Directories of a directory for each registry: ``*.crt`` (CAs), ``*.cert`` with ``*.key``."""


class Host(msgspec.Struct, frozen=True):
    """A registry, or a mirror of one.

    Attributes:
        authority: ``name[:port]``.
        schemes: what is tried, in order.
        mirror_of: the domain that it stands in for; empty: it is the registry itself.
    """

    authority: str
    schemes: tuple[str, ...]
    mirror_of: str = ""


class Hosts:
    """What the configuration says of registries."""

    def __init__(self, options: Mapping[str, str]) -> None:
        """Options: ``mirrors`` (of Docker Hub), ``insecure``: lists with commas."""
        self._insecure = _listed(options, "insecure")
        self._mirrors = tuple(_mirror(text) for text in _listed(options, "mirrors"))
        self._contexts: dict[str, ssl.SSLContext] = {}

    def of(self, domain: str) -> tuple[Host, ...]:
        """Return the hosts to ask for a repository of this domain, in order."""
        own = Host(HUB if domain == DEFAULT_DOMAIN else domain, self._schemes(domain))
        return (*self._mirrors, own) if domain == DEFAULT_DOMAIN else (own,)

    def insecure(self, authority: str) -> bool:
        """May this host be spoken to without proof of its identity?"""
        name = authority.rpartition(":")[0] if _has_port(authority) else authority
        name = name.strip("[]")
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name == "localhost" or authority in self._insecure or name in self._insecure
        if address.is_loopback or {authority, name} & set(self._insecure):
            return True
        return any(address in network for network in _networks(self._insecure))

    def _schemes(self, authority: str) -> tuple[str, ...]:
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
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.insecure(authority):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        for root in CERTS:
            for file in sorted(Path(root, authority).glob("*.c*rt")):
                _trust(context, file)
        return context


def _trust(context: ssl.SSLContext, file: Path) -> None:
    try:
        if file.suffix == ".crt":
            context.load_verify_locations(file)
        elif file.suffix == ".cert":
            context.load_cert_chain(file, file.with_suffix(".key"))
    except (OSError, ssl.SSLError) as error:
        raise InvalidArgument(f"registry certificates: {file}: {error}") from error


def _mirror(text: str) -> Host:
    scheme, marker, rest = text.partition("://")
    authority = rest.rstrip("/")
    if not marker or scheme not in ("http", "https") or not authority or "/" in authority:
        raise InvalidArgument(
            f"registry mirror: {text}: must be http:// or https:// and a host, without a path"
        )
    schemes = ("http",) if scheme == "http" else ("https",)
    return Host(authority, schemes, DEFAULT_DOMAIN)


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
