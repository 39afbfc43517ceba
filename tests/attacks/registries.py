"""Attacks by registries on who pulls from them: on the transport, in this process.

Each says whether it was won. Who is attacked beside the client is `victim`: a server of this
machine's loopback that nobody outside should reach through the client.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from boxwood.drivers.registry import Credentials
from boxwood.errors import BoxwoodError
from boxwood.model.descriptor import OCI_LAYER, Descriptor
from boxwood.model.digest import Digest
from boxwood.model.reference import Reference
from boxwood.testing.registry_kit import fetched
from boxwood_plugins.registry.docker.transport import DockerTransport
from tests.support.scripted import Handler, Scripted, digest

LOGIN = Credentials("me", "secret")
FLOOD = 48 << 20
"""Bytes that a registry sends where a few would do: above every bound of an answer."""
LAYER = Descriptor(media_type=OCI_LAYER, digest=digest(b"layer"), size=5)


def own_address() -> str:
    """Return an address of this machine that is not the loopback's; skips where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        with contextlib.suppress(OSError):
            probe.connect(("192.0.2.1", 9))
        found: str = probe.getsockname()[0]
    if found.startswith(("0.", "127.")):
        pytest.skip("this machine has no address beside the loopback's")
    return found


@dataclass
class Field:
    """Where an attack takes place: the registry, the victim, names that mean what a test says."""

    kind: type[DockerTransport]
    registry: Scripted
    victim: Scripted
    names: dict[str, list[str]] = field(default_factory=dict)
    resolve_all: bool = False
    """Names have all their addresses at once."""
    waits: str = "pause=0.001,longest=0.001"

    @property
    def name(self) -> Reference:
        """An image of the registry."""
        return Reference.parse(self.registry.image)

    def run(self, work: Callable[[DockerTransport], Any], **more: str) -> None:
        """Have the client do something; what it refuses is no matter here."""

        async def all_of_it() -> None:
            options = {"insecure": self.registry.address, "waits": self.waits, **more}
            transport = self.kind(options)
            try:
                with contextlib.suppress(BoxwoodError):
                    await work(transport)
            finally:
                await transport.close()

        asyncio.run(all_of_it())

    def resolve(self, *args: Any, **_: Any) -> list[Any]:
        """What socket.getaddrinfo says of names that are ours: the next of their addresses."""
        host, port = args[0], args[1]
        found = self.names.get(host)
        if found is None:
            return _getaddrinfo(*args, **_)
        if self.resolve_all:
            now = found
        else:
            now = [found.pop(0) if len(found) > 1 else found[0]]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port or 0)) for one in now]


_getaddrinfo = socket.getaddrinfo


@contextlib.contextmanager
def ground(kind: type[DockerTransport], outside: bool) -> Iterator[Field]:
    """Set up a victim, and a registry: outside this machine, as far as its address says."""
    host = own_address() if outside else "127.0.0.1"
    with ExitStack() as stack:
        registry = stack.enter_context(Scripted(host=host).serving())
        victim = stack.enter_context(Scripted().serving())
        victim.blobs[LAYER.digest] = b"layer"
        yield Field(kind, registry, victim)


@dataclass(frozen=True)
class Attack:
    """An attack, the one guard that stops it, and whether the registry is outside."""

    attempt: Callable[[Field], bool]
    guard: str
    outside: bool


ATTACKS: dict[str, Attack] = {}


def attack(guard: str, *, outside: bool = False) -> Callable[[Any], Any]:
    """Note an attack."""

    def noted(attempt: Callable[[Field], bool]) -> Callable[[Field], bool]:
        ATTACKS[attempt.__name__] = Attack(attempt, f"registry/{guard}", outside)
        return attempt

    return noted


def leading_to(place: Callable[[], str]) -> Callable[[Handler], bool]:
    """A script that sends everybody who wants a blob somewhere else."""

    def script(handler: Handler) -> bool:
        if "/blobs/" not in handler.path:
            return False
        handler.answer(307, Location=place(), Connection="close")
        handler.close_connection = True
        return True

    return script


@attack("addresses of this machine", outside=True)
def a_redirect_to_the_loopback(field: Field) -> bool:
    """A registry of the outside has the daemon ask a service of the loopback."""
    field.registry.script = leading_to(lambda: f"http://{field.victim.address}/secret")
    field.run(lambda it: fetched(it, field.name, LAYER))
    return field.victim.asked("GET", "/secret") != []


