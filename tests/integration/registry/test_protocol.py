"""What the transport asks of a registry, in which order, and what it makes of odd answers.

The log of the scripted registry is what is asserted: each request, and what it carried.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import itertools
import json
import re
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from urllib.parse import parse_qs

import pytest

from boxwood.drivers.registry import Credentials, Session
from boxwood.errors import (
    BoxwoodError,
    DataLoss,
    DeadlineExceeded,
    InvalidArgument,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from boxwood.model.descriptor import OCI_LAYER, Descriptor
from boxwood.model.digest import Digest
from boxwood.model.reference import Reference
from boxwood.testing.registry_kit import fetched
from boxwood_plugins.registry.docker import uploads
from boxwood_plugins.registry.docker.client import ATTEMPTS
from boxwood_plugins.registry.docker.transport import DockerTransport
from tests.support.scripted import MANIFEST, Handler, Scripted, described, digest
from tests.support.transports import converse

LAYER = b"layer" * 1000
LOGIN = Credentials("me", "secret")
BASIC = "Basic " + base64.b64encode(b"me:secret").decode()


@pytest.fixture
def registry() -> Iterator[Scripted]:
    """A registry with one image of no layers, and one blob."""
    with Scripted().serving() as one:
        one.blobs[digest(LAYER)] = LAYER
        yield one


def name(registry: Scripted) -> Reference:
    """The image's name."""
    return Reference.parse(registry.image)


def blob(data: bytes = LAYER) -> Descriptor:
    """A layer's descriptor."""
    return Descriptor(media_type=OCI_LAYER, digest=digest(data), size=len(data))


def source(data: bytes) -> Callable[[int], AsyncIterator[bytes]]:
    """What a push reads from."""

    async def pieces(offset: int) -> AsyncIterator[bytes]:
        for start in range(offset, len(data), 1000):
            yield data[start : start + 1000]

    return pieces


def resolved(registry: Scripted, login: Credentials | None = None) -> Descriptor:
    """Resolve the image."""
    return converse(lambda transport: transport.resolve(name(registry), login), waits="pause=0.01")


def pushed(registry: Scripted, data: bytes, *mounts: str, login: Credentials | None = None) -> None:
    """Push a blob."""
    converse(
        lambda transport: transport.push(name(registry), blob(data), source(data), login, mounts),
        waits="pause=0.01",
    )


def got(registry: Scripted, offset: int = 0, login: Credentials | None = None) -> bytes:
    """Fetch the blob."""
    return converse(
        lambda it: fetched(it, name(registry), blob(), offset, login), waits="pause=0.01"
    )


class TokenServer:
    """A registry's script that asks for tokens, and gives them."""

    def __init__(self, registry: Scripted, **answer: Any) -> None:
        self.registry, self.answer = registry, {"token": "t1", **answer}
        self.asked: list[tuple[str, dict[str, list[str]], str]] = []
        """Method, fields, Authorization."""
        registry.script = self

    def __call__(self, handler: Handler) -> bool:
        if handler.path.startswith("/token"):
            fields = handler.path.partition("?")[2]
            if handler.command == "POST":
                fields = handler.rfile.read(int(handler.headers["Content-Length"])).decode()
            login = handler.headers.get("Authorization", "")
            self.asked.append((handler.command, parse_qs(fields), login))
            handler.answer(200, json.dumps(self.answer).encode())
            return True
        if handler.headers.get("Authorization") == f"Bearer {self.answer['token']}":
            return False
        realm = f'realm="http://{self.registry.address}/token",service="a \\"b\\""'
        handler.answer(401, WWW_Authenticate=f'Basic realm="x", Bearer {realm},error="x"')
        return True


# Who we are


def test_a_token_for_a_stranger(registry: Scripted) -> None:
    """One token for all requests of one scope; the challenge is met once."""
    server = TokenServer(registry)

    async def work(transport: DockerTransport) -> None:
        for _ in range(3):
            await transport.resolve(name(registry))

    converse(work)
    assert server.asked == [
        ("GET", {"service": ['a "b"'], "scope": ["repository:x/y:pull"]}, "")
    ]  # fmt: skip
    heads = [one for one in registry.requests if one.startswith("HEAD")]
    assert len(heads) == 4  # the first was refused


