"""``registries.toml``: where images of which registry come from, and how hosts are spoken to.

Terms: a *prefix* is a registry's domain, or a part of one (``*.corp.example``), or domain and the
first components of a path; the longest that fits a repository's name counts, alone. A *location*
is ``HOST[:PORT][/PATH]``: it stands in the prefix's place.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any, TypeVar

import msgspec

from boxwood.errors import InvalidArgument

_Kind = TypeVar("_Kind")
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::\d{1,5})?"
_LOCATION = re.compile(rf"{_HOST}(?:/[a-z0-9]+(?:[._/-][a-z0-9]+)*)?", re.ASCII)
_HELPER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", re.ASCII)
_PREFIX = re.compile(rf"(?:\*\.)?{_LOCATION.pattern}", re.ASCII)


class Mirror(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """Another place of the same images.

    Attributes:
        location: where.
        push: pushes go here, too, in the registry's place; the first such mirror counts.
        tags: it is asked what a tag means; else only for what is named by its digest.
        credentials: file with the login that it is shown when it is read from; or
        helper: the program ``docker-credential-HELPER`` that is asked for that login.
    """

    location: str
    push: bool = False
    tags: bool = True
    credentials: str = ""
    helper: str = ""


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """What is said of one prefix.

    Attributes:
        location: what stands in the prefix's place; empty: itself.
        mirrors: asked first, in order.
        blocked: nothing is pulled or pushed.
    """

    location: str = ""
    mirrors: tuple[Mirror, ...] = ()
    blocked: bool = False


class HostSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """How one host (``name[:port]``) is spoken to.

    Attributes:
        insecure: no proof of its identity is asked for, nor TLS at all.
        plain_http: without TLS.
        ca: file of the authorities that vouch for it, in place of the system's.
        certs: directory like one of ``certs.d``, beside those.
    """

    insecure: bool = False
    plain_http: bool = False
    ca: str = ""
    certs: str = ""


class Registries(msgspec.Struct, frozen=True):
    """The whole file: places by prefix, settings by host."""

    places: dict[str, Place] = msgspec.field(default_factory=dict)
    hosts: dict[str, HostSettings] = msgspec.field(default_factory=dict)

    def place(self, domain: str, path: str) -> tuple[str, Place] | None:
        """Return the longest prefix that fits a repository, and what is said of it."""
        name = f"{domain}/{path}"
        fitting = [prefix for prefix in self.places if _fits(prefix, domain, name)]
        if not fitting:
            return None
        chosen = max(fitting, key=lambda prefix: (not prefix.startswith("*."), len(prefix)))
        return chosen, self.places[chosen]


def _fits(prefix: str, domain: str, name: str) -> bool:
    if not prefix.startswith("*."):
        return name == prefix or name.startswith(f"{prefix}/")
    host, slash, path = prefix[1:].partition("/")
    return domain.endswith(host) and _fits(f"{domain}{slash}{path}", domain, name)


def parse_registries(data: bytes, where: str) -> Registries:
    """Return what a file says; ``where`` begins the errors.

    Raises:
        InvalidArgument: no TOML, an unknown key, a wrong value: it names the place.
    """
    try:
        found = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgument(f"{where}: {error}") from error
    for key in found.keys() - {"registry", "host"}:
        raise InvalidArgument(f"{where}: {key}: unknown; there are registry and host")
    places = {
        prefix: _place(table, f'{where}: registry."{prefix}"')
        for prefix, table in _tables(found, "registry", where).items()
    }
    hosts = {
        host: _host(table, f'{where}: host."{host}"')
        for host, table in _tables(found, "host", where).items()
    }
    for name in places:
        if _PREFIX.fullmatch(name) is None:
            raise InvalidArgument(f'{where}: registry."{name}": not HOST[:PORT][/PATH]')
    for name in hosts:
        if re.fullmatch(_HOST, name, re.ASCII) is None:
            raise InvalidArgument(f'{where}: host."{name}": not HOST[:PORT]')
    return Registries(places, hosts)


def _tables(found: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    tables = found.get(key, {})
    if not isinstance(tables, dict):
        raise InvalidArgument(f'{where}: {key}: must be written [{key}."NAME"]')
    return tables


def _place(table: Any, where: str) -> Place:
    if isinstance(table, dict) and isinstance(table.get("mirrors"), list):
        plain = [{"location": one} if isinstance(one, str) else one for one in table["mirrors"]]
        table = {**table, "mirrors": plain}
    place = _converted(table, Place, where)
    for location in (place.location, *(mirror.location for mirror in place.mirrors)):
        if location and _LOCATION.fullmatch(location) is None:
            raise InvalidArgument(f"{where}: {location!r}: not HOST[:PORT][/PATH]")
    for mirror in place.mirrors:
        if mirror.credentials and mirror.helper:
            raise InvalidArgument(f"{where}: credentials, and helper: one or the other")
        if mirror.credentials and not mirror.credentials.startswith("/"):
            raise InvalidArgument(f"{where}: {mirror.credentials}: not an absolute path")
        if mirror.helper and _HELPER.fullmatch(mirror.helper) is None:
            raise InvalidArgument(f"{where}: helper: {mirror.helper!r}: not a program's name")
    return place


def _host(table: Any, where: str) -> HostSettings:
    settings = _converted(table, HostSettings, where)
    for path in (settings.ca, settings.certs):
        if path and not path.startswith("/"):
            raise InvalidArgument(f"{where}: {path}: not an absolute path")
    if settings.plain_http and (settings.ca or settings.certs):
        raise InvalidArgument(f"{where}: plain-http, and certificates for TLS: one or the other")
    return settings


def _converted(table: Any, kind: type[_Kind], where: str) -> _Kind:
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"{where}: {error}") from error
