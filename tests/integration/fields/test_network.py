"""The fields that say what a container has of the network; names are in tests/integration/names."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.fields.box import Api, Box
from tests.integration.fields.claims import shows
from tests.support.engine import Engine
from tests.support.needs import until

pytestmark = pytest.mark.root


@shows("HostConfig.NetworkMode")
def test_network_modes(api: Api, default: Box) -> None:
    def namespace(box: Box) -> str:
        return box.sh("readlink /proc/self/ns/net").strip()

    own = os.readlink("/proc/self/ns/net")
    assert namespace(default) != own
    assert default.sh("ls /sys/class/net") == "lo\n"
    assert "127.0.0.1" in default.sh("ip addr")
    with api.living(host={"NetworkMode": "host"}) as box:
        assert namespace(box) == own
        assert box.sh("hostname").strip() == socket.gethostname()
    with api.living(host={"NetworkMode": f"container:{default.id}"}) as box:
        assert namespace(box) == namespace(default)
        assert box.sh("hostname") == default.sh("hostname")
        assert box.sh("cat /etc/hosts") == default.sh("cat /etc/hosts")
    answer = api.create({"Image": "busybox", "HostConfig": {"NetworkMode": "no-such-net"}})
    assert answer.status in (400, 404)
    assert "no-such-net" in answer.message
    for field, value in (
        ("Dns", ["1.1.1.1"]), ("ExtraHosts", ["a:1.2.3.4"]), ("PublishAllPorts", True)
    ):  # fmt: skip
        host = {"NetworkMode": f"container:{default.id}", field: value}
        assert "conflicting options" in api.refused(host=host)


@shows("HostConfig.Dns", "HostConfig.DnsOptions", "HostConfig.DnsSearch")
def test_name_servers(api: Api, default: Box) -> None:
    asked = {
        "Dns": ["192.0.2.1", "192.0.2.2"],
        "DnsSearch": ["a.example"],
        "DnsOptions": ["ndots:3"],
    }
    lines = api.sh("cat /etc/resolv.conf", host=asked).splitlines()
    assert [line for line in lines if line.startswith("nameserver")] == [
        *("nameserver 192.0.2.1", "nameserver 192.0.2.2")
    ]
    assert "search a.example" in lines
    assert "options ndots:3" in lines
    assert "192.0.2.1" not in default.sh("cat /etc/resolv.conf")
    without = api.sh("cat /etc/resolv.conf", host={"DnsSearch": ["."]})
    assert "search" not in without
    assert "999.1.1.1" in api.refused(host={"Dns": ["999.1.1.1"]})


@shows("HostConfig.ExtraHosts")
def test_extra_hosts(api: Api, default: Box) -> None:
    asked = {"ExtraHosts": ["db:192.0.2.7", "six:2001:db8::1", "eq=192.0.2.8"]}
    lines = api.sh("cat /etc/hosts", host=asked).splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert lines[-3:] == ["192.0.2.7\tdb", "2001:db8::1\tsix", "192.0.2.8\teq"]
    assert "192.0.2.7" not in default.sh("cat /etc/hosts")
    assert "bad format" in api.refused(host={"ExtraHosts": ["nonsense"]})
    assert "nonsense" in api.refused(host={"ExtraHosts": ["a:nonsense"]})
    bridge = api.ok("GET", "/networks/bridge")["IPAM"]["Config"][0]["Gateway"]
    gateway = api.sh("cat /etc/hosts", host={"ExtraHosts": ["gw:host-gateway"]})
    assert f"{bridge}\tgw" in gateway.splitlines()


def test_the_configuration_says_what_the_hosts_address_is(
    make_engine: Callable[..., Engine],
) -> None:
    api = Api(make_engine("--host-gateway-ip", "192.0.2.33"))
    hosts = api.sh("cat /etc/hosts", host={"ExtraHosts": ["gw:host-gateway"]})
    api.connection.close()
    assert "192.0.2.33\tgw" in hosts.splitlines()


# -- networks that a user made


@contextlib.contextmanager
def network(api: Api, name: str, **body: Any) -> Iterator[str]:
    """A network that is there until the end of the `with` block; its subnet."""
    document = api.ok("POST", "/networks/create", {"Name": name, **body})
    try:
        config = api.ok("GET", f"/networks/{document['Id']}")["IPAM"]["Config"]
        yield config[0]["Subnet"]
    finally:
        api.ok("DELETE", f"/networks/{name}")


def on(*networks: str, **settings: Any) -> dict[str, Any]:
    """The parts of a create body for these networks; the settings are those of the first."""
    endpoints = {name: (settings if name == networks[0] else {}) for name in networks}
    return {
        "host": {"NetworkMode": networks[0]}, "networking": {"EndpointsConfig": endpoints}
    }  # fmt: skip


def subnet(*parts: str) -> dict[str, Any]:
    """The body of a network with these subnets."""
    config = [{"Subnet": part} for part in parts]
    return {"IPAM": {"Config": config}, "EnableIPv6": any(":" in part for part in parts)}


@shows("NetworkingConfig.EndpointsConfig")
def test_endpoints(api: Api) -> None:
    with api.made("true", networking={"EndpointsConfig": {"none": {}}}) as box:
        assert list(box.inspect()["NetworkSettings"]["Networks"]) == ["none"]
        assert box.warnings == []
    assert "other-net" in api.refused(networking={"EndpointsConfig": {"none": {}, "other-net": {}}})
    with network(api, "fields-a"), network(api, "fields-b"):
        with api.living(**on("fields-b", "fields-a")) as box:
            shown = box.inspect()["NetworkSettings"]["Networks"]
            assert set(shown) == {"fields-a", "fields-b"}
            addresses = box.sh("ip -o -4 addr")
            for name, interface in (("fields-a", "eth0"), ("fields-b", "eth1")):
                assert f"{interface}    inet {shown[name]['IPAddress']}/" in addresses, "by name"
        only = {"EndpointsConfig": {"fields-a": {}}}
        with api.made("true", host={"NetworkMode": "default"}, networking=only) as box:
            assert list(box.inspect()["NetworkSettings"]["Networks"]) == ["fields-a"]


def test_the_default_network_is_the_bridge(api: Api) -> None:
    with api.living(host={"NetworkMode": "default"}) as box:
        assert box.warnings == []
        document = box.inspect()
        assert document["HostConfig"]["NetworkMode"] == "bridge"
        shown = document["NetworkSettings"]["Networks"]["bridge"]
        assert f"default via {shown['Gateway']} dev eth0" in box.sh("ip route")
        assert f"{shown['IPAddress']}\t{document['Config']['Hostname']}" in box.sh("cat /etc/hosts")
        key = document["NetworkSettings"]["SandboxKey"]
        assert os.readlink(key) == f"/proc/{box.pid}/ns/net"
        assert os.stat(key).st_ino == os.stat(f"/proc/{box.pid}/ns/net").st_ino
    assert not os.path.lexists(key)


@shows("EndpointSettings.IPAMConfig")
def test_an_address_of_ones_own(api: Api) -> None:
    with network(api, "fields-ip", **subnet("10.213.91.0/24", "fd00:213:91::/64")):
        wanted = {"IPv4Address": "10.213.91.77", "IPv6Address": "fd00:213:91::77"}
        wanted["LinkLocalIPs"] = ["169.254.34.68"]  # type: ignore[assignment]
        with api.living(**on("fields-ip", IPAMConfig=wanted)) as box:
            shown = box.inspect()["NetworkSettings"]["Networks"]["fields-ip"]
            assert (shown["IPAddress"], shown["IPPrefixLen"]) == ("10.213.91.77", 24)
            assert shown["GlobalIPv6Address"] == "fd00:213:91::77"
            addresses = box.sh("ip -o addr show dev eth0")
            for address in ("10.213.91.77/24", "fd00:213:91::77/64", "169.254.34.68/32"):
                assert address in addresses
            with api.made("true", **on("fields-ip", IPAMConfig=wanted)) as other:
                answer = api.call("POST", f"/containers/{other.id}/start")
                assert (answer.status, "Address already in use" in answer.message) == (403, True)
        bad = {"IPv4Address": "10.99.0.1"}
        assert "no configured subnet" in api.refused(**on("fields-ip", IPAMConfig=bad))
        assert "user defined networks only" in api.refused(**on("bridge", IPAMConfig=wanted))


@shows("EndpointSettings.MacAddress")
def test_a_mac_address_of_ones_own(api: Api) -> None:
    with api.living(**on("bridge", MacAddress="02:42:c0:a8:01:07")) as box:
        assert box.sh("cat /sys/class/net/eth0/address").strip() == "02:42:c0:a8:01:07"
        shown = box.inspect()["NetworkSettings"]["Networks"]["bridge"]
        assert shown["MacAddress"] == "02:42:c0:a8:01:07"
    assert "invalid MAC address" in api.refused(**on("bridge", MacAddress="nonsense"))


@shows("EndpointSettings.DriverOpts")
def test_options_of_an_endpoint(api: Api) -> None:
    options = {
        "com.docker.network.endpoint.ifname": "wan0",
        "com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1",
    }
    with api.living(**on("bridge", DriverOpts=options)) as box:
        assert box.sh("ls /sys/class/net").split() == ["lo", "wan0"]
        assert box.sh("cat /proc/sys/net/ipv4/conf/wan0/log_martians").strip() == "1"
    options = {"com.docker.network.endpoint.ifname": "a/b"}
    assert "invalid interface name" in api.refused(**on("bridge", DriverOpts=options))


@shows("EndpointSettings.GwPriority")
def test_which_network_has_the_default_route(api: Api) -> None:
    with network(api, "fields-a"), network(api, "fields-b"):

        def gateway(**priorities: int) -> tuple[str, str]:
            asked = on("fields-a", "fields-b")
            for name, priority in priorities.items():
                asked["networking"]["EndpointsConfig"][f"fields-{name}"] = {"GwPriority": priority}
            with api.living(**asked) as box:
                shown = box.inspect()["NetworkSettings"]["Networks"]
                route = box.sh("ip route").splitlines()[0].split()[2]
                names = {at["Gateway"]: name for name, at in shown.items()}
                return names[route], box.sh("ip -o -4 addr show dev eth0").split()[3].split("/")[0]

        assert gateway()[0] == "fields-a"
        assert gateway(b=1)[0] == "fields-b"
        assert gateway(a=-1)[0] == "fields-b"


@shows("EndpointSettings.Aliases", "EndpointSettings.Links", "HostConfig.Links")
def test_other_names(api: Api) -> None:
    asked = on("fields-a", Aliases=["db", "store"])
    with network(api, "fields-a"), api.living(**asked) as target:
        shown = target.inspect()["NetworkSettings"]["Networks"]["fields-a"]
        name = target.inspect()["Name"][1:]
        assert set(shown["DNSNames"]) >= {"db", "store", name, target.id[:12]}
        with api.living(**on("fields-a", Links=[f"{name}:mine"])) as box:
            for known in ("db", "store.fields-a", name, target.id[:12], "mine"):
                assert shown["IPAddress"] in box.sh(f"nslookup {known} 127.0.0.11"), known
            assert shown["IPAddress"] not in target.sh("nslookup mine 127.0.0.11")
    with api.living(host={"NetworkMode": "bridge"}) as target:
        address = target.inspect()["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        name = target.inspect()["Name"][1:]
        host = {"NetworkMode": "bridge", "Links": [f"{name}:db"]}
        with api.living(host=host) as box:
            line = f"{address}\tdb {target.id[:12]} {name}"
            assert line in box.sh("cat /etc/hosts").splitlines()
            api.ok("POST", f"/containers/{target.id}/restart?t=0")
            address = target.inspect()["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
            linked = [line for line in box.sh("cat /etc/hosts").splitlines() if "\tdb " in line]
            assert linked == [f"{address}\tdb {target.id[:12]} {name}"], "where it is by now"
            own = box.inspect()
            assert own["HostConfig"]["Links"] == [f"/{name}:{own['Name']}/db"]
        target.api.ok("POST", f"/containers/{target.id}/kill")
        with api.made("true", host=host) as box:
            answer = api.call("POST", f"/containers/{box.id}/start")
            assert "Cannot link to a non running container" in answer.message
    assert "aliases" in api.refused(**on("bridge", Aliases=["db"]))
    assert "no-such" in api.refused(host={"NetworkMode": "bridge", "Links": ["no-such:db"]})


# -- ports

SERVE = ("nc", "-ll", "-p", "80", "-e", "echo", "hello")
"""A server that greets every client."""


def greeted(port: str) -> str:
    """What the server on a port of the loopback says, once it has come to listen."""

    def ask() -> str:
        try:
            with socket.create_connection(("127.0.0.1", int(port)), timeout=10) as client:
                return client.makefile().readline().strip()
        except ConnectionError:
            return ""

    found: str = until(ask, "the server greets")
    return found


@shows("HostConfig.PortBindings", "PortBinding.HostIp", "PortBinding.HostPort")
def test_published_ports(api: Api) -> None:
    bindings = {"80/tcp": [{"HostIp": "127.0.0.1"}], "53/udp": [{}]}
    host = {"NetworkMode": "bridge", "PortBindings": bindings}
    with api.living(*SERVE, host=host) as box:
        ports = box.inspect()["NetworkSettings"]["Ports"]
        (bound,) = ports["80/tcp"]
        assert bound["HostIp"] == "127.0.0.1"
        assert greeted(bound["HostPort"]) == "hello"
        assert {one["HostIp"] for one in ports["53/udp"]} <= {"0.0.0.0", "::"}
        assert len({one["HostPort"] for one in ports["53/udp"]}) == 1
        filters = quote(json.dumps({"id": [box.id]}))
        (entry,) = api.ok("GET", f"/containers/json?filters={filters}")
        published = {(one["PrivatePort"], one["Type"]): one.get("IP") for one in entry["Ports"]}
        assert published[80, "tcp"] == "127.0.0.1"
        taken = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": bound["HostPort"]}]}
        with api.made("true", host=host | {"PortBindings": taken}) as other:
            answer = api.call("POST", f"/containers/{other.id}/start")
            assert answer.status >= 400
            assert "driver failed programming external connectivity on endpoint" in answer.message
            assert f"{bound['HostPort']} failed: port is already allocated" in answer.message
            api.ok("POST", f"/containers/{box.id}/kill")
            other.start()
    spread = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": f"{bound['HostPort']}-65535"}]}
    with api.living(host=host | {"PortBindings": spread}) as box:
        (chosen,) = box.inspect()["NetworkSettings"]["Ports"]["80/tcp"]
        assert int(chosen["HostPort"]) >= int(bound["HostPort"])
    for wrong in ({"nonsense": []}, {"80/tcp": [{"HostPort": "x"}]}, {"80/tcp": [{"HostIp": "x"}]}):
        assert "invalid" in api.refused(host=host | {"PortBindings": wrong})
    shared = {"NetworkMode": "host", "PortBindings": bindings}
    with api.made("true", host=shared) as box:
        assert box.warnings == ["Published ports are discarded when using host network mode"]


@shows("HostConfig.PublishAllPorts")
def test_all_ports_published(api: Api) -> None:
    config = {"ExposedPorts": {"80/tcp": {}, "81/tcp": {}}}
    host = {"NetworkMode": "bridge", "PublishAllPorts": True}
    with api.living(*SERVE, config=config, host=host) as box:
        ports = box.inspect()["NetworkSettings"]["Ports"]
        assert greeted(ports["80/tcp"][0]["HostPort"]) == "hello"
        assert ports["81/tcp"][0]["HostPort"] != ports["80/tcp"][0]["HostPort"]
    with api.living(config=config, host={"NetworkMode": "bridge"}) as box:
        ports = box.inspect()["NetworkSettings"]["Ports"]
        assert ports == {"80/tcp": None, "81/tcp": None}
