"""Names of images in files: ``SCHEME:PATH[:IMAGE][@DIGEST]``, and what they are called here."""

from __future__ import annotations

import os
import re

import msgspec

from boxwood.errors import InvalidArgument
from boxwood.model.digest import Digest
from boxwood.model.reference import Reference

_PATH_LIMIT = 4096


class FileName(msgspec.Struct, frozen=True):
    """One image in a file or folder.

    Attributes:
        scheme: the transport's.
        path: absolute; it holds no colon.
        image: which of several, as the place names them; empty: the only one.
        digest: of the manifest; empty: the one that ``image`` names.
    """

    scheme: str
    path: str
    image: str = ""
    digest: str = ""

    def __str__(self) -> str:
        image = f":{self.image}" if self.image else ""
        return f"{self.scheme}:{self.path}{image}" + (f"@{self.digest}" if self.digest else "")


def parse(scheme: str, text: str, *, images: bool = True) -> FileName:
    """Parse ``SCHEME:PATH[:IMAGE][@DIGEST]``; the path ends at its first colon, as in skopeo.

    Raises:
        InvalidArgument: no absolute path, or an image where there can be none.
    """
    form = f"{scheme}:/PATH[:IMAGE]" if images else f"{scheme}:/PATH"
    rest = text.removeprefix(f"{scheme}:")
    head, at, last = rest.rpartition("@")
    digest = ""
    if at and re.fullmatch(r"sha(256|512):[0-9a-f]+", last):
        rest, digest = head, str(Digest.parse(last))
    path, colon, image = rest.partition(":")
    if not path.startswith("/") or "\0" in rest or len(path) > _PATH_LIMIT:
        raise InvalidArgument(f"{text[:300]}: it is written {form}, with an absolute path")
    if colon and not images:
        raise InvalidArgument(f"{text[:300]}: one image lies there: it is written {form}")
    if colon and (not image or not image.isprintable() or len(image) > 1024):
        raise InvalidArgument(f"{text[:300]}: an image without a name: it is written {form}")
    return FileName(scheme, os.path.normpath(path), image, digest)


def as_reference(text: str) -> Reference | None:
    """Return an image's whole name; None: the text is none."""
    try:
        return Reference.parse(text)
    except InvalidArgument:
        return None


def by_path(path: str, tag: str) -> Reference | None:
    """Return ``localhost/NAME:TAG`` of the file's or folder's own name; None: it makes none."""
    stem = os.path.basename(path).lower()
    for suffix in (".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2", ".tar"):
        stem = stem.removesuffix(suffix)
    name = re.sub(r"[^a-z0-9]+", "-", stem).strip("-")
    return as_reference(f"localhost/{name}:{tag or 'latest'}") if name else None
