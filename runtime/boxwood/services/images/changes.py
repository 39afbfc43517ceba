"""``--change``: the instructions of a Dockerfile that change a config and nothing else.

CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR
(facts/formats-and-protocols.md section 11).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Sequence

import msgspec

from boxwood.errors import InvalidArgument
from boxwood.model.config import ContainerConfig, HealthConfig
from boxwood.model.wire import replace

_TEXT_LIMIT = 64 << 10
"""Characters of one change."""
_SHELL = ("/bin/sh", "-c")
_SINGLE = frozenset({"STOPSIGNAL", "USER", "WORKDIR"})
_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?", re.ASCII | re.IGNORECASE)
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9}


def apply_changes(config: ContainerConfig, changes: Sequence[str]) -> ContainerConfig:
    """Return the config with all changes made, in order.

    Raises:
        InvalidArgument: an unknown or forbidden instruction, or one that does not parse.
    """
    for change in changes:
        lines = _lines(change)
        if not lines:
            raise InvalidArgument("file with no instructions")
        for line in lines:
            config = _apply_one(config, line)
    return config


def _lines(change: str) -> list[str]:
    if len(change) > _TEXT_LIMIT:
        raise InvalidArgument(f"dockerfile parse error: longer than {_TEXT_LIMIT} characters")
    joined = re.sub(r"\\[ \t]*\n", "", change)
    lines = (line.strip() for line in joined.split("\n"))
    return [line for line in lines if line and not line.startswith("#")]


def _apply_one(config: ContainerConfig, line: str) -> ContainerConfig:
    word, _, rest = line.partition(" ")
    rest = rest.strip()
    instruction = _INSTRUCTIONS.get(word.upper())
    if instruction is None:
        raise InvalidArgument(f"{word.upper()} is not a valid change command")
    if not rest:
        count = "exactly" if word.upper() in _SINGLE else "at least"
        raise InvalidArgument(f"{word.upper()} requires {count} one argument")
    return instruction(config, rest)


def _json_list(text: str) -> list[str] | None:
    if not text.startswith("["):
        return None
    try:
        return msgspec.json.decode(text.encode(), type=list[str])
    except (msgspec.MsgspecError, UnicodeEncodeError):
        return None


def _command(text: str) -> tuple[str, ...]:
    listed = _json_list(text)
    return tuple(listed) if listed is not None else (*_SHELL, text)


def split_words(text: str) -> list[str]:
    """Split at blanks outside of quotes; quotes and backslashes go, as Docker's parser does.

    Raises:
        InvalidArgument: a quote is not closed.
    """
    words: list[str] = []
    word: list[str] | None = None
    quote = ""
    characters = iter(text)
    for character in characters:
        if not quote and character in " \t":
            if word is not None:
                words.append("".join(word))
            word = None
            continue
        word = [] if word is None else word
        if character == "\\" and quote != "'":
            word.append(next(characters, "\\"))
        elif quote and character == quote:
            quote = ""
        elif not quote and character in "\"'":
            quote = character
        else:
            word.append(character)
    if quote:
        raise InvalidArgument(f"dockerfile parse error: unexpected end of statement: {text[:200]}")
    if word is not None:
        words.append("".join(word))
    return words


def _pairs(name: str, text: str) -> list[tuple[str, str]]:
    """``a=b "c=d e"``, or the old ``a all the rest``."""
    first = re.split(r"[ \t]", text, maxsplit=1)
    if "=" not in first[0]:
        if len(first) < 2:
            raise InvalidArgument(f"{name} must have two arguments")
        return [(first[0], first[1].strip())]
    pairs = []
    for word in split_words(text):
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise InvalidArgument(
                f"dockerfile parse error: Syntax error - can't find = in {word[:200]!r}. "
                "Must be of the form: name=value"
            )
        pairs.append((key, value))
    return pairs


def _expand(config: ContainerConfig, text: str) -> str:
    """``$NAME`` and ``${NAME}`` from the environment so far; ``\\$`` is a dollar."""
    known = dict(entry.partition("=")[::2] for entry in config.env or ())

    def value(found: re.Match[str]) -> str:
        if found[0] == "\\$":
            return found[0]
        return known.get(found[1] or found[2], "")

    return re.sub(r"\\\$|\$\{([A-Za-z_]\w*)\}|\$([A-Za-z_]\w*)", value, text, flags=re.ASCII)


def _cmd(config: ContainerConfig, text: str) -> ContainerConfig:
    return replace(config, cmd=_command(text))


def _entrypoint(config: ContainerConfig, text: str) -> ContainerConfig:
    return replace(config, entrypoint=_command(text))


def _env(config: ContainerConfig, text: str) -> ContainerConfig:
    # All of one instruction sees the environment from before it.
    entries = list(config.env or ())
    for key, value in _pairs("ENV", _expand(config, text)):
        place = [at for at, entry in enumerate(entries) if entry.partition("=")[0] == key]
        if place:
            entries[place[0]] = f"{key}={value}"
        else:
            entries.append(f"{key}={value}")
    return replace(config, env=tuple(entries))


def _label(config: ContainerConfig, text: str) -> ContainerConfig:
    pairs = _pairs("LABEL", _expand(config, text))
    return replace(config, labels={**(config.labels or {}), **dict(pairs)})


def _expose(config: ContainerConfig, text: str) -> ContainerConfig:
    ports: dict[str, dict[str, object]] = dict(config.exposed_ports or {})
    for word in split_words(_expand(config, text)):
        found = _PORT.fullmatch(word)
        low = int(found[1]) if found else 0
        high = int(found[2] or low) if found else 0
        if not found or low > high or high > 65535:
            raise InvalidArgument(f"invalid containerPort: {word}")
        for port in range(low, high + 1):
            ports[f"{port}/{(found[3] or 'tcp').lower()}"] = {}
    return replace(config, exposed_ports=ports)


def _user(config: ContainerConfig, text: str) -> ContainerConfig:
    return replace(config, user=_one("USER", _expand(config, text)))


def _one(name: str, text: str) -> str:
    words = split_words(text)
    if len(words) != 1:
        raise InvalidArgument(f"{name} requires exactly one argument")
    return words[0]


def _volume(config: ContainerConfig, text: str) -> ContainerConfig:
    text = _expand(config, text)
    listed = _json_list(text)
    paths = listed if listed is not None else split_words(text)
    if not all(paths):
        raise InvalidArgument("VOLUME specified can not be an empty string")
    volumes: dict[str, dict[str, object]] = dict(config.volumes or {})
    volumes.update({path: {} for path in paths})
    return replace(config, volumes=volumes)


def _workdir(config: ContainerConfig, text: str) -> ContainerConfig:
    path = _expand(config, text)
    words = split_words(path)
    base = config.working_dir or "/"
    # A working directory may hold blanks: it is the whole line.
    return replace(config, working_dir=posixpath.normpath(posixpath.join("/", base, *words[:1])))


def _stop_signal(config: ContainerConfig, text: str) -> ContainerConfig:
    return replace(config, stop_signal=_one("STOPSIGNAL", _expand(config, text)))


def _on_build(config: ContainerConfig, text: str) -> ContainerConfig:
    word = text.split(None, 1)[0].upper()
    if word == "ONBUILD":
        raise InvalidArgument("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if word in ("FROM", "MAINTAINER"):
        raise InvalidArgument(f"{word} isn't allowed as an ONBUILD trigger")
    return replace(config, on_build=(*(config.on_build or ()), text))


def nanoseconds(text: str) -> int:
    """Return a duration as Go writes it (``1m30s``) in nanoseconds.

    Raises:
        InvalidArgument: it is none.
    """
    total, at = 0.0, 0
    while found := _DURATION_PART.match(text, at):
        total += float(found[1]) * _UNITS[found[2]]
        at = found.end()
    if (not text or at != len(text)) and text != "0":
        raise InvalidArgument(f"dockerfile parse error: invalid duration {text[:100]!r}")
    return int(total)


def _healthcheck(config: ContainerConfig, text: str) -> ContainerConfig:
    health = HealthConfig()
    while found := re.match(r"--([a-z-]+)=(\S*)\s*", text):
        health = _health_option(health, found[1], found[2])
        text = text[found.end() :]
    word, _, rest = text.partition(" ")
    if word.upper() == "NONE":
        return replace(config, healthcheck=HealthConfig(test=("NONE",)))
    if word.upper() != "CMD" or not rest.strip():
        raise InvalidArgument(f'Unknown type "{word.upper()}" in HEALTHCHECK (try CMD)')
    listed = _json_list(rest.strip())
    test = ("CMD", *listed) if listed is not None else ("CMD-SHELL", rest.strip())
    return replace(config, healthcheck=replace(health, test=test))


def _health_option(health: HealthConfig, name: str, value: str) -> HealthConfig:
    if name == "retries":
        if not value.isdigit() or int(value) < 1 or int(value) > 1_000_000:
            raise InvalidArgument("dockerfile parse error: --retries must be at least 1")
        return replace(health, retries=int(value))
    field = name.replace("-", "_")
    if field not in ("interval", "timeout", "start_period", "start_interval"):
        raise InvalidArgument(f"dockerfile parse error: unknown flag: {name}")
    return replace(health, **{field: nanoseconds(value)})


_INSTRUCTIONS: dict[str, Callable[[ContainerConfig, str], ContainerConfig]] = {
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
