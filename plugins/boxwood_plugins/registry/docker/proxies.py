"""Which proxy stands between us and a host: settings as Docker's daemon and Go's programs have."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from boxwood.errors import InvalidArgument

KEYS = ("http-proxy", "https-proxy", "no-proxy")
"""Options of the transport; an environment variable of the same name stands behind each."""


class Proxies:
    """The settings. Not used for the loopback, as in Go's programs."""

    def __init__(self, options: Mapping[str, str], environment: Mapping[str, str]) -> None:
        """Raises InvalidArgument."""
        found = {key: options.get(key) or _variable(environment, key) for key in KEYS}
        self._http, self._https = (_proxy(key, found[key]) for key in KEYS[:2])
        self._never = tuple(part.strip().lower() for part in found["no-proxy"].split(","))

    def of(self, url: str) -> str | None:
        """Return the URL of the proxy for a URL; None: there is none."""
        parts = urlsplit(url)
        chosen = self._https if parts.scheme == "https" else self._http
        if not chosen:
            return None
        host = (parts.hostname or "").rstrip(".").lower()
        port = str(parts.port or (443 if parts.scheme == "https" else 80))
        if host == "localhost" or any(_covers(entry, host, port) for entry in self._never if entry):
            return None
        try:
            return None if ipaddress.ip_address(host).is_loopback else chosen
        except ValueError:
            return chosen


def _variable(environment: Mapping[str, str], key: str) -> str:
    name = key.replace("-", "_")
    return environment.get(name.upper()) or environment.get(name, "")


def _proxy(key: str, text: str) -> str:
    if not text:
        return ""
    whole = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(whole)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise InvalidArgument(f"{key}: not http://HOST[:PORT]")  # its password is not shown
    return whole


def _covers(entry: str, host: str, port: str) -> bool:
    """Whether an entry of NO_PROXY means a host: ``*``, an address, a range, a domain[:port]."""
    if entry == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        pass
    name, colon, wanted = entry.rpartition(":")
    if colon and wanted.isdecimal() and "]" not in wanted and name.count(":") in (0, 7):
        if wanted != port:
            return False
        entry = name
    entry = entry.strip("[]").removeprefix("*")
    return host.endswith(entry) if entry.startswith(".") else _below(host, entry)


def _below(host: str, domain: str) -> bool:
    return host == domain or host.endswith(f".{domain}")


def environment() -> Mapping[str, str]:
    """Return this process's."""
    return os.environ
