"""``--security-opt``: the grammar, and what it means."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from boxwood.errors import InvalidArgument
from boxwood.execution.spec.seccomp_default import default_profile
from boxwood.execution.spec.seccomp_profile import Profile, parse_profile
from boxwood.model.config import HostConfig

UNCONFINED = "unconfined"
_BUILTIN = ("", "builtin")


class Security(msgspec.Struct, frozen=True, kw_only=True):
    """The security options of one container, taken apart."""

    seccomp: str = ""
    """Empty: the daemon's default; ``unconfined``; ``builtin``; else a profile as JSON text."""
    no_new_privileges: bool = False
    unmask: bool = False
    """``systempaths=unconfined``: nothing masked, nothing read-only."""
    writable_cgroups: bool = False
    apparmor: str = ""
    labels: tuple[str, ...] = ()


def parse(options: tuple[str, ...] | None, *, no_new_privileges: bool = False) -> Security:
    """Take ``HostConfig.SecurityOpt`` apart.

    Args:
        no_new_privileges: the daemon's default.

    Raises:
        InvalidArgument: an unknown option or a wrong value, in Docker's words.
    """
    found: dict[str, object] = {"no_new_privileges": no_new_privileges}
    labels: list[str] = []
    for option in options or ():
        if option == "no-new-privileges":
            found["no_new_privileges"] = True
        elif option == "disable":
            labels.append(option)
        else:
            _one(option, found, labels)
    return msgspec.convert({**found, "labels": tuple(labels)}, Security)


def _one(option: str, found: dict[str, object], labels: list[str]) -> None:
    """Read one ``key=value`` (or, as Docker once wrote it, ``key:value``)."""
    key, separator, value = option.partition("=")
    if not separator:
        key, separator, value = option.partition(":")
    if not separator:
        raise InvalidArgument(f'invalid --security-opt 1: "{option}"')
    if key == "label":
        labels.append(value)
    elif key in ("apparmor", "seccomp"):
        found[key] = value
    elif key == "no-new-privileges":
        found["no_new_privileges"] = _boolean(option, value)
    elif key == "writable-cgroups":
        found["writable_cgroups"] = _boolean(option, value)
    elif key == "systempaths" and value == UNCONFINED:
        found["unmask"] = True
    else:
        raise InvalidArgument(f'invalid --security-opt 2: "{option}"')


def _boolean(option: str, value: str) -> bool:
    if value in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if value in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise InvalidArgument(f'invalid --security-opt 2: "{option}"')


def of(host_config: HostConfig, *, no_new_privileges: bool = False) -> Security:
    """Return the security options of a container; privileged takes the daemon's default away."""
    if not host_config.security_opt:
        return _PLAIN_NNP if no_new_privileges else _PLAIN
    return parse(host_config.security_opt, no_new_privileges=no_new_privileges)


_PLAIN = Security()
_PLAIN_NNP = Security(no_new_privileges=True)


@lru_cache(maxsize=1)
def builtin_profile() -> Profile:
    """Return our own default profile, made on first use."""
    return default_profile()


@lru_cache(maxsize=64)
def _custom(text: str) -> Profile:
    return parse_profile(text)


def seccomp_profile(
    security: Security, *, privileged: bool, default: Profile | None
) -> Profile | None:
    """Return the profile a container runs under; ``None``: none.

    A privileged container has none unless one is named.

    Raises:
        InvalidArgument: the inline profile is wrong.
    """
    named = security.seccomp
    if named == UNCONFINED or (privileged and not named):
        return None
    if named == "builtin":
        return builtin_profile()
    return _custom(named) if named else default
