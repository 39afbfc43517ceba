"""Names of this transport: ``debootstrap:SUITE[,variant=VARIANT][,include=PACKAGE,...]``."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from boxwood.errors import InvalidArgument

SCHEME: Final = "debootstrap"
GRAMMAR: Final = "debootstrap:SUITE[,variant=VARIANT][,include=PACKAGE,...]"

VARIANTS: Final = {
    "essential": ("?essential",),
    "apt": ("?essential", "apt"),
    "required": ("?essential", "?priority(required)"),
    "minbase": ("?essential", "?priority(required)", "apt"),
    "important": ("?essential", "?priority(required)", "?priority(important)", "apt"),
    "standard": (
        *("?essential", "?priority(required)", "?priority(important)", "?priority(standard)"),
        "apt",
    ),
}
"""What each variant asks apt for (apt-patterns(7)); as those of mmdebstrap(1)."""

_SUITE = re.compile(r"[a-z][a-z0-9.-]*", re.ASCII)
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+", re.ASCII)


class Name(msgspec.Struct, frozen=True):
    """What is to be made."""

    suite: str
    variant: str = "minbase"
    include: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{SCHEME}:{self.suite}"
        if self.variant != "minbase":
            text += f",variant={self.variant}"
        return text + (f",include={','.join(self.include)}" if self.include else "")

    @property
    def wanted(self) -> tuple[str, ...]:
        """Return what apt is asked for."""
        return tuple(dict.fromkeys((*VARIANTS[self.variant], *self.include)))


def parse(text: str) -> Name:
    """Read a name, scheme and all.

    After ``include=`` further packages may follow with commas, as in mmdebstrap(1).

    Raises:
        InvalidArgument: it is none.
    """
    suite, *rest = text.removeprefix(f"{SCHEME}:").removeprefix("//").split(",")
    if not _SUITE.fullmatch(suite):
        raise InvalidArgument(f"{text}: no suite {suite!r}: write {GRAMMAR}")
    variant, include, key = "minbase", list[str](), ""
    for part in rest:
        before, equals, value = part.partition("=")
        if equals:
            key, part = before, value
        if key == "variant" and equals:
            variant = part
        elif key == "include":
            include.append(part)
        else:
            raise InvalidArgument(f"{text}: unknown option {part or before!r}: write {GRAMMAR}")
    if variant not in VARIANTS:
        known = ", ".join(sorted(VARIANTS))
        raise InvalidArgument(f"{text}: no variant {variant!r}: there are {known}")
    for package in include:
        if not _PACKAGE.fullmatch(package):
            raise InvalidArgument(f"{text}: {package!r} is no name of a package")
    return Name(suite, variant, tuple(sorted(set(include))))
