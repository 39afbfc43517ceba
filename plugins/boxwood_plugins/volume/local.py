"""Volumes ``local``: a directory each, ``<root>/<name>/_data``, or what the options mount on it.

Options as Docker's: ``type``, ``device`` and ``o``. A bind (``o=bind``) needs no mount of ours:
the device itself is the source. Every other type is mounted on ``_data`` while somebody uses it,
by the machine's ``mount`` program: it knows the helpers of network file systems, and as a process
of its own it can be given up when a server does not answer.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from boxwood.drivers.hookspecs import hookimpl
from boxwood.drivers.volume import SEEDABLE, Volume, VolumeDriver
from boxwood.errors import (
    Conflict,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z")
MOUNT_DEADLINE = 30.0
"""Seconds: as long as a person waits for a server before looking for what is wrong."""

_DATA = "_data"
_OPTIONS_FILE = "options.json"
_TRASH = ".trash"
_KNOWN = frozenset({"type", "device", "o"})
_NEEDS = {"device": ("type",), "type": ("device",), "o": ("device", "type")}


class LocalVolumes(VolumeDriver):
    """Docker's default volumes."""

    name = "local"
    capabilities = frozenset({SEEDABLE})

    def __init__(self, root: Path) -> None:
        """``root`` is made if it is missing."""
        self._root = root
        self._users: dict[str, set[str]] = {}
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        (root / _TRASH).mkdir(mode=0o700, exist_ok=True)

    async def create(self, name: str, options: Mapping[str, str]) -> Volume:
        """Make the directories; published by rename, so that a crash leaves nothing half."""
        _check_name(name)
        _check_options(options)
        if not (self._root / name).exists():
            draft = self._root / _TRASH / f"new-{name}-{secrets.token_hex(4)}"
            try:
                _make(draft, options)
                draft.rename(self._root / name)
            except OSError as error:
                shutil.rmtree(draft, ignore_errors=True)
                raise ResourceExhausted(
                    f"create {name}: {self._root / name}: {error.strerror or error}"
                ) from error
        return self._describe(name)

    async def remove(self, name: str) -> Path | None:
        """Rename it into the trash."""
        _check_name(name)
        if self._users.get(name):
            raise Conflict(f"remove volume: {name}: it is mounted")
        path = self._root / name
        if not path.exists():
            return None
        if os.path.ismount(path / _DATA):
            await _run("umount", str(path / _DATA))
        goal = self._root / _TRASH / f"{name}-{secrets.token_hex(4)}"
        path.rename(goal)
        return goal

    async def mount(self, name: str, user: str) -> Path:
        """Return the directory; mounts it for the first user if its options say so."""
        volume = self._describe(name)
        self._users.setdefault(name, set()).add(user)
        try:
            return await self._make_ready(volume)
        except BaseException:
            self._users[name].discard(user)
            raise

    async def unmount(self, name: str, user: str) -> None:
        """Unmount after the last user."""
        users = self._users.get(name)
        if users is None:
            return
        users.discard(user)
        if users:
            return
        del self._users[name]
        data = self._root / name / _DATA
        if os.path.ismount(data):
            await _run("umount", str(data))

    async def list(self) -> list[Volume]:
        """Return every volume."""
        names = (entry.name for entry in os.scandir(self._root) if entry.is_dir())
        return [self._describe(name) for name in names if NAME.match(name)]

    def trash(self) -> Sequence[Path]:
        """Return what removals have left."""
        return list((self._root / _TRASH).iterdir())

    async def reconcile(self, users: Mapping[str, set[str]]) -> Sequence[str]:
        """Take up the users that are there, and unmount what nobody uses."""
        self._users = {name: set(ids) for name, ids in users.items() if ids}
        done = []
        for volume in await self.list():
            if volume.name not in self._users and os.path.ismount(volume.mountpoint):
                await _run("umount", volume.mountpoint)
                done.append(f"unmounted volume {volume.name}: nobody uses it")
        return done

    def _describe(self, name: str) -> Volume:
        path = self._root / name
        try:
            created = os.stat(path).st_mtime_ns
        except FileNotFoundError as error:
            raise NotFound(f"get {name}: no such volume") from error
        try:
            options = msgspec.json.decode((path / _OPTIONS_FILE).read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            options = {}
        return Volume(name=name, mountpoint=str(path / _DATA), created=created, options=options)

    async def _make_ready(self, volume: Volume) -> Path:
        options = volume.options
        flags = options.get("o", "").split(",")
        if "bind" in flags or "rbind" in flags:
            return Path(options["device"])
        if options.get("type") and not os.path.ismount(volume.mountpoint):
            arguments = ["-t", options["type"]]
            if options.get("o"):
                arguments += ["-o", options["o"]]
            device = options.get("device") or options["type"]
            await _run("mount", *arguments, "--", device, volume.mountpoint)
        return Path(volume.mountpoint)


def _make(directory: Path, options: Mapping[str, str]) -> None:
    directory.mkdir(mode=0o700)
    (directory / _DATA).mkdir(mode=0o755)
    os.chmod(directory / _DATA, 0o755)  # whatever the daemon's umask is
    if options:
        (directory / _OPTIONS_FILE).write_bytes(msgspec.json.encode(dict(options)))


def _check_name(name: str) -> None:
    if len(name) == 1:
        raise InvalidArgument(
            f"create {name}: volume name is too short, names should be at least two alphanumeric "
            "characters"
        )
    if NAME.match(name) is None or len(name) > 255:
        raise InvalidArgument(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, '
            "use absolute path"
        )


def _check_options(options: Mapping[str, str]) -> None:
    for key in options:
        if key not in _KNOWN:
            raise InvalidArgument(f"invalid option: {key!r}".replace("'", '"'))
    for key, needed in _NEEDS.items():
        for other in needed if options.get(key) else ():
            if not options.get(other):
                raise InvalidArgument(f'missing required option: "{other}"')
    flags = options.get("o", "").split(",")
    if ("bind" in flags or "rbind" in flags) and not options.get("device", "").startswith("/"):
        raise InvalidArgument('missing required option: "device"')


async def _run(program: str, *arguments: str) -> None:
    """Run ``mount`` or ``umount``; raises Unavailable with what it said."""
    path = shutil.which(program)
    if path is None:
        raise Unavailable(f"volume: {program}: not on this machine; install util-linux")
    process = await asyncio.create_subprocess_exec(
        path,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(MOUNT_DEADLINE):
            _, said = await process.communicate()
    except TimeoutError as error:
        process.kill()
        raise Unavailable(
            f"volume: {program} {arguments[-1]}: no answer within {MOUNT_DEADLINE:.0f} s"
        ) from error
    if process.returncode is None:
        raise Internal(f"volume: {program}: ended without a status")
    if process.returncode != 0:
        raise Unavailable(
            f"volume: {program} {arguments[-1]}: {said.decode(errors='replace').strip()}"
        )


@hookimpl
def volume_driver(name: str, root: Path, options: Mapping[str, str]) -> VolumeDriver | None:  # noqa: ARG001
    """Hand over the driver."""
    return LocalVolumes(root) if name == LocalVolumes.name else None
