"""The create body: Go's decoding, rules of versions, fields that are not honoured."""

from __future__ import annotations

import msgspec
import pytest

from boxwood.api import decode, fields, versions
from boxwood.api.create import decode_create
from boxwood.errors import InvalidArgument
from boxwood.model import config as model
from boxwood.model.config import ContainerConfig, HostConfig, PortBinding
from tests.unit.api.openapi import properties

NEWEST = versions.NEWEST


def body(minor=NEWEST, /, **host):
    return decode_create({"Image": "busybox", "HostConfig": host}, minor)


def endpoint(minor=NEWEST, /, **settings):
    networking = {"EndpointsConfig": {"bridge": settings}}
    return decode_create({"Image": "x", "NetworkingConfig": networking}, minor)


@pytest.mark.parametrize("content", [b'{"Image":"x"} {}', b'{"Image":"x"}x'])
def test_content_after_the_json_is_refused(content):
    with pytest.raises(InvalidArgument, match="unexpected content after JSON"):
        decode.parse(content)


@pytest.mark.parametrize("content", [b"{", b"\xff", b'{"a":"\xff"}', b"[" * 100_000, b'{"a":NaN}'])
def test_what_is_no_json_is_refused(content):
    with pytest.raises(InvalidArgument, match="invalid JSON"):
        decode.parse(content)


def test_a_string_is_good_for_a_list_of_words():
    got = decode.convert({"Cmd": "ls", "Entrypoint": ["sh", "-c"]}, ContainerConfig)
    assert got.cmd == ("ls",)
    assert got.entrypoint == ("sh", "-c")
    assert decode.convert({"Cmd": None}, ContainerConfig).cmd is None
    assert decode.convert({"Entrypoint": []}, ContainerConfig).entrypoint == ()


def test_a_string_is_no_good_for_other_lists():
    with pytest.raises(InvalidArgument, match=r"Env: cannot take string, want array"):
        decode.convert({"Env": "A=B"}, ContainerConfig)


def test_null_is_the_zero_value_everywhere():
    names = [field.encode_name for field in msgspec.structs.fields(HostConfig)]
    assert decode.convert(dict.fromkeys(names), HostConfig) == HostConfig()
    got = decode.convert({"Labels": {"a": None}, "Env": [None]}, ContainerConfig)
    assert got.labels == {"a": ""}
    assert got.env == ("",)
    got = decode.convert({"ExposedPorts": {"80/tcp": None}}, ContainerConfig)
    assert got.exposed_ports == {"80/tcp": {}}


def test_keys_match_without_case_but_exactly_first():
    got = decode.convert({"image": "a", "TTY": True}, ContainerConfig)
    assert got.image == "a"
    assert got.tty


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ({"Memory": "1g"}, r"HostConfig\.Memory: cannot take string, want whole number"),
        ({"Memory": 1.5}, r"HostConfig\.Memory: cannot take number, want whole number"),
        ({"Memory": True}, r"HostConfig\.Memory: cannot take boolean"),
        ({"Memory": 2**63}, r"HostConfig\.Memory: cannot take number, want number of 64 bits"),
        ({"Privileged": "yes"}, r"HostConfig\.Privileged: cannot take string, want boolean"),
        ({"Mounts": [{"Target": 1}]}, r"HostConfig\.Mounts\.0\.Target: cannot take number"),
        ({"PortBindings": {"80/tcp": {}}}, r"HostConfig\.PortBindings\.80/tcp: cannot take object"),
        ({"LogConfig": []}, r"HostConfig\.LogConfig: cannot take array, want object"),
        ({"Sysctls": {"a": 1}}, r"HostConfig\.Sysctls\.a: cannot take number, want string"),
    ],
)
def test_a_wrong_type_is_refused_by_name(host, text):
    with pytest.raises(InvalidArgument, match=text):
        body(**host)


def test_a_body_that_is_no_object_or_empty():
    for value in ([], "x", {}):
        with pytest.raises(InvalidArgument):
            decode_create(value, NEWEST)


