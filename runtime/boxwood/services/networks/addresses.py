"""Address management: which address of a network belongs to which endpoint.

In memory only: what is used stands in the containers' records, and is claimed again at a start.
Within a pool the next address is the one after the last that was given out; freed ones come back
when the end is reached, the oldest first, so that a new container rarely gets the address that
others still know as somebody else's. For the same reason one that comes back gets the address that
it had, as long as nobody else has been given it.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from boxwood.errors import Conflict, InvalidArgument, NotFound, PermissionDenied, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from boxwood.model.network import IPAMConfig, Network
    from boxwood.services.networks.ranges import Address


_REMEMBERED = 1024
"""How many members of a network that have left it keep their claim to an address: bounds memory."""


class AddressPool:
    """One subnet. Every operation is O(1), but for the first pass over what is kept back."""

    def __init__(self, config: IPAMConfig) -> None:
        """``config`` was checked before: its addresses lie in its subnet."""
        self.subnet = ipaddress.ip_network(config.subnet)
        self.version = self.subnet.version
        self.gateway = config.gateway
        given = ipaddress.ip_network(config.ip_range) if config.ip_range else self.subnet
        self._next, self._last = int(given.network_address), int(given.broadcast_address)
        self._first = self._next
        self._kept = {
            int(ipaddress.ip_address(text))
            for text in (config.gateway, *(config.auxiliary or {}).values())
            if text
        } | edges(self.subnet)
        self._used: dict[int, str] = {}
        self._freed: dict[int, None] = {}

    def give(self, owner: str) -> Address | None:
        """Return an address that nobody has; None if there is none left."""
        while self._next <= self._last:
            number, self._next = self._next, self._next + 1
            if number not in self._used and number not in self._kept:
                return self._set(number, owner)
        for number in self._freed:
            return self._set(number, owner)
        return None

    def take(self, address: Address, owner: str) -> None:
        """Give a certain address.

        Raises:
            PermissionDenied: another endpoint has it, or the network itself.
        """
        number = int(address)
        if number in self._kept or self._used.get(number, owner) != owner:
            raise PermissionDenied("Address already in use")
        self._set(number, owner)

    def release(self, address: Address) -> None:
        """Take an address back. Idempotent."""
        number = int(address)
        if self._used.pop(number, None) is None:
            return
        if self._first <= number < self._next:
            self._freed[number] = None

    def holder(self, address: Address) -> str | None:
        """Return the owner of an address; None if it is free."""
        return self._used.get(int(address))

    def is_free(self, address: Address) -> bool:
        """Whether an endpoint can have an address of the subnet now."""
        return int(address) not in self._used and not self.keeps(address)

    def keeps(self, address: Address) -> bool:
        """Whether an address is not for endpoints: gateway, auxiliary, or an edge."""
        return int(address) in self._kept

    def shown(self, address: Address) -> str:
        """Return ``172.17.0.2/16``."""
        return f"{address}/{self.subnet.prefixlen}"

    def _set(self, number: int, owner: str) -> Address:
        self._used[number] = owner
        self._freed.pop(number, None)
        return (ipaddress.IPv4Address if self.version == 4 else ipaddress.IPv6Address)(number)


def edges(subnet: ipaddress.IPv4Network | ipaddress.IPv6Network) -> set[int]:
    """Return what no endpoint can have: a network's and a broadcast address (not of /31, /32)."""
    if subnet.prefixlen >= subnet.max_prefixlen - 1:
        return set()
    first = int(subnet.network_address)
    return {first, int(subnet.broadcast_address)} if subnet.version == 4 else {first}


class _Open:
    """A network whose addresses are given out: its pools, and what each owner has."""

    def __init__(self, network: Network, *, own: bool) -> None:
        self.record = network
        self.label = f"{network.name} ({network.id})"
        self.own = own
        self.pools = tuple(
            AddressPool(config)
            for config in network.ipam.config or ()
            if config.subnet and (network.ipv6 if ":" in config.subnet else network.ipv4)
        )
        self.owners: dict[str, tuple[str, ...]] = {}
        self.members: dict[str, str] = {}
        """Whose an owner is: the container of an endpoint."""
        self.left: dict[str, tuple[str, ...]] = {}
        """What members had that are gone, the latest last."""

    def of(self, version: int) -> list[AddressPool]:
        return [pool for pool in self.pools if pool.version == version]

    def leave(self, owner: str) -> tuple[str, ...]:
        """Forget an owner and remember what its member had; returns that."""
        held = self.owners.pop(owner, ())
        member = self.members.pop(owner, "")
        if member and held:
            self.left.pop(member, None)
            self.left[member] = held
            if len(self.left) > _REMEMBERED:
                del self.left[next(iter(self.left))]
        return held

    def former(self, owner: str, version: int) -> str:
        """Return the address that an owner's member had and can have again; empty: none."""
        for text in self.left.get(self.members.get(owner, ""), ()):
            address = _parse(text.partition("/")[0])
            pool = self.home(address)
            if address.version == version and pool is not None and pool.is_free(address):
                return str(address)
        return ""

    def home(self, address: Address) -> AddressPool | None:
        """Return the pool that an address lies in."""
        for pool in self.pools:
            if pool.version == address.version and address in pool.subnet:
                return pool
        return None


