"""Mirrors with logins of their own: from a file or a helper, shown to nobody else."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from boxwood.drivers.registry import Credentials
from boxwood.errors import BoxwoodError
from boxwood.model.descriptor import OCI_LAYER, Descriptor
from boxwood.model.reference import Reference
from boxwood.model.registries import parse_registries
from boxwood.testing.registry_kit import fetched
from boxwood_plugins.registry.docker import client, logins
from boxwood_plugins.registry.docker.transport import DockerTransport
from tests.support.registry import serving
from tests.support.scripted import Handler, Scripted, digest
from tests.support.tokens import TokenServer
from tests.support.transports import converse

LAYER = b"layer"
BLOB = Descriptor(media_type=OCI_LAYER, digest=digest(LAYER), size=len(LAYER))
HERE = Reference.parse("far.example/home/box:1")
MINE = Credentials("somebody", "private")
"""The login of who pulls, for the registry itself."""


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


def login_file(path: Path, **auths: str) -> Path:
    """Write logins as Docker's client keeps them."""
    entries = {
        host: {"auth": base64.b64encode(one.encode()).decode()} for host, one in auths.items()
    }
    path.write_text(json.dumps({"auths": entries}))
    path.chmod(0o600)
    return path


def options(registry: Scripted, mirror: str, login: str) -> dict[str, str]:
    """far.example is at the registry, with a mirror before it."""
    text = (
        f'[registry."far.example"]\nlocation = "{registry.address}"\n'
        f'mirrors = [{{location = "{mirror}", {login}}}]'
    )
    found = parse_registries(text.encode(), "registries.toml")
    return {"registries": msgspec.json.encode(found).decode()}


def closed(wanted: str) -> Callable[[Handler], bool]:
    """A script that lets in only who shows an authorization."""

    def script(handler: Handler) -> bool:
        if handler.headers.get("Authorization") == wanted:
            return False
        handler.answer(401, WWW_Authenticate="Basic realm=x")
        return True

    return script


def shown(server: Scripted) -> set[str]:
    """What authorizations a server has seen."""
    return {head["authorization"] for head in server.headers if "authorization" in head}


@pytest.fixture
def registry() -> Iterator[Scripted]:
    """What stands in for far.example; its login is that of who pulls."""
    with Scripted(name="home/box").serving() as one:
        one.blobs[digest(LAYER)] = LAYER
        one.script = closed(basic("somebody:private"))
        yield one


@pytest.fixture
def mirror() -> Iterator[Scripted]:
    """A mirror that lets in who has its own login. It has no layer."""
    with Scripted(name="home/box").serving() as one:
        one.script = closed(basic("house:own"))
        yield one


def test_each_gets_its_own(registry: Scripted, mirror: Scripted, tmp_path: Path) -> None:
    """The mirror's login goes to the mirror, that of who pulls to the registry; never crosswise."""
    file = login_file(tmp_path / "logins.json", **{mirror.address: "house:own", "x.example": "a:b"})
    settings = options(registry, mirror.address, f'credentials = "{file}"')
    assert converse(lambda it: it.resolve(HERE, MINE), **settings) is not None
    assert registry.requests == []
    assert converse(lambda it: fetched(it, HERE, BLOB, 0, MINE), **settings) == LAYER
    assert shown(mirror) == {basic("house:own")}
    assert shown(registry) == {basic("somebody:private")}


def test_nobody_else_s_is_a_mirror_s(registry: Scripted, mirror: Scripted, tmp_path: Path) -> None:
    """The same host named as a registry is none's mirror: it sees no login of this machine."""
    file = login_file(tmp_path / "logins.json", **{mirror.address: "house:own"})
    settings = options(registry, mirror.address, f'credentials = "{file}"')
    with pytest.raises(BoxwoodError):
        converse(lambda it: it.resolve(Reference.parse(mirror.image)), **settings)
    assert shown(mirror) == set()


def test_a_token_server(registry: Scripted, tmp_path: Path) -> None:
    """A real registry as the mirror: its token server is shown the login, the registry is not."""
    with TokenServer(tmp_path).serving() as tokens, serving(tokens.settings) as mirror:

        async def source(offset: int) -> AsyncIterator[bytes]:
            yield LAYER[offset:]

        name = Reference.parse(f"{mirror.address}/home/box:1")
        converse(lambda it: it.push(name, BLOB, source, Credentials("me", "secret")))
        file = login_file(tmp_path / "logins.json", **{mirror.address: "me:secret"})
        settings = options(registry, mirror.address, f'credentials = "{file}"')
        assert converse(lambda it: fetched(it, HERE, BLOB, 0, MINE), **settings) == LAYER
        assert registry.requests == []
        assert tokens.asked[-1][1]["account"] == ["me"]


async def twice(it: DockerTransport) -> None:
    """Ask for the image two times."""
    await it.resolve(HERE, MINE)
    await it.resolve(HERE, MINE)


def helper(folder: Path, body: str) -> None:
    """Write the program docker-credential-house."""
    program = folder / "docker-credential-house"
    program.write_text(f"#!/bin/sh\nread -r host; echo \"$1 $host\" >>'{folder}/asked'\n{body}\n")
    program.chmod(0o755)


