"""``--change``: the instructions of a Dockerfile that change a config and nothing else.

CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR
(facts/formats-and-protocols.md section 11).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Sequence

from boxwood.errors import InvalidArgument
from boxwood.model.config import ContainerConfig, HealthConfig
from boxwood.model.moments import nanoseconds
from boxwood.model.signals import parse_signal
from boxwood.model.wire import replace
from boxwood.services.images import instructions
from boxwood.services.images.expansion import quoted, word, words
from boxwood.services.images.instructions import Instruction

_SHELL = ("/bin/sh", "-c")
_PORTS = re.compile(r"([0-9]+)(?:-([0-9]+))?", re.ASCII)
_LAST_PORT = 65535
_PROTOCOLS = ("tcp", "udp", "sctp")
_LEAST_DURATION = 1_000_000
"""Nanoseconds: a health check cannot wait less (Docker's ``MinimumDuration``)."""
_INT32 = (1 << 31) - 1


def apply_changes(config: ContainerConfig, changes: Sequence[str]) -> ContainerConfig:
    """Return the config with all changes made, in order, as one Dockerfile of all of them would.

    Raises:
        InvalidArgument: an unknown or forbidden instruction, or one that does not parse.
    """
    return applied(config, parsed(changes))


def parsed(changes: Sequence[str]) -> Sequence[Instruction]:
    """Return the instructions of all changes, in order; raises InvalidArgument."""
    return instructions.parse("\n".join(changes), _INSTRUCTIONS) if changes else ()


def applied(config: ContainerConfig, todo: Iterable[Instruction]) -> ContainerConfig:
    """Return the config with these made; raises InvalidArgument."""
    for instruction in todo:
        config = _INSTRUCTIONS[instruction.name](config, instruction)
    return config


def _environment(config: ContainerConfig) -> dict[str, str]:
    """What ``$NAME`` stands for: all of one instruction sees the environment from before it."""
    return dict(entry.partition("=")[::2] for entry in config.env or ())


def _one(config: ContainerConfig, instruction: Instruction) -> str:
    return word(instruction.only(), _environment(config))


def _command(instruction: Instruction) -> tuple[str, ...]:
    if instruction.is_json:
        return instruction.arguments
    return (*_SHELL, *instruction.arguments)


def _cmd(config: ContainerConfig, instruction: Instruction) -> ContainerConfig:
    return replace(config, cmd=_command(instruction))


def _entrypoint(config: ContainerConfig, instruction: Instruction) -> ContainerConfig:
    # Without arguments there is none, so that the one from before remains.
    return replace(config, entrypoint=_command(instruction) if instruction.arguments else None)


def _pairs(config: ContainerConfig, instruction: Instruction) -> list[tuple[str, str]]:
    environment = _environment(config)
    pairs = instruction.pairs()
    return [(word(key, environment), word(value, environment)) for key, value in pairs]


def _env(config: ContainerConfig, instruction: Instruction) -> ContainerConfig:
    entries = list(config.env or ())
    for key, value in _pairs(config, instruction):
        place = [at for at, entry in enumerate(entries) if entry.partition("=")[0] == key]
        if place:
            entries[place[0]] = f"{key}={value}"
        else:
            entries.append(f"{key}={value}")
    return replace(config, env=tuple(entries))


def _label(config: ContainerConfig, instruction: Instruction) -> ContainerConfig:
    return replace(config, labels={**(config.labels or {}), **dict(_pairs(config, instruction))})


def _expose(config: ContainerConfig, instruction: Instruction) -> ContainerConfig:
    ports: dict[str, dict[str, object]] = dict(config.exposed_ports or {})
    environment = _environment(config)
    for text in instruction.some():
        for spec in words(text, environment):
            ports.update({port: {} for port in _exposed(spec)})
    return replace(config, exposed_ports=ports)


def _exposed(spec: str) -> list[str]:
    """Return the ports of ``[[ADDRESS:]HOST:]PORT[-PORT][/PROTOCOL]``; only the last part counts.

    Raises:
        InvalidArgument
    """
    ports, _, protocol = spec.partition("/")
    before, _, ports = ports.rpartition(":")
    _, _, host = before.rpartition(":")
    if not ports:
        raise InvalidArgument(f"no port specified: {spec}<empty>")
    low, high = _range("containerPort", ports)
    if host:
        start, end = _range("hostPort", host)
        if end - start != high - low and high != low:
            raise InvalidArgument(
                f"invalid ranges specified for container and host Ports: {ports} and {host}"
            )
    if (protocol or "tcp").lower() not in _PROTOCOLS:
        raise InvalidArgument(f"invalid proto: {protocol}")
    return [f"{port}/{(protocol or 'tcp').lower()}" for port in range(low, high + 1)]


def _range(name: str, text: str) -> tuple[int, int]:
    found = _PORTS.fullmatch(text[:16])
    low = int(found[1]) if found else 1
    high = int(found[2] or low) if found else 0
    if low > high or high > _LAST_PORT:
        raise InvalidArgument(f"invalid {name}: {text}")
    return low, high


def _user(config: ContainerConfig, instruction: Instruction) -> ContainerConfig:
    return replace(config, user=_one(config, instruction))


def _volume(config: ContainerConfig, instruction: Instruction) -> ContainerConfig:
    environment = _environment(config)
    paths = [word(path.strip(), environment) for path in instruction.some()]
    if not all(paths):
        raise InvalidArgument("VOLUME specified can not be an empty string")
    volumes: dict[str, dict[str, object]] = dict(config.volumes or {})
    volumes.update({path: {} for path in paths})
    return replace(config, volumes=volumes)


def _workdir(config: ContainerConfig, instruction: Instruction) -> ContainerConfig:
    path = _one(config, instruction)
    if not path:
        raise InvalidArgument("cannot normalize nothing")
    base = config.working_dir or "/"
    return replace(config, working_dir=posixpath.normpath(posixpath.join("/", base, path)))


def _stop_signal(config: ContainerConfig, instruction: Instruction) -> ContainerConfig:
    text = _one(config, instruction)
    parse_signal(text)
    return replace(config, stop_signal=text)


def _on_build(config: ContainerConfig, instruction: Instruction) -> ContainerConfig:
    text = instruction.some()[0]
    name = text.split(None, 1)[0].upper()
    if name == "ONBUILD":
        raise InvalidArgument("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if name in ("FROM", "MAINTAINER"):
        raise InvalidArgument(f"{name} isn't allowed as an ONBUILD trigger")
    return replace(config, on_build=(*(config.on_build or ()), text))


def _healthcheck(config: ContainerConfig, instruction: Instruction) -> ContainerConfig:
    kind, *arguments = instruction.some()
    if kind.upper() == "NONE":
        if arguments:
            raise InvalidArgument("HEALTHCHECK NONE takes no arguments")
        return replace(config, healthcheck=HealthConfig(test=("NONE",)))
    if kind.upper() != "CMD":
        raise InvalidArgument(f"Unknown type {quoted(kind.upper())} in HEALTHCHECK (try CMD)")
    if not arguments:
        raise InvalidArgument("Missing command after HEALTHCHECK CMD")
    health = HealthConfig(test=("CMD" if instruction.is_json else "CMD-SHELL", *arguments))
    for name, value in instruction.flags.items():
        health = _health_option(health, name, value)
    return replace(config, healthcheck=health)


def _health_option(health: HealthConfig, name: str, value: str) -> HealthConfig:
    if not value:
        return health
    if name == "retries":
        if not re.fullmatch(r"[+-]?[0-9]+", value, re.ASCII):
            said = f"strconv.ParseInt: parsing {quoted(value)}: invalid syntax"
            raise InvalidArgument(said)
        number = int(value[:20])
        if number < 1 or number > _INT32:
            raise InvalidArgument(f"--retries must be at least 1 (not {number})")
        return replace(health, retries=number)
    length = nanoseconds(value)
    if 0 < length < _LEAST_DURATION or length < 0:
        raise InvalidArgument(f"Interval {quoted(name)} cannot be less than 1ms")
    return replace(health, **{name.replace("-", "_"): length})


_INSTRUCTIONS: dict[str, Callable[[ContainerConfig, Instruction], ContainerConfig]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _on_build,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
