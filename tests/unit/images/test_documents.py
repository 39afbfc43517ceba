"""Which manifests are here for names with digests: as reading all of them each time would say."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxwood.model.digest import Digest
from boxwood.services.images.documents import Documents, documents_below
from boxwood.store.content import ContentStore

LEAVES = [json.dumps({"schemaVersion": 2, "x": at}).encode() for at in range(3)]
INDEXES = [
    json.dumps(
        {
            "schemaVersion": 2,
            "manifests": [
                {"mediaType": "m", "digest": str(Digest.of(leaf)), "size": len(leaf)}
                for leaf in leaves
            ],
        }
    ).encode()
    for leaves in (LEAVES[:2], LEAVES[1:])
]
EVERY = [*LEAVES, *INDEXES]
MISSING = b"{}"


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> ContentStore:
    store = ContentStore(tmp_path_factory.mktemp("content"))
    for document in EVERY:
        store.put(document)
    return store


def names_of(repository: int, document: bytes) -> str:
    return f"docker.io/library/r{repository}@{Digest.of(document)}"


def slowly(content: ContentStore, names: set[str]) -> set[Digest]:
    found: set[Digest] = set()
    for name in names:
        top = Digest.parse(name.partition("@")[2])
        if content.has(top):
            found |= {top, *documents_below(content, top)}
    return found


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 1), st.sampled_from([*EVERY, MISSING])),
        max_size=20,
    )
)
def test_names_come_and_go(content: ContentStore, steps: list[tuple[bool, int, bytes]]) -> None:
    names: set[str] = set()
    index = Documents(content, names)
    for adding, repository, document in steps:
        name = names_of(repository, document)
        if adding:
            names.add(name)
            index.add(name)
        else:
            before = slowly(content, names)
            names.discard(name)
            assert index.drop(name) == before - slowly(content, names)
        assert index.all() == slowly(content, names)
    assert Documents(content, names).all() == index.all()


def test_names_without_a_digest_stand_for_nothing(content: ContentStore) -> None:
    index = Documents(content, ["docker.io/library/r0:latest"])
    index.add("docker.io/library/r1:latest")
    assert index.all() == set()
    assert index.drop("docker.io/library/r1:latest") == set()
