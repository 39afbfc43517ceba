"""registries.toml: what fits a name, and files that are wrong."""

from __future__ import annotations

import pytest

from boxwood.errors import InvalidArgument
from boxwood.model.registries import HostSettings, Mirror, parse_registries
from boxwood_plugins.registry.docker.proxies import Proxies

FILE = b"""
[registry."docker.io"]
mirrors = ["one.example:5000/hub", {location = "two.example", tags = false, push = true}]
[registry."docker.io/team"]
[registry."*.corp.example"]
blocked = true
[registry."*.corp.example/open"]
[registry."a.corp.example"]
[host."one.example:5000"]
plain-http = true
"""


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("docker.io/library/x", "docker.io"),
        ("docker.io/team/x", "docker.io/team"),
        ("docker.io/team", "docker.io/team"),
        ("docker.io/teams/x", "docker.io"),
        ("b.corp.example/x", "*.corp.example"),
        ("c.b.corp.example/x", "*.corp.example"),
        ("b.corp.example/open/x", "*.corp.example/open"),
        ("a.corp.example/open/x", "a.corp.example"),
        ("corp.example/x", None),
        ("b.corp.example.evil/x", None),
        ("docker.io.evil/x", None),
    ],
)
def test_the_longest_prefix(name: str, prefix: str | None) -> None:
    """Exact domains before parts of domains, whole components only."""
    domain, _, path = name.partition("/")
    found = parse_registries(FILE, "f").place(domain, path)
    assert (found and found[0]) == prefix


def test_what_is_read() -> None:
    """Mirrors are plain or tables."""
    found = parse_registries(FILE, "f")
    place = found.places["docker.io"]
    assert place.mirrors == (
        Mirror("one.example:5000/hub"),
        Mirror("two.example", push=True, tags=False),
    )
    assert found.hosts == {"one.example:5000": HostSettings(plain_http=True)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\nregistry = =", "line 2"),
        ("\xff", "f: "),
        ("[registries]", "f: registries: unknown"),
        ('registry = "x"', 'f: registry: must be written [registry."NAME"]'),
        ('[registry."x.example"]\nmirror = []', 'f: registry."x.example": '),
        ('[registry."x.example"]\nblocked = 1', 'f: registry."x.example": '),
        ('[registry."x.example"]\nmirrors = ["https://y.example"]', "'https://y.example': not"),
        ('[registry."x.example"]\nlocation = "y.example/../z"', "not HOST"),
        ('[registry."x.example"]\nlocation = "y.example/A"', "not HOST"),
        ('[registry."x.example"]\nlocation = "y.example:1/z\\r\\nHost: w"', "not HOST"),
        ('[registry.x]\nmirrors = [{location = "y", credentials = "a"}]', "not an absolute path"),
        ('[registry.x]\nmirrors = [{location = "y", helper = "../a"}]', "not a program's name"),
        ('[registry.x]\nmirrors = [{location = "y", helper = "a", credentials = "/a"}]', "or the"),
        ('[registry."https://x.example"]', "not HOST"),
        ('[registry.x]\n[registry.x]', "f: "),
        ('[host."x.example/y"]', 'f: host."x.example/y": not HOST'),
        ('[host.x]\nca = "rel/ative"', 'f: host."x": rel/ative: not an absolute path'),
        ('[host.x]\nplain-http = true\nca = "/x"', "one or the other"),
    ],
)  # fmt: skip
def test_files_that_are_wrong(text: str, words: str) -> None:
    """One sentence, with the place."""
    with pytest.raises(InvalidArgument) as caught:
        parse_registries(text.encode("latin-1"), "f")
    assert words in str(caught.value)
    assert str(caught.value).count("\n") == 0


SET = {"http-proxy": "p:1", "https-proxy": "http://s:2", "no-proxy": "no.example, .sub.example,"
       "10.0.0.0/8,1.2.3.4,port.example:5000,2001:db8::1,*.star.example"}  # fmt: skip


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://x.example/v2/", "http://p:1"),
        ("https://x.example/v2/", "http://s:2"),
        ("https://no.example/", None),
        ("https://a.no.example:5000/", None),
        ("https://notno.example/", "http://s:2"),
        ("https://a.sub.example/", None),
        ("https://sub.example/", "http://s:2"),
        ("https://a.star.example/", None),
        ("https://10.1.2.3/", None),
        ("https://11.1.2.3/", "http://s:2"),
        ("https://1.2.3.4:5000/", None),
        ("https://port.example:5000/", None),
        ("https://port.example/", "http://s:2"),
        ("https://[2001:db8::1]/", None),
        ("https://localhost:5000/", None),
        ("http://127.0.0.2:5000/", None),
        ("http://[::1]:5000/", None),
    ],
)
def test_proxies(url: str, proxy: str | None) -> None:
    """As Go's programs choose: the loopback never, domains with all below them."""
    assert Proxies(SET, {}).of(url) == proxy
    assert Proxies({}, {key.replace("-", "_").upper(): SET[key] for key in SET}).of(url) == proxy
    assert Proxies({"no-proxy": "*"}, {"https_proxy": "s:2", "http_proxy": "s:2"}).of(url) is None


def test_a_proxy_that_is_none() -> None:
    """Its password is not shown."""
    with pytest.raises(InvalidArgument) as caught:
        Proxies({"https-proxy": "ftp://me:secret@host"}, {})
    assert "secret" not in str(caught.value)
