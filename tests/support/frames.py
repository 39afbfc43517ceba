"""Ethernet frames that no honest kernel would send."""

from __future__ import annotations

import ipaddress
import struct

EVERYBODY = "ff:ff:ff:ff:ff:ff"
ALL_NODES = "33:33:00:00:00:01"


def ethernet(source: str, target: str, kind: int, payload: bytes) -> bytes:
    """Put an Ethernet header before a payload."""
    return _mac(target) + _mac(source) + struct.pack(">H", kind) + payload


def arp_reply(
    source: str, target: str, *, claims: tuple[str, str], to: tuple[str, str], frame_mac: str = ""
) -> bytes:
    """An ARP reply: `claims` (MAC, IP) is told to `to`."""
    body = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 2)
    body += _mac(claims[0]) + _ip(claims[1]) + _mac(to[0]) + _ip(to[1])
    return ethernet(frame_mac or source, target, 0x0806, body)


def udp(
    source_mac: str, target_mac: str, source: str, target: str, port: int, data: bytes = b"forged"
) -> bytes:
    """A UDP datagram (without its checksum, which IPv4 allows)."""
    body = struct.pack(">HHHH", 4444, port, 8 + len(data), 0) + data
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 7, 0, 64, 17, 0)
    head += _ip(source) + _ip(target)
    check = _checksum(head)
    head = head[:10] + struct.pack(">H", check) + head[12:]
    return ethernet(source_mac, target_mac, 0x0800, head + body)


def icmp6(source_mac: str, target_mac: str, source: str, target: str, message: bytes) -> bytes:
    """An ICMPv6 message whose hop limit says that it comes from the link."""
    addresses = _ip(source) + _ip(target)
    pseudo = addresses + struct.pack(">II", len(message), 58)
    check = _checksum(pseudo + message)
    message = message[:2] + struct.pack(">H", check) + message[4:]
    head = struct.pack(">IHBB", 6 << 28, len(message), 58, 255) + addresses
    return ethernet(source_mac, target_mac, 0x86DD, head + message)


def router_advertisement(prefix: str) -> bytes:
    """An advertisement of a default router and of a prefix for autoconfiguration."""
    option = struct.pack(">BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + _ip(prefix)
    return struct.pack(">BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + option


def neighbour_advertisement(target: str, mac: str) -> bytes:
    """`target` is at `mac`, says this, and what you knew before is wrong."""
    return struct.pack(">BBHI", 136, 0, 0, 0x20000000) + _ip(target) + b"\x02\x01" + _mac(mac)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _ip(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def _checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
