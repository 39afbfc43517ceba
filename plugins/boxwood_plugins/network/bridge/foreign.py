"""Other firewalls on the host that drop what is forwarded.

An accept in a table of ours does not overrule their drop. Where they have a chain meant for
others (Docker's ``DOCKER-USER``, ufw's user chains), one rule there, with a comment that names us,
accepts what our own table has let pass and marked (``rules.MARK``; it marks nothing where there is
no such rule). What goes from our bridges to others' is not marked: their rules decide. Nothing
else of theirs is touched; with ``respect-host-firewall`` nothing at all. iptables can read the
rule, and delete it.

Everything here runs in the driver's one thread.
"""

from __future__ import annotations

from typing import Any

from boxwood_ext.nft import Nft, NftError
from boxwood_plugins.network.bridge.rules import MARK

PLACES = {"ip": ("DOCKER-USER", "ufw-user-forward"), "ip6": ("DOCKER-USER", "ufw6-user-forward")}
"""Chains meant for others' rules, in the table ``filter`` of each family."""
_TABLE = "filter"


class Foreign:
    """What we have in others' tables."""

    def __init__(self, nft: Nft, tag: str) -> None:
        """``tag`` is the comment that marks a rule as ours."""
        self._nft = nft
        self._tag = tag

    def settle(self, *, wanted: bool) -> tuple[frozenset[str], list[str]]:
        """Have the rule where it is needed, and nowhere else.

        Returns:
            The families where it is (``ip``, ``ip6``), and one sentence for each change.
        """
        chains = self._chains()
        families, said = set(), []
        for family, places in PLACES.items():
            there = [name for name in places if name in chains[family]]
            place = there[0] if wanted and there and _drops(chains[family]) else ""
            for name in there:
                handles = self._ours(family, name)
                where = f"{family} {_TABLE} {name}"
                if name == place:
                    families.add(family)
                    if not handles:
                        self._insert(where)
                        said.append(f"host firewall: a rule in {where} lets our networks pass")
                elif handles:
                    for handle in handles:
                        self._nft.run(f"delete rule {where} handle {handle}")
                    said.append(f"host firewall: our rule in {where} is removed")
        return frozenset(families), said

    def blocked(self) -> list[str]:
        """Name the families whose table ``filter`` drops what is forwarded, without a place."""
        chains = self._chains()
        return [
            family
            for family, places in PLACES.items()
            if _drops(chains[family]) and not any(name in chains[family] for name in places)
        ]

    def _insert(self, where: str) -> None:
        self._nft.run(
            f'insert rule {where} meta mark & {MARK} == {MARK} counter accept comment "{self._tag}"'
        )

    def _ours(self, family: str, chain: str) -> list[int]:
        """Return the handles of our rules in a chain."""
        try:
            found = self._nft.query(f"list chain {family} {_TABLE} {chain}")
        except NftError:  # it has just gone
            return []
        rules = [item["rule"] for item in found if "rule" in item]
        return [rule["handle"] for rule in rules if rule.get("comment") == self._tag]

    def _chains(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return the chains of the tables ``filter``, by family and name."""
        found: dict[str, dict[str, dict[str, Any]]] = {family: {} for family in PLACES}
        for item in self._nft.query("list chains"):
            chain = item.get("chain")
            if chain is not None and chain["family"] in found and chain["table"] == _TABLE:
                found[chain["family"]][chain["name"]] = chain
        return found


def _drops(chains: dict[str, dict[str, Any]]) -> bool:
    return any(
        chain.get("hook") == "forward" and chain.get("policy") == "drop"
        for chain in chains.values()
    )