def test_a_helper(
    registry: Scripted, mirror: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked by `get` for the mirror's host, once for many requests."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    helper(tmp_path, """echo '{"ServerURL": "x", "Username": "house", "Secret": "own"}'""")
    settings = options(registry, mirror.address, 'helper = "house"')
    converse(twice, **settings)
    assert registry.requests == []
    assert (tmp_path / "asked").read_text() == f"get {mirror.address}\n"


@pytest.mark.parametrize(
    "body",
    ["exit 1", "echo no JSON", "echo '{}'", "head -c 1000000 /dev/zero", "exec sleep 1000"],
)
def test_helpers_that_do_not_help(
    registry: Scripted,
    mirror: Scripted,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    body: str,
) -> None:
    """The mirror is not asked, the registry is; nothing waits for ever, or twice."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(logins, "PATIENCE", 0.3 if "sleep" in body else 30)
    helper(tmp_path, body)
    settings = options(registry, mirror.address, 'helper = "house"')
    converse(twice, **settings)
    assert mirror.requests == []
    assert (tmp_path / "asked").read_text() == f"get {mirror.address}\n"


def test_no_such_helper(registry: Scripted, mirror: Scripted) -> None:
    settings = options(registry, mirror.address, 'helper = "not-there"')
    assert converse(lambda it: it.resolve(HERE, MINE), **settings) is not None
    assert mirror.requests == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("mode", "others may read or write it (mode 0644"),
        ("none", "no login for"),
        ("empty", "no login for"),
        ("JSON", "not of the form"),
        ("base64", "not base64"),
        ("missing", "No such file"),
        ("fifo", "not a regular file"),
        ("large", "larger than"),
    ],
)
def test_files_that_will_not_do(
    registry: Scripted,
    mirror: Scripted,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    wrong: str,
    words: str,
) -> None:
    """Said in the log; the mirror is not asked without a login, nothing of the file is shown."""
    file = login_file(tmp_path / "logins.json", **{mirror.address: "house:own"})
    match wrong:
        case "mode":
            file.chmod(0o644)
        case "none":
            login_file(file, **{"another.example": "house:own"})
        case "empty":
            login_file(file, **{mirror.address: "house:"})
        case "JSON":
            file.write_text('{"auths": {"own": "own"')
        case "base64":
            file.write_text(json.dumps({"auths": {mirror.address: {"auth": "own!"}}}))
        case "missing":
            file.unlink()
        case "fifo":
            file.unlink()
            os.mkfifo(file, 0o600)
        case "large":
            file.write_bytes(b" " * (logins.LIMIT + 1))
    settings = options(registry, mirror.address, f'credentials = "{file}"')
    assert converse(lambda it: it.resolve(HERE, MINE), **settings) is not None
    assert mirror.requests == []
    assert words in caplog.text
    assert "own" not in caplog.text.replace("owner", "").replace("own user", "")


def leading(place: str) -> Callable[[Handler], bool]:
    """A script that sends who has shown a login somewhere else."""

    def script(handler: Handler) -> bool:
        if "Authorization" in handler.headers:
            handler.answer(307, Location=place)
        else:
            handler.answer(401, WWW_Authenticate="Basic realm=x")
        return True

    return script


def fishing(place: str) -> Callable[[Handler], bool]:
    """A script that names another party's token server."""

    def script(handler: Handler) -> bool:
        handler.answer(401, WWW_Authenticate=f'Bearer realm="{place}"')
        return True

    return script


@pytest.mark.parametrize("attack", [leading, fishing])
def test_what_a_mirror_leads_to_sees_no_login(
    registry: Scripted,
    mirror: Scripted,
    tmp_path: Path,
    attack: Callable[[str], Callable[[Handler], bool]],
) -> None:
    """Neither by a redirect nor as a token server, neither this machine's nor the other one."""
    with Scripted().serving() as victim:
        port = victim.address.rpartition(":")[2]
        mirror.script = attack(f"http://localhost:{port}/secret")
        file = login_file(tmp_path / "logins.json", **{mirror.address: "house:own"})
        settings = options(registry, mirror.address, f'credentials = "{file}"')
        converse(lambda it: it.resolve(HERE, MINE), **settings)
        assert mirror.requests != []
        assert shown(victim) == set()


@pytest.mark.parametrize("guarded", [True, False])
def test_a_push_is_nobody_s(
    registry: Scripted,
    mirror: Scripted,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    guarded: bool,
) -> None:
    """A login of this machine does not write for who has none; without the guard it would."""
    if not guarded:
        monkeypatch.setattr(client, "_reads", lambda _: True)
    file = login_file(tmp_path / "logins.json", **{mirror.address: "house:own"})
    settings = options(registry, mirror.address, f'credentials = "{file}", push = true')

    async def source(offset: int) -> AsyncIterator[bytes]:
        yield b"new"[offset:]

    new = Descriptor(media_type=OCI_LAYER, digest=digest(b"new"), size=3)
    if guarded:
        with pytest.raises(BoxwoodError):
            converse(lambda it: it.push(HERE, new, source), **settings)
    else:
        converse(lambda it: it.push(HERE, new, source), **settings)
    assert (digest(b"new") in mirror.blobs) is not guarded
