"""Other firewalls on the host that drop what is forwarded.

An accept in a table of ours does not overrule their drop. Where they have a chain meant for
others (Docker's ``DOCKER-USER``, ufw's user chains), one rule, with a comment that names us, jumps
from there to a chain of our own, which accepts what goes from and to our bridges: what may pass
there our own table has decided already. Nothing else of theirs is touched; with
``respect-host-firewall`` nothing at all.

Everything here runs in the driver's one thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from boxwood_ext.nft import Nft, NftError

PLACES = (("ip", "DOCKER-USER"), ("ip", "ufw-user-forward"))
PLACES6 = (("ip6", "DOCKER-USER"), ("ip6", "ufw6-user-forward"))
_TABLE = "filter"
_FORWARD_DROPS = ("forward", "drop")


class Place(NamedTuple):
    """A chain meant for others' rules, in the table ``filter`` of a family."""

    family: str
    chain: str


class Foreign:
    """What we have in others' tables."""

    def __init__(self, nft: Nft, name: str) -> None:
        """``name`` is our chain's, and the comment of the rule that leads to it."""
        self._nft = nft
        self._chain = name

    def settle(self, bridges: Iterable[str]) -> list[str]:
        """Have the rules for these bridges where they are needed, and none elsewhere.

        Returns:
            One sentence for each table that was changed.
        """
        chains = self._chains()
        wanted = set(bridges)
        said = []
        for places in (PLACES, PLACES6):
            family = places[0][0]
            ours = any(chain["name"] == self._chain for chain in chains[family])
            place = next((one for one in places if _there(chains[family], one[1])), None)
            needed = wanted if place and _drops(chains[family]) else set()
            if needed and place is not None:
                said += self._have(Place(*place), needed, there=ours)
            elif ours:
                self._remove(family)
                said.append(f"host firewall: our rules in the table {family} filter are removed")
        return said

    def blocked(self) -> list[str]:
        """Name the base chains of others that drop what is forwarded and have no place for us."""
        found = []
        chains = self._chains()
        for places in (PLACES, PLACES6):
            family = places[0][0]
            if any(_there(chains[family], name) for _, name in places):
                continue
            found += [
                f"{chain['family']} {chain['table']} {chain['name']}"
                for chain in chains[family]
                if (chain.get("hook"), chain.get("policy")) == _FORWARD_DROPS
            ]
        return found

    def _chains(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {"ip": [], "ip6": []}
        for item in self._nft.query("list chains"):
            chain = item.get("chain")
            if chain is not None and chain["family"] in found and chain["table"] == _TABLE:
                found[chain["family"]].append(chain)
        return found

    def _have(self, place: Place, bridges: set[str], *, there: bool) -> list[str]:
        if there and self._accepted(place) == bridges:
            return []
        family, chain = place
        text = f"add chain {family} {_TABLE} {self._chain}\n"
        text += f"flush chain {family} {_TABLE} {self._chain}\n"
        for bridge in sorted(bridges):
            for side in ("iifname", "oifname"):
                text += (
                    f'add rule {family} {_TABLE} {self._chain} {side} "{bridge}" counter accept\n'
                )
        if not self._jumps(place):
            text += (
                f"insert rule {family} {_TABLE} {chain} counter jump {self._chain} "
                f'comment "{self._chain}"\n'
            )
        self._nft.run(text)
        return [
            f"host firewall: a rule in {family} {_TABLE} {chain} lets the bridges "
            f"{', '.join(sorted(bridges))} pass"
        ]

    def _accepted(self, place: Place) -> set[str] | None:
        """Return the bridges that our chain lets pass, or None if nobody comes there."""
        if not self._jumps(place):
            return None
        found = set()
        for rule in self._rules(place.family, self._chain):
            for part in rule["expr"]:
                left = part.get("match", {}).get("left", {})
                if left.get("meta", {}).get("key") in ("iifname", "oifname"):
                    found.add(str(part["match"]["right"]))
        return found

    def _jumps(self, place: Place) -> list[int]:
        """Return the handles of the rules that lead to our chain."""
        return [
            rule["handle"]
            for rule in self._rules(place.family, place.chain)
            if any(part.get("jump", {}).get("target") == self._chain for part in rule["expr"])
        ]

    def _rules(self, family: str, chain: str) -> list[dict[str, Any]]:
        try:
            found = self._nft.query(f"list chain {family} {_TABLE} {chain}")
        except NftError:  # it has just gone
            return []
        return [item["rule"] for item in found if "rule" in item]

    def _remove(self, family: str) -> None:
        text = ""
        for place, chain in (*PLACES, *PLACES6):
            if place == family:
                for handle in self._jumps(Place(place, chain)):
                    text += f"delete rule {family} {_TABLE} {chain} handle {handle}\n"
        text += f"flush chain {family} {_TABLE} {self._chain}\n"
        text += f"delete chain {family} {_TABLE} {self._chain}\n"
        self._nft.run(text)


def _there(chains: Iterable[dict[str, Any]], name: str) -> bool:
    return any(chain["name"] == name for chain in chains)


def _drops(chains: Iterable[dict[str, Any]]) -> bool:
    return any((chain.get("hook"), chain.get("policy")) == _FORWARD_DROPS for chain in chains)