def test_one_token_for_all_who_are_refused_together(registry: Scripted) -> None:
    """A server that takes back the older token with each new one is not asked in turns."""
    server = TokenServer(registry)

    async def work(transport: DockerTransport) -> None:
        await asyncio.gather(*(transport.resolve(name(registry)) for _ in range(8)))

    converse(work)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "answer",
    [
        {"token": "t1\r\nX-Other: 1"},
        {"token": "t1", "refresh_token": "a\r\nb"},
        {"token": "t\u00e9"},
        {"token": ""},
        {"token": 1},
    ],
)
def test_a_token_that_is_none(registry: Scripted, answer: dict[str, Any]) -> None:
    """What would add a header to requests, or cannot stand in one, is shown to nobody."""
    TokenServer(registry, **answer)
    with pytest.raises(DataLoss):
        resolved(registry)
    assert len(registry.requests) == 2
    assert not any("x-other" in head for head in registry.headers)


def test_a_token_for_a_password(registry: Scripted) -> None:
    """The password is for the token server alone; the registry sees the token."""
    server = TokenServer(registry)
    resolved(registry, LOGIN)
    (method, fields, shown) = server.asked[0]
    assert (method, shown, fields["account"]) == ("GET", BASIC, ["me"])
    shown_there = [head.get("authorization", "") for head in registry.headers]
    assert [one for one in shown_there if one] == [BASIC, "Bearer t1"]


def test_a_token_for_an_identity_token(registry: Scripted) -> None:
    """OAuth2: a refresh token's grant, sent as a form."""
    server = TokenServer(registry)
    resolved(registry, Credentials(identity_token="long lasting"))
    assert server.asked == [
        (
            "POST",
            {
                "grant_type": ["refresh_token"],
                "refresh_token": ["long lasting"],
                "service": ['a "b"'],
                "scope": ["repository:x/y:pull"],
                "client_id": ["boxwood"],
                "access_type": ["offline"],
            },
            "",
        )
    ]


def test_a_token_of_the_clients_own(registry: Scripted) -> None:
    """registrytoken: shown as it is; when it is refused nobody else is asked."""
    server = TokenServer(registry)
    resolved(registry, Credentials(registry_token="t1"))
    with pytest.raises(BoxwoodError):
        resolved(registry, Credentials(registry_token="t0"))
    assert server.asked == []


@pytest.mark.parametrize("refresh", ["", "keep this"])
def test_a_login(registry: Scripted, refresh: str) -> None:
    """The token server is asked for a lasting token, which stands for the password from then on."""
    server = TokenServer(registry, refresh_token=refresh)
    domain = registry.address
    assert converse(lambda transport: transport.login(domain, LOGIN)) == refresh
    assert server.asked[0][1]["offline_token"] == ["true"]
    assert registry.requests[-1] == "GET /v2/"
    known = Credentials(identity_token="known")
    answer = converse(lambda transport: transport.login(domain, known))
    assert answer == (refresh or "known")


def test_a_login_that_is_refused(registry: Scripted) -> None:
    """One clear error, after one question."""

    def script(handler: Handler) -> bool:
        if handler.headers.get("Authorization") == BASIC:
            handler.answer(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"wrong\\u001b[1m"}]}')
        else:
            handler.answer(401, WWW_Authenticate="basic REALM=x")
        return True

    registry.script = script
    with pytest.raises(Unauthenticated, match=r"^unauthorized: wrong\[1m$"):
        converse(lambda transport: transport.login(registry.address, LOGIN))
    assert len(registry.requests) == 2


def test_a_mount_asks_for_both_repositories(registry: Scripted) -> None:
    """The token of a mount must be good for reading the other repository too."""
    server = TokenServer(registry)
    pushed(registry, b"new", "other/one")
    scopes = [fields["scope"] for _, fields, _ in server.asked]
    assert scopes[-1] == ["repository:x/y:pull,push", "repository:other/one:pull"]


# Content


