"""A host of a test's own: a network namespace with a bridge driver in it, containers, and outside.

Nothing of it is in the machine's own namespace: its packet filter, sysctls and links are left
alone, and other tests may do what they like meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from boxwood.drivers import manager
from boxwood.drivers.network import (
    Attachment,
    EndpointRequest,
    NetworkDriver,
    NetworkSpec,
    Pool,
    PortRequest,
)
from boxwood_ext import net, rtnl

T = TypeVar("T")
SECONDS = 20.0
"""In which what must arrive arrives, on the slowest machine."""
QUIET_SECONDS = 0.5
"""After which what must not arrive is taken as lost. Longer could only fail more."""


class Box:
    """A network namespace: a container, the host, or a machine outside."""

    def __init__(self, netns: int | None = None) -> None:
        self.netns = net.make_namespace() if netns is None else netns
        self.attached: list[Attachment] = []

    def close(self) -> None:
        os.close(self.netns)

    def do(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function in here."""
        return net.call_in(self.netns, function, *args)

    def sh(self, command: str, *, check: bool = True) -> str:
        """Run a shell command in here; return what it says."""
        done = self.do(
            lambda: subprocess.run(
                command, shell=True, capture_output=True, text=True, check=False, timeout=60
            )
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def socket(
        self, kind: int = socket.SOCK_STREAM, family: int = socket.AF_INET, protocol: int = 0
    ) -> socket.socket:
        """Open a socket in here."""
        made = socket.socket(fileno=net.socket_in(self.netns, family, kind, protocol))
        made.settimeout(SECONDS)
        return made

    def links(self) -> dict[str, rtnl.Link]:
        """Return the links in here, by name."""
        with net.Netlink(self.netns) as link:
            return {found.name: found for found in rtnl.links(link.query(rtnl.get_links()))}

    @property
    def ip(self) -> str:
        return self.attached[0].addresses[0].partition("/")[0]

    @property
    def ip6(self) -> str:
        return next(a for a in self.attached[0].addresses if ":" in a).partition("/")[0]

    @property
    def mac(self) -> str:
        return self.attached[0].mac_address

    @contextlib.contextmanager
    def server(self, port: int = 80, address: str = "", kind: str = "tcp") -> Iterator[list[str]]:
        """Serve: each who comes is told its own address, and noted in the list given."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        seen: list[str] = []
        stream = kind == "tcp"
        listener = self.socket(socket.SOCK_STREAM if stream else socket.SOCK_DGRAM, family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.settimeout(None)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    if stream:
                        client, peer = listener.accept()
                        with client:
                            seen.append(peer[0])
                            client.sendall(peer[0].encode())
                    else:
                        _, peer = listener.recvfrom(64)
                        if peer is None:  # shut down
                            return
                        seen.append(peer[0])
                        listener.sendto(peer[0].encode(), peer)

        if stream:
            listener.listen(64)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield seen
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(SECONDS)
            listener.close()

    def ask(self, address: str, port: int = 80, kind: str = "tcp") -> str:
        """Speak to a server; return as whom it saw us.

        Raises:
            OSError: nobody answered.
        """
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.socket(socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM, family) as s:
            s.connect((address, port))
            if kind != "tcp":
                s.send(b"who am I")
            return s.recv(64).decode()

    def reaches(
        self, address: str, port: int = 80, kind: str = "tcp", seconds: float = QUIET_SECONDS
    ) -> bool:
        """Does anybody answer there, in this time?"""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.socket(socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM, family) as s:
            s.settimeout(seconds)
            try:
                s.connect((address, port))
                if kind != "tcp":
                    s.send(b"who am I")
                return bool(s.recv(64))
            except OSError:
                return False

    def send_frame(self, frame: bytes, interface: str = "eth0") -> None:
        """Send an Ethernet frame, whatever stands in it."""
        with self.socket(socket.SOCK_RAW, socket.AF_PACKET) as s:
            s.bind((interface, 0))
            s.send(frame)


class Lab(Box):
    """The host, with a driver; `container()`s on its networks; `outside` a machine beside it."""

    OUTSIDE = "192.0.2.2"
    HERE = "192.0.2.1"
    OUTSIDE6 = "2001:db8::2"
    HERE6 = "2001:db8::1"

    def __init__(self, root: Path, driver: str = "bridge", **options: str) -> None:
        super().__init__()
        self._root = root
        self._driver_name = driver
        self._options = options
        self._boxes: list[Box] = []
        self._count = 0
        self.networks: dict[str, NetworkSpec] = {}
        self.driver = self.new_driver()
        self.outside = self.box()
        with net.Netlink(self.netns) as host, net.Netlink(self.outside.netns) as out:
            host.batch([rtnl.veth("out0", "eth0", netns=self.outside.netns, up=True)])
            here, there = host.index("out0"), out.index("eth0")
            out.batch(
                [
                    rtnl.new_address(there, f"{self.OUTSIDE}/24"),
                    rtnl.new_address(there, f"{self.OUTSIDE6}/64"),
                    rtnl.set_link("eth0", up=True),
                ]
            )
            host.batch(
                [rtnl.new_address(here, f"{a}") for a in (f"{self.HERE}/24", f"{self.HERE6}/64")]
            )

    def new_driver(self) -> NetworkDriver:
        """Make the driver as a new daemon would."""
        made = manager.select(
            "network", self._driver_name, root=self._root, options=dict(self._options)
        )
        assert isinstance(made, NetworkDriver)
        return made

    def box(self) -> Box:
        """Make a namespace, closed at the end."""
        made = Box()
        self._boxes.append(made)
        return made

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of the driver on this host."""
        return self.do(asyncio.run, work)

    def network(self, number: int = 1, *, ipv6: bool = False, **fields: Any) -> NetworkSpec:
        """Make a network: 10.77.<number>.0/24 (and fd77:<number>::/64)."""
        pools = [Pool(subnet=f"10.77.{number}.0/24", gateway=f"10.77.{number}.1")]
        if ipv6:
            pools.append(Pool(subnet=f"fd77:{number}::/64", gateway=f"fd77:{number}::1"))
        fields.setdefault("pools", tuple(pools))
        spec = NetworkSpec(id=f"{number:02x}" * 32, name=f"net{number}", ipv6=ipv6, **fields)
        spec = self.driver.defaults(spec)
        self.run(self.driver.create_network(spec))
        self.networks[spec.id] = spec
        return spec

    def container(
        self, network: NetworkSpec, *ports: PortRequest, box: Box | None = None, **fields: Any
    ) -> Box:
        """Attach a new container (or `box`, once more) to a network."""
        box = box or self.box()
        self._count += 1
        last = self._count + 1
        addresses, gateways = [], []
        for pool in network.pools:
            base, _, length = pool.subnet.partition("/")
            addresses.append(base.removesuffix("0") + (f"{last}/{length}"))
            gateways.append(pool.gateway)
            if ":" in base:
                addresses[-1] = f"{base}{last:x}/{length}"
        request = EndpointRequest(
            sandbox="5a" * 32,
            network=network.id,
            endpoint=f"{self._count:064x}",
            interface=f"eth{len(box.attached)}",
            addresses=fields.pop("addresses", tuple(addresses)),
            gateways=fields.pop("gateways", tuple(gateways)),
            ports=ports,
            **fields,
        )
        box.attached.append(self.run(self.driver.attach(request, box.netns)))
        return box

    def close(self) -> None:
        for box in self._boxes:
            box.close()
        super().close()


@contextlib.contextmanager
def lab(root: Path, driver: str = "bridge", **options: str) -> Iterator[Lab]:
    """Make a host for a while."""
    made = Lab(root, driver, **options)
    try:
        yield made
    finally:
        made.close()
