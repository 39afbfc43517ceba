"""Addresses: nobody gets what another has, nothing is lost, and it is quick."""

from __future__ import annotations

import ipaddress
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from boxwood.errors import Conflict, InvalidArgument, NotFound, PermissionDenied, Unavailable
from boxwood.model.network import IPAM, IPAMConfig, Network
from boxwood.services.networks.addresses import Addresses

ID = "ab" * 32


def network(*configs: IPAMConfig, ipv6: bool = False) -> Network:
    return Network(id=ID, name="net", driver="toy", ipam=IPAM(config=configs), ipv6=ipv6)


def opened(*configs: IPAMConfig, ipv6: bool = False) -> Addresses:
    addresses = Addresses()
    addresses.open(network(*configs, ipv6=ipv6))
    return addresses


FOUR = IPAMConfig(subnet="172.17.0.0/16", gateway="172.17.0.1")
SIX = IPAMConfig(subnet="fd00:1::/64", gateway="fd00:1::1")
TINY = IPAMConfig(subnet="10.0.0.0/29", gateway="10.0.0.1")


def test_addresses_come_in_a_row_and_freed_ones_last() -> None:
    addresses = opened(TINY)
    assert [addresses.allocate(ID, f"{n}") for n in range(3)] == [
        ("10.0.0.2/29",), ("10.0.0.3/29",), ("10.0.0.4/29",),
    ]  # fmt: skip
    addresses.release(ID, "1")
    addresses.release(ID, "0")
    assert addresses.allocate(ID, "a") == ("10.0.0.5/29",)
    assert addresses.allocate(ID, "b") == ("10.0.0.6/29",)
    assert addresses.allocate(ID, "c") == ("10.0.0.3/29",)  # the one that was freed first
    assert addresses.allocate(ID, "d") == ("10.0.0.2/29",)
    with pytest.raises(Unavailable) as full:
        addresses.allocate(ID, "e")
    assert str(full.value) == (
        f"no available IPv4 addresses on this network's address pools: net ({ID})"
    )
    assert addresses.owners(ID) == {"2", "a", "b", "c", "d"}


def test_who_comes_back_gets_what_it_had() -> None:
    addresses = opened(TINY, SIX, ipv6=True)
    had = [addresses.allocate(ID, f"1{who}", member=who) for who in "ab"]
    for who in "ab":
        addresses.release(ID, f"1{who}")
    addresses.allocate(ID, "other")
    assert [addresses.allocate(ID, f"2{who}", member=who) for who in "ba"] == had[::-1]
    addresses.release(ID, "2a")
    addresses.allocate(ID, "thief", "10.0.0.2")
    again = addresses.allocate(ID, "3a", member="a")
    assert again[0] == "10.0.0.5/29", "what another has by now is not taken from it"
    assert again[1] == had[0][1]
    assert addresses.allocate(ID, "4", "10.0.0.6", member="b")[0] == "10.0.0.6/29"


def test_who_was_claimed_after_a_start_gets_it_too() -> None:
    addresses = opened(TINY)
    addresses.claim(ID, "1a", ["10.0.0.4/29"], member="a")
    addresses.release(ID, "1a")
    assert addresses.allocate(ID, "2a", member="a") == ("10.0.0.4/29",)


def test_not_everybody_who_has_ever_left_is_remembered() -> None:
    addresses = opened(SIX, ipv6=True)
    first = addresses.allocate(ID, "first", member="first")
    addresses.release(ID, "first")
    for number in range(3000):
        addresses.allocate(ID, "other", member=f"{number}")
        addresses.release(ID, "other")
    assert len(addresses._open[ID].left) < 2000
    assert not addresses._open[ID].members
    assert addresses.allocate(ID, "again", member="first") != first


