"""Attacks on bridge networks: from containers that have NET_RAW and NET_ADMIN, and from outside.

Each says whether it was won. It is given a host, and calls `host.weaken()` when everything stands
as it should: where a test wants to see that the attack is one, this takes the defences away.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from boxwood.drivers.network import PortRequest
from boxwood_plugins.network.bridge.options import ICC
from tests.support import frames
from tests.support.netlab import QUIET_SECONDS, SECONDS, Box, Lab


class Target(Lab):
    """A host whose defences may be taken away."""

    guards: tuple[str, ...] = ()
    weak = False

    @property
    def seconds(self) -> float:
        """How long an attack has."""
        return SECONDS if self.weak else QUIET_SECONDS

    def weaken(self) -> None:
        """Remove the rules that the attack names, if this host is to be weak."""
        if not self.weak:
            return
        for guard in self.guards:
            self._remove(guard)

    def _remove(self, guard: str) -> None:
        if guard == "port: isolated":
            for name, link in self.links().items():
                if link.kind == "veth" and link.master:
                    self.sh(f"bridge link set dev {name} isolated off")
            return
        family, chain, rule = guard.split(": ")
        table = next(w for w in self.sh("nft list tables").split() if w.startswith("boxwood"))
        for line in self.sh(f"nft -a list chain {family} {table} {chain}").splitlines():
            text, _, handle = line.strip().partition(" # handle ")
            same = text.startswith(rule[:-1]) if rule.endswith("*") else text == rule
            if same and handle:
                self.sh(f"nft delete rule {family} {table} {chain} handle {handle}")
                return
        raise AssertionError(f"there is no such guard: {guard}")

    def wait(self, won: Callable[[], object]) -> bool:
        """Is it won before the time is over?"""
        end = time.monotonic() + self.seconds
        while not won():
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True


@dataclass(frozen=True)
class Attack:
    """An attack, and what defends against it.

    A guard is a rule (`family: chain: rule`, as nft lists it; `*`: and so on), or the ports'
    isolation.
    """

    attempt: Callable[[Target], bool]
    guards: tuple[str, ...]


ATTACKS: dict[str, Attack] = {}


def attack(*guards: str) -> Callable[[Callable[[Target], bool]], Callable[[Target], bool]]:
    """Note an attack with its guards."""

    def note(attempt: Callable[[Target], bool]) -> Callable[[Target], bool]:
        ATTACKS[attempt.__name__] = Attack(attempt, guards)
        return attempt

    return note


def pair(host: Target, **fields: object) -> tuple[Box, Box]:
    """A network with an attacker and a victim, who have spoken with each other and the host."""
    network = host.network(ipv6=True, **fields)
    evil, victim = host.container(network), host.container(network)
    with host.server(7), host.server(8, "::"), victim.server(7):
        victim.ask("10.77.1.1", 7)
        victim.ask("fd77:1::1", 8)
        evil.ask("10.77.1.1", 7)
        evil.ask(victim.ip, 7)
    return evil, victim


def neighbour(box: Box, address: str) -> str:
    """Return the MAC address that a box knows of an address."""
    words = box.sh(f"ip neigh show {address}").split()
    return words[words.index("lladdr") + 1] if "lladdr" in words else ""


ARP_ADDRESS = "bridge: arp_check: iifname . arp saddr ip != @own4 drop"
ARP_MAC = "bridge: arp_check: iifname . arp saddr ether != @macs drop"
FRAME_MAC = "bridge: check: iifname . ether saddr != @macs drop"
INBOUND = "inet: inbound: drop"


@attack(ARP_ADDRESS)
def the_gateways_address_is_claimed_by_arp(host: Target) -> bool:
    """The victim sends what is for outside to the attacker."""
    evil, victim = pair(host)
    host.weaken()
    claim = frames.arp_reply(
        evil.mac, victim.mac, claims=(evil.mac, "10.77.1.1"), to=(victim.mac, victim.ip)
    )

    def won() -> bool:
        evil.send_frame(claim)
        return neighbour(victim, "10.77.1.1") == evil.mac

    return host.wait(won)


@attack(ARP_MAC)
def a_neighbours_traffic_is_led_astray_by_arp(host: Target) -> bool:
    """The attacker's own address at a MAC address that is not its own."""
    evil, victim = pair(host)
    host.weaken()
    claim = frames.arp_reply(
        evil.mac, victim.mac, claims=("02:00:00:00:00:99", evil.ip), to=(victim.mac, victim.ip)
    )

    def won() -> bool:
        evil.send_frame(claim)
        return neighbour(victim, evil.ip) == "02:00:00:00:00:99"

    return host.wait(won)