@pytest.mark.parametrize("how", ["ranges", "none", "416"])
def test_from_an_offset(registry: Scripted, how: str) -> None:
    """Registries with ranges, without, and such as do not like this one: the same bytes."""

    def script(handler: Handler) -> bool:
        if "/blobs/" in handler.path and how == "none":
            handler.answer(200, LAYER)
            return True
        if "/blobs/" in handler.path and how == "416" and "Range" in handler.headers:
            handler.answer(416, Content_Range="bytes */17")
            return True
        return False

    registry.script = script
    assert got(registry, 1234) == LAYER[1234:]
    asked = [head.get("range") for head in registry.headers]
    assert asked == (["bytes=1234-", None] if how == "416" else ["bytes=1234-"])


@pytest.mark.parametrize("where", ["bytes 0-9/10", "bytes 1235-4999/5000", "", "items 1234-4999/5"])
def test_another_range_than_was_asked_for(registry: Scripted, where: str) -> None:
    """Bytes of elsewhere are not taken: all of it is asked for."""

    def script(handler: Handler) -> bool:
        if "Range" not in handler.headers:
            return False
        handler.answer(206, LAYER[1234:], Content_Range=where)
        return True

    registry.script = script
    assert got(registry, 1234) == LAYER[1234:]
    assert [head.get("range") for head in registry.headers] == ["bytes=1234-", None]


@pytest.mark.parametrize("how", ["parts", "none", "416", "elsewhere"])
def test_a_part(registry: Scripted, how: str) -> None:
    """A part is asked for by both its ends; who does not give just that gives none."""

    def script(handler: Handler) -> bool:
        if "/blobs/" not in handler.path or how == "parts":
            return False
        if how == "none":
            handler.answer(200, LAYER)
        elif how == "416":
            handler.answer(416, Content_Range="bytes */17")
        else:
            handler.answer(206, LAYER[1001:2000], Content_Range="bytes 1001-1999/5000")
        return True

    async def work(transport: DockerTransport) -> bytes:
        return b"".join([
            piece async for piece in transport.fetch_part(name(registry), blob(), 1000, 2000)
        ])  # fmt: skip

    registry.script = script
    if how == "parts":
        assert converse(work) == LAYER[1000:2000]
    else:
        with pytest.raises(Unsupported):
            converse(work)
    assert [head.get("range") for head in registry.headers] == ["bytes=1000-1999"]


def test_a_redirect(registry: Scripted) -> None:
    """Relative ones too, with all headers but the login; it stays with the registry's own host."""
    with Scripted().serving() as other:
        other.blobs[digest(LAYER)] = LAYER

        def script(handler: Handler) -> bool:
            if "Authorization" not in handler.headers:
                handler.answer(401, WWW_Authenticate="Basic realm=x")
            elif "/blobs/" in handler.path:
                handler.answer(307, Location=f"/elsewhere?d={digest(LAYER)}")
            elif handler.path.startswith("/elsewhere"):
                handler.answer(302, Location=f"http://{other.address}/v2/x/y/blobs/{digest(LAYER)}")
            return True

        registry.script = script
        assert got(registry, 10, LOGIN) == LAYER[10:]
        assert other.requests == [f"GET /v2/x/y/blobs/{digest(LAYER)}"]
        assert "authorization" not in other.headers[0]
        assert other.headers[0]["range"] == "bytes=10-"


def test_redirects_without_end(registry: Scripted) -> None:
    """Five are followed."""

    def script(handler: Handler) -> bool:
        handler.answer(307, Location=handler.path)
        return True

    registry.script = script
    with pytest.raises(DataLoss, match="more than 5 redirects"):
        got(registry)
    assert len(registry.requests) == 6


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_by_digest(registry: Scripted, algorithm: str) -> None:
    """A registry that names a manifest by another algorithm is asked for the bytes themselves."""
    kind, data = registry.manifests["1"]
    wanted = Digest.of(data, algorithm)
    registry.manifests[wanted] = (kind, data)
    reference = Reference(registry.address, "x/y", None, wanted)
    found = converse(lambda transport: transport.resolve(reference))
    assert (found.digest, found.size) == (wanted, len(data))
    registry.manifests[wanted] = (kind, b"another")
    with pytest.raises(DataLoss):
        converse(lambda transport: transport.resolve(reference))


