"""Who we are, to a registry: challenges, tokens, and whom a password is shown to.

Sources: RFC 9110 section 11.6.1 (challenges); distribution's token and OAuth2 documents
(facts/formats-and-protocols.md section 3).
"""

from __future__ import annotations

import base64
import ipaddress
import re
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

import msgspec

from boxwood.drivers.registry import Credentials
from boxwood.errors import DataLoss, InvalidArgument
from boxwood_plugins.registry.docker.addresses import Unsafe

CLIENT = "boxwood"
LIFETIME = 60
"""Seconds that a token lives when its server does not say (the protocol's default)."""
EARLY = 10
"""Seconds before its end at which a token is not used any more."""

_PART = re.compile(
    r'([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))|([A-Za-z]+)(?=[\s,]|$)', re.ASCII
)
"""A parameter of a challenge (name, quoted value, plain value), or the scheme of the next one."""
_SECOND_LEVEL = frozenset({"ac", "co", "com", "edu", "gov", "net", "org"})


class Challenge(msgspec.Struct, frozen=True):
    """What a registry wants to see: ``bearer`` or ``basic``, and its parameters."""

    scheme: str
    parameters: dict[str, str]


class Token(msgspec.Struct, frozen=True):
    """A bearer token and when it ends, on the monotonic clock."""

    text: str
    ends: float

    @property
    def fresh(self) -> bool:
        """May it still be used?"""
        return time.monotonic() < self.ends


class TokenAnswer(msgspec.Struct):
    """What a token server answers."""

    token: str = ""
    access_token: str = ""
    expires_in: float | None = None
    refresh_token: str = ""


def challenge(headers: Iterable[str]) -> Challenge | None:
    """Return the challenge of ``WWW-Authenticate`` headers that we meet: bearer before basic."""
    found: dict[str, Challenge] = {}
    for header in headers:
        parameters: dict[str, str] = {}
        for name, quoted, plain, scheme in _PART.findall(header):
            if scheme:
                parameters = {}
                found.setdefault(scheme.lower(), Challenge(scheme.lower(), parameters))
            else:
                parameters[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) or plain
    return found.get("bearer") or found.get("basic")


def token_of(body: bytes, realm: str) -> tuple[Token, str]:
    """Return the token of a token server's answer, and its refresh token or ``""``.

    Raises:
        DataLoss: it holds none, or one that cannot stand in a header.
    """
    try:
        answer = msgspec.json.decode(body, type=TokenAnswer)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise DataLoss(f"registry token: {realm}: {error}") from error
    text = answer.token or answer.access_token
    if not text or not text.isascii() or not text.isprintable():
        raise DataLoss(f"registry token: {realm}: its answer holds no token")
    refresh = answer.refresh_token
    if not refresh.isascii() or not refresh.isprintable():
        raise DataLoss(f"registry token: {realm}: a refresh token of other characters")
    lifetime = LIFETIME if answer.expires_in is None else max(answer.expires_in, 0)
    return Token(text, time.monotonic() + max(lifetime - EARLY, 1)), refresh


def check_realm(realm: str, registry: str, *, secure: bool, credentials: bool) -> None:
    """Refuse a token server that must not be asked, or must not see the password.

    Args:
        realm: the URL that the registry named.
        registry: its host's URL.
        secure: the registry itself was reached by proven TLS.
        credentials: a login would go there.

    Raises:
        Unsafe: the realm is no HTTP URL, or is not of the registry's own party
            (CVE-2020-15157: a registry that has others' passwords sent to it).
    """
    url = urlsplit(realm)
    if url.scheme not in ("http", "https") or not url.hostname or url.username:
        raise Unsafe(f"registry {registry}: its token server {realm!r} is no web address")
    if secure and url.scheme != "https":
        raise Unsafe(f"registry {registry}: its token server {realm} is not secured")
    home = urlsplit(registry).hostname or ""
    if credentials and not same_party(url.hostname, home):
        raise Unsafe(
            f"registry {registry}: wants the password sent to {url.hostname}: refused, as that is "
            "another party; use a registry whose token server is its own"
        )


def same_party(one: str, other: str) -> bool:
    """Whether two hosts are the same, or of one registered domain."""
    if one == other:
        return True
    if _address(one) or _address(other):
        return False
    return _registered(one) == _registered(other) != ""


def _address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _registered(host: str) -> str:
    labels = host.lower().rstrip(".").split(".")
    wanted = 3 if len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in _SECOND_LEVEL else 2
    return ".".join(labels[-wanted:]) if len(labels) >= wanted else ""


def basic(login: Credentials) -> str:
    """Return the ``Authorization`` of a user and a password (RFC 7617).

    Raises:
        InvalidArgument: a colon in the user's name, which would end there.
    """
    if ":" in login.username:
        raise InvalidArgument("login: a user name cannot have a colon in it")
    return "Basic " + base64.b64encode(f"{login.username}:{login.password}".encode()).decode()


def grant(credentials: Credentials) -> dict[str, str]:
    """Return the OAuth2 form fields that stand for a login."""
    if credentials.identity_token:
        return {"grant_type": "refresh_token", "refresh_token": credentials.identity_token}
    return {
        "grant_type": "password",
        "username": credentials.username,
        "password": credentials.password,
    }


def identity(login: Credentials | None) -> tuple[str, ...]:
    """Return what tells logins apart."""
    return () if login is None else msgspec.structs.astuple(login)
