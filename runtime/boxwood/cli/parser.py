"""Flags as Docker's command line reads them (the grammar of Go's pflag).

`-abc` bundles, `-n5`, `-n 5`, `-n=5`, `--name x` and `--name=x` are one each, a boolean takes a
value only behind `=`, `--` ends the flags, `-` is an argument. click's parser knows neither
`--rm=false` nor these errors, which scripts see, and takes 30 ms to import.
"""

from __future__ import annotations

from boxwood.cli.command import INTEGERS, Command, Flag, defaults
from boxwood.cli.errors import HelpRequested, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from boxwood.cli.command import Values

# What Go's strconv.ParseBool takes.
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))


def parse(
    command: Command, argv: list[str], given: set[str] | None = None
) -> tuple[Values, list[str]]:
    """The flags' values and the positional arguments. Raises UsageError, HelpRequested.

    The names of the flags that were there are added to `given`.
    """
    parser = FlagParser(command.flags, defaults(command.flags), interspersed=command.interspersed)
    positional = parser.parse(argv)
    if given is not None:
        given |= parser.given
    return parser.values, positional


class FlagParser:
    """Reads one command's flags into `values`; `given` names those that were there."""

    def __init__(self, flags: Iterable[Flag], values: Values, *, interspersed: bool = True) -> None:
        self.values = values
        self.given: set[str] = set()
        self._interspersed = interspersed
        self._long: dict[str, Flag] = {}
        self._short: dict[str, Flag] = {}
        for flag in flags:
            self._long[flag.name] = flag
            if flag.short:
                self._short[flag.short] = flag
            for alias in flag.aliases:
                self._long[alias] = flag

    def parse(self, argv: list[str]) -> list[str]:
        """Read `argv`; the positional arguments. Raises UsageError, HelpRequested."""
        rest = argv[::-1]
        positional: list[str] = []
        while rest:
            word = rest.pop()
            if word == "--":
                positional += reversed(rest)
                break
            if word.startswith("--"):
                self._read_long(word, rest)
            elif word.startswith("-") and word != "-":
                self._read_short(word, rest)
            else:
                positional.append(word)
                if not self._interspersed:
                    positional += reversed(rest)
                    break
        return positional

    def _read_long(self, word: str, rest: list[str]) -> None:
        name, equals, value = word[2:].partition("=")
        if not name or name.startswith("-"):
            raise UsageError(f"bad flag syntax: {word}", flag=True)
        flag = self._long.get(name)
        if flag is None:
            if name == "help":
                raise HelpRequested
            raise UsageError(f"unknown flag: --{name}", flag=True)
        if equals:
            self._set(flag, value)
        elif flag.kind == "bool":
            self._set(flag, "true")
        elif rest:
            self._set(flag, rest.pop())
        else:
            raise UsageError(f"flag needs an argument: --{name}", flag=True)

    def _read_short(self, word: str, rest: list[str]) -> None:
        letters = word[1:]
        while letters:
            letter, tail = letters[0], letters[1:]
            flag = self._short.get(letter)
            if flag is None:
                if letter == "h":
                    raise HelpRequested
                raise UsageError(f"unknown shorthand flag: '{letter}' in -{letters}", flag=True)
            if tail.startswith("=") and len(tail) > 1:
                self._set(flag, tail[1:])
                return
            if flag.kind == "bool":
                self._set(flag, "true")
                letters = tail
                continue
            if not tail and not rest:
                raise UsageError(f"flag needs an argument: '{letter}' in -{letters}", flag=True)
            self._set(flag, tail or rest.pop())
            return

    def _set(self, flag: Flag, text: str) -> None:
        try:
            value = _convert(flag, text)
        except ValueError as error:
            raise UsageError(
                f'invalid argument "{text}" for "{flag.shown}" flag: {error}', flag=True
            ) from None
        self.given.add(flag.dest)
        if flag.repeated:
            self.values[flag.dest] += value
        else:
            self.values[flag.dest] = value


def check_count(command: Command, count: int, name: str) -> None:
    """Refuse a wrong number of positional arguments in Docker's words. Raises UsageError."""
    least, most = command.least, command.most
    if count >= least and (most is None or count <= most):
        return
    if most == 0:
        raise UsageError(f"'{name}' accepts no arguments")
    if least == most:
        raise UsageError(f"'{name}' requires {least} {_plural(least)}")
    if most is None:
        raise UsageError(f"'{name}' requires at least {least} {_plural(least)}")
    if least == 0:
        raise UsageError(f"'{name}' requires at most {most} {_plural(most)}")
    raise UsageError(f"'{name}' requires at least {least} and at most {most} arguments")


def _plural(count: int) -> str:
    return "argument" if count == 1 else "arguments"


def _convert(flag: Flag, text: str) -> Any:
    if flag.kind == "bool":
        return parse_bool(text)
    if flag.kind in INTEGERS:
        return parse_int(text, flag.kind)
    if flag.kind == "strings":
        return text.split(",") if text else []
    if flag.kind == "filter":
        return [_filter(text)]
    return [text] if flag.repeated else text


def parse_bool(text: str) -> bool:
    """Go's ParseBool. Raises ValueError in its words."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def parse_int(text: str, kind: str) -> int:
    """Go's ParseInt or ParseUint with base 0. Raises ValueError in its words."""
    low, high = INTEGERS[kind]
    name = "ParseUint" if low == 0 else "ParseInt"
    signed = text[:1] in ("+", "-")
    digits = text[1:] if signed else text
    try:
        if (
            not digits[:1].isdigit()
            or (signed and low == 0)
            or not text.isascii()
            or text != text.strip()
        ):
            raise ValueError
        # A leading 0 is octal in Go, a mistake in Python.
        octal = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
        number = int(digits, 8 if octal else 0)
    except ValueError:
        raise ValueError(f'strconv.{name}: parsing "{text}": invalid syntax') from None
    number = -number if text.startswith("-") else number
    if not low <= number <= high:
        raise ValueError(f'strconv.{name}: parsing "{text}": value out of range')
    return number


def _filter(text: str) -> str:
    if "=" not in text:
        raise ValueError("bad format of filter (expected name=value)")
    return text
