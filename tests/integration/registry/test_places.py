"""registries.toml and proxies: whom a pull and a push ask, in which order, and how."""

from __future__ import annotations

import json
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import trustme

from boxwood.drivers.registry import Credentials
from boxwood.errors import BoxwoodError, PermissionDenied
from boxwood.model.descriptor import OCI_LAYER, Descriptor
from boxwood.model.reference import Reference
from boxwood.model.registries import parse_registries
from boxwood.testing.registry_kit import fetched
from boxwood_plugins.registry.docker.transport import DockerTransport
from tests.integration.tar.archives import archive, entry
from tests.support.engine import Engine
from tests.support.needs import need_root, until
from tests.support.scripted import Handler, Scripted, digest
from tests.support.transports import converse

LAYER = b"layer"
HERE = Reference.parse("far.example/team/box:1")


@pytest.fixture
def mirror() -> Iterator[Scripted]:
    """A mirror that keeps ``team`` under ``kept``."""
    with Scripted(name="kept/box").serving() as one:
        yield one


@pytest.fixture
def registry() -> Iterator[Scripted]:
    """What stands in for far.example."""
    with Scripted(name="home/box").serving() as one:
        one.blobs[digest(LAYER)] = LAYER
        yield one


def options(text: str) -> dict[str, str]:
    """The transport's options for a file."""
    return {"registries": msgspec.json.encode(parse_registries(text.encode(), "f")).decode()}


def both(registry: Scripted, mirror: Scripted, more: str = "") -> dict[str, str]:
    """far.example/team at the registry, with the mirror before it."""
    return options(
        f'[registry."far.example/team"]\nlocation = "{registry.address}/home"\n'
        f'mirrors = [{{location = "{mirror.address}/kept"{more}}}]'
    )


def blob() -> Descriptor:
    """The layer's descriptor."""
    return Descriptor(media_type=OCI_LAYER, digest=digest(LAYER), size=len(LAYER))


def test_a_rewrite_and_a_mirror(registry: Scripted, mirror: Scripted) -> None:
    """The mirror first, told whose it is; what it lacks the registry has; each by its own path."""
    settings = both(registry, mirror)
    login = Credentials("me", "secret")
    converse(lambda it: it.resolve(HERE, login), **settings)
    assert mirror.requests == ["HEAD /v2/kept/box/manifests/1?ns=far.example"]
    assert registry.requests == []
    assert converse(lambda it: fetched(it, HERE, blob(), 0, login), **settings) == LAYER
    assert registry.requests == [f"GET /v2/home/box/blobs/{digest(LAYER)}"]


def test_a_mirror_has_no_login(registry: Scripted, mirror: Scripted) -> None:
    """It may ask for one as it likes; the registry itself gets it."""

    def script(handler: Handler) -> bool:
        if "Authorization" in handler.headers:
            return False
        handler.answer(401, WWW_Authenticate="Basic realm=x")
        return True

    registry.script = mirror.script = script
    converse(lambda it: it.resolve(HERE, Credentials("me", "secret")), **both(registry, mirror))
    assert all("authorization" not in head for head in mirror.headers)
    assert "authorization" in registry.headers[-1]


def test_a_mirror_that_may_not_say_what_tags_mean(registry: Scripted, mirror: Scripted) -> None:
    """tags = false: content by digest only."""
    settings = both(registry, mirror, ", tags = false")
    converse(lambda it: it.resolve(HERE), **settings)
    assert (mirror.requests, len(registry.requests)) == ([], 1)
    converse(lambda it: fetched(it, HERE, blob()), **settings)
    assert mirror.requests == [f"GET /v2/kept/box/blobs/{digest(LAYER)}?ns=far.example"]


@pytest.mark.parametrize("push", [True, False])
def test_where_a_push_goes(registry: Scripted, mirror: Scripted, push: bool) -> None:
    """To the registry, unless a mirror takes pushes; mounts by the names of that host."""
    settings = both(registry, mirror, ", push = true" if push else "")

    async def source(offset: int) -> AsyncIterator[bytes]:
        yield b"new"[offset:]

    new = Descriptor(media_type=OCI_LAYER, digest=digest(b"new"), size=3)
    converse(lambda it: it.push(HERE, new, source, None, ("team/other",)), **settings)
    taken, other = (mirror, registry) if push else (registry, mirror)
    assert digest(b"new") in taken.blobs
    assert other.requests == []
    assert f"from={taken.name.partition('/')[0]}%2Fother" in taken.requests[1]


def test_lists_stay_at_one_host(registry: Scripted, mirror: Scripted) -> None:
    """The second page is asked for where the first came from."""

    def script(handler: Handler) -> bool:
        last = "last=" in handler.path
        link = "" if last else "</v2/kept/box/tags/list?last=a>; rel=next"
        handler.answer(200, json.dumps({"tags": ["b" if last else "a"]}).encode(), Link=link)
        return True

    mirror.script = script
    assert converse(lambda it: it.tags(HERE), **both(registry, mirror)) == ["a", "b"]
    assert registry.requests == []


def test_blocked(registry: Scripted) -> None:
    """Nothing is asked, not even of the mirror."""
    settings = options(
        f'[registry."far.example"]\nblocked = true\nmirrors = ["{registry.address}/home"]'
    )
    for work in (lambda it: it.resolve(HERE), lambda it: it.tags(HERE)):
        with pytest.raises(PermissionDenied, match=r"far\.example is blocked by registries\.toml"):
            converse(work, **settings)
    assert registry.requests == []