@attack("names of this machine", outside=True)
def a_redirect_to_a_name_of_the_loopback(field: Field) -> bool:
    """The same by a name that the attacker's own name server answers for."""
    port = field.victim.address.rpartition(":")[2]
    field.names["evil.example"] = ["127.0.0.1"]
    field.registry.script = leading_to(lambda: f"http://evil.example:{port}/secret")
    field.run(lambda it: fetched(it, field.name, LAYER))
    return field.victim.asked("GET", "/secret") != []


@attack("names behind a proxy", outside=True)
def a_redirect_to_a_name_behind_a_proxy(field: Field) -> bool:
    """The same where a proxy resolves names: it may be of this machine, and see the same."""
    proxy, script = field.victim, leading_to(lambda: "http://evil.example/secret")
    field.names["evil.example"] = ["192.0.2.1", "127.0.0.1"]
    proxy.script = script
    field.resolve_all = True
    field.run(
        lambda it: fetched(it, field.name, LAYER), **{"http-proxy": f"http://{proxy.address}"}
    )
    return proxy.asked("GET", "evil.example/secret") != []


@attack("a name stays another machine's", outside=True)
def a_name_that_changes(field: Field) -> bool:
    """DNS rebinding: the registry's own name is the loopback's when it is asked for again."""
    host, _, port = field.registry.address.rpartition(":")
    field.names["evil.example"] = [host, host, "127.0.0.1"]
    name = Reference.parse(f"evil.example:{port}/x/y:1")
    beside = field.victim.address.rpartition(":")[2]
    field.registry.script = leading_to(lambda: f"http://evil.example:{beside}/secret")

    async def work(it: DockerTransport) -> None:
        await it.resolve(name)
        field.names["evil.example"] = ["127.0.0.1"]
        await fetched(it, name, LAYER)

    field.run(work, insecure=f"evil.example:{port}")
    return field.victim.asked("GET", "/secret") != []


@attack("paths stay on their host", outside=True)
def a_next_page_with_two_slashes(field: Field) -> bool:
    """A path that reads as a host: on the registry it is harmless, joined anew it is not."""
    where = f"http://{field.registry.address}//{field.victim.address}/secret"
    field.registry.script = says(b'{"tags":[]}', Link=f"<{where}>; rel=next")
    field.run(lambda it: it.tags(field.name))
    return field.victim.asked("GET", "/secret") != []


@attack("paths stay on their host", outside=True)
def an_upload_to_two_slashes(field: Field) -> bool:
    """The same with what is pushed: the victim would be written to."""

    def script(handler: Handler) -> bool:
        if handler.command != "POST":
            return False
        where = f"http://{field.registry.address}//{field.victim.address}/secret"
        handler.answer(202, Location=where)
        return True

    async def source(offset: int) -> AsyncIterator[bytes]:
        yield b"layer"[offset:]

    field.registry.script = script
    field.run(lambda it: it.push(field.name, LAYER, source))
    return field.victim.asked("PUT", "/secret") != []


@attack("where token servers are", outside=True)
def a_token_server_on_the_loopback(field: Field) -> bool:
    """What a service of the loopback says is fetched as a token, and handed to the registry."""
    field.victim.script = says(b'{"access_token": "secret-of-the-machine"}')
    realm = f'Bearer realm="http://{field.victim.address}/token"'
    field.registry.script = asks(realm)
    field.run(lambda it: it.resolve(field.name))
    return any("secret" in head.get("authorization", "") for head in field.registry.headers)


@attack("whom a password is shown to")
def a_token_server_of_somebody_else(field: Field) -> bool:
    """The registry names another's host, which gets the password (CVE-2020-15157)."""
    port = field.victim.address.rpartition(":")[2]
    field.registry.script = asks(f'Bearer realm="http://localhost:{port}/token"')
    field.run(lambda it: it.resolve(field.name, LOGIN))
    return any("authorization" in head for head in field.victim.headers)


@attack("whom an authorization is shown to")
def a_redirect_that_collects_passwords(field: Field) -> bool:
    """Who keeps the blobs sees what was for the registry."""
    lead = leading_to(lambda: f"http://{field.victim.address}/v2/x/y/blobs/{LAYER.digest}")
    ask = asks("Basic realm=x")
    field.registry.script = lambda handler: ask(handler) or lead(handler)
    field.run(lambda it: fetched(it, field.name, LAYER, 0, LOGIN))
    return any("authorization" in head for head in field.victim.headers)


