"""The command line of networks and ports, ours, on the shared engine."""

from __future__ import annotations

import pytest

from tests.support.engine import Engine

pytestmark = pytest.mark.root

SLEEP = ("busybox", "sleep", "100")


def test_who_reaches_what(clean_engine: Engine) -> None:
    cli = clean_engine.cli
    cli("run", "-d", "--name", "web", "-p", "127.0.0.1::80", "--expose", "443", *SLEEP)
    cli("run", "-d", "--name", "all", "-p", "0.0.0.0::81/udp", *SLEEP)
    port = cli("port", "web", "80").stdout.strip()
    assert port.startswith("127.0.0.1:")
    lines = [" ".join(line.split()) for line in cli("port", "--exposed").stdout.splitlines()]
    assert lines[0] == "CONTAINER PORT PUBLISHED REACHED BY"
    assert lines[2:] == [
        f"web 80/tcp {port} this machine, containers in bridge",
        "web 443/tcp containers in bridge",
    ]
    assert lines[1].endswith("everybody, containers in bridge")
    one = cli("port", "--exposed", "--format", "{{.Container}}", "web").stdout
    assert one == "web\nweb\n"
    assert cli("port", check=False).returncode == 1


def test_ports_change_while_it_runs(clean_engine: Engine) -> None:
    cli = clean_engine.cli
    cli("run", "-d", "--name", "web", *SLEEP)
    assert cli("update", "--publish-add", "127.0.0.1::80", "web").stdout == "web\n"
    published = cli("port", "web").stdout.strip()
    assert published.startswith("80/tcp -> 127.0.0.1:")
    cli("update", "--publish-add", "127.0.0.1::81/udp", "--publish-rm", "80", "web")
    assert cli("port", "web").stdout.startswith("81/udp -> 127.0.0.1:")
    refused = cli("update", "--publish-rm", "80", "web", check=False)
    assert (refused.returncode, "is not published" in refused.stderr) == (1, True)
    refused = cli("update", "--publish-add", "nonsense", "web", check=False)
    assert refused.returncode == 1
    refused = cli("update", "web", check=False)
    assert (refused.returncode, "you must provide one or more flags" in refused.stderr) == (1, True)
    assert cli("update", "--cpus", "0", "web", check=False).returncode == 1, "not served yet"
    cli("restart", "-t", "0", "web")
    assert cli("port", "web").stdout.startswith("81/udp -> 127.0.0.1:"), "it is remembered"


def test_connect_and_disconnect(clean_engine: Engine) -> None:
    cli = clean_engine.cli
    cli("network", "create", "--subnet", "10.213.88.0/24", "side")
    try:
        cli("run", "-d", "--name", "web", *SLEEP)
        options = ("--ip", "10.213.88.9", "--alias", "db", "--gw-priority", "1")
        name = "com.docker.network.endpoint.ifname=wan0"
        cli("network", "connect", *options, "--driver-opt", name, "side", "web")
        assert "10.213.88.9/24" in cli("exec", "web", "ip", "addr", "show", "wan0").stdout
        assert "default via 10.213.88.1" in cli("exec", "web", "ip", "route").stdout
        cli("network", "disconnect", "side", "web")
        assert "wan0" not in cli("exec", "web", "ip", "addr").stdout
        refused = cli("network", "disconnect", "side", "web", check=False)
        assert "is not connected to network side" in refused.stderr
    finally:
        clean_engine.remove_containers()
        cli("network", "rm", "side")
