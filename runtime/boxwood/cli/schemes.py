"""Names of images with a scheme before them: `oci:DIR:TAG`, `docker://NAME`."""

from __future__ import annotations

import os
import re

_FILES = frozenset(("dir", "docker-archive", "oci", "oci-archive"))
"""First-party transports whose names begin with a path."""
_OTHERS = frozenset(("debootstrap",))
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):(.*)", re.ASCII | re.DOTALL)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}|[0-9]+/.*", re.ASCII | re.DOTALL)


def scheme_of(text: str) -> str:
    """The scheme that a name begins with; empty for the name of an image.

    The entry points of plugins are read only where a text can be no image's name: reading them
    costs a tenth of a second. So a stranger's transport whose names look like a tag or a port is
    asked for by `SCHEME://`.
    """
    found = _SCHEME.fullmatch(text)
    if found is None:
        return ""
    scheme, rest = found.groups()
    if rest.startswith("//") or scheme in _FILES or scheme in _OTHERS:
        return scheme
    if scheme == "docker" or _TAG.fullmatch(rest):
        return ""
    from importlib.metadata import entry_points

    names = {point.name for point in entry_points(group="boxwood.registry")}
    return scheme if scheme in names else ""


def is_path(text: str) -> bool:
    """Whether a name is that of a place among the files."""
    return text.partition(":")[0] in _FILES


def absolute(text: str) -> str:
    """The same name with an absolute path: the engine stands in another directory."""
    if not is_path(text):
        return text
    scheme, _, rest = text.partition(":")
    path, colon, image = rest.partition(":")
    return f"{scheme}:{os.path.abspath(path)}{colon}{image}"
