"""Image references: Docker's grammar, its familiar and its canonical form.

The grammar is distribution's (facts/formats-and-protocols.md section 3)::

    reference = [domain "/"] path [":" tag] ["@" digest]
    domain    = host [":" port]
    path      = component ("/" component)*
    component = [a-z0-9]+ (("." | "_" | "__" | "-"+) [a-z0-9]+)*
    tag       = [A-Za-z0-9_][A-Za-z0-9._-]{0,127}

A name without a domain belongs to ``docker.io``; one of a single component there lies below
``library/``. The familiar form leaves both out, the canonical form spells them.
"""

from __future__ import annotations

import re

import msgspec

from boxwood.errors import InvalidArgument
from boxwood.model.digest import Digest

DEFAULT_DOMAIN = "docker.io"
LEGACY_DOMAIN = "index.docker.io"
DEFAULT_TAG = "latest"
NAME_LIMIT = 255
"""Characters of domain, slash and path together (distribution's ``NameTotalLengthMax``)."""
_TEXT_LIMIT = NAME_LIMIT + 1 + 128 + 1 + 7 + 128

_COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
_HEX64 = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Reference(msgspec.Struct, frozen=True):
    """A parsed reference. ``str()`` gives the canonical form, :attr:`familiar` the short one."""

    domain: str
    path: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Parse what a person or a client wrote.

        Raises:
            InvalidArgument: with Docker's words (``invalid reference format`` and what follows).
        """
        if not text or len(text) > _TEXT_LIMIT:
            raise InvalidArgument("invalid reference format")
        if _HEX64.fullmatch(text):
            raise InvalidArgument(
                f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
            )
        rest, digest = _cut_digest(text)
        rest, tag = _cut_tag(rest)
        domain, path = _split_domain(rest)
        _check_name(domain, path)
        return cls(domain, path, tag, digest)

    @property
    def name(self) -> str:
        """Domain and path: the canonical name of the repository."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The repository as people write it: without ``docker.io/`` and ``library/``."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        rest = self.path.removeprefix("library/")
        # "library/a/b" must keep its first component: "a/b" would be something else.
        return self.path if "/" in rest else rest

    @property
    def familiar(self) -> str:
        """The whole reference as people write it."""
        return self.familiar_name + self._suffix()

    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        return tag + (f"@{self.digest}" if self.digest is not None else "")

    def __str__(self) -> str:
        return self.name + self._suffix()

    def with_tag(self, tag: str) -> Reference:
        """Return the repository with ``tag`` and no digest.

        Raises:
            InvalidArgument: not a tag.
        """
        if _TAG.fullmatch(tag) is None:
            raise InvalidArgument("invalid tag format")
        return Reference(self.domain, self.path, tag, None)

    def with_default_tag(self) -> Reference:
        """Return the same, tagged ``latest`` when it has neither tag nor digest."""
        if self.tag is not None or self.digest is not None:
            return self
        return Reference(self.domain, self.path, DEFAULT_TAG, None)


def _cut_digest(text: str) -> tuple[str, Digest | None]:
    rest, at, digest = text.partition("@")
    if not at:
        return text, None
    try:
        return rest, Digest.parse(digest)
    except InvalidArgument:
        raise InvalidArgument("invalid reference format") from None


def _cut_tag(text: str) -> tuple[str, str | None]:
    colon = text.rfind(":")
    if colon <= text.rfind("/"):
        return text, None
    tag = text[colon + 1 :]
    # "host:5000" alone is a name "host" with the tag "5000", as in Docker.
    if _TAG.fullmatch(tag) is None:
        raise InvalidArgument("invalid reference format")
    return text[:colon], tag


def _is_domain(first: str) -> bool:
    return "." in first or ":" in first or first == "localhost" or first.lower() != first


def _split_domain(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    if slash and _is_domain(first):
        domain, path = first, rest
    else:
        domain, path = DEFAULT_DOMAIN, text
    if domain == LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = f"library/{path}"
    return domain, path


def _check_name(domain: str, path: str) -> None:
    if _DOMAIN.fullmatch(domain) is None:
        raise InvalidArgument("invalid reference format")
    if _PATH.fullmatch(path) is None:
        if path.lower() != path and _PATH.fullmatch(path.lower()):
            familiar = path.removeprefix("library/") if domain == DEFAULT_DOMAIN else path
            raise InvalidArgument(
                f"invalid reference format: repository name ({familiar}) must be lowercase"
            )
        raise InvalidArgument("invalid reference format")
    if len(domain) + 1 + len(path) > NAME_LIMIT:
        raise InvalidArgument(f"repository name must not be more than {NAME_LIMIT} characters")


def target_name(repo: str, tag: str) -> Reference:
    """Return the reference that a repository and a tag, as clients send them, make.

    Raises:
        InvalidArgument: in Docker's words.
    """
    reference = Reference.parse(repo)
    if reference.digest is not None:
        raise InvalidArgument("refusing to create a tag with a digest reference")
    if reference.familiar_name in ("sha256", "sha512"):
        raise InvalidArgument("refusing to create an ambiguous tag using digest algorithm as name")
    return reference.with_tag(tag) if tag else reference.with_default_tag()