@attack(FRAME_MAC)
def the_bridge_learns_the_victims_mac_at_the_attackers_port(host: Target) -> bool:
    """What is for the victim comes to the attacker."""
    evil, victim = pair(host)
    host.weaken()
    frame = frames.udp(victim.mac, frames.EVERYBODY, evil.ip, "10.77.1.255", 9)
    link = evil.attached[0].data["link"]

    def won() -> bool:
        evil.send_frame(frame)
        return f"{victim.mac} dev {link}" in host.sh("bridge fdb show")

    return host.wait(won)


@attack("bridge: check: iifname . ip saddr != @own4 drop")
def a_datagram_in_the_victims_name(host: Target) -> bool:
    """The host's service believes the address."""
    evil, victim = pair(host)
    host.weaken()
    bridge = next(link.mac for link in host.links().values() if link.kind == "bridge")
    frame = frames.udp(evil.mac, bridge, victim.ip, "10.77.1.1", 9)
    with host.server(9, kind="udp") as seen:

        def won() -> bool:
            evil.send_frame(frame)
            return victim.ip in seen

        return host.wait(won)


@attack("bridge: ip6_check: iifname . ip6 saddr != @own6 drop")
def an_ipv6_packet_in_the_victims_name(host: Target) -> bool:
    """An echo reply that the victim never sent."""
    evil, victim = pair(host)
    host.weaken()
    bridge = next(link.mac for link in host.links().values() if link.kind == "bridge")
    reply = b"\x81\0\0\0\0\1\0\1forged"
    frame = frames.icmp6(evil.mac, bridge, victim.ip6, "fd77:1::1", reply)
    return _hears(host, host, 129, lambda: evil.send_frame(frame))


@attack("bridge: ip6_check: icmpv6 type { nd-router-advert, nd-redirect } drop")
def a_router_that_is_none(host: Target) -> bool:
    """It would be everybody's way out, the host's included, and choose their addresses."""
    evil, victim = pair(host)
    host.weaken()
    message = frames.router_advertisement("fd66::")
    frame = frames.icmp6(evil.mac, frames.ALL_NODES, "fe80::66", "ff02::1", message)
    return _hears(host, victim, 134, lambda: evil.send_frame(frame))


@attack("bridge: ip6_check: icmpv6 type nd-neighbor-advert *")
def the_gateways_address_is_claimed_by_an_advertisement(host: Target) -> bool:
    """ARP's trick in IPv6."""
    evil, victim = pair(host)
    host.weaken()
    message = frames.neighbour_advertisement("fd77:1::1", evil.mac)
    frame = frames.icmp6(evil.mac, victim.mac, evil.ip6, victim.ip6, message)

    def won() -> bool:
        evil.send_frame(frame)
        return neighbour(victim, "fd77:1::1") == evil.mac

    return host.wait(won)


@attack("inet: raw: ip daddr 127.0.0.0/8 iifname @bridges drop")
def the_hosts_loopback_from_a_container(host: Target) -> bool:
    """`route_localnet`, which published ports need, would let it in."""
    evil, _ = pair(host)
    host.weaken()
    bridge = next(link.mac for link in host.links().values() if link.kind == "bridge")
    frame = frames.udp(evil.mac, bridge, evil.ip, "127.0.0.1", 9)
    with host.server(9, "127.0.0.1", "udp") as seen:

        def won() -> bool:
            evil.send_frame(frame)
            return evil.ip in seen

        return host.wait(won)


@attack("inet: prerouting: ip daddr 127.0.0.0/8 return")
def a_port_published_on_loopback_from_outside(host: Target) -> bool:
    """A neighbour of the host addresses a frame to 127.0.0.1."""
    web = host.container(host.network(), PortRequest(80, "udp", "127.0.0.1", 8080))
    host.weaken()
    here = host.links()["out0"].mac
    mac = host.outside.links()["eth0"].mac
    frame = frames.udp(mac, here, host.OUTSIDE, "127.0.0.1", 8080)
    with web.server(80, kind="udp") as seen:

        def won() -> bool:
            host.outside.send_frame(frame)
            return bool(seen)

        return host.wait(won)


