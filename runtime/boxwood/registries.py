"""What the configuration says of registries, as transports take it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from boxwood.errors import InvalidArgument, Unavailable
from boxwood.faultpoints import PATIENCE
from boxwood.model.registries import Registries, parse_registries

if TYPE_CHECKING:
    from boxwood.configuration import Configuration

DEFAULT_FILE = "/etc/boxwood/registries.toml"
FILE_LIMIT = 1 << 20
"""Bytes: such a file has some kilobytes."""


def load_registries(path: str) -> Registries:
    """Return what the file says; ``""`` is the default one, which need not be there.

    Raises:
        InvalidArgument: it is wrong; the error names the place.
        Unavailable: it cannot be read.
    """
    where = path or DEFAULT_FILE
    try:
        with Path(where).open("rb") as file:
            data = file.read(FILE_LIMIT + 1)
    except FileNotFoundError as error:
        if path:
            raise Unavailable(f"registries: {where}: no such file") from error
        return Registries()
    except OSError as error:
        raise Unavailable(f"registries: {where}: {error.strerror}") from error
    if len(data) > FILE_LIMIT:
        raise InvalidArgument(f"registries: {where}: larger than {FILE_LIMIT} bytes")
    return parse_registries(data, f"registries: {where}")


def transport_options(config: Configuration) -> dict[str, str]:
    """Return the options of registry transports; raises as :func:`load_registries`."""
    proxies = config.proxies
    return {
        "mirrors": ",".join(config.registry_mirrors),
        "insecure": ",".join(config.insecure_registries),
        "registries": msgspec.json.encode(load_registries(config.registries_config)).decode(),
        "http-proxy": proxies.http_proxy,
        "https-proxy": proxies.https_proxy,
        "no-proxy": proxies.no_proxy,
        **({"waits": str(PATIENCE)} if PATIENCE != 1 else {}),
    }


def shown_proxy(url: str) -> str:
    """Return a proxy's URL without its password, as ``docker info`` shows it."""
    head, at, rest = url.rpartition("@")
    scheme, marker, _ = head.partition("://")
    return f"{scheme}{marker}xxxxx:xxxxx@{rest}" if at else url
