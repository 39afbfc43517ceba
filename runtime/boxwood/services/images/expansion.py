"""Words of a Dockerfile: quotes and backslashes go, ``$NAME`` and ``${NAME…}`` are filled in.

What the shell would do with one word, as far as Docker does it (facts/formats-and-protocols.md
section 11): ``${V:-d} ${V-d} ${V:+a} ${V+a} ${V:?e} ${V?e} ${V#p} ${V##p} ${V%p} ${V%%p}
${V/p/r} ${V//p/r}``, single quotes literal, double quotes not split.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from boxwood.errors import InvalidArgument

_SPECIAL = "@*#?-$!0"
_DEPTH = 32
"""Substitutions within one another; each costs a few frames of the stack."""
_WILD = "*?"
"""What is special in a pattern: brackets stand for themselves."""
_CUT_LIMIT = 512
"""Characters of a value that a pattern with wild characters is laid on: every place is tried."""
_QUOTES = {"'": "single-quote", '"': "double-quote", "}": "}", "/": "/"}


def quoted(text: str) -> str:
    """Return the text in double quotes, as Go's ``%q`` has it, cut to a line's length."""
    text = text[:200].replace("\\", "\\\\").replace('"', '\\"')
    return '"' + text.replace("\n", "\\n").replace("\t", "\\t") + '"'


def word(text: str, environment: Mapping[str, str]) -> str:
    """Return one word, blanks included.

    Raises:
        InvalidArgument: a quote or brace that is not closed, a substitution that is none.
    """
    return _expanded(text, environment).text


def words(text: str, environment: Mapping[str, str]) -> list[str]:
    """Return the words that come of it: blanks outside of quotes part them.

    Raises:
        InvalidArgument: as :func:`word`.
    """
    return _expanded(text, environment).words


def _expanded(text: str, environment: Mapping[str, str]) -> _Word:
    found = _Word(text, environment)
    try:
        found.run()
    except InvalidArgument as error:
        raise InvalidArgument(f"failed to process {quoted(text)}: {error}") from None
    return found


class _Word:
    """One word on its way: ``text`` and ``words`` are there after :meth:`run`."""

    def __init__(self, source: str, environment: Mapping[str, str]) -> None:
        self._source = source
        self._environment = environment
        self._at = 0
        self._depth = 0
        self._open: list[str] | None = None
        self.words: list[str] = []
        self.text = ""

    def run(self) -> None:
        """Read all of the source."""
        self.text = self._until("")
        self._part()

    def _peek(self) -> str:
        return self._source[self._at : self._at + 1]

    def _next(self) -> str:
        character = self._peek()
        self._at += len(character)
        return character

    def _add(self, text: str, *, split: bool) -> None:
        """Take text into the words; ``split``: blanks in it part them."""
        if self._depth:  # what stands within a substitution is split with what it gives
            return
        for piece in re.split(r"([ \t\r\n]+)", text) if split else [text]:
            if split and piece.isspace():
                self._part()
            elif piece or not split:
                self._open = self._open if self._open is not None else []
                self._open.append(piece)

    def _part(self) -> None:
        if self._open is not None:
            self.words.append("".join(self._open))
        self._open = None

    def _until(self, stop: str) -> str:
        """Return what comes before ``stop`` (at the end of the source: nothing stops)."""
        found: list[str] = []
        while character := self._next():
            if character == stop:
                return "".join(found)
            if character == "'":
                piece, split = self._literal(), False
            elif character == '"':
                piece, split = self._double(), False
            elif character == "$":
                piece, split = self._dollar(), True
            elif character == "\\":
                piece, split = self._next(), False
            else:
                piece, split = character, True
            self._add(piece, split=split)
            found.append(piece)
        if stop:
            raise _unended(stop)
        return "".join(found)

    def _literal(self) -> str:
        end = self._source.find("'", self._at)
        if end < 0:
            raise _unended("'")
        found, self._at = self._source[self._at : end], end + 1
        return found

    def _double(self) -> str:
        found: list[str] = []
        while character := self._next():
            if character == '"':
                return "".join(found)
            if character == "$":
                found.append(self._dollar())
            elif character == "\\" and self._peek() in ('"', "$", "\\"):
                found.append(self._next())
            else:
                found.append(character)
        raise _unended('"')

    def _name(self) -> str:
        match = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+", re.ASCII).match(self._source, self._at)
        if match is not None:
            self._at = match.end()
            return match[0]
        return self._next() if self._peek() and self._peek() in _SPECIAL else ""

    def _dollar(self) -> str:
        if self._peek() != "{":
            name = self._name()
            return self._environment.get(name, "") if name else "$"
        self._next()
        if not self._peek():
            raise InvalidArgument("syntax error: missing '}'")
        if self._peek() in "{}:":
            raise InvalidArgument("syntax error: bad substitution")
        self._depth += 1
        if self._depth > _DEPTH:
            raise InvalidArgument("syntax error: substitutions too deep")
        found = self._braced(self._name())
        self._depth -= 1
        return found

    def _braced(self, name: str) -> str:
        value = self._environment.get(name)
        how = self._next()
        if how == "}":
            return value or ""
        colon = how == ":"
        if colon:
            how = self._next()
        if how and how in "-+?":
            missing = not value if colon else value is None
            return _chosen(name, value or "", how, self._until("}"), missing=missing, colon=colon)
        if how and how in "#%/" and not colon:
            return self._cut(value or "", how)
        if not how:
            raise InvalidArgument("syntax error: missing '}'")
        raise InvalidArgument(f"unsupported modifier ({':' * colon}{how}) in substitution")

    def _cut(self, value: str, how: str) -> str:
        every = self._peek() == how
        if every:
            self._next()
        if how == "/":
            pattern, other = self._until("/"), self._until("}")
            return _replaced(value, pattern, other, every=every)
        return _trimmed(value, self._until("}"), longest=every, at_end=how == "%")


def _unended(stop: str) -> InvalidArgument:
    return InvalidArgument(
        f"unexpected end of statement while looking for matching {_QUOTES[stop]}"
    )


def _chosen(name: str, value: str, how: str, other: str, *, missing: bool, colon: bool) -> str:
    """What ``${name-other}`` (``+``, ``?``) gives."""
    if how == "?" and missing:
        said = "is not allowed to be empty" if colon else "is not allowed to be unset"
        raise InvalidArgument(f"{name}: {other or said}")
    if how == "-":
        return other if missing else value
    if how == "+":
        return "" if missing else other
    return value


def _trimmed(value: str, pattern: str, *, longest: bool, at_end: bool) -> str:
    """``value`` without the shortest or longest beginning (or end) that the pattern matches."""
    _check(value, pattern)
    step = -1 if at_end else 1
    lengths = _lengths(value[::step], pattern[::step])
    if not lengths:
        return value
    cut = lengths[-1] if longest else lengths[0]
    return value[: len(value) - cut] if at_end else value[cut:]


def _replaced(value: str, pattern: str, other: str, *, every: bool) -> str:
    """``value`` with the longest match of the pattern at the first place (at every) replaced."""
    _check(value, pattern)
    if not pattern:
        return value
    if not set(_WILD) & set(pattern):
        return value.replace(pattern, other, -1 if every else 1)
    found, at = [], 0
    while at < len(value):
        longest = max(_lengths(value[at:], pattern), default=0)
        found.append(other if longest else value[at])
        at += longest or 1
        if longest and not every:
            break
    return "".join(found) + value[at:]


def _check(value: str, pattern: str) -> None:
    if set(_WILD) & set(pattern) and len(value) > _CUT_LIMIT:
        raise InvalidArgument(f"a value of more than {_CUT_LIMIT} characters takes no pattern")


def _lengths(text: str, pattern: str) -> list[int]:
    """How long the beginnings of ``text`` are that the pattern matches, shortest first."""
    found = []
    states = _past_stars({0}, pattern)  # how much of the pattern is matched
    for length in range(len(text) + 1):
        if len(pattern) in states:
            found.append(length)
        if length == len(text) or not states:
            break
        step = set()
        for at in states:
            if pattern[at : at + 1] == "*":
                step.add(at)
            elif pattern[at : at + 1] in ("?", text[length]):
                step.add(at + 1)
        states = _past_stars(step, pattern)
    return found


def _past_stars(states: set[int], pattern: str) -> set[int]:
    """The same states and those that are reached by letting a star stand for nothing."""
    reached = set(states)
    for at in states:
        end = at
        while pattern[end : end + 1] == "*":
            end += 1
            reached.add(end)
    return reached