@pytest.mark.parametrize("told", ["application/json", "", "text/plain; charset=utf-8", MANIFEST])
def test_a_media_type_that_says_nothing(registry: Scripted, told: str) -> None:
    """The document's own counts then."""
    kind, data = registry.manifests["1"]
    registry.manifests["1"] = (told, data)
    assert resolved(registry).media_type == kind


@pytest.mark.parametrize(
    ("told", "body"),
    [
        ("text/html", b"<html>a page of a proxy</html>"),
        ("application/json", b'{"schemaVersion": 2}'),
        ("application/json", b'{"mediaType": "application/vnd.cncf.helm.chart"}'),
        ("application/json", b"[" * 100_000),
    ],
)
def test_a_media_type_of_something_else(registry: Scripted, told: str, body: bytes) -> None:
    """It is said what it is."""
    registry.put("1", told, body)
    with pytest.raises(InvalidArgument, match=f"{told}: not an image"):
        resolved(registry)


@pytest.mark.parametrize(
    "told", ["application/vnd.docker.distribution.manifest.v1+prettyjws", "application/json"]
)
def test_schema_1(registry: Scripted, told: str) -> None:
    """Refused in Docker's words."""
    registry.put("1", told, b'{"schemaVersion": 1, "fsLayers": []}')
    with pytest.raises(InvalidArgument, match=f"Suggest the author of {registry.image} to upgrade"):
        resolved(registry)


def test_packed_answers(registry: Scripted) -> None:
    """Documents that nobody asked to be packed are refused; a blob's own bytes are what counts."""
    kind, data = registry.manifests["1"]

    def script(handler: Handler) -> bool:
        if "/blobs/" in handler.path:
            handler.answer(200, LAYER, Content_Encoding="gzip")
        elif handler.command == "HEAD":
            return False
        else:
            handler.answer(200, gzip.compress(data), Content_Type=kind, Content_Encoding="gzip")
        return True

    registry.script = script
    assert got(registry) == LAYER
    top = Descriptor(media_type=kind, digest=digest(data), size=len(data))
    with pytest.raises(DataLoss, match="packed"):
        converse(lambda it: fetched(it, name(registry), top))
    with pytest.raises(DataLoss, match="packed"):
        converse(lambda it: it.tags(name(registry)))


def test_warnings(registry: Scripted) -> None:
    """What a registry has to say is told once, and nothing of other kinds."""
    said: list[str] = []

    def script(handler: Handler) -> bool:
        if "/manifests/" not in handler.path:
            return False
        kind, data = registry.manifests["1"]
        warning = '299 - "gone \\"soon\\"", 110 anderson/1 "stale", 299 - "and \tthis"'
        handler.answer(
            200, data, Warning=warning, Content_Type=kind, Docker_Content_Digest=digest(data)
        )
        return True

    registry.script = script

    async def work(transport: DockerTransport) -> None:
        async with transport.session(name(registry), Session(say=said.append)):
            await transport.resolve(name(registry))
            await transport.resolve(name(registry))
        await transport.resolve(name(registry))

    converse(work)
    assert said == ['Warning: gone "soon"', "Warning: and this"]


def test_busy_for_ever(registry: Scripted) -> None:
    """429 is waited for a bounded number of times, and then said."""

    def script(handler: Handler) -> bool:
        body = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"later"}]}'
        handler.answer(429, body, Retry_After="1000000")
        return True

    registry.script = script
    with pytest.raises(Unavailable, match="toomanyrequests: later"):
        got_quickly(registry)
    assert len(registry.requests) == 5


def got_quickly(registry: Scripted) -> bytes:
    """Fetch the blob with waits of next to nothing."""
    return converse(lambda it: fetched(it, name(registry), blob()), waits="longest=0.01")


def test_silence(registry: Scripted) -> None:
    """A body that stops coming is given up, long before whoever sends it goes away."""
    over = threading.Event()

    def script(handler: Handler) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(LAYER)))
        handler.end_headers()
        handler.wfile.write(LAYER[:100])
        over.wait(20)
        handler.close_connection = True
        return True

    registry.script = script
    try:
        with pytest.raises(DeadlineExceeded):
            converse(
                lambda it: fetched(it, name(registry), blob()), waits="stall=0.2,head=0.2,pause=0"
            )
    finally:
        over.set()


