"""Containers in networks: connected while they run or not, killed, taken up again."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.fields.box import Api, Box
from tests.support.engine import Engine
from tests.support.needs import until
from tests.support.networks import links_of

pytestmark = pytest.mark.root

SERVE = ("nc", "-ll", "-p", "80", "-e", "echo", "hello")


@pytest.fixture
def api(clean_engine: Engine) -> Iterator[Api]:
    """One connection to the shared engine, and two networks: `one` and `two`."""
    api = Api(clean_engine)
    for name in ("one", "two"):
        api.ok("POST", "/networks/create", {"Name": name})
    yield api
    clean_engine.remove_containers()
    for name in ("one", "two"):
        api.ok("DELETE", f"/networks/{name}")
    api.connection.close()


@pytest.fixture
def own(make_engine: Callable[..., Engine]) -> Iterator[Api]:
    """An engine that the test kills."""
    api = Api(make_engine())
    yield api
    api.connection.close()


def networks(box: Box) -> dict[str, Any]:
    """What inspect says of the networks of a container."""
    found: dict[str, Any] = box.inspect()["NetworkSettings"]["Networks"]
    return found


def host(network: str, *published: int) -> dict[str, Any]:
    """A host config: port 80 of the container on these of the host's loopback (0: any)."""
    bound = [{"HostIp": "127.0.0.1", "HostPort": str(port or "")} for port in published]
    return {"NetworkMode": network, "PortBindings": {"80/tcp": bound} if bound else {}}


def port_of(box: Box) -> int:
    """The host's port of port 80."""
    return int(box.inspect()["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"])


def ports_of(box: Box) -> set[int]:
    """All the host's ports of port 80."""
    return {int(one["HostPort"]) for one in box.inspect()["NetworkSettings"]["Ports"]["80/tcp"]}


