"""Answers against the schemas of Docker's OpenAPI file."""

from __future__ import annotations

import json

import msgspec
import pytest

from boxwood.api import compat, versions
from boxwood.api.shapes import containers, networks, text, volumes
from boxwood.model import times
from boxwood.model.config import (
    ContainerConfig,
    EndpointSettings,
    HealthConfig,
    HostConfig,
    LogConfig,
    PortBinding,
    RestartPolicy,
)
from boxwood.model.container import Container, Health, MountPoint, ProbeResult, State
from boxwood.model.image import Image, ImageConfig
from boxwood.model.network import IPAM, IPAMConfig, Network
from boxwood.model.volume import VolumeRecord
from boxwood.model.wire import replace
from boxwood.services.images import views as images
from boxwood.services.networks import Endpoint
from tests.unit.api.openapi import undocumented, validator

NOW = 1_700_000_000 * times.SECOND
DETAILS = {
    "ResolvConfPath": "/d/resolv.conf",
    "HostnamePath": "/d/hostname",
    "HostsPath": "/d/hosts",
    "LogPath": "/d/log",
    "ExecIDs": ["a" * 64],
    "SandboxID": "b" * 64,
    "SandboxKey": "/proc/7/ns/net",
}


# The least that the service fills in.
FILLED = HostConfig(
    log_config=LogConfig(type="none"), oom_kill_disable=False, cgroupns_mode="private"
)


def container(**changes) -> Container:
    values = {
        "id": "c" * 64,
        "name": "web",
        "created_at": NOW,
        "image_id": "sha256:" + "d" * 64,
        "image_ref": "busybox",
        "path": "sh",
        "args": ("-c", "sleep 5"),
        "config": ContainerConfig(
            image="busybox",
            labels={"a": "b"},
            env=("A=b",),
            exposed_ports={"80/tcp": {}},
            volumes={"/v": {}},
            healthcheck=HealthConfig(test=("CMD", "true")),
            stop_signal="SIGTERM",
            stop_timeout=3,
        ),
        "host_config": HostConfig(
            network_mode="bridge",
            log_config=LogConfig(type="json-file", config={}),
            restart_policy=RestartPolicy(name="no"),
            port_bindings={"80/tcp": (PortBinding(host_port="8080"),)},
            ipc_mode="private",
            oom_kill_disable=False,
            cgroupns_mode="private",
            console_size=(24, 80),
        ),
        "networks": {"none": EndpointSettings(mac_address="02:00:00:00:00:01")},
        "mounts": (
            MountPoint(type="bind", source="/a", destination="/b", propagation="rprivate"),
            MountPoint(
                type="volume",
                name="v",
                source="/vols/v",
                destination="/v",
                driver="local",
                options=("nocopy",),
                anonymous=True,
            ),
        ),
        "storage_driver": "overlay",
        "snapshot_key": "k",
        "state": State(
            status="running",
            pid=7,
            started_at=NOW,
            health=Health(status="healthy", log=(ProbeResult(start="x", end="y"),)),
        ),
    }
    return Container(**{**values, **changes})


def check(name, value):
    """Hold ``value``, as clients get it, against a definition."""
    shown = json.loads(msgspec.json.encode(value))
    validator(name).validate(shown)
    return shown


@pytest.mark.parametrize("minor", [24, 43, 51, 52])
@pytest.mark.parametrize("status", ["created", "running", "exited"])
def test_inspect(minor, status):
    shown = containers.inspect(container(state=State(status=status)), DETAILS)
    shown = check("ContainerInspectResponse", compat.wrap("container", minor, shown))
    assert undocumented("ContainerInspectResponse", shown) == set()
    settings = shown["NetworkSettings"]
    assert isinstance(settings["Networks"]["none"], dict)
    assert isinstance(settings["Ports"], dict)
    assert ("IPAddress" in settings) == (minor < 52)
    assert settings["SandboxKey"] == ("/proc/7/ns/net" if status == "running" else "")
    assert shown["Config"]["Labels"] == {"a": "b"}
    assert shown["Name"] == "/web"


