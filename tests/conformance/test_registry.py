"""The first-party transports pass the kit that strangers' pass."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from boxwood.testing.registry import RegistrySuite
from tests.support.registry import Registry, serving


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """Debian's, on the loopback."""
    with serving() as one:
        yield one


class TestDocker(RegistrySuite):
    driver_name = "docker"
    driver_options = {"waits": "pause=0.01"}  # noqa: RUF012
    hasty = {"waits": "0.01"}  # noqa: RUF012
    peer = "docker://{address}/kit/{name}:{tag}"

    @pytest.fixture(autouse=True)
    def _place(self, registry: Registry) -> None:
        type(self).place = f"docker://{registry.address}/kit/{{name}}:{{tag}}"


class TestOci(RegistrySuite):
    driver_name = "oci"
    place = "oci:{root}/{name}:{tag}"


class TestOciArchive(RegistrySuite):
    driver_name = "oci-archive"
    place = "oci-archive:{root}/{name}.tar:{tag}"


class TestDockerArchive(RegistrySuite):
    driver_name = "docker-archive"
    place = "docker-archive:{root}/{name}.tar:{name}:{tag}"
    keeps_manifests = False


class TestDir(RegistrySuite):
    driver_name = "dir"
    place = "dir:{root}/{name}"
