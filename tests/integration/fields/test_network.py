"""What of the network there is before the bridge: names, name servers, modes, endpoints."""

from __future__ import annotations

import os
import socket

import pytest

from tests.integration.fields.box import Api, Box
from tests.integration.fields.claims import shows

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
    gateway = api.refused(host={"ExtraHosts": ["gw:host-gateway"]})
    assert "host-gateway" in gateway, "there is no bridge whose address it could be"


@shows("NetworkingConfig.EndpointsConfig")
def test_endpoints(api: Api) -> None:
    networking = {"EndpointsConfig": {"none": {}}}
    with api.made("true", networking=networking) as box:
        assert list(box.inspect()["NetworkSettings"]["Networks"]) == ["none"]
        assert box.warnings == []
    networking = {"EndpointsConfig": {"none": {}, "other-net": {}}}
    answer = api.create({"Image": "busybox", "HostConfig": {"NetworkMode": "none"},
                         "NetworkingConfig": networking})  # fmt: skip
    if answer.status == 201:
        api.remove(answer.json()["Id"])
        assert any("other-net" in warning for warning in answer.json()["Warnings"])
    else:
        assert "other-net" in answer.message


def test_the_default_network_is_none_and_says_so(api: Api) -> None:
    with api.living(host={"NetworkMode": "default"}) as box:
        assert any("bridge" in warning for warning in box.warnings)
        assert box.sh("ls /sys/class/net") == "lo\n"
