"""Logins for registries: `config.json` as Docker's clients keep it, and their helper programs."""

from __future__ import annotations

import base64
import os

from boxwood.cli.errors import CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxwood.cli.context import Context

HUB = "https://index.docker.io/v1/"
HELPER_SECONDS = 30


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
    auths = {**(ctx.config.get("auths") or {}), server: entry}
    _write(ctx, {**ctx.config, "auths": auths})
    return True


def forget(ctx: Context, server: str) -> bool:
    """Remove a login; whether there was one. Raises CliError."""
    if helper := _helper(ctx, server):
        there = bool(_ask(helper, "get", server))
        if there:
            _ask(helper, "erase", server)
        return there
    auths = ctx.config.get("auths") or {}
    left = {key: entry for key, entry in auths.items() if server_of(key) != server}
    if len(left) == len(auths):
        return False
    _write(ctx, {**ctx.config, "auths": left})
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
    except (OSError, subprocess.TimeoutExpired) as error:
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


def _write(ctx: Context, config: dict[str, Any]) -> None:
    """Replace `config.json`, whole, readable by its owner alone. Raises CliError."""
    from boxwood.client import jsonwire

    # Through a link, as people have them to their dotfiles; beside what it leads to.
    target = os.path.realpath(os.path.join(ctx.config_dir, "config.json"))
    fresh = f"{target}.{os.getpid()}"
    try:
        os.makedirs(ctx.config_dir, 0o700, exist_ok=True)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(jsonwire.dumps(config) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.rename(fresh, target)
        except OSError:
            os.unlink(fresh)
            raise
    except OSError as error:
        raise CliError(f"write {target}: {error.strerror}") from error
    ctx.forget_config()
