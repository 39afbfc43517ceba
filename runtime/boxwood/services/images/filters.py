"""The filters of ``docker images``: which of the images are listed."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence

from boxwood.errors import InvalidArgument
from boxwood.model.image import Image
from boxwood.model.moments import moment_of, seconds_of
from boxwood.model.reference import Reference
from boxwood.model.wire import replace

Find = Callable[[str], Image]

_WILD = {"*": "[^/]*", "?": "[^/]"}
ALLOWED = frozenset(("before", "dangling", "label", "label!", "reference", "since", "until"))
_TRUE = ("1", "true")
_FALSE = ("0", "false")


def matching(
    images: Sequence[Image], filters: Mapping[str, Sequence[str]], find: Find
) -> list[Image]:
    """Return the images that pass: values of one key are alternatives, keys all count.

    Raises:
        InvalidArgument: an unknown key or a value that is none.
        NotFound: ``before`` or ``since`` names no image.
    """
    for key in filters:
        if key not in ALLOWED:
            raise InvalidArgument(f"invalid filter '{key}'")
    found = list(images)
    for key, values in filters.items():
        if values:
            found = _KEEP[key](found, values, find)
    return found


def truth(key: str, values: Sequence[str]) -> bool:
    """Return what a filter that is true or false says.

    Raises:
        InvalidArgument: it says neither, or both.
    """
    said = {value in _TRUE for value in values if value in (*_TRUE, *_FALSE)}
    if len(said) != 1:
        raise InvalidArgument(f"invalid filter '{key}=[{' '.join(values)}]'")
    return said.pop()


def created_seconds(image: Image) -> float:
    """Return when the image was built, seconds since the epoch; 0 when it does not say."""
    return seconds_of(image.created)


def _before(images: list[Image], values: Sequence[str], find: Find) -> list[Image]:
    limit = min(created_seconds(find(value)) for value in values)
    return [image for image in images if created_seconds(image) < limit]


def _since(images: list[Image], values: Sequence[str], find: Find) -> list[Image]:
    limit = max(created_seconds(find(value)) for value in values)
    return [image for image in images if created_seconds(image) > limit]


def _until(images: list[Image], values: Sequence[str], find: Find) -> list[Image]:
    del find
    if len(values) > 1:
        raise InvalidArgument("more than one until filter specified")
    limit = moment_of(values[0])
    return [image for image in images if created_seconds(image) < limit]


def _dangling(images: list[Image], values: Sequence[str], find: Find) -> list[Image]:
    del find
    wanted = truth("dangling", values)
    return [image for image in images if (not image.tags and not image.digests) is wanted]


def _has_label(image: Image, value: str) -> bool:
    labels = image.config.config.labels or {}
    key, equals, wanted = value.partition("=")
    return key in labels and (not equals or labels[key] == wanted)


def _label(images: list[Image], values: Sequence[str], find: Find) -> list[Image]:
    del find
    return [image for image in images if all(_has_label(image, value) for value in values)]


def _no_label(images: list[Image], values: Sequence[str], find: Find) -> list[Image]:
    del find
    return [image for image in images if not any(_has_label(image, value) for value in values)]


def reference_matches(pattern: str, name: str) -> bool:
    """Does a canonical name match a shell pattern? Its familiar form and repository count too.

    Raises:
        InvalidArgument: the pattern is none.
    """
    reference = Reference.parse(name)
    candidates = (reference.familiar, reference.familiar_name, str(reference), reference.name)
    found = path_pattern(pattern)
    return any(found.fullmatch(candidate) for candidate in candidates)


@functools.lru_cache(maxsize=64)
def path_pattern(pattern: str) -> re.Pattern[str]:
    """Return what Go's ``path.Match`` means by a pattern: no wildcard crosses a slash.

    Raises:
        InvalidArgument: a bracket or a backslash without what belongs to it.
    """
    found: list[str] = []
    rest = _Rest(pattern)
    while character := rest.next():
        if character in _WILD:
            found.append(_WILD[character])
        elif character == "[":
            found.append(rest.members())
        else:
            found.append(re.escape(rest.escaped() if character == "\\" else character))
    return re.compile("".join(found), re.DOTALL)


class _Rest:
    """What of a pattern is not read yet."""

    def __init__(self, pattern: str) -> None:
        self._pattern, self._at = pattern, 0

    def next(self) -> str:
        """Return the next character, empty at the end."""
        character = self._peek()
        self._at += 1
        return character

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def escaped(self) -> str:
        """Return the character after a backslash."""
        if not (character := self.next()):
            raise InvalidArgument("syntax error in pattern")
        return character

    def members(self) -> str:
        """Return what is in brackets as a regular expression has it."""
        not_ = "^" if self._peek() == "^" else ""
        self._at += len(not_)
        ranges: list[str] = []
        seen = False
        while not seen or self._peek() != "]":
            seen = True
            low = high = self._member()
            if self._peek() == "-":
                self.next()
                high = self._member()
            if low <= high:
                ranges.append(f"{re.escape(low)}-{re.escape(high)}")
        self.next()
        if not ranges:  # nothing is between them
            return "." if not_ else "(?!)"
        return f"[{not_}{''.join(ranges)}]"

    def _member(self) -> str:
        character = self.next()
        if not character or character in "-]":
            raise InvalidArgument("syntax error in pattern")
        return self.escaped() if character == "\\" else character


def _reference(images: list[Image], values: Sequence[str], find: Find) -> list[Image]:
    del find
    found = []
    for image in images:
        tags = tuple(t for t in image.tags if any(reference_matches(v, t) for v in values))
        digests = tuple(d for d in image.digests if any(reference_matches(v, d) for v in values))
        if tags or digests:
            found.append(replace(image, tags=tags, digests=digests))
    return found


_KEEP: dict[str, Callable[[list[Image], Sequence[str], Find], list[Image]]] = {
    "before": _before,
    "dangling": _dangling,
    "label": _label,
    "label!": _no_label,
    "reference": _reference,
    "since": _since,
    "until": _until,
}