@attack(INBOUND)
def a_port_that_is_not_published_from_outside(host: Target) -> bool:
    """A neighbour of the host has a route to the containers' addresses."""
    web = host.container(host.network(), PortRequest(80, "tcp", "0.0.0.0", 8080))
    host.outside.sh(f"ip route add 10.77.1.0/24 via {host.HERE}")
    host.weaken()
    with web.server(81):
        return host.outside.reaches(web.ip, 81, seconds=host.seconds)


@attack(INBOUND)
def a_published_port_past_its_address(host: Target) -> bool:
    """Published on loopback alone, and asked for at the container's own address."""
    web = host.container(host.network(), PortRequest(80, "tcp", "127.0.0.1", 8080))
    host.outside.sh(f"ip route add 10.77.1.0/24 via {host.HERE}")
    host.weaken()
    with web.server():
        return host.outside.reaches(web.ip, seconds=host.seconds)


@attack(INBOUND)
def another_networks_container(host: Target) -> bool:
    """From one network to an address in the other, with the host as the way."""
    web = host.container(host.network(1), PortRequest(80, "tcp", "0.0.0.0", 8080))
    evil = host.container(host.network(2))
    host.weaken()
    with web.server():
        return evil.reaches(web.ip, seconds=host.seconds)


@attack("inet: forward: iifname @internal drop", "inet: forward: oifname @internal drop")
def out_of_an_internal_network(host: Target) -> bool:
    """The container gives itself a default route, and outside knows the way back."""
    evil = host.container(host.network(internal=True))
    evil.sh("ip route add default via 10.77.1.1")
    host.outside.sh(f"ip route add 10.77.1.0/24 via {host.HERE}")
    host.sh("sysctl -qw net.ipv4.ip_forward=1")
    host.weaken()
    with host.outside.server():
        return evil.reaches(host.OUTSIDE, seconds=host.seconds)


@attack("inet: host: drop")
def another_address_of_the_host_from_an_internal_network(host: Target) -> bool:
    """The host's services on its other addresses."""
    evil = host.container(host.network(internal=True))
    evil.sh("ip route add default via 10.77.1.1")
    host.weaken()
    with host.server():
        return evil.reaches(host.HERE, seconds=host.seconds)


@attack(
    "inet: prerouting: iifname @internal return",
    "inet: forward: iifname @internal drop",
    "inet: forward: oifname @internal drop",
)
def another_networks_published_port_from_an_internal_one(host: Target) -> bool:
    """By the one address of the host that may be reached."""
    web = host.container(host.network(2), PortRequest(80, "tcp", "0.0.0.0", 8080))
    evil = host.container(host.network(1, internal=True))
    evil.sh("ip route add default via 10.77.1.1")
    host.weaken()
    with web.server():
        return evil.reaches("10.77.1.1", 8080, seconds=host.seconds)


@attack(INBOUND)
def a_neighbour_by_the_gateway_where_neighbours_do_not_speak(host: Target) -> bool:
    """enable_icc=false keeps the bridge from leading it; the host could, as a router."""
    evil, victim = pair_apart(host)
    bridge = next(link.mac for link in host.links().values() if link.kind == "bridge")
    evil.sh(f"ip neigh replace {victim.ip} lladdr {bridge} dev eth0")
    victim.sh(f"ip neigh replace {evil.ip} lladdr {bridge} dev eth0")
    host.weaken()
    with victim.server():
        return evil.reaches(victim.ip, seconds=host.seconds)


@attack("port: isolated")
def a_neighbour_where_neighbours_do_not_speak(host: Target) -> bool:
    """enable_icc=false."""
    evil, victim = pair_apart(host)
    host.sh("sysctl -qw net.bridge.bridge-nf-call-iptables=0")
    host.weaken()
    with victim.server():
        return evil.reaches(victim.ip, seconds=host.seconds)


def pair_apart(host: Target) -> tuple[Box, Box]:
    """Two containers that may not speak with each other."""
    network = host.network(options={ICC: "false"})
    return host.container(network), host.container(network)


def _hears(host: Target, listener: Box, kind: int, send: Callable[[], None]) -> bool:
    """Send until the listener hears an ICMPv6 message of the kind."""
    with listener.socket(socket.SOCK_RAW, socket.AF_INET6, socket.IPPROTO_ICMPV6) as ears:
        ears.setblocking(False)

        def won() -> bool:
            send()
            try:
                while ears.recv(2048)[0] != kind:
                    pass
            except BlockingIOError:
                return False
            return True

        return host.wait(won)
