"""Platforms: what a machine runs, what an image is for, and which of several fits."""

from __future__ import annotations

import os
import re

import msgspec

from boxwood.errors import InvalidArgument
from boxwood.model.wire import Wire

_PART = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "i386": ("386", ""),
    "i686": ("386", ""),
}
_SYSTEMS = frozenset(
    "aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9"
    " solaris windows zos".split()
)
_MACHINES = frozenset(
    "386 amd64 amd64p32 arm arm64 arm64be armbe loong64 mips mips64 mips64le mips64p32 mips64p32le"
    " mipsle ppc ppc64 ppc64le riscv riscv64 s390 s390x sparc sparc64 wasm".split()
)
"""What Go knows, and with it a platform that is one word."""
# From the best to the least; an image for a later entry runs on a machine of an earlier one.
_VARIANTS = {
    "arm": ("v8", "v7", "v6", "v5"),
    "amd64": ("v4", "v3", "v2", "v1"),
}
_DEFAULT_VARIANT = {"arm": "v7", "arm64": "v8", "amd64": "v1"}


class Platform(Wire):
    """Operating system, architecture and variant, in Go's spelling."""

    architecture: str = ""
    os: str = "linux"
    variant: str = ""
    os_version: str = msgspec.field(default="", name="os.version")
    os_features: tuple[str, ...] | None = msgspec.field(default=None, name="os.features")

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Parse ``os/arch[/variant]``, or ``os`` or ``arch`` alone.

        Raises:
            InvalidArgument: more than three parts, a part of other characters, or one word that
                is neither a system nor an architecture.
        """
        parts = text.split("/")
        if len(parts) > 3 or not all(_PART.fullmatch(part) for part in parts):
            raise InvalidArgument(
                f'"{text[:200]}": cannot parse platform specifier: invalid argument'
            )
        if len(parts) == 1:
            return _from_one_word(parts[0].lower())
        variant = parts[2].lower() if len(parts) == 3 else ""
        return cls(os=parts[0].lower(), architecture=parts[1].lower(), variant=variant).normal()

    @classmethod
    def decode(cls, text: str) -> Platform:
        """Parse what the API takes: a JSON object, or what :meth:`parse` does, which raises."""
        if not text.startswith("{"):
            return cls.parse(text)
        try:
            return msgspec.json.decode(text, type=cls).normal()
        except (msgspec.MsgspecError, UnicodeEncodeError) as error:
            raise InvalidArgument(f"platform: {text[:200]}: {error}") from error

    @classmethod
    def host(cls) -> Platform:
        """Return the platform that this machine runs."""
        return cls(architecture=os.uname().machine).normal()

    def normal(self) -> Platform:
        """Return the same with the usual spelling (``aarch64`` is ``arm64``, its v8 dropped)."""
        name = self.architecture.lower()
        architecture, variant = _ARCHITECTURES.get(name, (name, ""))
        variant = self.variant.lower() or variant
        if architecture == "arm64" and variant in ("8", "v8"):
            variant = ""
        if architecture == "arm" and variant.isdigit():
            variant = f"v{variant}"
        return msgspec.structs.replace(self, architecture=architecture, variant=variant)

    def rank(self, image: Platform) -> int | None:
        """Return how well ``image`` fits a machine of this platform: 0 is best, None never."""
        machine, image = self.normal(), image.normal()
        if (machine.os, machine.architecture) != (image.os, image.architecture):
            return None
        default = _DEFAULT_VARIANT.get(machine.architecture, "")
        wanted, offered = machine.variant or default, image.variant or default
        if machine.architecture == "arm64":
            return _rank_arm64(wanted, offered)
        order = _VARIANTS.get(machine.architecture)
        if order is None or wanted not in order or offered not in order:
            return 0 if wanted == offered else None
        distance = order.index(offered) - order.index(wanted)
        return distance if distance >= 0 else None

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def _from_one_word(word: str) -> Platform:
    if word in _SYSTEMS:
        return msgspec.structs.replace(Platform.host(), os=word)
    platform = Platform(architecture=word).normal()
    if platform.architecture not in _MACHINES:
        raise InvalidArgument(
            f'"{word}": unknown operating system or architecture: invalid argument'
        )
    return platform


def _rank_arm64(wanted: str, offered: str) -> int | None:
    have, need = _version(wanted), _version(offered)
    if have is None or need is None:
        return 0 if wanted == offered else None
    return (have[0] - need[0]) * 100 + have[1] - need[1] if have >= need else None


def _version(variant: str) -> tuple[int, int] | None:
    found = re.fullmatch(r"v([0-9]{1,2})(?:\.([0-9]{1,2}))?", variant, re.ASCII)
    return (int(found[1]), int(found[2] or 0)) if found else None