# Pushing


def steps(registry: Scripted) -> list[str]:
    """The requests, with what changes from run to run left out."""
    return [re.sub(r"sha256:[0-9a-f]{64}|sha256%3A[0-9a-f]{64}", "D", one)
            for one in registry.requests]  # fmt: skip


UPLOAD = "/v2/x/y/blobs/uploads/"
WHOLE = [
    "HEAD /v2/x/y/blobs/D",
    f"POST {UPLOAD}",
    f"PUT {UPLOAD}1?state=a%2Fb&digest=D",
]


def test_an_upload(registry: Scripted) -> None:
    """Asked for, begun, and sent whole, where the step before says; never twice."""
    pushed(registry, b"new" * 999)
    assert steps(registry) == WHOLE
    assert [head["content-length"] for head in registry.headers[1:]] == ["0", "2997"]
    assert registry.blobs[digest(b"new" * 999)] == b"new" * 999
    pushed(registry, b"new" * 999)
    assert steps(registry)[3:] == WHOLE[:1]


def test_an_empty_blob(registry: Scripted) -> None:
    pushed(registry, b"")
    assert steps(registry) == WHOLE
    assert registry.blobs[digest(b"")] == b""


@pytest.mark.parametrize("root", ["http://{}", "https://{}:1", ""])
def test_odd_locations(registry: Scripted, root: str) -> None:
    """Of a registry that does not know how it is reached, only path and query count."""
    named = root.format(registry.address if root.count(":") == 1 else "127.0.0.1")

    def script(handler: Handler) -> bool:
        if handler.command != "POST":
            return False
        registry.uploads["1"] = bytearray()
        handler.answer(202, Location=f"{named}{UPLOAD}1?state=a%2Fb")
        return True

    registry.script = script
    pushed(registry, b"new")
    assert steps(registry) == WHOLE


def test_a_mount_that_is_refused(registry: Scripted) -> None:
    """202: the session that came in its place is used; 403: one is begun."""
    pushed(registry, b"new", "other/one")
    assert steps(registry)[1] == f"POST {UPLOAD}?mount=D&from=other%2Fone"
    assert steps(registry)[2:] == WHOLE[2:]
    registry.requests.clear()

    def script(handler: Handler) -> bool:
        if "mount=" in handler.path:
            handler.answer(403)
            return True
        return False

    registry.script = script
    pushed(registry, b"newer", "other/one")
    assert [one.split()[0] for one in registry.requests] == ["HEAD", "POST", "POST", "PUT"]


def test_a_mount_that_is_granted(registry: Scripted) -> None:
    """201: nothing is sent."""

    def script(handler: Handler) -> bool:
        if "mount=" in handler.path:
            handler.answer(201)
            return True
        return False

    registry.script = script
    mounted = converse(
        lambda it: it.push(name(registry), blob(b"new"), source(b"new"), None, ["other/one"])
    )
    assert mounted == "other/one"
    assert len(registry.requests) == 2


@pytest.mark.parametrize("last", [201, 202])
def test_several_to_mount_from(registry: Scripted, last: int) -> None:
    """What one repository has no more, the next one may have; uploads begun in vain are ended."""
    answers = iter((202, 403, last))

    def script(handler: Handler) -> bool:
        status = next(answers) if "mount=" in handler.path else 202
        if status != 202:
            handler.answer(status)
        return status != 202

    registry.script = script
    pushed(registry, b"new", "other/one", "other/two", "other/three")
    asked = [re.sub(r".*from=other%2F", "mount ", one) for one in steps(registry)]
    wanted = ["mount one", "mount two", "mount three"]
    assert asked[1:4] == wanted
    begun = [one.partition("?")[0] for one in asked[4:]]
    if last == 201:
        assert begun == [f"DELETE {UPLOAD}1"]
    else:
        assert begun == [f"DELETE {UPLOAD}2", f"PUT {UPLOAD}1"]
        assert registry.blobs[digest(b"new")] == b"new"


