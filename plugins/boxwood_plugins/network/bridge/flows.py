"""Forgetting flows: the kernel remembers where the first datagram of a UDP flow went.

Who goes on sending to a port that is published meanwhile, or by another container now, would be
led where its first datagram was led, for as long as it goes on.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable

from boxwood.drivers.network import PortRequest
from boxwood_ext.rtnl import attribute, nested, number

_NETLINK_NETFILTER = 12
_DELETE = 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
_REQUEST_ACK = 1 | 4
_UDP = 17
# nfnetlink_conntrack.h
_TUPLE_ORIG, _FILTER = 1, 25
_TUPLE_PROTO, _PROTO_NUM, _PROTO_DST_PORT = 2, 1, 3
_FILTER_ORIG_FLAGS = 1
_BY_PROTOCOL_AND_PORT = 1 << 3 | 1 << 5  # CTA_FILTER_F_CTA_PROTO_NUM, _DST_PORT
_WAIT_SECONDS = 5.0
# What an older kernel (before 5.8) says of the filter; its flows end by themselves, 30 s later.
_UNKNOWN = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT)


def forget(ports: Iterable[PortRequest]) -> None:
    """Forget the UDP flows to these host ports.

    Raises:
        OSError: the kernel refused.
    """
    wanted = sorted(
        {
            (socket.AF_INET6 if ":" in port.host_ip else socket.AF_INET, port.host_port)
            for port in ports
            if port.protocol == "udp"
        }
    )
    if not wanted:
        return
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as kernel:
        kernel.settimeout(_WAIT_SECONDS)
        for family, port in wanted:
            kernel.send(_message(family, port))
            _, _, _, _, _, code = struct.unpack_from("=IHHIIi", kernel.recv(4096))
            if code and -code not in _UNKNOWN:
                raise OSError(-code, f"forget flows of port {port}: {os.strerror(-code)}")


def _message(family: int, port: int) -> bytes:
    flow = nested(
        _TUPLE_PROTO,
        attribute(_PROTO_NUM, bytes([_UDP])),
        attribute(_PROTO_DST_PORT, struct.pack(">H", port)),
    )
    body = struct.pack(">BBH", family, 0, 0)
    body += nested(_TUPLE_ORIG, flow)
    body += nested(_FILTER, number(_FILTER_ORIG_FLAGS, _BY_PROTOCOL_AND_PORT))
    return struct.pack("=IHHII", 16 + len(body), _DELETE, _REQUEST_ACK, 1, 0) + body