@attack("bound of an answer")
def an_endless_token(field: Field) -> bool:
    """Memory is filled with a token."""
    flood = Flood()
    ask = asks(f'Bearer realm="http://{field.registry.address}/token"')
    field.registry.script = lambda handler: (
        flood(handler) if handler.path.startswith("/token") else ask(handler)
    )
    field.run(lambda it: it.resolve(field.name))
    return flood.won


@attack("bound of an answer")
def an_endless_error(field: Field) -> bool:
    """Memory is filled with what went wrong."""
    field.registry.script = flood = Flood(status=404)
    field.run(lambda it: fetched(it, field.name, LAYER))
    return flood.won


@attack("bound of an answer")
def an_endless_manifest(field: Field) -> bool:
    """Memory is filled with a manifest of which HEAD says nothing."""
    flood = Flood()

    def script(handler: Handler) -> bool:
        if handler.command == "HEAD":
            handler.answer(200)
            return True
        return flood(handler)

    field.registry.script = script
    field.run(lambda it: it.resolve(field.name))
    return flood.won


@attack("bound of an answer")
def endless_tags(field: Field) -> bool:
    """Memory is filled with a page of tags."""
    field.registry.script = flood = Flood()
    field.run(lambda it: it.tags(field.name))
    return flood.won


@attack("bound of an answer")
def endless_referrers(field: Field) -> bool:
    """Memory is filled with what is about a manifest."""
    field.registry.script = flood = Flood()
    field.run(lambda it: it.referrers(field.name, Digest.of(b"x")))
    return flood.won


@attack("bound of a blob")
def an_endless_blob(field: Field) -> bool:
    """A layer of five bytes does not end."""
    field.registry.script = flood = Flood()
    field.run(lambda it: fetched(it, field.name, LAYER))
    return flood.won


@attack("bound of redirects")
def endless_redirects(field: Field) -> bool:
    """Each answer leads on."""
    count = 0

    def script(handler: Handler) -> bool:
        nonlocal count
        count += 1
        handler.answer(307 if count < 50 else 200, b"layer", Location=f"/{count}")
        return True

    field.registry.script = script
    field.run(lambda it: fetched(it, field.name, LAYER))
    return count == 50


@attack("least rate")
def a_byte_now_and_then(field: Field) -> bool:
    """Never long enough without a byte to be a stall."""
    field.waits, sent, size = "stall=0.1,head=30,pause=0.001", 0, 60

    def script(handler: Handler) -> bool:
        nonlocal sent
        handler.send_response(200)
        handler.send_header("Content-Length", str(size))
        handler.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(size):
                handler.wfile.write(b"x")
                handler.wfile.flush()
                sent += 1
                time.sleep(0.01)
        handler.close_connection = True
        return True

    field.registry.script = script
    slow = Descriptor(media_type=OCI_LAYER, digest=digest(b"x" * size), size=size)
    whole: list[bytes] = []

    async def work(it: DockerTransport) -> None:
        whole.append(await fetched(it, field.name, slow))

    field.run(work)
    return whole != []


def asks(challenge: str) -> Callable[[Handler], bool]:
    """A script that lets in only who shows something."""

    def script(handler: Handler) -> bool:
        if "Authorization" in handler.headers:
            return False
        handler.answer(401, WWW_Authenticate=challenge)
        return True

    return script


def says(body: bytes, **headers: str) -> Callable[[Handler], bool]:
    """A script with one answer."""

    def script(handler: Handler) -> bool:
        handler.answer(200, body, **headers)
        return True

    return script


class Flood:
    """A script whose answers are far larger than they should be. Won: one was taken whole."""

    def __init__(self, status: int = 200, headers: Mapping[str, str] = {}) -> None:
        self.status, self.headers, self.won = status, headers, False

    def __call__(self, handler: Handler) -> bool:
        """Send FLOOD bytes of the beginning of a document."""
        handler.send_response(self.status)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        piece, sent = json.dumps("x" * (1 << 20)).encode() + b",", 0
        with contextlib.suppress(OSError):
            handler.wfile.write(b'{"tags":[')
            while sent < FLOOD:
                sent += handler.wfile.write(piece)
        # More than the kernel's buffers hold: the client has taken the rest.
        self.won = self.won or sent >= FLOOD
        return True
