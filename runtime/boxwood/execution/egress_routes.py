"""Routing rules that close a limited container when the packet filter's table is not there.

The table marks what limited containers send. A rule (ip-rule(8)) for each of their addresses
prohibits what comes without the mark: when somebody flushes the packet filter while the daemon is
away, they are cut off, not let out. Rules are bound to the link that the address is behind: else
the host's check of source addresses would meet them for packets *to* the container. Which rules are
ours is kept in a file, written before they are made.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from boxwood.execution.egress_table import MARK
from boxwood_ext import net, rtnl

log = logging.getLogger(__name__)

PRIORITY: Final = 50
"""After the local table (0), before everybody who chooses a table for what is forwarded."""
_ABSENT: Final = frozenset({errno.ENOENT, errno.ESRCH, errno.ENODEV})
_UNABLE: Final = frozenset({errno.EOPNOTSUPP, errno.EAFNOSUPPORT})
"""A kernel without policy routing, or without IPv6."""


class Routes:
    """The rules of an engine. Changes are made by one thread at a time."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def settle(self, addresses: Iterable[str], *, anew: bool = False) -> None:
        """Have rules for exactly these addresses. Idempotent.

        ``anew``: also those that were made before may be gone.

        Raises:
            OSError: the kernel, or the disk, refuses.
        """
        known = self._known()
        wanted: dict[str, str] = {}
        with net.Netlink() as channel:
            for address in dict.fromkeys(addresses):
                link = "" if anew else known.get(address, "")
                link = link or _link(channel, address)
                if link:
                    wanted[address] = link
            self._keep(known | wanted)
            for address, link in known.items():
                if wanted.get(address) != link:
                    _try(channel, rtnl.delete_rule, address, link, _ABSENT | _UNABLE)
            for address, link in wanted.items():
                if anew or known.get(address) != link:
                    _try(channel, rtnl.new_rule, address, link, _UNABLE | {errno.EEXIST})
            self._keep(wanted)

    def _known(self) -> dict[str, str]:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            return {}

    def _keep(self, rules: dict[str, str]) -> None:
        if not rules:
            self._file.unlink(missing_ok=True)
            return
        passing = self._file.with_suffix(".new")
        passing.write_bytes(msgspec.json.encode(rules))
        os.replace(passing, self._file)


def _link(channel: net.Netlink, address: str) -> str:
    """Return the name of the link that an address is behind; empty: there is none."""
    try:
        found = next(rtnl.routes(channel.query(rtnl.get_route(address))), None)
        if found is None or not found.index:
            return ""
        return next(rtnl.links(channel.query(rtnl.get_link(found.index)))).name
    except net.NetlinkError as error:
        log.info("egress: no route to %s: %s", address, error.strerror)
        return ""


def _try(
    channel: net.Netlink,
    message: Callable[..., bytes],
    address: str,
    link: str,
    fine: frozenset[int],
) -> None:
    prefix = f"{address}/{ipaddress.ip_address(address).max_prefixlen}"
    try:
        channel.batch([message(prefix, link, PRIORITY, mark=0, mask=MARK)])
    except net.NetlinkError as error:
        if error.errno not in fine:
            raise
