"""What registries write, in headers and documents: read, or refused by an error of ours."""

from __future__ import annotations

import asyncio
import contextlib
import json
from urllib.parse import urlsplit

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from boxwood.errors import BoxwoodError, DataLoss, InvalidArgument
from boxwood.model.descriptor import Descriptor
from boxwood.model.registries import parse_registries
from boxwood_plugins.extension import _cosign_bundle, _cosign_claims
from boxwood_plugins.registry.docker import auth
from boxwood_plugins.registry.docker.addresses import Resolver, Unsafe, internal, led, own_path
from boxwood_plugins.registry.docker.answers import Waits
from boxwood_plugins.registry.docker.client import retry_after
from boxwood_plugins.registry.docker.proxies import Proxies
from boxwood_plugins.registry.docker.uploads import RANGE
from tests.support import signing

pytestmark = pytest.mark.property

HOME = "https://registry.example:5000"
PIECES = [
    "http:", "https:", "//", "/", "\\", "@", ":", "?", "#", "%", "%2f", "[", "]", "::1", ".",
    "127.0.0.1", "localhost", "registry.example", ":5000", "evil.example", "\r\n", "\t", " ",
    "..", "0x7f",
    "file:", "\u2024", "x",
]  # fmt: skip
locations = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=9).map("".join)
WORDS = [
    "Bearer", "Basic", " ", ",", "=", '"', "\\", "realm", "service", "scope", "x", "a b", "\t",
]  # fmt: skip
challenges = st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=20).map("".join)


@given(locations)
def test_where_a_registry_leads(text: str) -> None:
    """A web address of another machine, or of the registry itself; else refused."""
    try:
        target, strict = led(HOME, HOME, text, Resolver(strict=False))
    except Unsafe:
        return
    parts = urlsplit(target)
    assert (parts.scheme, parts.username) == ("https", None)
    assert target.isascii()
    assert target.isprintable()
    assert " " not in target
    with contextlib.suppress(ValueError):
        assert not internal(parts.hostname or "")
    assert strict or parts.hostname == "registry.example"


@given(locations)
@example("https://registry.example//evil.example/x")
def test_paths_of_a_registrys_own(text: str) -> None:
    """They begin with a slash, and put after the host they are still its."""
    try:
        path = own_path(f"{HOME}/v2/x/tags/list", text)
    except Unsafe:
        return
    assert path.startswith("/")
    assert path.isascii()
    assert path.isprintable()
    assert urlsplit(HOME + path).netloc == urlsplit(HOME).netloc


@given(st.lists(challenges, max_size=3))
@example(['Basic realm="x", Bearer realm="y",service="z \\" w"'])
def test_challenges(headers: list[str]) -> None:
    """Bearer or basic, with parameters of text; or none that we meet."""
    found = auth.challenge(headers)
    assert found is None or found.scheme in ("bearer", "basic")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
KEYS = st.sampled_from(["token", "access_token", "refresh_token", "expires_in", "x"])


@given(st.dictionaries(KEYS, JSON).map(msgspec.json.encode) | st.binary(max_size=30))
@example(b'{"token": "a\\r\\nHost: evil"}')
@example(b'{"token": "a", "refresh_token": "\\u0000"}')
@example(b'{"token": "a", "expires_in": 1e400}')
def test_tokens(body: bytes) -> None:
    """What can stand in a header, and ends some time; else an error."""
    try:
        token, refresh = auth.token_of(body, "https://x")
    except DataLoss:
        return
    for text in (token.text, refresh):
        assert text.isascii()
        assert text.isprintable()
    assert token.text
    assert token.fresh


@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_the_registries_file(data: bytes) -> None:
    """Any file is read or refused."""
    with contextlib.suppress(InvalidArgument):
        parse_registries(data, "f")


@given(st.text(max_size=20), st.sampled_from(["http://x.example/", "https://[::1]:5000/"]))
def test_exceptions_from_proxies(text: str, url: str) -> None:
    """Any NO_PROXY is read."""
    assert Proxies({"https-proxy": "p:1", "no-proxy": text}, {}).of(url) is None
    with contextlib.suppress(BoxwoodError):
        Proxies({"http-proxy": text}, {}).of(url)