@pytest.mark.parametrize(("minor", "mode"), [(39, "shareable"), (40, ""), (51, "")])
def test_ipc_was_shareable_by_default(minor, mode):
    assert body(minor).host_config.ipc_mode == mode
    assert body(minor, IpcMode="none").host_config.ipc_mode == "none"


def test_no_limit_is_shown_as_none_set():
    for limit in (0, -1):
        assert body(PidsLimit=limit).host_config.pids_limit is None
    assert body(PidsLimit=7).host_config.pids_limit == 7
    assert body(MemorySwappiness=-1).host_config.memory_swappiness is None
    assert body(MemorySwappiness=0).host_config.memory_swappiness == 0


def test_annotations_are_unknown_before_1_43():
    assert body(42, Annotations={"a": "b"}).host_config.annotations is None
    assert body(43, Annotations={"a": "b"}).host_config.annotations == {"a": "b"}


def test_one_endpoint_only_before_1_44():
    networking = {"EndpointsConfig": {"a": {}, "b": {}}}
    value = {"Image": "x", "NetworkingConfig": networking}
    with pytest.raises(InvalidArgument, match="network endpoints: a, b"):
        decode_create(value, 43)
    assert set(decode_create(value, 44).networking.endpoints_config or ()) == {"a", "b"}


def test_default_network_and_empty_port_bindings():
    got = body(PortBindings={"80/tcp": [], "81/tcp": None}).host_config
    assert got.network_mode == "bridge"
    assert got.port_bindings == {"80/tcp": (PortBinding(),), "81/tcp": (PortBinding(),)}


@pytest.mark.parametrize(("minor", "warned"), [(43, False), (44, True), (51, True)])
def test_the_old_mac_address_goes_to_the_endpoint(minor, warned):
    value = {"Image": "x", "MacAddress": "02:00:00:00:00:01"}
    got = decode_create(value, minor)
    assert got.networking.endpoints_config["bridge"].mac_address == "02:00:00:00:00:01"
    assert any("MacAddress field is deprecated" in text for text in got.warnings) == warned


def test_the_old_mac_address_is_refused_from_1_52():
    with pytest.raises(InvalidArgument, match="no longer supported"):
        decode_create({"Image": "x", "MacAddress": "02:00:00:00:00:01"}, 52)


def test_mac_addresses_that_differ():
    networking = {"EndpointsConfig": {"bridge": {"MacAddress": "02:00:00:00:00:02"}}}
    value = {"Image": "x", "MacAddress": "02:00:00:00:00:01", "NetworkingConfig": networking}
    with pytest.raises(InvalidArgument, match="must match"):
        decode_create(value, 44)


def test_mounts_by_version():
    def mount(minor, **options):
        return body(minor, Mounts=[{"Target": "/a", **options}]).host_config.mounts[0]

    with pytest.raises(InvalidArgument, match=r"1\.48"):
        mount(47, Type="image", Source="busybox")
    with pytest.raises(InvalidArgument, match=r"1\.45"):
        mount(44, Type="volume", VolumeOptions={"Subpath": "a"})
    bind = {"Type": "bind", "Source": "/x", "ReadOnly": True, "BindOptions": {}}
    assert mount(43, **bind).bind_options.read_only_non_recursive
    assert not mount(44, **bind).bind_options.read_only_non_recursive


def test_device_requests_are_refused_in_docker_s_words():
    requests = [{"Driver": "", "Count": -1, "Capabilities": [["gpu", "nvidia"]]}]
    with pytest.raises(
        InvalidArgument,
        match=r'could not select device driver "" with capabilities: \[\[gpu nvidia\]\]',
    ):
        body(DeviceRequests=requests)


# The table of fields.

