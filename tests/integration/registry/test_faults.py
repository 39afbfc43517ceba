"""What registries may do to a pull: each ends in the right image or one clear error."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest

from boxwood.model.digest import Digest
from tests.integration.tar.archives import archive, entry
from tests.support.engine import Engine
from tests.support.needs import until
from tests.support.pulls import error_of, first_layer, is_here, nothing_kept, pull
from tests.support.scripted import INDEX, MANIFEST, Handler, Scripted, described, digest

pytestmark = pytest.mark.root

BIG = archive(entry("big", data=os.urandom(3 << 20)))
SMALL = archive(entry("small", data=b"small"))


@pytest.fixture
def house(clean_engine: Engine) -> Iterator[Engine]:
    """The shared engine; nothing is kept for a next pull."""
    with nothing_kept(clean_engine) as one:
        yield one


@pytest.fixture
def registry() -> Iterator[Scripted]:
    """A registry with an image of two layers."""
    with Scripted(BIG, SMALL).serving() as one:
        yield one


def test_a_cut_is_resumed(house: Engine, registry: Scripted) -> None:
    """From the byte where it broke off; what is there is not asked for again."""
    cuts = iter((700_000, 1_000_000))

    def script(handler: Handler) -> bool:
        if first_layer(registry) in handler.path and "Range" not in handler.headers:
            handler.cut(registry.layers[0], next(cuts))
            return True
        return False

    registry.script = script
    assert error_of(pull(house, registry.image)) == ""
    assert is_here(house, registry.image)
    ranges = [head["range"] for head in registry.headers if "range" in head]
    assert ranges == ["bytes=700000-"]


def test_a_registry_that_always_cuts(house: Engine, registry: Scripted) -> None:
    """A bounded number of attempts, one error, no image; the next pull fetches the rest."""
    part = len(registry.layers[0]) // 2

    def script(handler: Handler) -> bool:
        if first_layer(registry) in handler.path:
            if "Range" in handler.headers:
                handler.answer(503, Retry_After="0")
            else:
                handler.cut(registry.layers[0], part)
            return True
        return False

    registry.script = script
    assert error_of(pull(house, registry.image))
    assert not is_here(house, registry.image)
    registry.script = lambda _: False
    registry.headers.clear()
    assert error_of(pull(house, registry.image)) == ""
    assert is_here(house, registry.image)
    assert [head["range"] for head in registry.headers if "range" in head] == [f"bytes={part}-"]


def test_the_next_daemon_goes_on(make_engine: Callable[..., Engine], registry: Scripted) -> None:
    """What came before the daemon was killed is not fetched again."""
    house = make_engine(busybox=False)
    part, hold = 1_000_000, threading.Event()

    def script(handler: Handler) -> bool:
        if first_layer(registry) in handler.path:
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(registry.layers[0])))
            handler.end_headers()
            handler.wfile.write(registry.layers[0][:part])
            handler.wfile.flush()
            hold.wait(20)
            handler.close_connection = True
            return True
        return False

    registry.script = script
    file = house.data_root / "content/partial" / digest(registry.layers[0]).replace(":", "-")
    with ThreadPoolExecutor(1) as others:
        asking = others.submit(pull, house, registry.image)
        until(lambda: file.exists() and file.stat().st_size == part, "a part is here")
        house.kill()
        hold.set()
        with pytest.raises(Exception):  # noqa: B017 - the daemon has gone
            asking.result()
    registry.script = lambda _: False
    registry.headers.clear()
    house.start()
    assert error_of(pull(house, registry.image)) == ""
    assert [head["range"] for head in registry.headers if "range" in head] == [f"bytes={part}-"]
    assert not file.exists()


def test_wrong_bytes(house: Engine, registry: Scripted) -> None:
    """They are neither kept nor visible, and the next pull is right."""
    wrong = bytearray(registry.layers[0])
    wrong[len(wrong) // 2] ^= 1

    def script(handler: Handler) -> bool:
        if first_layer(registry) in handler.path:
            handler.blob(bytes(wrong))
            return True
        return False

    registry.script = script
    assert error_of(pull(house, registry.image))
    assert not is_here(house, registry.image)
    partial = house.data_root / "content/partial"
    assert not (partial / digest(registry.layers[0]).replace(":", "-")).exists()
    registry.script = lambda _: False
    assert error_of(pull(house, registry.image)) == ""
    assert is_here(house, registry.image)
    assert not list(partial.iterdir())


@pytest.mark.parametrize("part", [1000, 1_000_000, None])
def test_wrong_bytes_of_long_ago(house: Engine, registry: Scripted, part: int | None) -> None:
    """What was kept turns out wrong when all is here: all of it is fetched afresh, at once."""
    layer = registry.layers[0]
    wrong = bytearray(layer[:part])
    wrong[len(wrong) // 2] ^= 1
    kept = house.data_root / "content/partial" / digest(layer).replace(":", "-")
    kept.write_bytes(wrong)
    assert error_of(pull(house, registry.image)) == ""
    assert is_here(house, registry.image)
    asked = [
        head.get("range", "all")
        for head, line in zip(registry.headers, registry.requests, strict=True)
        if first_layer(registry) in line
    ]
    # A decompressor may find it out before the rest is asked for.
    assert asked[-1] == "all"
    assert asked in (["all"], [f"bytes={part}-", "all"])
    assert not kept.exists()


def test_what_was_unpacked_is_kept(house: Engine, registry: Scripted) -> None:
    """A layer that was verified in a pull that failed is not fetched again."""
    first, second = (digest(layer) for layer in registry.layers)
    stored = house.data_root / "content/blobs/sha256" / first.partition(":")[2]

    def script(handler: Handler) -> bool:
        if second in handler.path:
            until(stored.exists, "the first layer is here")
            handler.answer(404)
            return True
        return False

    registry.script = script
    assert error_of(pull(house, registry.image))
    assert not is_here(house, registry.image)
    until(lambda: not stored.exists(), "nothing of it is left but what was fetched")
    registry.script = lambda _: False
    registry.requests.clear()
    assert error_of(pull(house, registry.image)) == ""
    assert registry.asked("GET", first) == []
    assert len(registry.asked("GET", second)) == 1
    assert not list((house.data_root / "content/partial").iterdir())


def test_digests_of_sha512(house: Engine, registry: Scripted) -> None:
    """Layers, config and manifest by the other algorithm: verified, and resumed, just the same."""
    document = json.loads(registry.manifests["1"][1])
    for part in (document["config"], *document["layers"]):
        data = registry.blobs[part["digest"]]
        part["digest"] = str(Digest.of(data, "sha512"))
        registry.blobs[part["digest"]] = data
    body = json.dumps(document).encode()
    name = f"{registry.address}/x/y@{Digest.of(body, 'sha512')}"
    registry.manifests[name.partition("@")[2]] = (MANIFEST, body)
    layer, wrong = registry.layers[0], bytearray(registry.layers[0])
    wrong[-100] ^= 1
    where, sent = f"/blobs/{Digest.of(layer, 'sha512')}", bytes(wrong)

    def script(handler: Handler) -> bool:
        if where not in handler.path or "Range" in handler.headers:
            return False
        handler.cut(sent, 1_000_000) if sent == layer else handler.blob(sent)
        return True

    registry.script = script
    assert error_of(pull(house, name)) != ""
    assert not is_here(house, name)
    sent = layer
    assert error_of(pull(house, name)) == ""
    assert [head["range"] for head in registry.headers if "range" in head] == ["bytes=1000000-"]
    assert is_here(house, name)


def test_a_document_that_breaks_off(house: Engine, registry: Scripted) -> None:
    """It is asked for again, a bounded number of times."""
    cuts = iter((5, 0))
    where = f"/blobs/{digest(registry.config)}"

    def script(handler: Handler) -> bool:
        if where in handler.path and (part := next(cuts, -1)) >= 0:
            handler.cut(registry.config, part)
            return True
        return False

    registry.script = script
    assert error_of(pull(house, registry.image)) == ""
    assert len(registry.asked("GET", where)) == 3


def test_a_document_of_other_bytes(house: Engine, registry: Scripted) -> None:
    """As many attempts, one error."""
    where = f"/blobs/{digest(registry.config)}"

    def script(handler: Handler) -> bool:
        if where in handler.path:
            handler.answer(200, registry.config.replace(b"linux", b"l1nux"))
            return True
        return False

    registry.script = script
    assert "wrong bytes" in error_of(pull(house, registry.image))
    assert len(registry.asked("GET", where)) == 3


def test_more_than_was_announced(house: Engine, registry: Scripted) -> None:
    """An endless layer is cut off at its size."""
    endless = registry.layers[0] + b"more" * 100_000

    def script(handler: Handler) -> bool:
        if first_layer(registry) in handler.path:
            handler.answer(200, endless)
            return True
        return False

    registry.script = script
    assert "more than its" in error_of(pull(house, registry.image))
    assert not is_here(house, registry.image)


def test_a_token(house: Engine, registry: Scripted) -> None:
    """Asked for with the scope, shown to the registry alone, renewed when it is refused."""
    tokens: list[str] = []

    def script(handler: Handler) -> bool:
        if handler.path.startswith("/token"):
            tokens.append(f"t{len(tokens)}")
            handler.answer(200, json.dumps({"token": tokens[-1]}).encode())
            return True
        fresh = handler.headers.get("Authorization") == f"Bearer {tokens[-1] if tokens else ''}"
        expired = first_layer(registry) in handler.path and len(tokens) == 1
        if not fresh or expired:
            realm = f'Bearer realm="http://{registry.address}/token",service="here"'
            handler.answer(401, WWW_Authenticate=f'{realm},scope="repository:x/y:pull"')
            return True
        return False

    registry.script = script
    assert error_of(pull(house, registry.image)) == ""
    asked = registry.asked("GET", "/token")
    # Each of the two layers may have been on its way with the old one.
    assert 2 <= len(tokens) <= 4
    assert all("scope=repository:x/y:pull" in one.replace("%3A", ":").replace("%2F", "/")
               for one in asked)  # fmt: skip


def test_the_password_goes_to_nobody_else(house: Engine, registry: Scripted) -> None:
    """A realm on another host is refused before anything is sent (CVE-2020-15157).

    Defence: ``auth.check_realm``. The other host here is this one by another name.
    """
    port = registry.address.rpartition(":")[2]

    def script(handler: Handler) -> bool:
        if handler.path.startswith("/token"):
            handler.answer(200, b'{"token":"t"}')
            return True
        if "Authorization" not in handler.headers:
            realm = f'Bearer realm="http://localhost:{port}/token",service="here"'
            handler.answer(401, WWW_Authenticate=realm)
            return True
        return False

    registry.script = script
    login = "eyJ1c2VybmFtZSI6Im1lIiwicGFzc3dvcmQiOiJzZWNyZXQifQ"
    answer = pull(house, registry.image, headers={"X-Registry-Auth": login})
    assert "wants the password sent to localhost" in error_of(answer)
    assert registry.asked("GET", "/token") == []
    # Without a login there is nothing to lose, and nothing to refuse.
    assert error_of(pull(house, registry.image)) == ""


def test_a_redirect_takes_no_credentials_along(house: Engine, registry: Scripted) -> None:
    """Blobs may lie elsewhere; who keeps them does not learn the login.

    Defence: ``client._Request._follow`` compares the hosts.
    """
    with Scripted(BIG, SMALL).serving() as other:
        other_port = other.address.rpartition(":")[2]

        def script(handler: Handler) -> bool:
            if "Authorization" not in handler.headers:
                handler.answer(401, WWW_Authenticate='Basic realm="here"')
            elif first_layer(registry) in handler.path:
                where = f"http://127.0.0.1:{other_port}/v2/x/y{first_layer(registry)}"
                handler.answer(307, Location=where)
            else:
                return False
            return True

        registry.script = script
        login = "eyJ1c2VybmFtZSI6Im1lIiwicGFzc3dvcmQiOiJzZWNyZXQifQ"
        answer = pull(house, registry.image, headers={"X-Registry-Auth": login})
        assert error_of(answer) == ""
        assert other.asked("GET", first_layer(registry))
        assert all("authorization" not in head for head in other.headers)


@pytest.mark.parametrize(
    "location",
    ["http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "unix:///run/x.sock", ""],
)
def test_a_redirect_to_where_it_must_not_lead(
    house: Engine, registry: Scripted, location: str
) -> None:
    """The metadata address of a cloud, files, sockets: refused, and said."""

    def script(handler: Handler) -> bool:
        if first_layer(registry) in handler.path:
            handler.answer(307, Location=location)
            return True
        return False

    registry.script = script
    assert "leads to" in error_of(pull(house, registry.image))
    assert not is_here(house, registry.image)


def test_busy(house: Engine, registry: Scripted) -> None:
    """429 with Retry-After is waited for, 500 is tried again."""
    answers = iter((429, 500))

    def script(handler: Handler) -> bool:
        status = next(answers, 0) if "/manifests/" in handler.path else 0
        if status:
            handler.answer(status, Retry_After="0")
        return bool(status)

    registry.script = script
    assert error_of(pull(house, registry.image)) == ""


def test_two_readings_of_one_document(house: Engine, registry: Scripted) -> None:
    """A document that is an index and a manifest is refused (CVE-2021-41190)."""
    kind, data = registry.manifests["1"]
    both = {**json.loads(data), "manifests": [described(kind, data)]}
    registry.put("both", MANIFEST, json.dumps(both).encode())
    answer = pull(house, f"{registry.address}/x/y:both")
    assert "both an index and a manifest" in error_of(answer)


def test_the_platform_of_an_index(house: Engine, registry: Scripted) -> None:
    """This machine's is chosen, attestations are passed over, another one is said to be missing."""
    kind, data = registry.manifests["1"]
    unknown = {"architecture": "unknown", "os": "unknown"}
    about = {"vnd.docker.reference.type": "attestation-manifest"}
    own = {"architecture": "amd64", "os": "linux"}
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [
            described(kind, b"{}", platform={"architecture": "arm64", "os": "linux"}),
            described(kind, b"{} ", platform=unknown),
            described(kind, b"{}  ", platform=own, annotations=about),
            described(kind, data, platform=own),
        ],
    }
    top = registry.put("many", INDEX, json.dumps(index).encode())
    name = f"{registry.address}/x/y:many"
    assert error_of(pull(house, name)) == ""
    shown = house.api("GET", f"/images/{quote(name, safe='')}/json").json()
    assert shown["RepoDigests"] == [f"{registry.address}/x/y@{top}"]
    missing = house.api(
        "POST",
        f"/images/create?fromImage={quote(f'{registry.address}/x/y', safe='')}&tag=many"
        "&platform=linux/s390x",
    )
    assert "s390x" in error_of(missing)


@pytest.mark.parametrize("where", ["/manifests/", "/blobs/"])
def test_words_that_are_no_text(house: Engine, registry: Scripted, where: str) -> None:
    """Documents and refusals that are not even UTF-8: one error, in words."""
    rubbish = b'{"errors":[{"code":"\xe2(","message":"\xff"}],"mediaType":"\xe2("}'
    registry.put("rubbish", MANIFEST, rubbish)

    def script(handler: Handler) -> bool:
        if handler.command == "GET" and "/blobs/" in handler.path:
            handler.answer(400, rubbish)
            return True
        return False

    registry.script = script
    name = f"{registry.address}/x/y:{'rubbish' if where == '/manifests/' else '1'}"
    error = error_of(pull(house, name))
    assert "invalid start byte" in error or "continuation" in error or "HTTP status: 400" in error
