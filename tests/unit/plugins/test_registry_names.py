"""Names of transports: which scheme a text has, what docker's are, what a small transport gets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from boxwood.drivers.registry import (
    Credentials,
    RegistryTransport,
    Session,
    scheme_of,
)
from boxwood.errors import InvalidArgument, Unsupported
from boxwood.model.descriptor import Descriptor
from boxwood.model.digest import Digest
from boxwood.model.reference import Reference
from boxwood_plugins.registry.docker.transport import DockerTransport

INSTALLED = frozenset(("docker", "oci", "dir", "unix"))


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        ("busybox", ""),
        ("busybox:1", ""),
        ("localhost:5000/busybox", ""),
        ("docker:latest", ""),  # Docker's own image of that name
        ("docker://oci:latest", "docker"),
        ("oci:/srv/images:busybox", "oci"),
        ("oci:images", "oci"),
        ("dir:/srv/one", "dir"),
        ("unix:///run/other.sock", "unix"),
        ("OCI:/srv", ""),
        ("other:/srv", ""),
        ("", ""),
    ],
)
def test_schemes(text: str, scheme: str) -> None:
    """Only what is installed is a scheme; all else is an image's name."""
    assert scheme_of(text, INSTALLED) == scheme


def test_a_scheme_that_is_not_installed() -> None:
    """``NAME://`` is never an image: the error says what there is."""
    with pytest.raises(InvalidArgument, match="there are dir, docker, oci, unix"):
        scheme_of("ftp://host/image", INSTALLED)


@pytest.mark.parametrize(
    "text", ["busybox", "docker://busybox:latest", "docker.io/library/busybox"]
)
async def test_docker_names_are_references(text: str) -> None:
    """They are what images are called here, and their text parses to themselves."""
    transport = DockerTransport({})
    name = transport.parse(text)
    assert name == Reference("docker.io", "library/busybox", "latest")
    assert transport.parse(str(name)) == name
    digest = Digest.of(b"manifest")
    assert transport.pinned(name, digest) == Reference(name.domain, name.path, None, digest)
    assert transport.tagged(name, "1").tag == "1"
    await transport.close()


class Small(RegistryTransport[str]):
    """As little as a transport can be."""

    scheme = "small"

    def parse(self, text: str) -> str:
        """All is a name."""
        return text

    async def resolve(self, name: str, credentials: Credentials | None = None) -> Descriptor:
        """There is one image."""
        del name, credentials
        return Descriptor()

    async def fetch(
        self,
        name: str,
        descriptor: Descriptor,
        offset: int = 0,
        credentials: Credentials | None = None,
    ) -> AsyncIterator[bytes]:
        """It is empty."""
        del name, descriptor, offset, credentials
        yield b""


async def test_what_a_small_transport_need_not_say() -> None:
    """Names of its own are no local names; what it lacks it says by name."""
    transport = Small()
    name = transport.parse("small:one")
    async with transport.session(name, Session(writing=True)):
        assert await transport.local_name(name, Descriptor()) is None
    with pytest.raises(Unsupported, match="small"):
        transport.pinned(name, Digest.of(b""))
    with pytest.raises(Unsupported, match="small"):
        transport.tagged(name, "1")
