"""The API of registries as clients see it: push's stream, `/distribution`, `/auth`."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.tar.archives import archive, entry
from tests.support.engine import Engine
from tests.support.http import Answer
from tests.support.scripted import INDEX, MANIFEST, Handler, Scripted, described, digest

pytestmark = pytest.mark.root

LAYER = archive(entry("file", data=b"x"))


@pytest.fixture
def registry() -> Iterator[Scripted]:
    """A registry with an image of one layer."""
    with Scripted(LAYER).serving() as one:
        yield one


def push(house: Engine, name: str, tag: str) -> list[dict[str, Any]]:
    """Push over the API; returns the stream."""
    path = f"/images/{quote(name, safe='')}/push?tag={tag}"
    answer = house.api("POST", path, headers={"X-Registry-Auth": "e30="}, timeout=60)
    assert answer.status == 200
    return [json.loads(line) for line in answer.body.splitlines() if line]


def test_the_stream_of_a_push(clean_engine: Engine, registry: Scripted) -> None:
    """Docker's lines in Docker's order, and `aux` with what the registry has now."""
    name = f"{registry.address}/x/y"
    clean_engine.docker("tag", "busybox", f"{name}:new")
    said = push(clean_engine, name, "new")
    assert said[0] == {"status": f"The push refers to repository [{name}]"}
    (key,) = {one["id"] for one in said if "id" in one}
    steps = [one["status"] for one in said if one.get("id") == key]
    assert (steps[0], steps[-1]) == ("Preparing", "Pushed")
    assert set(steps) <= {"Preparing", "Waiting", "Compressing", "Pushing", "Pushed"}
    moving = [one["progressDetail"] for one in said if one.get("status") == "Pushing"]
    assert moving[-1]["current"] == moving[-1]["total"]
    kind, body = registry.manifests["new"]
    size, found = len(body), digest(body)
    assert said[-2] == {"status": f"new: digest: {found} size: {size}"}
    aux = {"Tag": "new", "Digest": found, "Size": size}
    assert said[-1] == {"progressDetail": {}, "aux": aux}
    assert json.loads(body)["mediaType"] == kind
    again = push(clean_engine, name, "new")
    steps = [one["status"] for one in again if one.get("id") == key]
    assert (steps[-1], "Pushing" in steps) == ("Layer already exists", False)
    assert again[-1]["aux"] == aux


@pytest.mark.parametrize("step", ["POST", "manifests"])
def test_a_push_that_is_refused(clean_engine: Engine, registry: Scripted, step: str) -> None:
    """What the registry says is shown, with its code; nothing is said to be there."""
    body = b'{"errors":[{"code":"DENIED","message":"the quota of x is used up"}]}'

    def script(handler: Handler) -> bool:
        if handler.command in ("POST", "PUT") and step in (handler.command + handler.path):
            handler.rfile.read(int(handler.headers.get("Content-Length", "0")))
            handler.answer(403, body)
            return True
        return False

    registry.script = script
    name = f"{registry.address}/x/y"
    clean_engine.docker("tag", "busybox", f"{name}:new")
    said = push(clean_engine, name, "new")
    assert said[-1]["error"] == "denied: the quota of x is used up"
    assert said[-1]["errorDetail"] == {"message": said[-1]["error"]}
    assert not any("aux" in one for one in said)
    assert "new" not in registry.manifests
    shown = clean_engine.api("GET", f"/images/{quote(f'{name}:new', safe='')}/json").json()
    assert shown["RepoDigests"] == []


def distribution(house: Engine, name: str) -> Answer:
    """Ask what a registry says of a name."""
    return house.api("GET", f"/distribution/{quote(name, safe='')}/json")


def test_distribution(clean_engine: Engine, registry: Scripted) -> None:
    """The descriptor of the top and all platforms: of an index from it, else from the config."""
    config = json.loads(registry.config) | {"architecture": "arm", "variant": "v7"}
    config["os.version"] = "1.2"
    data = json.dumps(config).encode()
    registry.blobs[digest(data)] = data
    document = json.loads(registry.manifests["1"][1])
    document["config"] |= {"digest": digest(data), "size": len(data)}
    body = json.dumps(document).encode()
    registry.put("arm", MANIFEST, body)
    arm = {"architecture": "arm", "os": "linux", "os.version": "1.2", "variant": "v7"}
    shown = distribution(clean_engine, f"{registry.address}/x/y:arm").json()
    assert shown == {"Descriptor": described(MANIFEST, body), "Platforms": [arm]}
    amd = {"architecture": "amd64", "os": "linux"}
    index = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [
                described(MANIFEST, registry.manifests["1"][1], platform=amd),
                described(MANIFEST, body, platform=arm),
            ],
        }
    ).encode()
    registry.put("both", INDEX, index)
    for name in ("x/y:both", f"x/y@{digest(index)}"):
        shown = distribution(clean_engine, f"{registry.address}/{name}").json()
        assert shown == {"Descriptor": described(INDEX, index), "Platforms": [amd, arm]}
    asked = [one for one in registry.requests if digest(registry.layers[0]) in one]
    assert asked == []
    gone = distribution(clean_engine, f"{registry.address}/x/y:none")
    assert (gone.status, "manifest unknown" in gone.message) == (404, True)


def test_auth(clean_engine: Engine, registry: Scripted) -> None:
    """A login is tried where it is for; what is wrong is 401 with the registry's words."""
    right = "Basic " + base64.b64encode(b"me:secret").decode()

    def script(handler: Handler) -> bool:
        if handler.headers.get("Authorization") == right:
            return False
        body = b'{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}'
        handler.answer(401, body, WWW_Authenticate="Basic realm=x")
        return True

    registry.script = script

    def login(**fields: str) -> Answer:
        body = {"serveraddress": registry.address, **fields}
        return clean_engine.api("POST", "/auth", body)

    good = {"username": "me", "password": "secret"}
    for fields in (good, {"auth": base64.b64encode(b"me:secret").decode()},
                   good | {"serveraddress": f"http://{registry.address}/v2/"}):  # fmt: skip
        answer = login(**fields)
        assert answer.json() == {"Status": "Login Succeeded", "IdentityToken": ""}
    wrong = login(username="me", password="wrong")
    assert (wrong.status, wrong.message) == (401, "unauthorized: who are you")
    assert login().status == 400
    assert login(auth="@").status == 400
    assert login(**good, registrytoken="a\r\nb").status == 400
    assert set(registry.requests) == {"GET /v2/"}
