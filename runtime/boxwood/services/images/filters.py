"""The filters of ``docker images``: which of the images are listed."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence

from boxwood.errors import InvalidArgument
from boxwood.model.image import Image
from boxwood.model.moments import moment_of, seconds_of
from boxwood.model.reference import Reference
from boxwood.model.wire import replace

Find = Callable[[str], Image]

ALLOWED = frozenset(("before", "dangling", "label", "label!", "reference", "since", "until"))
_TRUE = ("1", "t", "true", "yes")
_FALSE = ("0", "f", "false", "no")


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
    wanted = set()
    for value in values:
        if value.lower() not in (*_TRUE, *_FALSE):
            raise InvalidArgument(f"invalid filter 'dangling=[{value}]'")
        wanted.add(value.lower() in _TRUE)
    return [image for image in images if (not image.tags and not image.digests) in wanted]


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
    """Does a canonical name match a shell pattern? Its familiar form and repository count too."""
    reference = Reference.parse(name)
    candidates = (reference.familiar, reference.familiar_name, str(reference), reference.name)
    depth = pattern.count("/")
    # As in Go's path.Match a star does not cross a slash.
    return any(
        candidate.count("/") == depth and fnmatch.fnmatchcase(candidate, pattern)
        for candidate in candidates
    )


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