DIGITS = b"0123456789" * 1000
UNKNOWN = b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"gone"}]}'
Script = Callable[[Handler], bool]


def fails_at_first(registry: Scripted, then: Script, least: str = "", taken: int = 5000) -> Script:
    """Return a script: of the blob's bytes ``taken`` come through, then ``then`` has the word."""
    first = iter((True,))

    def script(handler: Handler) -> bool:
        if handler.command == "POST":
            name = str(len(registry.uploads) + 1)
            registry.uploads[name] = bytearray()
            handler.answer(202, Location=f"{UPLOAD}{name}", OCI_Chunk_Min_Length=least)
            return True
        if handler.command == "PUT" and next(first, False):
            length = int(handler.headers["Content-Length"])
            registry.uploads["1"] += handler.rfile.read(length)[:taken]
            handler.answer(503)
            return True
        return then(handler)

    return script


def ranges(registry: Scripted) -> list[str]:
    """What the chunks said they were."""
    return [head["content-range"] for head in registry.headers if "content-range" in head]


def methods(registry: Scripted) -> list[str]:
    """The methods of all requests."""
    return [one.split()[0] for one in registry.requests]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks that these blobs have several of."""
    monkeypatch.setattr(uploads, "CHUNK", 2000)
    monkeypatch.setattr(uploads, "CHUNK_LEAST", 500)
    monkeypatch.setattr(uploads, "CHUNK_MOST", 8000)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("least", "chunks"),
    [
        ("", ["5000-6999", "7000-8999", "9000-9999"]),
        ("1999", ["5000-6999", "7000-8999", "9000-9999"]),
        ("4096", ["5000-9095", "9096-9999"]),
        ("5000", ["5000-9999"]),
        ("5001", ["5000-9999"]),
        ("8001", ["5000-9999"]),
        ("much", ["5000-6999", "7000-8999", "9000-9999"]),
        ("9" * 5000, ["5000-6999", "7000-8999", "9000-9999"]),
    ],
)
def test_an_upload_goes_on(registry: Scripted, least: str, chunks: list[str]) -> None:
    """After a fault the registry is asked how far it got. The rest comes in chunks, of which only
    the last is smaller than OCI-Chunk-Min-Length."""
    registry.script = fails_at_first(registry, lambda _: False, least)
    pushed(registry, DIGITS)
    asked = ["HEAD", "POST", "PUT", "GET", *("PATCH" for _ in chunks), "PUT"]
    assert methods(registry) == asked
    assert ranges(registry) == chunks
    assert registry.headers[-1]["content-length"] == "0"
    assert registry.blobs[digest(DIGITS)] == DIGITS


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("how", ["416", "some of it", "503"])
def test_a_chunk_that_is_not_taken(registry: Scripted, how: str) -> None:
    """The registry says in Location and Range from where on it wants which bytes."""
    third = iter((False, True))

    def script(handler: Handler) -> bool:
        if handler.command != "PATCH" or not next(third, False):
            return False
        got = registry.uploads.pop("1")
        got += handler.rfile.read(int(handler.headers["Content-Length"]))[:700]
        registry.uploads["moved"] = got
        status = {"416": 416, "some of it": 202, "503": 503}[how]
        handler.answer(status, Location=f"{UPLOAD}moved", Range=f"0-{len(got) - 1}")
        return True

    def moved(handler: Handler) -> bool:
        if handler.command == "GET" and "moved" in registry.uploads:
            got = registry.uploads["moved"]
            handler.answer(204, Location=f"{UPLOAD}moved", Range=f"0-{len(got) - 1}")
            return True
        return script(handler)

    registry.script = fails_at_first(registry, moved)
    pushed(registry, DIGITS)
    assert ranges(registry)[:4] == ["5000-6999", "7000-8999", "7700-8199", "8200-8699"]
    assert registry.requests[-1].startswith(f"PUT {UPLOAD}moved?digest=")
    assert registry.blobs[digest(DIGITS)] == DIGITS


@pytest.mark.usefixtures("small")
def test_bodies_that_are_too_large(registry: Scripted) -> None:
    """413, as a proxy says it: smaller chunks are tried, down to a least."""

    def limited(limit: int) -> Script:
        def script(handler: Handler) -> bool:
            length = int(handler.headers.get("Content-Length", "0"))
            if length <= limit:
                return False
            handler.rfile.read(length)
            handler.answer(413, b"<html>Request Entity Too Large</html>")
            return True

        return script

    registry.script = limited(1000)
    pushed(registry, DIGITS)
    assert ranges(registry)[:3] == ["0-1999", "0-499", "500-999"]
    assert registry.blobs.pop(digest(DIGITS)) == DIGITS
    registry.requests.clear()
    registry.script = limited(400)
    with pytest.raises(InvalidArgument, match="status: 413"):
        pushed(registry, DIGITS)
    assert methods(registry).count("PATCH") == 4


@pytest.mark.usefixtures("small")
def test_a_line_that_breaks_ever_again(registry: Scripted) -> None:
    """As long as chunks get through it goes on, more often than attempts are made at one."""
    cut = itertools.cycle((False, True))

    def script(handler: Handler) -> bool:
        if handler.command == "PATCH" and next(cut):
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return True
        return False

    registry.script = fails_at_first(registry, script)
    pushed(registry, DIGITS)
    assert methods(registry).count("GET") > ATTEMPTS
    assert registry.blobs[digest(DIGITS)] == DIGITS


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_an_upload_that_is_forgotten(registry: Scripted, method: str) -> None:
    """404 to a session: another one is begun, from the first byte."""
    gone = iter((True,))

    def script(handler: Handler) -> bool:
        if handler.command == method and next(gone, False):
            handler.rfile.read(int(handler.headers["Content-Length"]))
            registry.uploads.clear()
            handler.answer(404, UNKNOWN)
            return True
        return False

    registry.script = script if method == "PUT" else fails_at_first(registry, script)
    pushed(registry, DIGITS)
    assert registry.blobs[digest(DIGITS)] == DIGITS
    again = ["GET", "HEAD", "POST", "PATCH", "PUT"]
    before = [] if method == "PUT" else ["GET", "PATCH"]
    assert methods(registry) == ["HEAD", "POST", "PUT", *before, *again]


def test_an_upload_whose_end_was_lost(registry: Scripted) -> None:
    """The blob is there, the session is gone: nothing is sent twice."""
    data = b"new" * 999

    def script(handler: Handler) -> bool:
        if handler.command != "PUT":
            return False
        if registry.uploads:
            handler.rfile.read(int(handler.headers["Content-Length"]))
            registry.blobs[digest(data)] = data
            registry.uploads.clear()
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
        else:
            handler.answer(404)
        return True

    registry.script = script
    pushed(registry, data)
    assert methods(registry) == ["HEAD", "POST", "PUT", "GET", "HEAD"]


def test_a_manifest(registry: Scripted) -> None:
    """Its own media type, under its tag; what a registry stored otherwise is an error."""
    data = json.dumps({"schemaVersion": 2, "config": described("x", b"")}).encode()
    top = Descriptor(media_type=MANIFEST, digest=digest(data), size=len(data))
    converse(lambda transport: transport.push(name(registry), top, source(data)))
    assert registry.requests == ["PUT /v2/x/y/manifests/1"]
    assert registry.headers[0]["content-type"] == MANIFEST

    def script(handler: Handler) -> bool:
        handler.rfile.read(int(handler.headers["Content-Length"]))
        handler.answer(201, Docker_Content_Digest=digest(b"another"))
        return True

    registry.script = script
    with pytest.raises(DataLoss, match="stored it as"):
        converse(lambda transport: transport.push(name(registry), top, source(data)))


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("127.0.0.1:1", "registry 127.0.0.1:1: cannot connect: Connection refused"),
        ("nowhere.invalid", "registry nowhere.invalid: cannot connect: "),
    ],
)
def test_a_host_that_is_not_there(host: str, words: str) -> None:
    """The system's words, and none of the library's."""
    name = Reference.parse(f"{host}/x/y:1")
    with pytest.raises(Unavailable) as caught:
        converse(lambda transport: transport.resolve(name), waits="0.02")
    assert str(caught.value).startswith(words)
    assert "ssl" not in str(caught.value)
