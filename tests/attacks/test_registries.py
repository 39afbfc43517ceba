"""Attacks by registries: each fails, and each would be won without what defends."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest

from boxwood.errors import PermissionDenied
from boxwood_plugins.registry.docker.addresses import Resolver, internal, led
from boxwood_plugins.registry.docker.transport import DockerTransport
from tests.attacks.registries import ATTACKS, ground
from tests.attacks.weaken import Builds

pytestmark = pytest.mark.timeout(60)


def attempted(name: str, kind: type[DockerTransport], patch: pytest.MonkeyPatch) -> bool:
    """Is the attack won on this transport?"""
    with ground(kind, ATTACKS[name].outside) as field:
        patch.setattr(socket, "getaddrinfo", field.resolve)
        return ATTACKS[name].attempt(field)


@pytest.mark.parametrize("name", ATTACKS)
def test_it_fails(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not attempted(name, DockerTransport, monkeypatch)


@pytest.mark.parametrize("name", ATTACKS)
def test_it_would_be_won_without_its_guard(
    name: str, builds: Builds, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert attempted(name, builds.registry(ATTACKS[name].guard), monkeypatch)


HOME = "https://registry.example/v2/"


@pytest.mark.parametrize(
    "location",
    [
        "",
        " ",
        "http://registry.example/x",
        "ftp://other.example/x",
        "file:///etc/passwd",
        "unix:///run/boxwood/boxwood.sock",
        "http+unix://%2Frun%2Fx.sock/x",
        "https://other.example/x\r\nHost: y",
        "https://other.example/x y",
        "https://other.example\\@evil.example/",
        "https://user:word@other.example/",
        "https://other.example:0/",
        "https://other.example:99999/",
        "https://127.0.0.1/",
        "https://127.0.0.1./",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[fe80::1]/",
        "https://0.0.0.0/",
        "https://0.1.2.3/",
        "https://169.254.169.254/latest/meta-data",
        "https://[fd00:ec2::254]/latest",
        "https://100.100.100.200/latest",
        "https://localhost/",
        "https://LocalHost/",
        "https://x.localhost/",
        "https://[::1/",
        "https://\u2460.example/",
    ],
)
def test_where_a_registry_may_not_lead(location: str) -> None:
    """Before anything is asked."""
    with pytest.raises(PermissionDenied):
        led(HOME, HOME, location, Resolver(strict=False))


@pytest.mark.parametrize(
    ("location", "strict"),
    [
        ("/elsewhere", False),
        ("?x=1", False),
        ("https://registry.example:5000/x", False),
        ("https://store.example/x%20y?a=b%2Fc", True),
        ("https://10.0.0.1/x", True),
        ("//store.example/x", True),
    ],
)
def test_where_it_may(location: str, strict: bool) -> None:
    """Its own name, others; these are looked at when they are resolved."""
    target, found = led(HOME, HOME, location, Resolver(strict=False))
    assert found is strict
    assert urlsplit(target).scheme == "https"


@pytest.mark.parametrize("text", ["8.8.8.8", "10.0.0.1", "fd00::1", "2606:4700::1111"])
def test_addresses_of_others(text: str) -> None:
    """Private networks have registries and stores of their own."""
    assert not internal(text)
