"""JSON bodies and query strings from strangers."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwood.api import decode, query
from boxwood.api.create import CreateBody, decode_create
from boxwood.errors import InvalidArgument
from boxwood.model import config as model
from boxwood.model.request import ExecConfig

pytestmark = pytest.mark.property

STRUCTS = (
    model.ContainerConfig, model.HostConfig, model.MountRequest, model.BindOptions,
    model.VolumeOptions, model.TmpfsOptions, model.EndpointSettings, model.NetworkingConfig,
    model.HealthConfig, model.LogConfig, model.RestartPolicy, model.DeviceRequest,
)  # fmt: skip
NAMES = sorted(
    {field.encode_name for struct in STRUCTS for field in msgspec.structs.fields(struct)}
    | {"HostConfig", "NetworkingConfig", "MacAddress", "80/tcp", "default", "hostconfig"}
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "bind", "volume", "image", "host", "default", "container:x"]),
    st.text(max_size=6),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(NAMES), inner, max_size=6)
    ),
    max_leaves=25,
)
bodies = st.fixed_dictionaries(
    {"Image": st.just("busybox")},
    optional={
        "HostConfig": st.dictionaries(st.sampled_from(NAMES), values, max_size=8),
        "NetworkingConfig": values,
        "MacAddress": leaves,
        "Healthcheck": values,
        "Cmd": values,
    },
)


@given(st.one_of(bodies, values), st.integers(24, 53))
def test_a_create_body_is_decoded_or_refused(value, minor):
    content = json.dumps(value).encode()
    try:
        parsed = decode.parse(content)
        body = decode_create(parsed, minor)
    except InvalidArgument:
        return
    assert isinstance(body, CreateBody)
    # What was decoded goes to the database as JSON and comes back as it was.
    again = msgspec.json.decode(msgspec.json.encode(body.host_config), type=model.HostConfig)
    assert again == body.host_config


@given(values)
def test_an_exec_body_is_decoded_or_refused(value):
    try:
        assert isinstance(decode.convert(value, ExecConfig), ExecConfig)
    except InvalidArgument:
        return


@given(st.binary(max_size=60))
def test_any_bytes_as_json(content):
    try:
        decode.parse(content)
    except InvalidArgument:
        return


@given(st.one_of(st.text(max_size=60), values.map(json.dumps)))
def test_any_text_as_filters(text):
    try:
        found = query.filters(text)
    except InvalidArgument:
        return
    assert all(isinstance(item, str) for entry in found.values() for item in entry)


@given(st.text(max_size=80))
def test_any_text_as_a_query(text):
    try:
        query.parse(text)
    except InvalidArgument:
        return