STRUCTS = {
    "ContainerConfig": model.ContainerConfig,
    "HealthConfig": model.HealthConfig,
    "HostConfig": model.HostConfig,
    "LogConfig": model.LogConfig,
    "RestartPolicy": model.RestartPolicy,
    "PortBinding": model.PortBinding,
    "ThrottleDevice": model.ThrottleDevice,
    "DeviceMapping": model.DeviceMapping,
    "Mount": model.MountRequest,
    "BindOptions": model.BindOptions,
    "VolumeOptions": model.VolumeOptions,
    "TmpfsOptions": model.TmpfsOptions,
    "NetworkingConfig": model.NetworkingConfig,
    "EndpointSettings": model.EndpointSettings,
}
INLINE = {
    "LogConfig": ("HostConfig", "LogConfig"),
    "BindOptions": ("Mount", "BindOptions"),
    "VolumeOptions": ("Mount", "VolumeOptions"),
    "TmpfsOptions": ("Mount", "TmpfsOptions"),
}


def documented(name):
    if name in INLINE:
        parent, field = INLINE[name]
        return set(properties(parent)[field]["properties"])
    return set(properties(name))


@pytest.mark.parametrize("name", sorted(fields.TABLE))
def test_the_table_has_every_field_of_docker_s_file_and_no_other(name):
    assert set(fields.TABLE[name]) == documented(name)


@pytest.mark.parametrize("name", sorted(fields.TABLE))
def test_every_field_reaches_the_model(name):
    known = {field.encode_name for field in msgspec.structs.fields(STRUCTS[name])}
    assert set(fields.TABLE[name]) - known == set()


def test_every_struct_of_a_body_is_in_the_table_or_in_one_that_is_refused():
    missing = set(STRUCTS) ^ set(fields.TABLE)
    assert missing == set()


SAMPLES = {
    "HostConfig.Cgroup": "container:x",
    "HostConfig.Isolation": "hyperv",
    "HostConfig.CpuCount": 2,
    "HostConfig.CpuPercent": 50,
    "HostConfig.IOMaximumIOps": 100,
    "HostConfig.IOMaximumBandwidth": 100,
    "HostConfig.PortBindings": {"80/tcp": [{"HostPort": "8080"}]},
    "HostConfig.PublishAllPorts": True,
    "HostConfig.Links": ["a:b"],
    "HostConfig.UsernsMode": "private",
    "HostConfig.DeviceRequests": [{"Count": -1}],
    "Mount.ImageOptions": {"Subpath": "a"},
    "EndpointSettings.IPAMConfig": {"IPv4Address": "10.0.0.2"},
    "EndpointSettings.Links": ["a:b"],
    "EndpointSettings.MacAddress": "02:00:00:00:00:01",
    "EndpointSettings.Aliases": ["web"],
    "EndpointSettings.DriverOpts": {"a": "b"},
    "EndpointSettings.GwPriority": 7,
}
WATCHED = [
    (table, name, rule.state)
    for table, rules in fields.TABLE.items()
    for name, rule in rules.items()
    if rule.state in (fields.REFUSED, fields.WARNED)
]


@pytest.mark.parametrize(("table", "name", "state"), WATCHED)
def test_what_is_not_honoured_is_refused_or_warned_of_by_name(table, name, state):
    value = SAMPLES[f"{table}.{name}"]

    def ask():
        if table == "HostConfig":
            return body(**{name: value})
        if table == "Mount":
            return body(Mounts=[{"Target": "/a", "Type": "volume", name: value}])
        return endpoint(**{name: value})

    if state == fields.REFUSED:
        with pytest.raises(InvalidArgument) as caught:
            ask()
        assert name in str(caught.value) or "device driver" in str(caught.value)
    else:
        assert any(f".{name}: " in text for text in ask().warnings)


def test_zero_values_and_accepted_ones_are_not_warned_of():
    got = body(
        Links=None,
        PortBindings={},
        PublishAllPorts=False,
        Isolation="default",
        UsernsMode="host",
        DeviceRequests=[],
    )
    assert got.warnings == []
    empty = {"IPAMConfig": {"IPv4Address": ""}, "Links": None, "Aliases": [], "MacAddress": ""}
    assert endpoint(**empty).warnings == []
    assert endpoint(IPAMConfig={}).warnings == []