NUMBERS = ["nan", "inf", "-1", "9" * 5000, "1e999", "Tue, 24 Nov 99999 20:00:00 GMT", "0.5"]


@given(st.sampled_from(NUMBERS) | st.text(max_size=30), st.integers(0, 4))
@example("nan", 0)
@example("Fri, 31 Dec 9999 23:59:59 -2359", 0)
def test_how_long_a_registry_may_ask_us_to_wait(text: str, attempt: int) -> None:
    """Between nothing and the longest; what is no number and no date is not heeded."""
    waits = Waits(longest=7)
    assert 0 <= retry_after(text, attempt, waits) <= 7


@given(st.lists(st.sampled_from(["bytes ", "0", "-", "/", "*", "9" * 5000, "1" * 18]), max_size=6))
def test_ranges(parts: list[str]) -> None:
    """Numbers that can be read, or none."""
    found = RANGE.match("".join(parts))
    assert found is None or (int(found[1]), int(found[2])) >= (0, 0)


SHAPES = {
    "mediaType": st.sampled_from([signing.BUNDLE, ""]),
    "verificationMaterial": st.just({"publicKey": {}}),
    "publicKey": st.just({}),
    "dsseEnvelope": st.just(signing.envelope(b"{}", b"x")),
    "messageSignature": st.just({"signature": "eA=="}),
    "payloadType": st.just(signing.IN_TOTO),
    "payload": st.sampled_from(["", "e30=", "e30", "\ud800"]),
    "signatures": st.just([{"sig": "eA=="}]),
    "signature": st.just("eA=="),
    "messageDigest": st.just({"algorithm": "SHA2_256"}),
    "_type": st.just("https://in-toto.io/Statement/v1"),
    "predicateType": st.just(signing.PREDICATE),
    "subject": st.just([{"digest": {"sha256": "0" * 64}}]),
    "critical": st.just({"type": "", "image": {}, "identity": {}}),
}


def _changed(keys: tuple[str, ...]) -> st.SearchStrategy[dict[str, object]]:
    """Objects of these keys: each as it should be, as anything, or left out."""
    return st.fixed_dictionaries({}, optional={key: SHAPES[key] | JSON for key in keys})


DOCUMENTS = st.one_of(
    st.binary(max_size=20),
    JSON.map(json.dumps).map(str.encode),
    _changed(("mediaType", "verificationMaterial", "dsseEnvelope", "messageSignature"))
    .map(json.dumps).map(str.encode),
    _changed(("payloadType", "payload", "signatures"))
    .map(lambda one: signing.bundle(dsseEnvelope=one)),
    _changed(("signature", "messageDigest")).map(lambda one: signing.bundle(messageSignature=one)),
    _changed(("_type", "predicateType", "subject"))
    .map(lambda one: signing.bundle(dsseEnvelope=signing.envelope(json.dumps(one).encode(), b"x"))),
    _changed(("critical",)).map(json.dumps).map(str.encode),
)  # fmt: skip


@given(DOCUMENTS)
@example(signing.bundle(mediaType=[]))
@example(signing.bundle(dsseEnvelope=signing.envelope(signing.statement("a:b", _type={}), b"x")))
def test_signatures(data: bytes) -> None:
    """A claim, or one error of ours; what is not of the image never says that it is."""

    async def manifest() -> bytes:
        return b"{}"

    digest = f"sha256:{'1' * 64}"
    for claim in (
        lambda: asyncio.run(_cosign_bundle.claim(data, digest, manifest)),
        lambda: _cosign_claims.simple(Descriptor(annotations=NOTES), data, digest),
    ):
        try:
            found = claim()
        except InvalidArgument:
            continue
        if found.message != b"{}":
            with pytest.raises(InvalidArgument):
                found.identity()


NOTES = {_cosign_claims.ANNOTATION: "eA=="}
