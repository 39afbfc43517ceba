"""Other firewalls on the same host: one removable rule where there is a place for it, or none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxwood.drivers.network import PortRequest
from boxwood_plugins.network.bridge import foreign
from tests.support.needs import need_program, need_root
from tests.support.netlab import Lab, lab

PORT = PortRequest(80, "tcp", "0.0.0.0", 8080)


@pytest.fixture
def respectful(tmp_path: Path) -> Iterator[Lab]:
    """A host whose engine leaves firewalls alone."""
    need_root()
    with lab(tmp_path / "network", **{"respect-host-firewall": "true"}) as made:
        yield made


@pytest.fixture(autouse=True)
def _tools() -> None:
    need_program("iptables")


def dropping(host: Lab, *, place: str = "DOCKER-USER") -> None:
    """What Docker (or ufw) makes of the table filter, through iptables."""
    for tool in ("iptables", "ip6tables"):
        chain = place.replace("ufw-", "ufw6-") if tool == "ip6tables" else place
        host.sh(f"{tool} -P FORWARD DROP; {tool} -N {chain}; {tool} -A FORWARD -j {chain}")


def works(host: Lab) -> None:
    network = host.network(ipv6=True)
    box = host.container(network, PORT)
    with host.outside.server(), box.server():
        assert box.ask(host.OUTSIDE) == host.HERE
        assert host.outside.ask(host.HERE, 8080) == host.OUTSIDE
    with host.outside.server(address="::"):
        assert box.ask(host.OUTSIDE6) == host.HERE6


@pytest.mark.parametrize("place", ["DOCKER-USER", "ufw-user-forward"])
def test_a_rule_where_there_is_a_place_for_it(host: Lab, place: str) -> None:
    """iptables can read it, a second settling adds none, and it goes with the last network."""
    dropping(host, place=place)
    before = [host.sh(f"{tool} -S") for tool in ("iptables", "ip6tables")]
    works(host)
    listed = host.sh(f"iptables -S {place}")
    assert "--comment BOXWOOD" in listed
    assert len(listed.splitlines()) == 2
    assert "incompatible" not in host.sh("iptables -S 2>&1; iptables -nL 2>&1")
    network = next(iter(host.networks.values()))
    host.run(host.driver.create_network(network))
    host.network(2)
    assert host.sh(f"iptables -S {place}") == listed
    found = host.driver.inspect_host(network)["host_firewall"]
    assert any(f"ip filter {place}" in text for text in found)  # type: ignore[attr-defined]
    for network in host.networks.values():
        host.run(host.driver.remove_network(network))
    assert [host.sh(f"{tool} -S") for tool in ("iptables", "ip6tables")] == before


def test_a_firewall_that_comes_later(host: Lab) -> None:
    """Docker is started after us: the guard sees it."""
    box = host.container(host.network())

    async def later() -> str:
        said: asyncio.Queue[str] = asyncio.Queue()
        guard = asyncio.create_task(host.driver.guard(said.put_nowait))
        await asyncio.sleep(0)
        await asyncio.to_thread(dropping, host)
        found = await asyncio.wait_for(said.get(), 20)
        guard.cancel()
        await asyncio.wait([guard])
        return found

    assert "DOCKER-USER" in host.run(later())
    with host.outside.server():
        assert box.ask(host.OUTSIDE) == host.HERE


def test_without_a_drop_there_is_no_rule(host: Lab) -> None:
    host.sh("iptables -N DOCKER-USER; iptables -A FORWARD -j DOCKER-USER")
    before = host.sh("iptables -S")
    works(host)
    assert host.sh("iptables -S") == before


def refuse_in_a_table(host: Lab) -> None:
    """A firewall of the administrator's own: what nobody named is dropped."""
    host.sh("nft add table inet mine; nft add chain inet mine forward "
            "'{ type filter hook forward priority 10; policy drop; }'")  # fmt: skip


REFUSALS = {
    "Docker": dropping,
    "ufw": lambda host: dropping(host, place="ufw-user-forward"),
    "own table": refuse_in_a_table,
}


@pytest.mark.parametrize("who", REFUSALS)
def test_a_firewall_that_says_no_is_respected(respectful: Lab, who: str) -> None:
    """Nothing is added anywhere, and nothing passes: not out, not in by a published port, in
    neither family; `doctor` says so."""
    host = respectful
    REFUSALS[who](host)
    tables = host.sh("nft list tables").splitlines()
    before = [host.sh(f"nft -s list {table}") for table in tables]
    box = host.container(host.network(ipv6=True), PORT, PortRequest(80, "tcp", "::", 8080))
    assert [host.sh(f"nft -s list {table}") for table in tables] == before
    with host.outside.server(), host.outside.server(address="::", port=81), box.server():
        assert not box.reaches(host.OUTSIDE)
        assert not box.reaches(host.OUTSIDE6, 81)
        assert not host.outside.reaches(host.HERE, 8080)
        assert not host.outside.reaches(host.HERE6, 8080)
    warned = [one.detail for one in host.run(host.driver.examine()) if one.state == "warn"]
    assert warned, "doctor says who drops"
    assert all("drop" in text for text in warned)
    host.sh("nft flush ruleset")
    host.run(host.driver.reconcile(box.attached))
    with host.outside.server(), box.server():
        assert box.reaches(host.OUTSIDE), "it was theirs alone that dropped"
        assert host.outside.reaches(host.HERE, 8080)


def test_other_tables_are_left_alone(host: Lab) -> None:
    refuse_in_a_table(host)
    before = host.sh("nft list table inet mine")
    box = host.container(host.network(), PORT)
    assert host.sh("nft list table inet mine") == before
    with host.outside.server():
        assert not box.reaches(host.OUTSIDE), "their drop is final"
    host.sh("nft delete table inet mine")
    with host.outside.server():
        assert box.ask(host.OUTSIDE) == host.HERE


def test_the_old_iptables_is_named(
    host: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tables are not seen by nftables: `doctor` says that they may be in the way."""
    names = tmp_path / "ip_tables_names"
    monkeypatch.setattr(foreign, "_LEGACY", names)
    host.network()
    assert all(one.state == "ok" for one in host.run(host.driver.examine()))
    names.write_text("nat\nfilter\n")
    (warned,) = (one for one in host.run(host.driver.examine()) if one.state == "warn")
    assert "iptables" in warned.detail
