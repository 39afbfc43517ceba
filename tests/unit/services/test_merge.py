"""The container's config over the image's, and the checks."""

from __future__ import annotations

import pytest

from boxwood.errors import InvalidArgument
from boxwood.model.config import ContainerConfig, HealthConfig, HostConfig, RestartPolicy
from boxwood.services.containers import merge

IMAGE = ContainerConfig(
    user="u",
    env=("PATH=/bin", "A=1"),
    cmd=("image-cmd",),
    entrypoint=("image-entry",),
    working_dir="/w",
    labels={"a": "image", "b": "image"},
    exposed_ports={"80/tcp": {}},
    volumes={"/v": {}},
    stop_signal="SIGINT",
    healthcheck=HealthConfig(test=("CMD", "x"), interval=5_000_000, retries=7),
)


def merged(**changes: object) -> ContainerConfig:
    return merge.merge(ContainerConfig(image="i", **changes), IMAGE)


def test_what_is_not_said_is_the_image_s() -> None:
    found = merged()
    assert (found.user, found.working_dir, found.stop_signal) == ("u", "/w", "SIGINT")
    assert merge.command_of(found) == ("image-entry", ("image-cmd",))
    assert found.healthcheck == IMAGE.healthcheck


def test_a_command_keeps_the_entry_point() -> None:
    assert merge.command_of(merged(cmd=("c",))) == ("image-entry", ("c",))


def test_an_entry_point_drops_the_image_s_command() -> None:
    assert merge.command_of(merged(entrypoint=("e",))) == ("e", ())
    assert merge.command_of(merged(entrypoint=("e",), cmd=("c",))) == ("e", ("c",))


def test_an_empty_entry_point_resets_it() -> None:
    assert merge.command_of(merged(entrypoint=("",), cmd=("c", "d"))) == ("c", ("d",))
    with pytest.raises(InvalidArgument, match="no command specified"):
        merged(entrypoint=("",))


def test_nothing_to_run_is_an_error() -> None:
    with pytest.raises(InvalidArgument, match="no command specified"):
        merge.merge(ContainerConfig(image="i"), ContainerConfig())


def test_environment_labels_ports_and_volumes() -> None:
    found = merged(
        env=("A=2", "PATH"), labels={"a": "mine"}, exposed_ports={"1/udp": {}}, volumes={"/x": {}}
    )
    assert found.env == ("A=2", "PATH")  # a name alone takes the image's variable out
    assert found.labels == {"a": "mine", "b": "image"}
    assert set(found.exposed_ports or ()) == {"80/tcp", "1/udp"}
    assert set(found.volumes or ()) == {"/v", "/x"}
    assert merged(env=("B=1",)).env == ("B=1", "PATH=/bin", "A=1")


def test_zeros_of_a_health_check_are_inherited() -> None:
    found = merged(healthcheck=HealthConfig(retries=2)).healthcheck
    assert found == HealthConfig(test=("CMD", "x"), interval=5_000_000, retries=2)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (ContainerConfig(working_dir="rel"), "needs to be an absolute path"),
        (ContainerConfig(stop_signal="NOPE"), "invalid signal: NOPE"),
        (ContainerConfig(env=("",)), "invalid environment variable"),
        (ContainerConfig(env=("=x",)), "invalid environment variable"),
        (ContainerConfig(cmd=("a\0b",)), "NUL"),
        (ContainerConfig(healthcheck=HealthConfig(interval=1)), "cannot be less than 1ms"),
        (ContainerConfig(healthcheck=HealthConfig(retries=-1)), "cannot be negative"),
        (ContainerConfig(healthcheck=HealthConfig(test=("X",))), "Unknown healthcheck type"),
        (ContainerConfig(hostname="no spaces"), "invalid hostname format"),
    ],
)
def test_bad_configs(config: ContainerConfig, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        merge.check_config(config)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (HostConfig(restart_policy=RestartPolicy(name="x")), "invalid restart policy"),
        (
            HostConfig(restart_policy=RestartPolicy(name="always", maximum_retry_count=1)),
            "only be used with 'on-failure'",
        ),
        (
            HostConfig(auto_remove=True, restart_policy=RestartPolicy(name="always")),
            "can't create 'AutoRemove' container with restart policy",
        ),
        (HostConfig(extra_hosts=("x",)), "bad format for add-host"),
        (HostConfig(network_mode="container:x", dns=("1.1.1.1",)), "dns and the network mode"),
        (
            HostConfig(network_mode="container:x", publish_all_ports=True),
            "port publishing and the container type network mode",
        ),
    ],
)
def test_bad_host_configs(host: HostConfig, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        merge.check_host(ContainerConfig(), host)


def test_a_joined_network_has_its_own_host_name() -> None:
    with pytest.raises(InvalidArgument, match="hostname and the network mode"):
        merge.check_host(ContainerConfig(hostname="h"), HostConfig(network_mode="container:x"))
