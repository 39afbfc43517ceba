"""Logins for registries: `config.json` as Docker's clients keep it, and their helper programs."""

from __future__ import annotations

import base64
import os

from boxwood.cli.errors import CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from boxwood.cli.context import Context

HUB = "https://index.docker.io/v1/"
HELPER_SECONDS = 30
LOCK_TRIES = 100
"""Tenths of a second that another program's lock is waited for."""


def server_of(text: str) -> str:
    """The key that a registry's login is kept under."""
    host = text.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return HUB if host in ("", "docker.io", "index.docker.io") else host


def find(ctx: Context, server: str) -> dict[str, Any]:
    """The login for a registry, as the API takes it; {} for none. Raises CliError."""
    if helper := _helper(ctx, server):
        found = _from_helper(helper, server)
        if not found.get("Secret"):
            return {}
        if found.get("Username") == "<token>":
            return {"identitytoken": found["Secret"], "serveraddress": server}
        record = {"username": found.get("Username", ""), "password": found["Secret"]}
        return {**record, "serveraddress": server}
    entry = _entry(ctx, server)
    if entry.get("identitytoken"):
        return {"identitytoken": entry["identitytoken"], "serveraddress": server}
    if not entry.get("auth"):
        return {}
    try:
        text = base64.b64decode(entry["auth"], validate=True).decode()
    except ValueError:
        raise CliError(f"config.json: auths: {server}: not base64 of USER:PASSWORD") from None
    user, _, password = text.partition(":")
    return {"username": user, "password": password.rstrip("\0"), "serveraddress": server}


def _entry(ctx: Context, server: str) -> dict[str, Any]:
    """What `auths` has of a server: under its own key, or one with a scheme or a path."""
    auths = ctx.config.get("auths") or {}
    keys = [server, *(key for key in auths if server_of(key) == server)]
    found: Any = next((auths[key] for key in keys if key in auths), {})
    return found if isinstance(found, dict) else {}


def _from_helper(helper: str, server: str) -> dict[str, Any]:
    """What a helper has of a server; one that knows it by another spelling is asked for that."""
    found = _ask(helper, "get", server)
    if not found:
        known = _ask(helper, "list", "")
        others = [key for key in known if key != server and server_of(key) == server]
        found = _ask(helper, "get", others[0]) if others else {}
    if found.get("ServerURL") and server_of(found["ServerURL"]) != server:
        raise CliError(f"credential helper {helper}: has the login of {found['ServerURL']} instead")
    return found


def keep(ctx: Context, server: str, user: str, password: str, token: str = "") -> bool:
    """Store a login; whether it lies unencrypted in a file now. Raises CliError."""
    if helper := _helper(ctx, server):
        name, secret = ("<token>", token) if token else (user, password)
        _ask(helper, "store", {"ServerURL": server, "Username": name, "Secret": secret})
        return False
    entry = {"auth": base64.b64encode(f"{user}:{'' if token else password}".encode()).decode()}
    if token:
        entry["identitytoken"] = token

    def added(auths: dict[str, Any]) -> dict[str, Any]:
        return {**auths, server: entry}

    _change(ctx, added)
    return True


def forget(ctx: Context, server: str) -> bool:
    """Remove a login; whether there was one. Raises CliError."""
    if helper := _helper(ctx, server):
        there = bool(_ask(helper, "get", server))
        if there:
            _ask(helper, "erase", server)
        return there
    if not any(server_of(key) == server for key in ctx.config.get("auths") or {}):
        return False

    def without(auths: dict[str, Any]) -> dict[str, Any]:
        return {key: entry for key, entry in auths.items() if server_of(key) != server}

    _change(ctx, without)
    return True


def _helper(ctx: Context, server: str) -> str:
    """The program that keeps this registry's login; empty: the file does."""
    chosen = (ctx.config.get("credHelpers") or {}).get(server) or ctx.config.get("credsStore")
    if not chosen:
        return ""
    if "/" in chosen:
        raise CliError(f"config.json: credential helper: {chosen}: must be a name, not a path")
    return f"docker-credential-{chosen}"


def _ask(helper: str, action: str, value: Any) -> dict[str, Any]:
    """Run a helper (get, store, erase, list); {} when it knows no such login. Raises CliError."""
    import subprocess

    from boxwood.client import jsonwire

    data = value.encode() if isinstance(value, str) else jsonwire.dumps(value)
    try:
        done = subprocess.run(
            [helper, action], input=data, capture_output=True, timeout=HELPER_SECONDS, check=False
        )
    except OSError as error:
        raise CliError(f"credential helper {helper}: {(error.strerror or '').lower()}") from error
    except subprocess.TimeoutExpired as error:
        raise CliError(f"credential helper {helper}: {error}") from error
    said = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode:
        if "not found" in said or action == "list":
            return {}
        raise CliError(f"credential helper {helper} {action}: {said or done.returncode}")
    if action not in ("get", "list") or not said:
        return {}
    try:
        found = jsonwire.loads(done.stdout)
    except ValueError as error:
        raise CliError(f"credential helper {helper} {action}: no JSON: {error}") from error
    return found if isinstance(found, dict) else {}


def _change(ctx: Context, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Give `config.json` other `auths`, and leave the rest of it as it is. Raises CliError.

    What it holds by now is what is changed: another login may have come while a password was typed.
    """
    import json

    from boxwood.cli.context import read_config

    # Through a link, as people have them to their dotfiles; beside what it leads to.
    target = os.path.realpath(os.path.join(ctx.config_dir, "config.json"))
    try:
        os.makedirs(ctx.config_dir, 0o700, exist_ok=True)
        folder = os.open(os.path.dirname(target), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _lock(folder)
            before = os.stat(target) if os.path.exists(target) else None
            config = read_config(target) if before else dict(ctx.config)
            config["auths"] = change(config.get("auths") or {})
            text = json.dumps(config, indent="\t", ensure_ascii=False) + "\n"
            _replace(target, text.encode(), before)
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise CliError(f"write {target}: {error.strerror}") from error
    except ValueError as error:
        raise CliError(f"{target}: cannot be read, and is not written: {error}") from error
    ctx.forget_config()


def _lock(folder: int) -> None:
    """Lock out others who change the file: they hold the lock for a write. Raises CliError."""
    import fcntl
    import time

    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.1)
        else:
            return
    raise CliError("config.json: another program keeps it locked")


def _replace(target: str, data: bytes, before: os.stat_result | None) -> None:
    """Put a file into place, whole, readable by its owner alone: the one of the file before."""
    import tempfile

    fd, fresh = tempfile.mkstemp(dir=os.path.dirname(target), prefix=".config.json.")  # 0600
    try:
        with open(fd, "wb") as file:
            if before is not None and os.geteuid() == 0:
                os.fchown(fd, before.st_uid, before.st_gid)  # a login by sudo
            file.write(data)
            file.flush()
            os.fsync(fd)
        os.rename(fresh, target)
    except BaseException:
        os.unlink(fresh)
        raise