def test_inspect_of_the_emptiest_container():
    bare = container(
        config=ContainerConfig(),
        host_config=FILLED,
        networks={},
        mounts=(),
        args=(),
    )
    shown = check("ContainerInspectResponse", containers.inspect(bare, {}))
    assert shown["Config"]["Labels"] == {}
    assert shown["Args"] == []
    assert shown["Mounts"] == []
    assert shown["NetworkSettings"]["Networks"] == {}
    assert shown["NetworkSettings"]["Ports"] == {}


def test_masked_paths_are_shown_as_they_are():
    def paths(**host):
        shown = containers.inspect(container(host_config=replace(FILLED, **host)), {})
        return shown["HostConfig"]["MaskedPaths"], shown["HostConfig"]["ReadonlyPaths"]

    assert "/proc/kcore" in paths()[0]
    assert "/proc/sys" in paths()[1]
    assert paths(privileged=True) == (None, None)
    assert paths(masked_paths=(), readonly_paths=()) == ((), ())
    assert paths(masked_paths=("/x",))[0] == ["/x"]


def test_no_field_of_ours_is_shown():
    shown = containers.inspect(container(), DETAILS)
    for point in shown["Mounts"]:
        assert undocumented("MountPoint", point) == set()
    assert undocumented("ContainerConfig", shown["Config"]) == set()
    assert undocumented("HostConfig", shown["HostConfig"]) == set()
    assert undocumented("ContainerState", shown["State"]) == set()
    assert undocumented("NetworkSettings", shown["NetworkSettings"]) == set()


def test_the_entry_of_a_list():
    shown = check("ContainerSummary", containers.summary(container(), NOW + 5 * times.SECOND))
    assert undocumented("ContainerSummary", shown) == set()
    assert shown["Names"] == ["/web"]
    assert shown["Command"] == "sh -c 'sleep 5'"
    assert shown["Status"] == "Up 5 seconds (healthy)"
    assert shown["Created"] == 1_700_000_000
    assert shown["Ports"] == [{"PrivatePort": 80, "Type": "tcp"}]
    bare = containers.summary(container(config=ContainerConfig(), networks={}, mounts=()), NOW)
    assert bare["Labels"] == {}
    assert bare["Mounts"] == bare["Ports"] == []
    assert bare["NetworkSettings"] == {"Networks": {}}


def image(**changes) -> Image:
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-02T03:04:05.6Z",
        "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"], "Labels": {"x": "y"}},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "e" * 64]},
    }
    raw = json.dumps(document).encode()
    values = {
        "id": "sha256:" + "f" * 64,
        "document": raw,
        "config": ImageConfig.parse(raw),
        "tags": ("docker.io/library/busybox:latest",),
        "size": 4_000_000,
        "loaded_at": NOW,
        "tagged_at": NOW,
    }
    return Image(**{**values, **changes})


GRAPH = "overlay"


@pytest.mark.parametrize("minor", [24, 43, 51, 52])
def test_images(minor):
    shown = compat.wrap("image", minor, images.inspect(image(), GRAPH))
    shown = check("ImageInspect", shown)
    assert shown["RepoTags"] == ["busybox:latest"]
    assert shown["RepoDigests"] == []
    assert ("Domainname" in shown["Config"]) == (minor < 52)
    assert ("VirtualSize" in shown) == (minor < 44)
    assert ("Container" in shown) == (minor < 45)
    assert ("ContainerConfig" in shown) == (minor < 52), (
        "Compose 1.29 reads it, whatever the version"
    )
    assert shown["RootFS"]["Layers"] == ["sha256:" + "e" * 64]
    entry = compat.wrap("image summary", minor, images.summary(image()))
    entry = check("ImageSummary", entry)
    assert entry["Created"] == 1704164645
    assert entry["Containers"] == -1
    newest = images.inspect(image(), GRAPH)
    # Older versions of the file have these two.
    assert undocumented("ImageInspect", newest) == {"Parent", "DockerVersion"}


def test_an_image_without_a_name_or_a_date():
    bare = image(tags=(), config=ImageConfig(rootfs=image().config.rootfs))
    assert compat.wrap("image summary", 42, images.summary(bare))["RepoTags"] == ["<none>:<none>"]
    assert images.summary(bare)["Created"] == 0
    assert compat.wrap("image", 43, images.inspect(bare, GRAPH))["Created"] == times.NEVER


