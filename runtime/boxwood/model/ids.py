"""Identifiers of containers, execs and networks: 64 hexadecimal digits."""

from __future__ import annotations

import hashlib
import os
import re

LENGTH = 64
SHORT = 12
_ID = re.compile(r"[0-9a-f]{64}\Z")


def new_id() -> str:
    """Return a random identifier whose first twelve digits are not all decimal.

    A short form of decimal digits alone would be taken for a number where it is used as a
    host name.
    """
    while True:
        value = os.urandom(LENGTH // 2).hex()
        if not value[:SHORT].isdecimal():
            return value


def derived(text: str) -> str:
    """Return the identifier that is always that of ``text``."""
    return hashlib.sha256(text.encode()).hexdigest()


def is_id(value: str) -> bool:
    """Return whether ``value`` is a whole identifier."""
    return _ID.match(value) is not None


def short(value: str) -> str:
    """Return the first twelve digits, without the algorithm of a digest."""
    return value.removeprefix("sha256:")[:SHORT]
