"""Running plugins: one process for each, with the request in its environment and on its input."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import Any, Final

import msgspec

from boxwood.errors import BoxwoodError, DeadlineExceeded, InvalidArgument, NotFound, Unavailable
from boxwood_plugins.network.cni.config import ConfigList

SECONDS: Final = 60.0
"""For one plugin; a DHCP server may let it wait."""
_LARGEST: Final = 1 << 20
"""Bytes of an answer."""
_TRY_AGAIN: Final = 11
# What a runtime hears of a configuration that cannot be (specification, 5: error codes 1 to 7).
_MISTAKEN: Final = range(1, 8)


class Call(msgspec.Struct, frozen=True):
    """Who is joined: the attachment's id, its interface, and what the runtime gives.

    ``extra`` are the capabilities' values (``portMappings``), ``path`` where the plugins are.
    """

    id: str
    interface: str
    path: str
    extra: dict[str, Any] = {}


async def add(config: ConfigList, call: Call, netns: str, held: int) -> dict[str, Any]:
    """Ask each plugin in turn, and return the last one's result.

    ``held``: a descriptor that plugins inherit, so that those of a killed daemon are known.

    Raises:
        BoxwoodError: one failed; the caller deletes.
    """
    result: dict[str, Any] = {}
    for plugin in config.plugins:
        result = await _ask("ADD", config, plugin, call, netns, result, held)
    return result


async def check(config: ConfigList, call: Call, netns: str, result: dict[str, Any]) -> None:
    """Let each plugin say whether all is as it was; raises what the first that denies it says."""
    for plugin in config.plugins:
        await _ask("CHECK", config, plugin, call, netns, result)


async def delete(
    config: ConfigList, call: Call, netns: str, result: dict[str, Any], held: int
) -> None:
    """Ask each plugin, the last first, to undo; all are asked, also after one failed.

    ``held``: as of :func:`add`.

    Raises:
        BoxwoodError: of the first that failed.
    """
    failed: BoxwoodError | None = None
    for plugin in reversed(config.plugins):
        try:
            await _ask("DEL", config, plugin, call, netns, result, held)
        except BoxwoodError as error:
            failed = failed or error
    if failed is not None:
        raise failed


async def _ask(
    command: str,
    config: ConfigList,
    plugin: dict[str, Any],
    call: Call,
    netns: str,
    result: dict[str, Any],
    held: int = -1,
) -> dict[str, Any]:
    program = _program(plugin["type"], call.path)
    able = plugin.get("capabilities", {})
    request = {
        **{key: value for key, value in plugin.items() if key != "capabilities"},
        "name": config.name,
        "cniVersion": config.cni_version,
    }
    extra = {key: value for key, value in call.extra.items() if able.get(key)}
    if extra:
        request["runtimeConfig"] = extra
    if result:
        request["prevResult"] = result
    environment = {
        "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        "CNI_COMMAND": command, "CNI_CONTAINERID": call.id, "CNI_NETNS": netns,
        "CNI_IFNAME": call.interface, "CNI_PATH": call.path,
    }  # fmt: skip
    what = f"cni: {plugin['type']}: {command}"
    data = msgspec.json.encode(request)
    status, said, grumbled = await _run(program, environment, data, what, held)
    if status:
        raise _refusal(what, status, said, grumbled)
    if command != "ADD":
        return {}
    try:
        return msgspec.json.decode(said, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unavailable(f"{what}: the answer is no result: {error}") from error


def _program(kind: str, path: str) -> str:
    for folder in path.split(":"):
        file = os.path.join(folder, kind)
        if folder and os.access(file, os.X_OK):
            return file
    raise NotFound(
        f"cni: {kind}: no such plugin in {path}; Debian has them in containernetworking-plugins"
    )


async def _run(
    program: str, environment: dict[str, str], request: bytes, what: str, held: int
) -> tuple[int, bytes, bytes]:
    """Run a plugin to its end, or kill it and all that it started at its deadline."""
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            program, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, cwd="/",
            start_new_session=True, pass_fds=[held] if held >= 0 else (),
        )  # fmt: skip
    except OSError as error:
        raise Unavailable(f"{what}: {error.strerror}") from error
    try:
        async with asyncio.timeout(SECONDS):
            said, grumbled = await process.communicate(request)
    except TimeoutError as error:
        raise DeadlineExceeded(f"{what}: no answer in {SECONDS:.0f} s") from error
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return process.returncode or 0, said[:_LARGEST], grumbled[:_LARGEST]


def _refusal(what: str, status: int, said: bytes, grumbled: bytes) -> BoxwoodError:
    """Return the error that a plugin tells (specification, 5: Error)."""
    try:
        told = msgspec.json.decode(said, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        told = {}
    words = " ".join(str(told[key]) for key in ("msg", "details") if told.get(key))
    if not words:
        words = grumbled.decode(errors="replace").strip() or f"exit status {status}"
    kind = InvalidArgument if told.get("code") in _MISTAKEN else Unavailable
    again = "; try again" if told.get("code") == _TRY_AGAIN else ""
    return kind(f"{what}: {' '.join(words.split())}{again}")
