"""Lists of a registry: tags page by page, and what refers to a manifest. Bounded, and in order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from boxwood.errors import DataLoss, TooLarge
from boxwood.model.descriptor import Descriptor
from boxwood.model.digest import Digest
from boxwood.model.reference import Reference
from boxwood_plugins.registry.docker import listing
from tests.support.scripted import INDEX, MANIFEST, Handler, Scripted, described, digest
from tests.support.transports import converse

SIGNATURE, BILL = "application/x.signature", "application/x.bill"
ABOUT = digest(b"about")


@pytest.fixture
def registry() -> Iterator[Scripted]:
    """A registry that has no list yet."""
    with Scripted().serving() as one:
        yield one


def tags(registry: Scripted) -> list[str]:
    """Ask for the tags."""
    return converse(lambda transport: transport.tags(Reference.parse(registry.image)))


def referrers(registry: Scripted, artifact_type: str = "") -> list[Descriptor]:
    """Ask what is about ABOUT."""
    name, subject = Reference.parse(registry.image), Digest.parse(ABOUT)
    return converse(lambda transport: transport.referrers(name, subject, artifact_type))


def entry(name: str, artifact_type: str) -> dict[str, Any]:
    """An entry of an index of referrers."""
    return described(MANIFEST, name.encode(), artifactType=artifact_type)


def index(*entries: dict[str, Any]) -> bytes:
    """An index of referrers."""
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()


def says(body: bytes) -> Callable[[Handler], bool]:
    """A script that always gives the same answer."""

    def script(handler: Handler) -> bool:
        handler.answer(200, body, Content_Type=INDEX)
        return True

    return script


def digests(*names: str) -> list[str]:
    """The digests of entries."""
    return [digest(name.encode()) for name in names]


@pytest.mark.parametrize("host", ["", "http://a-name-that-only-the-registry-knows:5000"])
def test_tags_page_by_page(registry: Scripted, host: str) -> None:
    """Each page names the next; who is named as its host is not asked."""
    pages = {
        "/v2/x/y/tags/list?n=1000": (["c", "a"], f'<{host}/v2/x/y/tags/list?last=a>; rel="next"'),
        "/v2/x/y/tags/list?last=a": (["b", "a"], "</other>; rel=up, </v2/last>; rel=next"),
        "/v2/last": (None, ""),
    }  # fmt: skip

    def script(handler: Handler) -> bool:
        found, link = pages[handler.path]
        handler.answer(200, json.dumps({"name": "x/y", "tags": found}).encode(), Link=link)
        return True

    registry.script = script
    assert tags(registry) == ["a", "b", "c"]
    assert registry.requests == [f"GET {path}" for path in pages]


@pytest.mark.parametrize(
    ("page", "link", "error"),
    [
        ({"tags": ["a"]}, "</v2/x/y/tags/list?n=1000>; rel=next", DataLoss),
        ({"tags": []}, "</v2/x/y/tags/list?last={}>; rel=next", TooLarge),
        ({"tags": [f"t{n}" for n in range(100_001)]}, "", TooLarge),
        ({"tags": ["a" * 9_000_000]}, "", DataLoss),
        ({"tags": {"a": 1}}, "", DataLoss),
        ({"tags": [1]}, "", DataLoss),
    ],
)  # fmt: skip
def test_lists_that_do_not_end(
    registry: Scripted, monkeypatch: pytest.MonkeyPatch, page: Any, link: str, error: type
) -> None:
    """Pages in a circle, pages without end, a million tags, tags that are none: refused."""
    monkeypatch.setattr(listing, "PAGES_LIMIT", 20)
    body, count = json.dumps(page).encode(), iter(range(1000))

    def script(handler: Handler) -> bool:
        handler.answer(200, body, Link=link.format(next(count)))
        return True

    registry.script = script
    with pytest.raises(error):
        tags(registry)
    assert len(registry.requests) <= 20


@pytest.mark.parametrize("filters", [True, False])
def test_referrers(registry: Scripted, filters: bool) -> None:
    """Asked for with their type; left out here where the registry does not filter."""
    both = [entry("s", SIGNATURE), entry("b", BILL)]

    def script(handler: Handler) -> bool:
        chosen = both[:1] if filters and "artifactType=" in handler.path else both
        handler.answer(200, index(*chosen), Content_Type=INDEX)
        return True

    registry.script = script
    assert [one.digest for one in referrers(registry)] == digests("s", "b")
    assert [one.digest for one in referrers(registry, SIGNATURE)] == digests("s")
    assert registry.requests == [
        f"GET /v2/x/y/referrers/{ABOUT}",
        f"GET /v2/x/y/referrers/{ABOUT}?artifactType={SIGNATURE}",
    ]


def test_referrers_by_tag(registry: Scripted) -> None:
    """A registry without the API keeps them under a tag made of the digest."""
    tag = ABOUT.replace(":", "-")
    assert referrers(registry) == []
    registry.put(tag, INDEX, index(entry("s", SIGNATURE), entry("b", BILL)))
    assert [one.digest for one in referrers(registry, BILL)] == digests("b")
    assert registry.requests[-2:] == [
        f"GET /v2/x/y/referrers/{ABOUT}?artifactType={BILL}",
        f"GET /v2/x/y/manifests/{tag}",
    ]
    registry.put(tag, MANIFEST, b"{}")  # somebody's image, which is named like that
    assert referrers(registry) == []


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"manifests":[5]}', b'{"manifests":' * 5000])
def test_referrers_that_are_none(registry: Scripted, body: bytes) -> None:
    """What is no index is refused."""
    registry.script = says(body)
    with pytest.raises(DataLoss):
        referrers(registry)


def test_too_many_referrers(registry: Scripted) -> None:
    """Whoever may push may add some: there is an end to those that are looked at."""
    body = index(*(entry(str(number), SIGNATURE) for number in range(1001)))
    registry.script = says(body)
    with pytest.raises(TooLarge):
        referrers(registry)