@pytest.mark.parametrize("trusted", ["ca", "insecure", "another", ""])
def test_whose_certificate(tmp_path: Path, trusted: str) -> None:
    """ca: those authorities and no others, also where the loopback's needs none."""
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca"))
    other.cert_pem.write_to_path(str(tmp_path / "another"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    line = f'ca = "{tmp_path / trusted}"' if trusted in ("ca", "another") else "insecure = true"
    with Scripted(context=context).serving() as server:
        text = f'[host."{server.address}"]\n{line}' if trusted else ""
        work = lambda it: it.resolve(Reference.parse(server.image))  # noqa: E731
        if trusted == "another":
            with pytest.raises(BoxwoodError, match="certificate"):
                converse(work, **options(text))
        else:
            converse(work, **options(text))


def test_a_client_certificate(tmp_path: Path) -> None:
    """certs: a directory like one of certs.d, with who we are."""
    authority = trustme.CA()
    own = authority.issue_cert("engine@example.org")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    own.private_key_pem.write_to_path(str(tmp_path / "own.key"))
    for number, pem in enumerate(own.cert_chain_pems):
        pem.write_to_path(str(tmp_path / "own.cert"), append=number > 0)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Scripted(context=context).serving() as server:
        text = f'[host."{server.address}"]\nca = "{tmp_path}/ca.crt"'
        work = lambda it: it.resolve(Reference.parse(server.image))  # noqa: E731
        with pytest.raises(BoxwoodError):
            converse(work, **options(text))
        converse(work, **options(f'{text}\ncerts = "{tmp_path}"'))


def test_a_proxy(registry: Scripted) -> None:
    """proxies: who is not excepted is asked for through it, by the whole URL."""
    proxy = f"http://user:word@{registry.address}"
    found: list[str] = []

    def script(handler: Handler) -> bool:
        found.append(handler.path)
        handler.path = "/v2/home/" + handler.path.rpartition("/team/")[2]
        handler.usual()
        return True

    registry.script = script
    settings = options('[host."far.example"]\nplain-http = true') | {"http-proxy": proxy}
    converse(lambda it: it.resolve(HERE), **settings)
    assert found == ["http://far.example/v2/team/box/manifests/1"]
    assert registry.headers[0]["proxy-authorization"].startswith("Basic ")
    with pytest.raises(BoxwoodError):
        converse(lambda it: it.resolve(HERE), **settings, **{"no-proxy": "far.example"})
    assert len(found) == 1


def test_where_a_proxy_resolves_names(registry: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirect to a name that this machine does not know is the proxy's; one to the proxy's own
    machine is refused. The proxy itself may be there: a person named it."""
    asked: list[object] = []

    def resolve(host: object, port: int | None, *_: object, **__: object) -> list[object]:
        asked.append(host)
        if host in ("proxy.example", "inside.example"):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port or 0))]
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    leads_to = "outside.example"

    def script(handler: Handler) -> bool:
        if handler.path.startswith("http://far.example"):
            handler.answer(307, Location=f"http://{leads_to}/layer")
        else:
            handler.answer(200, LAYER)
        return True

    registry.script = script
    port = registry.address.rpartition(":")[2]
    settings = options('[host."far.example"]\nplain-http = true')
    settings["http-proxy"] = f"http://proxy.example:{port}"

    async def twice(it: DockerTransport) -> bytes:
        await fetched(it, HERE, blob())
        return await fetched(it, HERE, blob())

    assert converse(twice, **settings) == LAYER
    assert asked.count("outside.example") == 1
    assert "far.example" not in asked
    leads_to = "inside.example"
    with pytest.raises(PermissionDenied, match=r"inside\.example is 127\.0\.0\.1, an"):
        converse(lambda it: fetched(it, HERE, blob()), **settings)
    assert registry.asked("GET", "inside.example") == []


@pytest.mark.root
def test_an_engine_with_a_file(make_engine: Callable[..., Engine], tmp_path: Path) -> None:
    """--registries-config and proxies; SIGHUP reads them again, a wrong file changes nothing."""
    need_root()
    file, daemon = tmp_path / "registries.toml", tmp_path / "daemon.json"
    file.write_text('[registry."far.example"]\nblocked = true')
    daemon.write_text('{"proxies": {"http-proxy": "http://me:secret@proxy.example:3128"}}')
    house = make_engine(
        *("--config-file", str(daemon), "--registries-config", str(file)), busybox=False
    )
    info = house.api("GET", "/info").json()
    assert info["HttpProxy"] == "http://xxxxx:xxxxx@proxy.example:3128"
    name = "/images/create?fromImage=far.example/team/box&tag=1"
    assert "blocked" in house.api("POST", name).message
    with Scripted(archive(entry("file", data=b"x")), name="home/box").serving() as registry:
        for text, words in (
            ("[registry", f"{file}: "),
            (f'[registry."far.example/team"]\nlocation = "{registry.address}/home"', "reloaded"),
        ):
            file.write_text(text)
            before = len(house.log)
            assert house.process is not None
            house.process.send_signal(signal.SIGHUP)
            until(lambda: words in house.log[before:], f"{words} is in the log")  # noqa: B023
            if words != "reloaded":
                assert "blocked" in house.api("POST", name).message
        assert b"Downloaded newer image for far.example/team/box:1" in house.api("POST", name).body
