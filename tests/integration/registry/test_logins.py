"""Logins at Debian's docker-registry: a token server's, and passwords over TLS; what is kept."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import trustme

from tests.support.engine import Engine
from tests.support.needs import need_program
from tests.support.registry import serving
from tests.support.tokens import TokenServer

pytestmark = pytest.mark.root

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def house(clean_engine: Engine) -> Iterator[Engine]:
    """The shared engine; the name that a test gave goes."""
    yield clean_engine
    for image in clean_engine.api("GET", "/images/json?all=1").json():
        for name in (*image["RepoTags"], *image["RepoDigests"]):
            if name.startswith("127.0.0.1:"):
                clean_engine.api("DELETE", f"/images/{quote(name, safe='')}?force=1")


@pytest.fixture(params=["docker", "boxwood"])
def run(request: pytest.FixtureRequest, house: Engine, tmp_path: Path) -> Run:
    """One of the two command lines, with a configuration of its own."""
    kept = str(tmp_path / "config")
    own = {"DOCKER_CONFIG": kept, "BOXWOOD_CONFIG": kept}
    program = house.docker if request.param == "docker" else house.cli
    return lambda *args, **more: program(*args, env=own, **more)


def kept(tmp_path: Path, address: str) -> dict[str, Any]:
    """What config.json has of a registry."""
    file = tmp_path / "config/config.json"
    assert file.stat().st_mode & 0o777 == 0o600
    found: dict[str, Any] = json.loads(file.read_text())["auths"].get(address, {})
    return found


def walk(run: Run, address: str) -> None:
    """Refused, logged in, pushed, pulled, logged out, refused."""
    name, login = f"{address}/mine/box:1", ("login", "-u", "me", "--password-stdin", address)
    run("tag", "busybox", name)
    denied = run("push", name, check=False)
    assert (denied.returncode, "authentication required" in denied.stderr) == (1, True)
    wrong = run(*login, input="wrong", check=False)
    assert (wrong.returncode, "unauthorized" in wrong.stderr) == (1, True), wrong.stderr
    assert "Login Succeeded" in run(*login, input="secret").stdout
    assert "digest: sha256:" in run("push", name).stdout
    run("rmi", name)
    assert "Downloaded newer image" in run("pull", name).stdout
    run("rmi", name)


def test_a_token_server(run: Run, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """An identity token is kept in the password's place, and is enough for all that follows."""
    with TokenServer(tmp_path).serving() as tokens, serving(tokens.settings) as registry:
        walk(run, registry.address)
        entry = kept(tmp_path, registry.address)
        assert entry["identitytoken"] in tokens.lasting
        assert "secret" not in base64.b64decode(entry.get("auth", "")).decode()
        grants = [fields for method, fields in tokens.asked if method == "POST"]
        assert {fields["grant_type"][0] for fields in grants} == {"refresh_token"}
        scopes = {fields["scope"][0] for fields in grants if "scope" in fields}
        assert scopes == {"repository:mine/box:pull", "repository:mine/box:pull,push"}
        if "boxwood" in request.node.name:  # Docker's client asks for a password all the same
            assert "Login Succeeded" in run("login", registry.address).stdout
            assert kept(tmp_path, registry.address) == entry
        run("logout", registry.address)
        assert kept(tmp_path, registry.address) == {}
        denied = run("pull", f"{registry.address}/mine/box:1", check=False)
        assert "pull access denied" in denied.stderr


def test_a_password_over_tls(run: Run, tmp_path: Path) -> None:
    """TLS from the first byte on, with the registry's own list of passwords."""
    words, certificate = tmp_path / "htpasswd", tmp_path / "registry.pem"
    with words.open("w") as file:
        subprocess.run(
            [need_program("htpasswd"), "-nbB", "-C", "4", "me", "secret"], check=True, stdout=file
        )
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        str(certificate)
    )
    settings = {
        "auth": {"htpasswd": {"realm": "here", "path": str(words)}},
        "http": {"tls": {"certificate": str(certificate), "key": str(certificate)}},
    }
    with serving(settings) as registry:
        walk(run, registry.address)
        auth = base64.b64decode(kept(tmp_path, registry.address)["auth"]).decode()
        assert auth == "me:secret"
        run("logout", registry.address)
        assert kept(tmp_path, registry.address) == {}
