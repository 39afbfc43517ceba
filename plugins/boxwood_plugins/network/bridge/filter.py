"""The packet filter in the kernel, kept equal to what is wanted.

Everything here runs in the driver's one thread.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from boxwood.errors import Conflict, Internal, PermissionDenied, Unavailable
from boxwood_ext.nft import Nft, NftError, library
from boxwood_plugins.network.bridge import rules
from boxwood_plugins.network.bridge.rules import BRIDGE, INET, Element

_PROTOCOLS = {"6": "tcp", "17": "udp", "132": "sctp", "33": "dccp"}


class Filter:
    """Two tables of one name. What is wanted is known by its owner (a network, an endpoint)."""

    def __init__(self, table: str, stamp: Path) -> None:
        """``stamp`` is a file that remembers the rules as they were made, over a restart."""
        self.table = table
        self._stamp = stamp
        self._nft: Nft | None = None
        self._owners: dict[str, frozenset[Element]] = {}
        self._counts: Counter[Element] = Counter()
        self._rules = ""  # fingerprint of the rules that we made
        # What an earlier engine left, until it is judged: by key, of which a map has one.
        self._adopted: dict[tuple[object, ...], Element] = {}

    @property
    def nft(self) -> Nft:
        """The library's context.

        Raises:
            Unavailable: the library is not installed.
        """
        if self._nft is None:
            try:
                library()
                self._nft = Nft()
            except NftError as error:
                raise Unavailable(f"packet filter: {error}") from error
        return self._nft

    def put(self, owner: str, elements: frozenset[Element]) -> None:
        """Make the elements of an owner these, in one transaction. None: it has nothing any more.

        Raises:
            Unavailable: no nftables in this kernel or on this machine.
            PermissionDenied: not allowed.
            Conflict: a port of an element leads elsewhere already.
        """
        self.put_all({owner: elements})

    def put_all(self, wanted: Mapping[str, frozenset[Element]]) -> None:
        """As :meth:`put`, for several owners in one transaction."""
        self._open()
        change: Counter[Element] = Counter()
        for owner, elements in wanted.items():
            change.subtract(self._owners.get(owner, ()))
            change.update(elements)
        after = {one: self._counts[one] + by for one, by in change.items() if by}
        gone = [one for one, count in after.items() if not count]
        new = [one for one in after if one not in self._counts]
        self._change(gone, new)
        for owner, elements in wanted.items():
            self.want(owner, elements)

    def want(self, owner: str, elements: frozenset[Element]) -> None:
        """Note what an owner has; :meth:`settle` sees to it."""
        for one in self._owners.pop(owner, ()):
            self._counts[one] -= 1
            if not self._counts[one]:
                del self._counts[one]
        self._counts.update(elements)
        if elements:
            self._owners[owner] = elements

    def owners(self) -> list[str]:
        """Return who has elements."""
        return list(self._owners)

    def settle(self) -> list[str]:
        """Make the kernel hold what is wanted and nothing else; say what was not so."""
        self._open()
        kept = {*self._adopted.values(), *self._counts}
        try:
            there, rules_there = self._look()
        except NftError:
            self._replace(self._counts.keys())
            return ["packet filter: its table was gone and is restored"]
        if rules_there != self._rules:
            self._replace(self._counts.keys())
            return ["packet filter: its rules were changed and are restored"]
        self._adopted = {}
        wanted = set(self._counts)
        missing, extra = wanted - there, there - wanted
        if missing or extra:
            self._change(list(extra), list(missing))
        said = []
        if missing:
            said.append(f"packet filter: {len(missing)} elements were gone and are restored")
        if extra:
            left = extra & kept
            words = "left over" if left == extra else "not ours"
            said.append(f"packet filter: {len(extra)} elements were {words} and are removed")
        return said

    def remove(self) -> None:
        """Remove both tables, if they are there."""
        for family in (INET, BRIDGE):
            with suppress(NftError):
                self.nft.run(f"delete table {family} {self.table}\n")
        self._rules = ""
        self._adopted = {}
        self._stamp.unlink(missing_ok=True)

    def _open(self) -> None:
        """Take up the tables of an earlier engine, or make them."""
        if self._rules:
            return
        try:
            there, found = self._look()
        except NftError:
            there, found = set(), ""
        self._adopted = {one[:3]: one for one in there}
        if found and found == self._remembered():
            self._rules = found
            return
        self._replace(self._counts.keys() | there)

    def _remembered(self) -> str:
        try:
            return self._stamp.read_text()
        except FileNotFoundError:
            return ""

    def _change(self, gone: list[Element], new: list[Element]) -> None:
        missing, old = [], []
        for one in new:
            found = self._adopted.pop(one[:3], None)
            if found != one:  # what is there already is not made again
                missing.append(one)
            if found not in (None, one):  # a map takes no second value for a key
                old.append(found)
        commands = [rules.command("delete", self.table, one) for one in (*gone, *old)]
        commands += [rules.command("add", self.table, one) for one in missing]
        if not commands:
            return
        try:
            self.nft.run("".join(commands))
        except NftError:
            # Others have changed or removed the table: it is made anew, in one transaction.
            wanted = (self._counts.keys() - set(gone)) | set(new)
            self._replace(wanted | set(self._adopted.values()))

    def _replace(self, elements: Iterable[Element]) -> None:
        commands = [rules.command("add", self.table, element) for element in elements]
        self._run(rules.skeleton(self.table) + "".join(commands))
        _, self._rules = self._look()
        self._stamp.parent.mkdir(parents=True, exist_ok=True)
        self._stamp.write_text(self._rules)

    def _run(self, commands: str) -> None:
        try:
            self.nft.run(commands)
        except NftError as error:
            text = str(error)
            if "Operation not permitted" in text:
                raise PermissionDenied(f"packet filter: {text}") from error
            if "not supported" in text or "No such file" in text:
                raise Unavailable(
                    f"packet filter: the kernel lacks a part of nftables ({text})"
                ) from error
            if "File exists" in text:
                raise Conflict(
                    "packet filter: a published port leads to another endpoint"
                ) from error
            raise Internal(f"packet filter: {text}") from error

    def _look(self) -> tuple[set[Element], str]:
        """Return the elements that are there, and a fingerprint of the rules."""
        there: set[Element] = set()
        shape = []
        for family in (INET, BRIDGE):
            for item in self.nft.query(f"list table {family} {self.table}"):
                ((kind, thing),) = item.items()
                if kind in ("set", "map"):
                    there |= _elements(family, thing)
                    thing = {key: value for key, value in thing.items() if key != "elem"}
                elif kind == "metainfo":
                    continue
                thing.pop("handle", None)
                shape.append((kind, thing))
        return there, hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()


def _elements(family: str, described: dict[str, Any]) -> set[Element]:
    """Read the elements of a set or map in nft's JSON."""
    found = set()
    name = described["name"]
    known = (family, name) in rules.SETS or (family, name) in rules.MAPS
    for item in described.get("elem", ()) if known else ():
        key, value = item if isinstance(item, list) else (item, None)
        parts = _parts(key)
        if (family, name) in rules.MAPS:
            found.add(Element(family, name, _protocols(parts, family, name), _parts(value)))
        else:
            found.add(Element(family, name, _protocols(parts, family, name)))
    return found


def _parts(value: Any) -> tuple[str, ...]:
    items = value["concat"] if isinstance(value, dict) and "concat" in value else [value]
    return tuple(
        f"{item['prefix']['addr']}/{item['prefix']['len']}" if isinstance(item, dict) else str(item)
        for item in items
    )


def _protocols(parts: tuple[str, ...], family: str, name: str) -> tuple[str, ...]:
    """Give protocols their names again, which some versions of nft print as numbers."""
    place = (family, name)
    types = rules.SETS[place] if place in rules.SETS else rules.MAPS[place][0]
    return tuple(
        _PROTOCOLS.get(part, part) if kind == "inet_proto" else part
        for part, kind in zip(parts, types, strict=True)
    )
