"""Logins as config.json and helper programs keep them: found, stored, erased, and not mistaken."""

from __future__ import annotations

import base64
import fcntl
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from boxwood.cli import logins
from boxwood.cli.errors import CliError

AUTH = base64.b64encode(b"me:se:cret").decode()
LOGIN = {"username": "me", "password": "se:cret"}
HELPER = """#!/bin/sh
# Keeps logins as JSON in files that are named by a sum of the server.
cd "$KEPT" || exit 2
said=$(cat)
printf '%s %s\\n' "$1" "$said" >> log
name() { printf %s "$1" | md5sum | cut -c1-32; }
case $1 in
  store) server=${said#*'"ServerURL":"'}; printf %s "$said" > "$(name "${server%%'"'*}")" ;;
  get) cat "$(name "$said")" 2>/dev/null ||
    { echo "credentials not found in native keychain"; exit 1; } ;;
  erase) rm "$(name "$said")" ;;
  list) cat list 2>/dev/null || { echo "cannot list"; exit 1; } ;;
esac
"""


class Kept:
    """What of a command's context the logins see."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.config_dir, self.config = str(folder), config

    def forget_config(self) -> None:
        """Read it again."""
        self.config = json.loads(Path(self.config_dir, "config.json").read_text())


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The helper `test`; returns the folder that it keeps things in."""
    program, kept = tmp_path / "bin/docker-credential-test", tmp_path / "kept"
    program.parent.mkdir()
    kept.mkdir()
    program.write_text(HELPER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("KEPT", str(kept))
    return kept


def found(ctx: Any, server: str) -> dict[str, Any]:
    """The login without the server."""
    login = logins.find(ctx, server)
    assert login.pop("serveraddress", server) == server
    return login


@pytest.mark.parametrize(
    ("key", "server"),
    [
        ("x.example", "x.example"),
        ("https://x.example", "x.example"),
        ("https://x.example/v1/", "x.example"),
        ("x.example:5000", "x.example:5000"),
        ("https://index.docker.io/v1/", logins.HUB),
        ("docker.io", logins.HUB),
    ],
)
def test_under_which_key(tmp_path: Path, key: str, server: str) -> None:
    """A host's own, and what older clients wrote."""
    ctx: Any = Kept(tmp_path, auths={key: {"auth": AUTH}})
    assert found(ctx, server) == LOGIN
    assert logins.forget(ctx, server)
    assert json.loads((tmp_path / "config.json").read_text()) == {"auths": {}}
    assert not logins.forget(ctx, server)


@pytest.mark.parametrize(
    "key", ["x.example.evil", "evil/x.example", "x.example:5000", "https://evil/https://x.example"]
)
def test_nobody_elses(tmp_path: Path, key: str) -> None:
    """Another host's login is never taken."""
    ctx: Any = Kept(tmp_path, auths={key: {"auth": AUTH}})
    assert found(ctx, "x.example") == {}


def test_an_identity_token(tmp_path: Path) -> None:
    """In the password's place, with what else is in the file left as it was."""
    ctx: Any = Kept(tmp_path / "new", psFormat="{{.ID}}", auths={"y": {"auth": AUTH, "odd": 1}})
    assert logins.keep(ctx, "x.example", "me", "secret", "token")
    file = tmp_path / "new/config.json"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert "secret" not in base64.b64decode(ctx.config["auths"]["x.example"]["auth"]).decode()
    assert found(ctx, "x.example") == {"identitytoken": "token"}
    assert ctx.config["psFormat"] == "{{.ID}}"
    assert ctx.config["auths"]["y"] == {"auth": AUTH, "odd": 1}


def test_a_link_stays_one(tmp_path: Path) -> None:
    """The file that it leads to is replaced, whole; nothing is left beside it."""
    (tmp_path / "dotfiles").mkdir()
    (tmp_path / "config.json").symlink_to("dotfiles/mine.json")
    (tmp_path / "dotfiles/mine.json").write_text("{}")
    ctx: Any = Kept(tmp_path)
    logins.keep(ctx, "x.example", "me", "se:cret")
    assert (tmp_path / "config.json").is_symlink()
    assert os.listdir(tmp_path / "dotfiles") == ["mine.json"]
    assert found(ctx, "x.example") == LOGIN


def test_a_login_meanwhile(tmp_path: Path) -> None:
    """What came into the file since it was read stays there, whatever it is."""
    file = tmp_path / "config.json"
    file.write_text('{"auths": {"y.example": {"auth": "eTp6"}}, "odd": {"deep": [1, null]}}')
    ctx: Any = Kept(tmp_path)  # read when there was nothing
    logins.keep(ctx, "x.example", "me", "se:cret")
    assert ctx.config["auths"] == {"y.example": {"auth": "eTp6"}, "x.example": {"auth": AUTH}}
    assert ctx.config["odd"] == {"deep": [1, None]}
    file.write_text(file.read_text().replace("y.example", "z.example"))
    assert logins.forget(ctx, "x.example")
    assert json.loads(file.read_text())["auths"] == {"z.example": {"auth": "eTp6"}}


def test_many_at_once(tmp_path: Path) -> None:
    """None is lost, and at each moment the file is whole."""
    names = [f"r{number}.example" for number in range(20)]

    def keep(server: str) -> None:
        ctx: Any = Kept(tmp_path)
        logins.keep(ctx, server, "me", "se:cret")
        json.loads((tmp_path / "config.json").read_text())

    with ThreadPoolExecutor(5) as others:
        list(others.map(keep, names))
    kept = json.loads((tmp_path / "config.json").read_text())["auths"]
    assert sorted(kept) == sorted(names)
    assert os.listdir(tmp_path) == ["config.json"]


@pytest.mark.parametrize("text", ['{"auths": {', "[]", "\0"])
def test_a_file_that_is_broken(tmp_path: Path, text: str) -> None:
    """It is not replaced by one that holds a login alone."""
    (tmp_path / "config.json").write_text(text)
    ctx: Any = Kept(tmp_path)
    with pytest.raises(CliError, match="cannot be read, and is not written"):
        logins.keep(ctx, "x.example", "me", "secret")
    assert (tmp_path / "config.json").read_text() == text
    assert os.listdir(tmp_path) == ["config.json"]


@pytest.mark.root
def test_whose_it_stays(tmp_path: Path) -> None:
    """A login by root leaves the file to whom it belongs; nobody else reads it any more."""
    file = tmp_path / "config.json"
    file.write_text("")
    file.chmod(0o644)
    os.chown(file, 1234, 1235)
    ctx: Any = Kept(tmp_path)
    logins.keep(ctx, "x.example", "me", "secret")
    assert ctx.config["auths"].keys() == {"x.example"}
    state = file.stat()
    assert (state.st_uid, state.st_gid, state.st_mode & 0o777) == (1234, 1235, 0o600)


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """One sentence, and what was there stays."""
    (tmp_path / "config.json").mkdir()
    ctx: Any = Kept(tmp_path)
    with pytest.raises(CliError, match="write "):
        logins.keep(ctx, "x.example", "me", "secret")
    assert os.listdir(tmp_path) == ["config.json"]


def test_a_broken_entry(tmp_path: Path) -> None:
    """It is no login, and its bytes are not shown."""
    ctx: Any = Kept(tmp_path, auths={"x.example": {"auth": "@@secret@@"}})
    with pytest.raises(CliError) as caught:
        logins.find(ctx, "x.example")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("setting", ["credsStore", "credHelpers"])
def test_a_helper(tmp_path: Path, helper: Path, setting: str) -> None:
    """get, store, erase: the server and the login go to its input, nothing to its arguments."""
    chosen = "test" if setting == "credsStore" else {"x.example": "test"}
    ctx: Any = Kept(tmp_path, **{setting: chosen})
    assert found(ctx, "x.example") == {}
    assert not logins.forget(ctx, "x.example")
    assert not logins.keep(ctx, "x.example", "me", "se:cret")
    assert found(ctx, "x.example") == LOGIN
    assert not logins.keep(ctx, "x.example", "me", "secret", "token")
    assert found(ctx, "x.example") == {"identitytoken": "token"}
    assert logins.forget(ctx, "x.example")
    assert found(ctx, "x.example") == {}
    assert not (tmp_path / "config.json").exists()
    verbs = [line.split()[0] for line in (helper / "log").read_text().splitlines()]
    assert {"get", "store", "erase", "list"} == set(verbs)


def test_a_helper_that_spells_it_otherwise(tmp_path: Path, helper: Path) -> None:
    """list: what it knows by a scheme or a path is found."""
    ctx: Any = Kept(tmp_path, credsStore="test")
    logins.keep(ctx, "https://x.example/v2/", "me", "se:cret")
    (helper / "list").write_text(json.dumps({"https://x.example/v2/": "me", "y.example": "you"}))
    assert found(ctx, "x.example") == LOGIN


def test_a_helper_with_another_login(tmp_path: Path, helper: Path) -> None:
    """A login of somebody else is not sent (CVE-2021-41092 class)."""
    ctx: Any = Kept(tmp_path, credsStore="test")
    logins.keep(ctx, "x.example", "me", "secret")
    for file in helper.iterdir():
        file.write_text(file.read_text().replace("x.example", "other.example"))
    with pytest.raises(CliError, match=r"has the login of other\.example"):
        logins.find(ctx, "x.example")


@pytest.mark.parametrize("chosen", ["no-such-helper", "../bin/test", "/bin/sh"])
def test_a_helper_that_is_not_there(tmp_path: Path, chosen: str) -> None:
    """An error: not the file's login, and none of another registry (CVE-2019-1020014)."""
    auths = {"x.example": {"auth": AUTH}, logins.HUB: {"auth": AUTH}}
    ctx: Any = Kept(tmp_path, credsStore=chosen, auths=auths)
    with pytest.raises(CliError):
        logins.find(ctx, "x.example")
    with pytest.raises(CliError):
        logins.keep(ctx, "x.example", "me", "secret")
    assert not (tmp_path / "config.json").exists()


def test_a_helper_for_one_registry_alone(tmp_path: Path, helper: Path) -> None:
    """The others' logins are in the file."""
    ctx: Any = Kept(
        tmp_path, credHelpers={"x.example": "test"}, auths={"y.example": {"auth": AUTH}}
    )
    assert found(ctx, "x.example") == {}
    assert found(ctx, "y.example") == LOGIN
    assert "y.example" not in (helper / "log").read_text()


def test_a_lock_that_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for without end."""
    monkeypatch.setattr(logins, "LOCK_TRIES", 2)
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        ctx: Any = Kept(tmp_path)
        with pytest.raises(CliError, match="keeps it locked"):
            logins.keep(ctx, "x.example", "me", "secret")
    finally:
        os.close(folder)
    assert os.listdir(tmp_path) == []
