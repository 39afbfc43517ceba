"""Capabilities by name, and which of them a container is given."""

from __future__ import annotations

from collections.abc import Iterable

from boxwood.drivers.isolation import CAPABILITIES, Machine
from boxwood.errors import InvalidArgument
from boxwood.model.config import HostConfig

ALL = "ALL"

NAMES = CAPABILITIES
KNOWN = frozenset(NAMES)

# What Docker gives a container that asks for nothing.
DEFAULT = tuple(
    f"CAP_{name}"
    for name in """
        CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP
        NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE
    """.split()
)
_DEFAULT_SET = frozenset(DEFAULT)


def normalize(names: Iterable[str], field: str, machine: Machine) -> list[str]:
    """Return ``names`` in the kernel's spelling; ``ALL`` stays as it is.

    Args:
        field: ``CapAdd`` or ``CapDrop``, for the message.

    Raises:
        InvalidArgument: an unknown name, or one that the daemon does not have itself.
    """
    result = []
    for name in names:
        full = name.upper()
        if full != ALL and not full.startswith("CAP_"):
            full = f"CAP_{full}"
        if full == ALL:
            pass
        elif full not in KNOWN:
            raise InvalidArgument(f'invalid {field}: unknown capability: "{full}"')
        elif full not in machine.capabilities:
            raise InvalidArgument(
                f"invalid {field}: capability not supported by your kernel or not available in "
                f'the current environment: "{full}"'
            )
        result.append(full)
    return result


def granted(host_config: HostConfig, machine: Machine) -> tuple[str, ...]:
    """Return the container's capabilities, in the kernel's order.

    Privileged means the daemon's own bounding set: more cannot be given.

    Raises:
        InvalidArgument: see :func:`normalize`.
    """
    if host_config.privileged:
        return _ordered(machine.capabilities)
    if not host_config.cap_add and not host_config.cap_drop:
        return _ordered(_DEFAULT_SET & machine.capabilities)
    adds = set(normalize(host_config.cap_add or (), "CapAdd", machine))
    drops = set(normalize(host_config.cap_drop or (), "CapDrop", machine))
    if ALL in adds:
        return _ordered(machine.capabilities - drops)
    if ALL in drops:
        return _ordered(adds)
    return _ordered(((_DEFAULT_SET & machine.capabilities) - drops) | adds)


def _ordered(names: Iterable[str]) -> tuple[str, ...]:
    wanted = frozenset(names)
    return tuple(name for name in NAMES if name in wanted)