def test_angle_brackets_are_literal():
    shown = msgspec.json.encode(compat.wrap("image summary", 42, images.summary(image(tags=()))))
    assert b"<none>:<none>" in shown


def test_volumes():
    record = VolumeRecord(name="v", driver="local", mountpoint="/v/_data", created_at=NOW + 5)
    shown = check("Volume", volumes.volume(record))
    assert shown["CreatedAt"] == "2023-11-14T22:13:20Z"
    assert shown["Labels"] is None
    assert undocumented("Volume", shown) == set()


def test_networks():
    config = IPAMConfig(subnet="10.1.0.0/16", gateway="10.1.0.1", auxiliary={"a": "10.1.0.9"})
    network = Network(
        id="e" * 64,
        name="mine",
        created=NOW,
        driver="bridge",
        ipam=IPAM(config=(config,)),
        options={"a": "b"},
        config_from="other",
    )
    settings = EndpointSettings(ip_address="10.1.0.2", ip_prefix_len=16, mac_address="02:00::1")
    endpoint = Endpoint("c" * 64, "web", "f" * 64, settings)
    check("NetworkSummary", networks.summary(network))
    shown = check("NetworkInspect", networks.inspect(network, [endpoint]))
    assert shown["IPAM"]["Config"] == [
        {
            "Subnet": "10.1.0.0/16",
            "Gateway": "10.1.0.1",
            "AuxiliaryAddresses": {"a": "10.1.0.9"},
        }
    ]
    assert shown["ConfigFrom"] == {"Network": "other"}
    assert shown["Containers"]["c" * 64]["IPv4Address"] == "10.1.0.2/16"
    assert shown["Containers"]["c" * 64]["IPv6Address"] == ""
    assert "EnableIPv4" in compat.wrap("network", 48, dict(shown))
    assert "EnableIPv4" not in compat.wrap("network", 47, dict(shown))


SECOND = times.SECOND
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86400 * SECOND


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (-5, "Less than a second"),
        (SECOND - 1, "Less than a second"),
        (SECOND, "1 second"),
        (59 * SECOND, "59 seconds"),
        (MINUTE, "About a minute"),
        (2 * MINUTE - 1, "About a minute"),
        (2 * MINUTE, "2 minutes"),
        (59 * MINUTE, "59 minutes"),
        (HOUR, "About an hour"),
        (89 * MINUTE, "About an hour"),
        (90 * MINUTE, "2 hours"),
        (47 * HOUR, "47 hours"),
        (48 * HOUR, "2 days"),
        (13 * DAY, "13 days"),
        (14 * DAY, "2 weeks"),
        (59 * DAY, "8 weeks"),
        (60 * DAY, "2 months"),
        (729 * DAY, "24 months"),
        (730 * DAY, "2 years"),
    ],
)
def test_lengths_of_time_in_words(length, words):
    assert text.duration(length) == words


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (State(), "Created"),
        (State(status="running", started_at=NOW), "Up 3 seconds"),
        (State(status="paused", started_at=NOW), "Up 3 seconds (Paused)"),
        (
            State(status="running", started_at=NOW, health=Health()),
            "Up 3 seconds (health: starting)",
        ),
        (
            State(status="running", started_at=NOW, health=Health(status="unhealthy")),
            "Up 3 seconds (unhealthy)",
        ),
        (State(status="exited", exit_code=7, finished_at=NOW), "Exited (7) 3 seconds ago"),
        (State(status="restarting", exit_code=1, finished_at=NOW), "Restarting (1) 3 seconds ago"),
        (State(status="removing"), "Removal In Progress"),
        (State(status="dead"), "Dead"),
    ],
)
def test_the_status_column(state, words):
    assert text.status(container(state=state), NOW + 3 * SECOND) == words


def test_the_newest_version_has_every_shape_before_1_52():
    """The table is needed as long as clients are told a version below its rows."""
    assert max(row.before for row in compat.TABLE) > versions.NEWEST
