"""The lines of a Dockerfile that ``--change`` takes, parted into name, flags and arguments.

How the rest of a line is read goes by its name, as in Docker's parser: CMD, ENTRYPOINT and VOLUME
take a JSON list, ENV and LABEL pairs, EXPOSE words, HEALTHCHECK a word and a command, the others
all of the line (facts/formats-and-protocols.md section 11).
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from typing import Any

import msgspec

from boxwood.errors import InvalidArgument
from boxwood.services.images.expansion import quoted

_TEXT_LIMIT = 64 << 10
"""Characters of all changes together."""
_BLANKS = " \t\v\f\r"
_FLAGS: Mapping[str, tuple[str, ...]] = {
    "HEALTHCHECK": ("interval", "timeout", "start-period", "start-interval", "retries"),
}
_JSON = frozenset({"CMD", "ENTRYPOINT", "VOLUME"})
_PAIRS = frozenset({"ENV", "LABEL"})
_WORDS = frozenset({"EXPOSE", "VOLUME"})


class Instruction(msgspec.Struct, frozen=True):
    """One of them. ``arguments`` of ENV and LABEL: keys and values by turns, not yet expanded."""

    name: str
    arguments: tuple[str, ...]
    flags: dict[str, str]
    is_json: bool = False

    def some(self) -> tuple[str, ...]:
        """Return the arguments; raises InvalidArgument when there is none."""
        if not self.arguments:
            raise InvalidArgument(f"{self.name} requires at least one argument")
        return self.arguments

    def only(self) -> str:
        """Return the one argument; raises InvalidArgument when there is none."""
        if len(self.arguments) != 1:
            raise InvalidArgument(f"{self.name} requires exactly one argument")
        return self.arguments[0]

    def pairs(self) -> list[tuple[str, str]]:
        """Return keys and values; raises InvalidArgument for none and for an empty key."""
        given = self.some()
        if not all(given[::2]):
            raise InvalidArgument(f"{self.name} names can not be blank")
        return list(zip(given[::2], given[1::2], strict=True))


def parse(text: str, known: Container[str]) -> list[Instruction]:
    """Return the instructions of the text.

    Raises:
        InvalidArgument: there is none, one is not ``known``, a line cannot be read.
    """
    if len(text) > _TEXT_LIMIT:
        raise InvalidArgument(f"dockerfile parse error: longer than {_TEXT_LIMIT} characters")
    lines = [re.split(rf"[{_BLANKS}]+", line, maxsplit=1) for line in _lines(text)]
    if not lines:
        raise InvalidArgument("file with no instructions")
    for name, *_ in lines:
        if name.upper() not in known:
            raise InvalidArgument(f"{name.upper()[:100]} is not a valid change command")
    return [_instruction(name.upper(), rest[0] if rest else "") for name, *rest in lines]


def _lines(text: str) -> list[str]:
    """The lines, what a backslash continues in one, without comments and empty ones."""
    found: list[str] = []
    begun: str | None = None
    for line in text.split("\n"):
        if line.lstrip().startswith("#") or (begun is not None and not line.strip()):
            continue
        line = line.lstrip() if begun is None else begun + line
        cut = re.sub(r"\\[ \t]*\Z", "", line)
        begun = cut if cut != line else None
        if begun is None:
            found.append(line.strip())
    if begun is not None:
        found.append(begun.strip())
    return [line for line in found if line]


def _instruction(name: str, rest: str) -> Instruction:
    flags, rest = _flags(name, rest.strip())
    if name == "HEALTHCHECK":
        kind, _, command = _first_word(rest)
        arguments, is_json = _list_or(command, _whole)
        return Instruction(name, ((kind,) if kind else ()) + arguments, flags, is_json)
    if name in _JSON:
        arguments, is_json = _list_or(rest, _split if name in _WORDS else _whole)
        return Instruction(name, arguments, flags, is_json)
    if name in _PAIRS:
        return Instruction(name, _key_values(name, rest), flags)
    return Instruction(name, (_split if name in _WORDS else _whole)(rest), flags)


def _first_word(text: str) -> tuple[str, str, str]:
    found = re.match(rf"([^{_BLANKS}]*)([{_BLANKS}]*)(.*)\Z", text, re.DOTALL)
    assert found is not None  # every part may be empty
    return found[1], found[2], found[3]


def _whole(text: str) -> tuple[str, ...]:
    return (text,) if text else ()


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _list_or(text: str, otherwise: Any) -> tuple[tuple[str, ...], bool]:
    """Return what the text lists, and whether it is a JSON list of strings."""
    if not text.startswith("["):
        return otherwise(text), False
    try:
        listed = msgspec.json.decode(text.encode(), type=list[Any])
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        return otherwise(text), False
    if not all(isinstance(entry, str) for entry in listed):
        raise InvalidArgument(
            "when using JSON array syntax, arrays must be comprised of strings only"
        )
    return tuple(listed), True


def _flags(name: str, rest: str) -> tuple[dict[str, str], str]:
    """Part what begins with ``--`` from the rest; ``--`` alone ends it."""
    found: dict[str, str] = {}
    while rest.startswith("--"):
        flag, _, rest = _first_word(rest)
        if flag == "--":
            break
        key, _, value = flag[2:].partition("=")
        if key not in _FLAGS.get(name, ()):
            raise InvalidArgument(f"Unknown flag: {key[:100]}")
        if key in found:
            raise InvalidArgument(f"Duplicate flag specified: {key}")
        found[key] = value
    return found, rest


def _key_values(name: str, text: str) -> tuple[str, ...]:
    """``a=b "c=d e"``, or the old ``a all the rest``; quotes stay."""
    given = _quoted_words(text)
    if not given:
        return ()
    if "=" not in given[0]:
        key, _, value = _first_word(text)
        if not value:
            raise InvalidArgument(f"{name} must have two arguments")
        return key, value
    found: list[str] = []
    for entry in given:
        key, equals, value = entry.partition("=")
        if not equals:
            raise InvalidArgument(
                f"Syntax error - can't find = in {quoted(entry)}. Must be of the form: name=value"
            )
        found += (key, value)
    return tuple(found)


def _quoted_words(text: str) -> list[str]:
    """Split at blanks outside of quotes; quotes and backslashes stay."""
    part = r"""\\.|'[^']*(?:'|\Z)|"(?:\\.|[^"\\])*(?:"|\Z)|[^\s'"\\]|\\\Z"""
    return [found[0] for found in re.finditer(rf"(?:{part})+", text, re.DOTALL)]
