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

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from boxwood.drivers.network import Finding
from boxwood_ext.nft import Nft, NftError
from boxwood_plugins.network.bridge.rules import MARK

PLACES = {"ip": ("DOCKER-USER", "ufw-user-forward"), "ip6": ("DOCKER-USER", "ufw6-user-forward")}
"""Chains meant for others' rules, in the table ``filter`` of each family."""
_TABLE = "filter"
_LEGACY = Path("/proc/net/ip_tables_names")
"""The tables of the iptables before nftables; empty where that is not used."""


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

    def examine(self, bridges: Iterable[str]) -> list[Finding]:
        """Say where a rule of ours is, and whose rules drop what we let pass."""
        chains = self._chains()
        found = []
        for family, places in PLACES.items():
            there = [name for name in places if name in chains[family]]
            found += [
                Finding(
                    "ok", f"a rule in {family} {_TABLE} {name} ({self._tag}) lets networks pass"
                )
                for name in there
                if self._ours(family, name)
            ]
            if _drops(chains[family]) and not any(self._ours(family, name) for name in there):
                found.append(_blocked(f"{family} {_TABLE}", sorted(bridges)))
        return found + self._elsewhere()

    def _elsewhere(self) -> list[Finding]:
        """Find what drops in other tables, and what nftables cannot see."""
        found = []
        for item in self._nft.query("list chains"):
            chain = item.get("chain", {})
            inside = chain.get("table") == _TABLE and chain.get("family") in PLACES
            if not inside and chain.get("hook") == "forward" and chain.get("policy") == "drop":
                found.append(
                    Finding(
                        "warn",
                        f"the chain {chain['family']} {chain['table']} {chain['name']} drops what "
                        "is forwarded and not accepted there",
                        "accept there what comes from, and goes to, the bridges",
                    )
                )
        try:
            legacy = _LEGACY.read_text().split()
        except OSError:
            legacy = []
        if "filter" in legacy:
            found.append(
                Finding(
                    "warn",
                    "the old iptables has a table filter, which may drop what is forwarded",
                    "look with iptables-legacy -S, or move it to iptables-nft",
                )
            )
        return found

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


def _blocked(table: str, bridges: list[str]) -> Finding:
    named = bridges[0] if bridges else "BRIDGE"
    return Finding(
        "warn",
        f"the table {table} drops what is forwarded: networks reach nothing outside",
        f"iptables -I FORWARD -i {named} -j ACCEPT; iptables -I FORWARD -o {named} -j ACCEPT "
        "(for each bridge)",
    )
