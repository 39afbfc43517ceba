"""Seeing that somebody else changed the packet filter: nfnetlink's notifications."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Callable

_NETLINK_NETFILTER = 12
_GROUP_NFTABLES = 7
_NEWGEN = 10 << 8 | 15  # NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWGEN
_GEN_PROC_PID = 2
_READ = 1 << 16
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_BODY = 4  # struct nfgenmsg


class Watch:
    """A socket that hears of each transaction; close it."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _NETLINK_NETFILTER
        )
        self._socket.bind((0, 1 << (_GROUP_NFTABLES - 1)))

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    async def changed(self, is_ours: Callable[[int], bool]) -> None:
        """Wait for a transaction of somebody else.

        ``is_ours`` is asked with the thread id of whoever made it. Notifications that were lost
        because too many came count as somebody else's.
        """
        loop = asyncio.get_running_loop()
        while True:
            try:
                data = await loop.sock_recv(self._socket, _READ)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                return
            if any(not is_ours(pid) for pid in _makers(data)):
                return


def _makers(data: bytes) -> list[int]:
    """Return who made the transactions whose end is told of."""
    found = []
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size:
            break
        if kind == _NEWGEN:
            found.append(_maker(data[at + _HEADER.size + _BODY : at + length]))
        at += (length + 3) & ~3
    return found


def _maker(attributes: bytes) -> int:
    at = 0
    while at + 4 <= len(attributes):
        length, kind = _ATTRIBUTE.unpack_from(attributes, at)
        if length < 4:
            break
        if kind & 0x3FFF == _GEN_PROC_PID:
            return int.from_bytes(attributes[at + 4 : at + 8], "big")
        at += (length + 3) & ~3
    return 0
