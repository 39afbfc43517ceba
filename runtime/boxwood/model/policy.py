"""Which images may be pulled and pushed, whose signature they must bear, and what may be called so.

Terms
-----
rule
    A pattern of repositories and what holds for them. Of several, the first that matches and says
    something of the matter decides; where none does, it is allowed and needs no signature.
pattern
    ``DOMAIN[:PORT][/COMPONENT...]``, compared component by component from the left with the
    canonical name (``docker.io/library/busybox``); ``*`` stands for any characters of one
    component. It stands for what lies below it too: ``registry.example/team`` matches
    ``registry.example/team/app`` and not ``registry.example/team2``. A domain without a port
    stands for it with any port; upper and lower case of a domain are one.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from boxwood.errors import InvalidArgument, PermissionDenied
from boxwood.model.reference import Reference

Decision = Literal["", "allow", "deny"]
Action = Literal["pull", "push", "load", "tag"]


class RegistryRule(
    msgspec.Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True
):
    """One rule of ``registry-policy``.

    Attributes:
        match: a pattern.
        pull, push: ``allow``, ``deny``, or nothing of it.
        load: whether what comes another way than from its registry (an archive, a directory,
            another engine, another name's registry) may get such a name. Where no rule says so,
            what holds for a pull: it is denied where that is, and needs the same signature.
        tag: whether a name may be given to what is here (tag, commit).
        require: files of public keys (PEM) of which one must have signed what is pulled; an empty
            list: no signature is needed; None: nothing of it.
        signed_as: a pattern of the names of which a signature must be for one; empty: it must be
            for the very name that is pulled, or name none. For copies of somebody else's images,
            which bear their first name, and to refuse signatures that name none.
    """

    match: str
    pull: Decision = ""
    push: Decision = ""
    load: Decision = ""
    tag: Decision = ""
    require: tuple[str, ...] | None = None
    signed_as: str = ""


def matches(pattern: str, reference: Reference) -> bool:
    """Whether a repository is one that a pattern means."""
    domain, *wanted = pattern.split("/")
    if not _same_domain(domain.lower(), reference.domain.lower()):
        return False
    path = reference.path.split("/")
    return len(wanted) <= len(path) and all(map(_fits, wanted, path))


def _same_domain(pattern: str, domain: str) -> bool:
    if _fits(pattern, domain):
        return True
    host, colon, port = domain.rpartition(":")
    return bool(colon) and port.isdecimal() and _fits(pattern, host)


def _fits(pattern: str, text: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text) is not None


def check_rules(rules: tuple[RegistryRule, ...]) -> None:
    """Raise InvalidArgument for a rule that cannot be meant."""
    for number, rule in enumerate(rules, 1):
        where = f"registry-policy: rule {number}"
        for pattern in (rule.match, rule.signed_as):
            if any(char.isspace() or char == "@" for char in pattern) or "//" in pattern:
                raise InvalidArgument(f"{where}: {pattern!r}: not a pattern of repositories")
        if not rule.match or rule.match.endswith("/"):
            raise InvalidArgument(f"{where}: match: {rule.match!r}: not a pattern of repositories")
        said = rule.pull or rule.push or rule.load or rule.tag
        if not said and rule.require is None:
            raise InvalidArgument(
                f"{where}: says nothing: one of pull, push, load, tag, require is needed"
            )
        for file in rule.require or ():
            if not file.startswith("/"):
                raise InvalidArgument(f"{where}: require: {file}: not an absolute path")


class Requirement(msgspec.Struct, frozen=True):
    """That one of these keys (files) has signed, for a name that ``signed_as`` (if any) means."""

    keys: tuple[str, ...] = ()
    signed_as: str = ""


class RegistryPolicy:
    """The rules, asked. Immutable."""

    def __init__(self, rules: tuple[RegistryRule, ...] = ()) -> None:
        self._rules = rules

    def check(self, action: Action, reference: Reference) -> None:
        """Raise PermissionDenied where a rule denies this; nothing has been asked by then."""
        self._decide(action, action, reference)

    def _decide(self, action: Action, doing: str, reference: Reference) -> str:
        for number, rule in enumerate(self._rules, 1):
            said: Decision = getattr(rule, action)
            if said and matches(rule.match, reference):
                if said == "deny":
                    raise PermissionDenied(
                        f"{doing} {reference.familiar_name}: denied by registry-policy of this "
                        f"engine (rule {number}: {rule.match})"
                    )
                return said
        return ""

    def requirement(self, reference: Reference) -> Requirement | None:
        """Return what a pull of this repository needs; None: no signature."""
        for rule in self._rules:
            if rule.require is not None and matches(rule.match, reference):
                return Requirement(rule.require, rule.signed_as) if rule.require else None
        return None

    def arrival(self, reference: Reference) -> Requirement | None:
        """Return what an image needs that gets this name without coming from its registry.

        Raises:
            PermissionDenied: nothing that comes another way may be called so.
        """
        if self._decide("load", "load", reference):
            return None
        self._decide("pull", "load", reference)
        return self.requirement(reference)

    def unsigned(self, reference: Reference, way: str) -> None:
        """Raise PermissionDenied where a name may not be that of an image without signatures.

        Args:
            way: how it comes, and why it brings none: it ends the error.
        """
        if self.arrival(reference) is not None:
            raise PermissionDenied(
                f"load {reference.familiar_name}: registry-policy of this engine requires a "
                f'signature, and {way}: pull it from its registry, or say "load": "allow" in a rule'
            )