class Addresses:
    """Gives out addresses, by network and owner (an endpoint's id). Of the loop's thread only."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}
        self.choose: Callable[[Network, str, int], str] = lambda *_: ""
        """Chooses an address, by network, owner and IP version; empty: the next is taken."""

    def open(self, network: Network, *, own: bool = False) -> None:
        """Begin to give out the addresses of a network. Idempotent.

        ``own``: its driver does that itself; what is asked for is handed on as it is.
        """
        self._open.setdefault(network.id, _Open(network, own=own))

    def close(self, network_id: str) -> None:
        """A network is gone, or about to go: nothing is given out any more. Idempotent."""
        self._open.pop(network_id, None)

    def allocate(
        self, network_id: str, owner: str, v4: str = "", v6: str = "", *, member: str = ""
    ) -> tuple[str, ...]:
        """Give an owner one address of each family that the network has.

        Args:
            network_id: the network's full id.
            owner: who gets them; one that has some already gets the same, if they are asked for.
            v4, v6: certain addresses; empty: any.
            member: whose the owner is (a container's id); it gets what it had before, if it can.

        Returns:
            ``172.17.0.2/16``, IPv4 first; nothing for a network without subnets, whose owner is
            counted all the same.

        Raises:
            NotFound: there is no such network.
            InvalidArgument: an address lies in no subnet of the network.
            PermissionDenied: an address is taken.
            Unavailable: there is none left.
        """
        network = self._of(network_id)
        wanted = {4: v4, 6: v6}
        if owner in network.owners:
            held = network.owners[owner]
            plain = {text.partition("/")[0] for text in held}
            if all(not text or str(_parse(text)) in plain for text in wanted.values()):
                return held
            self.release(network_id, owner)
        if network.own:
            network.owners[owner] = tuple(_single(text) for text in (v4, v6) if text)
            return network.owners[owner]
        if member:
            network.members[owner] = member
        given: list[str] = []
        try:
            for version in (4, 6):
                given += self._one(network, owner, version, wanted[version])
        except BaseException:
            network.members.pop(owner, None)
            self._give_back(network, given)
            raise
        network.owners[owner] = tuple(given)
        return network.owners[owner]

    def claim(
        self, network_id: str, owner: str, addresses: Iterable[str], *, member: str = ""
    ) -> None:
        """Take up again what an owner has, after a start; with or without prefix lengths.

        An address that lies in no subnet any more is left out: it is the container's until its
        next start.

        Raises:
            NotFound: there is no such network.
            Conflict: another owner has one of them.
        """
        network = self._of(network_id)
        if network.own:
            network.owners[owner] = tuple(addresses)
            return
        held: list[str] = []
        for text in addresses:
            address = _parse(text.partition("/")[0])
            pool = network.home(address)
            if pool is None or pool.keeps(address):
                continue
            other = pool.holder(address)
            if other not in (None, owner):
                self._give_back(network, held)
                raise Conflict(f"claim address: {address}: endpoint {other} has it")
            pool.take(address, owner)
            held.append(pool.shown(address))
        network.owners[owner] = tuple(held)
        if member:
            network.members[owner] = member

    def release(self, network_id: str, owner: str) -> None:
        """Take back what an owner has. Idempotent, also for a network that is gone."""
        network = self._open.get(network_id)
        if network is not None:
            held = network.leave(owner)
            if not network.own:
                self._give_back(network, held)

    def check(self, network_id: str, v4: str = "", v6: str = "") -> None:
        """Say whether addresses could be asked for; whether they are free shows at the start.

        Raises:
            NotFound: there is no such network.
            InvalidArgument: in Docker's words, without its ``invalid endpoint settings``.
        """
        network = self._of(network_id)
        for version, text in ((4, v4), (6, v6)):
            if text and network.own:
                _parse(text)
            elif text:
                _inside(network, version, text)

    def owners(self, network_id: str) -> frozenset[str]:
        """Return who has addresses of a network."""
        network = self._open.get(network_id)
        return frozenset(network.owners) if network else frozenset()

    def held(self, network_id: str, owner: str) -> tuple[str, ...]:
        """Return the addresses of an owner; empty if it has none."""
        network = self._open.get(network_id)
        return network.owners.get(owner, ()) if network else ()

    def gateways(self, network_id: str) -> tuple[str, ...]:
        """Return the gateways of a network, the first of each family, IPv4 first."""
        network = self._of(network_id)
        found = (
            next((pool.gateway for pool in network.of(version) if pool.gateway), "")
            for version in (4, 6)
        )
        return tuple(text for text in found if text)

    def _of(self, network_id: str) -> _Open:
        try:
            return self._open[network_id]
        except KeyError:
            raise NotFound(f"network {network_id} not found") from None

    def _one(self, network: _Open, owner: str, version: int, wanted: str) -> list[str]:
        pools = network.of(version)
        if pools and not wanted:
            wanted = self.choose(network.record, owner, version) or network.former(owner, version)
        if wanted:
            pool, address = _inside(network, version, wanted)
            pool.take(address, owner)
            return [pool.shown(address)]
        for pool in pools:
            found = pool.give(owner)
            if found is not None:
                return [pool.shown(found)]
        if pools:
            raise Unavailable(
                f"no available IPv{version} addresses on this network's address pools: "
                f"{network.label}"
            )
        return []

    @staticmethod
    def _give_back(network: _Open, addresses: Iterable[str]) -> None:
        for text in addresses:
            address = ipaddress.ip_address(text.partition("/")[0])
            pool = network.home(address)
            if pool is not None:
                pool.release(address)


def _parse(text: str) -> Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise InvalidArgument(f"invalid address: {text}") from None


def _single(text: str) -> str:
    """Return an address as a subnet of its own: which one it lies in, the driver knows."""
    return str(ipaddress.ip_interface(str(_parse(text))))


def _inside(network: _Open, version: int, text: str) -> tuple[AddressPool, Address]:
    address = _parse(text)
    if address.version != version:
        raise InvalidArgument(f"invalid IPv{version} address: {text}")
    pool = network.home(address)
    if pool is None:
        raise InvalidArgument(f"no configured subnet or ip-range contain the IP address {address}")
    return pool, address
