"""testcontainers-python on our engine: what a test of somebody's application does with networks."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.needs import until

if TYPE_CHECKING:
    from tests.support.engine import Engine

pytestmark = [
    pytest.mark.root,
    # The library's own, and sockets that it leaves to the garbage collector.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def said(address: tuple[str, int]) -> str:
    """What a server says; nothing while it does not listen yet."""
    try:
        with socket.create_connection(address, timeout=10) as client:
            return client.makefile().readline()
    except ConnectionError:
        return ""


def test_two_containers_and_a_network(
    clean_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server with an exposed port and an alias, asked from here and from its neighbour."""
    environment = clean_engine.environment()
    monkeypatch.setenv("DOCKER_HOST", environment["DOCKER_HOST"])
    monkeypatch.setenv("DOCKER_CONFIG", environment["DOCKER_CONFIG"])
    # It would pull an image that removes what is left; the fixture does that here.
    monkeypatch.setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
    # It reads the environment when it is imported.
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.network import Network

    with Network() as network:
        server = DockerContainer("busybox").with_command("nc -ll -p 80 -e echo hello")
        server.with_exposed_ports(80).with_network(network).with_network_aliases("web")
        client = DockerContainer("busybox").with_command("sleep 100").with_network(network)
        with server, client:
            address = (server.get_container_host_ip(), int(server.get_exposed_port(80)))
            assert until(lambda: said(address), "the server listens") == "hello\n"
            answer = client.exec(["nc", "web", "80"])
            assert (answer.exit_code, answer.output) == (0, b"hello\n")
    assert [one["Name"] for one in clean_engine.api("GET", "/networks").json()] == [
        *("bridge", "host", "none")
    ]