def test_both_families_or_neither() -> None:
    """An owner that gets no address of one family keeps none of the other."""
    small = IPAMConfig(subnet="fd00:2::/127", gateway="fd00:2::")
    addresses = opened(FOUR, small, ipv6=True)
    assert addresses.allocate(ID, "a") == ("172.17.0.2/16", "fd00:2::1/127")
    with pytest.raises(Unavailable, match="IPv6"):
        addresses.allocate(ID, "b")
    assert addresses.owners(ID) == {"a"}
    addresses.release(ID, "a")
    assert addresses.allocate(ID, "c")[1] == "fd00:2::1/127"
    assert addresses.gateways(ID) == ("172.17.0.1", "fd00:2::")


def test_certain_addresses() -> None:
    addresses = opened(
        IPAMConfig(
            subnet="10.0.0.0/16",
            ip_range="10.0.1.0/30",
            gateway="10.0.0.1",
            auxiliary={"router": "10.0.1.1"},
        )
    )
    assert addresses.allocate(ID, "a", "10.0.9.9") == ("10.0.9.9/16",)
    assert addresses.allocate(ID, "a", "10.0.9.9") == ("10.0.9.9/16",)  # it has it already
    for taken in ("10.0.9.9", "10.0.0.1", "10.0.1.1", "10.0.0.0", "10.0.255.255"):
        with pytest.raises(PermissionDenied, match="Address already in use"):
            addresses.allocate(ID, "b", taken)
    for wrong in ("10.1.0.1", "nonsense", "fd00::1"):
        with pytest.raises(InvalidArgument):
            addresses.allocate(ID, "b", wrong)
        with pytest.raises(InvalidArgument):
            addresses.check(ID, wrong)
    with pytest.raises(InvalidArgument):
        addresses.check(ID, v6="fd00::1")
    addresses.check(ID, "10.0.9.9")
    assert addresses.owners(ID) == {"a"}
    # The range has four, its router not among those given: it is in the middle of the subnet.
    given = [addresses.allocate(ID, f"{n}")[0] for n in range(3)]
    assert given == ["10.0.1.0/16", "10.0.1.2/16", "10.0.1.3/16"]


def test_what_the_records_say_is_taken_up() -> None:
    addresses = opened(TINY)
    addresses.claim(ID, "a", ["10.0.0.2/29"])
    addresses.claim(ID, "a", ["10.0.0.2"])  # again, as a second start would
    addresses.claim(ID, "moved", ["192.168.9.9/24"])  # a subnet that the network no longer has
    with pytest.raises(Conflict):
        addresses.claim(ID, "b", ["10.0.0.3/29", "10.0.0.2/29"])
    assert addresses.held(ID, "moved") == ()
    assert addresses.allocate(ID, "c") == ("10.0.0.3/29",)
    assert addresses.owners(ID) == {"a", "moved", "c"}


def test_networks_without_subnets_count_their_owners() -> None:
    addresses = opened()
    assert addresses.allocate(ID, "a") == ()
    assert addresses.owners(ID) == {"a"}
    addresses.release(ID, "a")
    addresses.release(ID, "a")
    addresses.close(ID)
    addresses.release(ID, "a")
    with pytest.raises(NotFound):
        addresses.allocate(ID, "a")


def test_smallest_subnets() -> None:
    """A /31 has no network address and no broadcast (RFC 3021); a /32 is one address."""
    pair = opened(IPAMConfig(subnet="10.0.0.0/31", gateway="10.0.0.0"))
    assert pair.allocate(ID, "a") == ("10.0.0.1/31",)
    with pytest.raises(Unavailable):
        pair.allocate(ID, "b")
    with pytest.raises(Unavailable):
        opened(IPAMConfig(subnet="10.0.0.0/32", gateway="10.0.0.0")).allocate(ID, "a")


def test_a_whole_subnet_twice_over() -> None:
    """65,533 addresses, each once; the next round is as quick as the first."""
    addresses = opened(FOUR)
    begun = time.process_time()
    given = [addresses.allocate(ID, f"{n}")[0] for n in range(65_533)]
    assert len(set(given)) == 65_533
    for number in range(0, 65_533, 2):
        addresses.release(ID, f"{number}")
    again = [addresses.allocate(ID, f"again {n}")[0] for n in range(32_767)]
    assert set(again) == set(given[::2])
    assert time.process_time() - begun < 30  # half a second here; a search would take minutes


