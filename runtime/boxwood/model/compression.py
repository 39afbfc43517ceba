"""How layers are compressed for registries: gzip or zstd, with a level where one is chosen."""

from __future__ import annotations

import msgspec

from boxwood.errors import InvalidArgument

LEVELS = {"gzip": 3, "zstd": 19}
"""The highest of each."""


class Compression(msgspec.Struct, frozen=True):
    """``level`` 0 is the usual one."""

    name: str = "gzip"
    level: int = 0

    def __str__(self) -> str:
        return f"{self.name}:{self.level}" if self.level else self.name

    @classmethod
    def parse(cls, text: str) -> Compression:
        """Read ``NAME`` or ``NAME:LEVEL``; raises InvalidArgument."""
        name, colon, level = text.partition(":")
        highest = LEVELS.get(name, 0)
        chosen = int(level) if level.isascii() and level.isdecimal() else 0
        if not highest or chosen > highest or (colon and not chosen):
            raise InvalidArgument(
                f"compression {text!r}: write gzip, zstd, or one of them with a level "
                "(gzip:1 to 3, zstd:1 to 19)"
            )
        return cls(name, chosen)
