"""What is not honoured is refused by name, or said in Warnings, or kept and shown."""

from __future__ import annotations

from typing import Any

import pytest

from boxwood.api import fields
from tests.integration.fields.box import Api, body_of

pytestmark = pytest.mark.root

SAMPLES: dict[str, Any] = {
    "ContainerConfig.ArgsEscaped": True,
    "ContainerConfig.OnBuild": ["RUN true"],
    "HostConfig.Cgroup": "container:x",
    "HostConfig.ContainerIDFile": "/tmp/cid",
    "HostConfig.CpuCount": 2,
    "HostConfig.CpuPercent": 50,
    "HostConfig.DeviceRequests": [{"Driver": "DeviceRequests", "Capabilities": [["gpu"]]}],
    "HostConfig.IOMaximumBandwidth": 100,
    "HostConfig.IOMaximumIOps": 100,
    "HostConfig.Isolation": "hyperv",
    "HostConfig.Links": ["a:b"],
    "HostConfig.PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]},
    "HostConfig.PublishAllPorts": True,
    "HostConfig.UsernsMode": "private",
    "Mount.Consistency": "cached",
    "Mount.ImageOptions": {"Subpath": "a"},
    "PortBinding.HostIp": "127.0.0.1",
    "PortBinding.HostPort": "8080",
    "EndpointSettings.Aliases": ["web"],
    "EndpointSettings.DriverOpts": {"a": "b"},
    "EndpointSettings.GwPriority": 7,
    "EndpointSettings.IPAMConfig": {"IPv4Address": "10.0.0.2"},
    "EndpointSettings.Links": ["a:b"],
    "EndpointSettings.MacAddress": "02:00:00:00:00:01",
}


def rules(*states: str) -> list[tuple[str, str]]:
    return sorted(
        (table, name)
        for table, found in fields.TABLE.items()
        for name, rule in found.items()
        if rule.state in states
    )


def body(table: str, name: str) -> dict[str, Any]:
    """A create body with a sample of the field."""
    one = {name: SAMPLES[f"{table}.{name}"]}
    match table:
        case "ContainerConfig":
            return body_of("true", config=one)
        case "HostConfig":
            # Docker refuses links beside "none"
            return body_of("true", host={"NetworkMode": "bridge"} | one)
        case "Mount":
            entry = {"Type": "tmpfs", "Target": "/a"}
            return body_of("true", host={"Mounts": [entry | one]})
        case "PortBinding":
            return body_of("true", host={"PortBindings": {"80/tcp": [one]}})
        case _:
            return body_of("true", networking={"EndpointsConfig": {"none": one}})


@pytest.mark.parametrize(("table", "name"), rules(fields.REFUSED))
def test_refused_by_name(api: Api, table: str, name: str) -> None:
    answer = api.create(body(table, name))
    if answer.status == 201:
        api.remove(answer.json()["Id"])
    assert answer.status in (400, 501), answer.body
    assert name in answer.message


@pytest.mark.parametrize(("table", "name"), rules(fields.WARNED))
def test_warned_of_by_name(api: Api, table: str, name: str) -> None:
    answer = api.create(body(table, name))
    assert answer.status == 201, answer.body
    document = answer.json()
    api.remove(document["Id"])
    assert any(f".{name}: " in warning for warning in document["Warnings"]), document


def contains(document: Any, name: str, value: Any) -> bool:
    """Is the name somewhere in the document with this value?"""
    if isinstance(document, list):
        return any(contains(one, name, value) for one in document)
    if not isinstance(document, dict):
        return False
    return document.get(name) == value or any(
        contains(one, name, value) for one in document.values()
    )


@pytest.mark.parametrize(("table", "name"), rules(fields.RECORDED))
def test_kept_and_shown(api: Api, table: str, name: str) -> None:
    answer = api.create(body(table, name))
    assert answer.status == 201, answer.body
    key = answer.json()["Id"]
    try:
        shown = api.ok("GET", f"/containers/{key}/json")
        assert contains(shown, name, SAMPLES[f"{table}.{name}"]), shown
    finally:
        api.remove(key)


def test_the_container_wide_mac_address(api: Api) -> None:
    """Before API 1.52 a field of the body; it is a warning like the endpoint's own."""
    answer = api.create(body_of("true", config={"MacAddress": "02:00:00:00:00:01"}))
    assert answer.status == 201, answer.body
    api.remove(answer.json()["Id"])
    assert any("MacAddress" in warning for warning in answer.json()["Warnings"])


def test_a_field_of_a_wrong_type_is_named(api: Api) -> None:
    for wrong in ({"Memory": "1g"}, {"CapAdd": 7}, {"Mounts": {"a": 1}}, {"Binds": [1]}):
        answer = api.create(body_of("true", host=wrong))
        assert answer.status == 400, answer.body
        assert next(iter(wrong)) in answer.message
