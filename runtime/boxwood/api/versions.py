"""API versions: which are served, and the exact words for those that are not."""

from __future__ import annotations

import re

from boxwood.errors import InvalidArgument

MINIMUM = 24
"""Oldest minor served: Docker's compiled floor; docker-compose 1.29 asks for 1.38."""
NEWEST = 51
"""Newest minor: from 1.52 on Docker leaves out fields that docker-py and others still read."""

_PREFIX = re.compile(r"/v(\d{1,3})\.(\d{1,3})(?=/|$)")


def text(minor: int) -> str:
    """Return ``1.N``."""
    return f"1.{minor}"


def split(path: str) -> tuple[tuple[int, int] | None, str]:
    """Split ``/v1.43/info`` into ((1, 43), ``/info``); no prefix gives (None, path)."""
    found = _PREFIX.match(path)
    if found is None:
        return None, path
    return (int(found[1]), int(found[2])), path[found.end() :]


def parse_minimum(text: str) -> int:
    """Return the minor of the configuration's ``min-api-version``.

    Raises:
        InvalidArgument: not ``1.N``, or not a version that is served.
    """
    found = re.fullmatch(r"1\.(\d{1,3})", text)
    if found is None or not MINIMUM <= int(found[1]) <= NEWEST:
        raise InvalidArgument(
            f"configuration: min-api-version: {text!r}: not one of 1.{MINIMUM} to 1.{NEWEST}"
        )
    return int(found[1])


def refusal(version: tuple[int, int], minimum: int = MINIMUM) -> str | None:
    """Return why ``version`` is not served, or None. Docker's words: clients search them."""
    asked = f"{version[0]}.{version[1]}"
    if version < (1, minimum):
        return (
            f"client version {asked} is too old. Minimum supported API version is "
            f"{text(minimum)}, please upgrade your client to a newer version"
        )
    if version > (1, NEWEST):
        return f"client version {asked} is too new. Maximum supported API version is {text(NEWEST)}"
    return None