class Machine(RuleBasedStateMachine):
    """The allocator beside a plain dictionary."""

    @initialize(
        prefix=st.integers(26, 30),
        gateway=st.integers(1, 2),
        within=st.booleans(),
    )
    def make(self, prefix: int, gateway: int, within: bool) -> None:
        self.subnet = ipaddress.ip_network(f"10.9.8.0/{prefix}")
        ip_range = str(next(self.subnet.subnets(new_prefix=prefix + 1))) if within else ""
        self.gateway = str(self.subnet[gateway])
        self.addresses = opened(
            IPAMConfig(subnet=str(self.subnet), gateway=self.gateway, ip_range=ip_range)
        )
        giving = ipaddress.ip_network(ip_range) if within else self.subnet
        kept = {str(self.subnet[0]), str(self.subnet[-1]), self.gateway}
        self.givable = {str(address) for address in giving} - kept
        self.askable = {str(address) for address in self.subnet} - kept
        self.model: dict[str, str] = {}

    @rule(owner=st.integers(0, 80))
    def allocate(self, owner: int) -> None:
        key = f"{owner}"
        taken = set(self.model.values())
        try:
            (found,) = self.addresses.allocate(ID, key)
        except Unavailable:
            assert key not in self.model
            assert self.givable <= taken
            return
        address = found.partition("/")[0]
        if key in self.model:
            assert address == self.model[key]
            return
        assert address in self.givable - taken
        self.model[key] = address

    @rule(owner=st.integers(0, 80), at=st.integers(0, 63))
    def ask(self, owner: int, at: int) -> None:
        address, key = str(self.subnet[at % self.subnet.num_addresses]), f"{owner}"
        others = {held for other, held in self.model.items() if other != key}
        try:
            (found,) = self.addresses.allocate(ID, key, address)
        except PermissionDenied:
            assert address in others or address not in self.askable
            self.model.pop(key, None)  # it asked for another one, and gave its own back
            return
        assert found == f"{address}/{self.subnet.prefixlen}"
        assert address in self.askable - others
        self.model[key] = address

    @rule(owner=st.integers(0, 80))
    def release(self, owner: int) -> None:
        self.addresses.release(ID, f"{owner}")
        self.model.pop(f"{owner}", None)

    @rule()
    def restart(self) -> None:
        """A daemon that comes back knows from the records who has what."""
        configs = [
            IPAMConfig(
                subnet=str(self.subnet),
                gateway=self.gateway,
                ip_range=self._range(),
            )
        ]
        self.addresses = opened(*configs)
        for key, address in self.model.items():
            self.addresses.claim(ID, key, [f"{address}/{self.subnet.prefixlen}"])

    def _range(self) -> str:
        half = next(self.subnet.subnets(new_prefix=self.subnet.prefixlen + 1))
        narrow = all(ipaddress.ip_address(text) in half for text in self.givable)
        return str(half) if narrow else ""

    @invariant()
    def owners_are_those_of_the_model(self) -> None:
        if hasattr(self, "model"):
            assert self.addresses.owners(ID) == set(self.model)


TestMachine = Machine.TestCase


@given(st.lists(st.sampled_from(["give", "free"]), max_size=60))
def test_a_freed_address_is_the_last_to_come_back(steps: list[str]) -> None:
    """As long as there are others, it is not reused."""
    addresses, held, freed = opened(FOUR), [], set()
    for at, step in enumerate(steps):
        if step == "give":
            (found,) = addresses.allocate(ID, f"{at}")
            assert found not in freed
            held.append((f"{at}", found))
        elif held:
            owner, found = held.pop(0)
            addresses.release(ID, owner)
            freed.add(found)