def greeted(port: int) -> bool:
    """Whether the server on a port of the loopback greets."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            return client.makefile().readline() == "hello\n"
    except OSError:
        return False


def join(api: Api, network: str, box: Box, **settings: Any) -> None:
    api.ok("POST", f"/networks/{network}/connect", {"Container": box.id, **settings})


def part(api: Api, network: str, box: Box) -> None:
    api.ok("POST", f"/networks/{network}/disconnect", {"Container": box.id})


def test_connect_and_disconnect_while_it_runs(api: Api) -> None:
    with api.living(*SERVE, host=host("one", 0)) as box:
        port = port_of(box)
        until(lambda: greeted(port), "it serves")
        for wanted, count in (("80", 1), ("70-90/tcp", 1), ("81", 0), ("80/udp", 0)):
            filters = quote(json.dumps({"publish": [wanted]}))
            assert len(api.ok("GET", f"/containers/json?filters={filters}")) == count
        join(api, "two", box, EndpointConfig={"Aliases": ["db"]})
        shown = networks(box)
        assert "db" in shown["two"]["DNSNames"]
        assert f"inet {shown['two']['IPAddress']}/" in box.sh("ip -o -4 addr show dev eth1")
        assert f"{shown['two']['IPAddress']}\t" in box.sh("cat /etc/hosts")
        assert f"default via {shown['one']['Gateway']} " in box.sh("ip route")
        part(api, "one", box)
        assert list(networks(box)) == ["two"]
        assert f"default via {shown['two']['Gateway']} " in box.sh("ip route")
        assert f"{shown['one']['IPAddress']}\t" not in box.sh("cat /etc/hosts")
        assert "eth0" not in box.sh("ls /sys/class/net")
        assert port_of(box) == port
        assert greeted(port), "the other network has taken the port over"
        part(api, "two", box)
        assert networks(box) == {}
        assert box.inspect()["NetworkSettings"]["Ports"] in ({}, {"80/tcp": None})
        assert not greeted(port)
        join(api, "two", box)
        port = port_of(box)
        assert greeted(port)
        join(api, "one", box)
        assert f"default via {networks(box)['one']['Gateway']} " in box.sh("ip route")
        assert port_of(box) == port
        assert greeted(port), "the first by name has taken it over"


def test_connect_and_disconnect_while_it_does_not_run(api: Api) -> None:
    with api.made("sleep", "100", host=host("one")) as box:
        join(api, "two", box)
        part(api, "one", box)
        assert list(networks(box)) == ["two"]
        box.start()
        assert f"default via {networks(box)['two']['Gateway']} " in box.sh("ip route")


def test_a_network_of_the_same_name_until_the_first_start(api: Api) -> None:
    """As in Docker: what was only created starts in the network that bears the name by then; what
    has run was in one that is gone."""
    with api.made("true", host=host("two")) as box:
        for _ in range(2):
            old = api.ok("GET", "/networks/two")["Id"]
            api.ok("DELETE", "/networks/two")
            assert api.call("POST", f"/containers/{box.id}/start").status == 404
            api.ok("POST", "/networks/create", {"Name": "two"})
        box.start()
        assert box.wait() == 0
        assert networks(box)["two"]["NetworkID"] == api.ok("GET", "/networks/two")["Id"] != old
        api.ok("DELETE", "/networks/two")
        api.ok("POST", "/networks/create", {"Name": "two"})
        answer = api.call("POST", f"/containers/{box.id}/start")
        assert (answer.status, "not found" in answer.message) == (404, True)


def test_a_restart_keeps_the_address(api: Api) -> None:
    with api.living(host=host("one")) as box, api.living(host=host("one")) as other:
        had = networks(box)["one"]["IPAddress"]
        api.ok("POST", f"/containers/{box.id}/restart?t=0")
        assert networks(box)["one"]["IPAddress"] == had
        api.ok("POST", f"/containers/{box.id}/stop?t=0")
        with api.living(host=host("one")) as third:
            assert networks(third)["one"]["IPAddress"] not in (had, networks(other)["one"])
        box.start()
        assert networks(box)["one"]["IPAddress"] == had
        part(api, "one", box)
        join(api, "one", box)
        assert networks(box)["one"]["IPAddress"] == had


def test_into_no_network_at_last(api: Api) -> None:
    """Who runs and is in no network can be put into `none`, which excludes all others."""
    with api.living(host=host("one")) as box:
        part(api, "one", box)
        answer = api.call("POST", "/networks/host/connect", {"Container": box.id})
        assert (answer.status, "host network" in answer.message) == (400, True)
        join(api, "none", box)
        assert list(networks(box)) == ["none"]
        answer = api.call("POST", "/networks/one/connect", {"Container": box.id})
        assert (answer.status, "private (none) mode" in answer.message) == (400, True)
        api.ok("POST", f"/containers/{box.id}/restart?t=0")
        assert box.sh("ls /sys/class/net").split() == ["lo"]
        part(api, "none", box)
        assert networks(box) == {}
        join(api, "one", box)
        assert "eth0" in box.sh("ls /sys/class/net")


def test_what_is_refused(api: Api) -> None:
    def refused(network: str, box: Box, action: str = "connect") -> str:
        answer = api.call("POST", f"/networks/{network}/{action}", {"Container": box.id})
        assert answer.status >= 400
        return answer.message

    with api.living(host=host("one"), name="refused") as box:
        assert refused("one", box) == "endpoint with name refused already exists in network one"
        assert "is not connected to network two" in refused("two", box, "disconnect")
        assert "host network" in refused("host", box)
        assert "private (none) mode" in refused("none", box)
        assert "no-such" in refused("no-such", box)
        wrong = {"EndpointConfig": {"IPAMConfig": {"IPv4Address": "9.9.9.9"}}}
        answer = api.call("POST", "/networks/two/connect", {"Container": box.id, **wrong})
        assert (answer.status, "no configured subnet" in answer.message) == (400, True)
        assert list(networks(box)) == ["one"]
        with api.living(host={"NetworkMode": f"container:{box.id}"}) as other:
            assert "sharing network namespace" in refused("two", other)
    with api.living(host={"NetworkMode": "host"}) as box:
        assert "another container or host" in refused("two", box)
        assert "host network" in refused("host", box, "disconnect")
    answer = api.call("POST", "/networks/one/connect", {"Container": "nobody"})
    assert answer.status == 404


def test_an_end_frees_what_it_had(api: Api) -> None:
    before = links_of(api.engine.exec_root)
    with api.living(*SERVE, host=host("one", 0)) as box:
        port, address = port_of(box), networks(box)["one"]["IPAddress"]
        assert len(links_of(api.engine.exec_root)) == len(before) + 1
        api.ok("POST", f"/containers/{box.id}/kill")
        shown = networks(box)["one"]
        assert (shown["IPAddress"], shown["Gateway"], shown["EndpointID"]) == ("", "", "")
        assert not greeted(port)
        until(lambda: links_of(api.engine.exec_root) == before, "its link is gone")
        with socket.create_server(("127.0.0.1", port)):
            answer = api.call("POST", f"/containers/{box.id}/start")
            assert answer.status == 204, "any port will do"
        asked = {"EndpointsConfig": {"one": {"IPAMConfig": {"IPv4Address": address}}}}
        api.ok("POST", f"/containers/{box.id}/kill")
        with api.living(host=host("one"), networking=asked) as other:
            assert networks(other)["one"]["IPAddress"] == address


def test_a_start_that_fails_leaves_nothing(api: Api) -> None:
    before = links_of(api.engine.exec_root)
    with api.made("/no/such/program", host=host("one", 0)) as box:
        assert api.call("POST", f"/containers/{box.id}/start").status == 400
        until(lambda: links_of(api.engine.exec_root) == before, "no link is left")
        assert networks(box)["one"]["IPAddress"] == ""
    api.ok("DELETE", "/networks/one")
    api.ok("POST", "/networks/create", {"Name": "one"})


def test_who_shares_a_sandbox(api: Api) -> None:
    joined = {"NetworkMode": "container:sharer"}
    with api.living(host=host("one"), name="sharer") as box, api.living(host=joined) as other:
        address = networks(box)["one"]["IPAddress"]
        assert address in other.sh("ip -4 addr")
        assert networks(other) == {}
        assert other.sh("cat /etc/hosts") == box.sh("cat /etc/hosts")
        api.ok("POST", f"/containers/{box.id}/kill")
        until(lambda: address not in other.sh("ip -4 addr"), "the address went with its owner")


def test_ports_that_come_and_go(api: Api) -> None:
    with api.living(*SERVE, host=host("bridge")) as box:
        path = f"/boxwood/containers/{box.id}/ports"
        add = {"80/tcp": [{"HostIp": "127.0.0.1"}]}
        api.ok("POST", path, {"Add": add})
        port = port_of(box)
        until(lambda: greeted(port), "it serves")
        api.ok("POST", path, {"Add": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}})
        assert {port_of(box), port} <= ports_of(box), "that one, and now any other too"
        assert greeted(port)
        taken = socket.create_server(("127.0.0.1", 0))
        wanted = [{"HostIp": "127.0.0.1", "HostPort": str(taken.getsockname()[1])}]
        with taken:
            answer = api.call("POST", path, {"Add": {"80/tcp": wanted}})
        assert "port is already allocated" in answer.message
        assert greeted(port), "and what was there goes on"
        api.ok("POST", path, {"Remove": ["80/tcp"]})
        assert not greeted(port)
        assert box.inspect()["NetworkSettings"]["Ports"] == {"80/tcp": None}
        assert api.call("POST", path, {"Remove": ["81/tcp"]}).status == 404


def test_a_new_name_is_known(api: Api) -> None:
    with api.living(host=host("one")) as box:
        api.ok("POST", f"/containers/{box.id}/rename?name=renamed")
        assert "renamed" in networks(box)["one"]["DNSNames"]


def test_the_daemon_comes_back(own: Api) -> None:
    engine = own.engine
    own.ok("POST", "/networks/create", {"Name": "one"})
    with own.living(*SERVE, host=host("one", 0)) as stays, own.living(host=host("one")) as ends:
        port, before = port_of(stays), networks(stays)
        gone = networks(ends)["one"]["IPAddress"]
        until(lambda: greeted(port), "it serves")
        pid = ends.pid
        engine.kill()
        os.kill(pid, 9)
        assert greeted(port), "without a daemon"
        engine.start()
        own.reconnect()
        assert networks(stays) == before
        assert greeted(port)
        assert networks(ends)["one"]["IPAddress"] == ""
        links = links_of(engine.exec_root).values()
        assert sum(key == before["one"]["EndpointID"] for key in links) == 1
        assert len(links) == 3, "two bridges and one container"
        wanted = {"EndpointsConfig": {"one": {"IPAMConfig": {"IPv4Address": gone}}}}
        with own.living(host=host("one"), networking=wanted) as other:
            assert networks(other)["one"]["IPAddress"] == gone
        own.ok("POST", f"/containers/{stays.id}/restart?t=0")
        until(lambda: greeted(port_of(stays)), "it serves again")


def test_who_answers_questions(own: Api) -> None:
    """A network's label: the engine's name server, the host's servers, nobody; --dns is asked."""
    ours = "nameserver 127.0.0.11"
    for mode in ("on", "host", "off"):
        body = {"Name": f"names-{mode}", "Labels": {"boxwood.dns": mode}}
        own.ok("POST", "/networks/create", body)

    def said(network: str, **more: Any) -> str:
        with own.living("sleep", "100", host={"NetworkMode": network, **more}) as box:
            return box.sh("cat /etc/resolv.conf")

    assert ours in said("names-on")
    asked = said("names-host")
    assert "nameserver " in asked
    assert ours not in asked
    assert "nameserver" not in said("names-off")
    assert "nameserver 192.0.2.53" in said("names-off", Dns=["192.0.2.53"])
    wrong = {"Name": "wrong", "Labels": {"boxwood.dns": "maybe"}}
    refused = own.call("POST", "/networks/create", wrong)
    assert refused.status == 400
    assert refused.message == "label boxwood.dns: maybe: must be one of on, host, off"
