"""Debian's dockerd on the same host: both work, and neither lets the other's containers in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from boxwood.drivers.network import PortRequest
from tests.support.dockerd import Dockerd
from tests.support.needs import need_program, until
from tests.support.netlab import Box, Lab


class WholeDockerd(Dockerd):
    """dockerd with its bridge and its packet filter, on a host of the test's own."""

    def command(self) -> list[str]:
        return [
            *(need_program("dockerd"), "-H", self.host, "--bip", "172.29.0.1/24"),
            *("--log-level=warn", "--data-root", str(self.data_root)),
            *("--exec-root", str(self.exec_root)),
            *("--pidfile", str(self.exec_root / "dockerd.pid")),
        ]


@pytest.fixture
def docker(host: Lab) -> Iterator[WholeDockerd]:
    """dockerd, in the host's network namespace."""
    made = WholeDockerd()
    # It drops what is forwarded where it was the one who switched forwarding on.
    host.sh("sysctl -qw net.ipv4.ip_forward=0")
    try:
        host.do(made.start)
        made.add_busybox()
        yield made
    finally:
        made.close()


def serve(docker: WholeDockerd, name: str) -> str:
    """Start a server of Docker's, its port 80 published on 8090, 81 not; return its address."""
    script = "nc -ll -p 81 -e echo docker & exec nc -ll -p 80 -e echo docker"
    docker.docker(
        *("run", "-d", "--name", name, "-p", "8090:80", "busybox", "sh", "-c", script),
    )
    format_ = "{{.NetworkSettings.IPAddress}}"
    return docker.docker("inspect", "-f", format_, name).stdout.strip()


def from_docker(docker: WholeDockerd, address: str, port: int) -> str:
    """Ask from a container of Docker's."""
    words = ("run", "--rm", "busybox", "nc", "-w", "3", address, str(port))
    return docker.docker(*words, check=False).stdout.strip()


def both_work(host: Lab, ours: Box, docker: WholeDockerd) -> None:
    with host.outside.server(), ours.server():
        assert ours.ask(host.OUTSIDE) == host.HERE
        assert host.outside.ask(host.HERE, 8080) == host.OUTSIDE
        until(lambda: _answers(host.outside, host.HERE, 8090), "Docker's container answers")
        assert from_docker(docker, host.OUTSIDE, 80) == host.HERE


def _answers(box: Box, address: str, port: int) -> bool:
    try:
        return box.ask(address, port).strip() == "docker"
    except OSError:
        return False


def test_ours_first_and_ours_second(host: Lab, docker: WholeDockerd) -> None:
    """Docker's firewall is there when our network is made; then Docker comes back."""
    theirs = serve(docker, "web")
    ours = host.container(host.network(), PortRequest(80, "tcp", "0.0.0.0", 8080))
    assert "-P FORWARD DROP" in host.sh("iptables -S")
    both_work(host, ours, docker)
    with ours.server():
        assert from_docker(docker, ours.ip, 80) == "", "ours from a container of Docker's"
        until(lambda: _answers(host, theirs, 81), "the host reaches what is not published")
        assert not ours.reaches(theirs, 81), "Docker's from a container of ours"
        assert ours.ask(host.HERE, 8090).strip() == "docker", "as it is published"
        assert from_docker(docker, host.HERE, 8080)
    docker.stop()
    with host.outside.server(), ours.server():
        assert ours.ask(host.OUTSIDE) == host.HERE
        assert host.outside.ask(host.HERE, 8080) == host.OUTSIDE
    host.do(docker.start)
    docker.docker("restart", "-t", "0", "web")
    both_work(host, ours, docker)
    for network in host.networks.values():
        host.run(host.driver.remove_network(network))
    assert "BOXWOOD" not in host.sh("iptables -S; ip6tables -S")
    assert _answers(host.outside, host.HERE, 8090)
    docker.docker("rm", "-f", "web")
