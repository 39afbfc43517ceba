"""The transport: what a pull asks for is made, once for each state of the mirrors.

The host's apt and mmdebstrap fetch and unpack the packages (mmdebstrap(1), variant ``extract``: no
program of theirs is run); their own scripts run in a container without network. What comes out has
no trace of when and where: the same packages give the same layer, byte for byte. Manifest and
config are remembered by the digest of the mirrors' Release files, so that a second pull of the same
state fetches these alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from boxwood.drivers.registry import RegistryTransport, Session
from boxwood.errors import (
    DataLoss,
    NotFound,
    ResourceExhausted,
    Unavailable,
    Unsupported,
)
from boxwood.model import times
from boxwood.model.descriptor import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor
from boxwood.model.digest import Digest
from boxwood.model.platform import Platform
from boxwood.model.reference import Reference
from boxwood_plugins.registry._content import Extent, gather, in_thread
from boxwood_plugins.registry._files import pieces
from boxwood_plugins.registry.debootstrap import layer, name, release
from boxwood_plugins.registry.debootstrap.name import Name
from boxwood_plugins.registry.debootstrap.tools import Tools

if TYPE_CHECKING:
    from boxwood.drivers.registry import Credentials

RECIPE = 1
"""Of what stands here: another one makes other images of the same packages."""
MERGED_USR = "/usr/share/mmdebstrap/hooks/merged-usr/setup00.sh"
SEPARATE_USR = frozenset({"jessie", "stretch", "buster", "bullseye"})
"""Suites whose ``/bin`` need not be in ``/usr``."""
KEPT = 32
"""Manifests that are remembered."""

CONFIGURE = r"""
set -e
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
cd /var/cache/apt/archives
dpkg --force-depends --force-unsafe-io --install ./*.deb >/tmp/said 2>&1 ||
  { tail -n 20 /tmp/said >&2; exit 1; }
dpkg --configure -a
dpkg --audit
"""
"""All files are there when the first script runs; dpkg sees to the order."""


class Made(msgspec.Struct):
    """An image: its documents, and where its layer is while a pull goes on."""

    manifest: bytes
    config: bytes
    origin: str
    path: str = ""


class _Work:
    """One pull."""

    def __init__(self, wanted: Name, session: Session, directory: Path) -> None:
        self.wanted, self.session = wanted, session
        self.tools = Tools(directory)
        self.state: release.State
        self.made: Made


class DebootstrapTransport(RegistryTransport[Name]):
    """Base images from packages. Option ``directory``: where manifests are remembered."""

    scheme = name.SCHEME

    def __init__(self, options: Mapping[str, str]) -> None:
        self._directory = Path(options.get("directory") or tempfile.gettempdir())
        self._works: dict[Name, _Work] = {}
        self._lock = asyncio.Lock()

    def parse(self, text: str) -> Name:
        """Read ``debootstrap:SUITE...``; see :mod:`.name`."""
        return name.parse(text)

    async def local_name(self, name: Name, descriptor: Descriptor) -> Reference | None:
        """Return ``localhost/debian:SUITE``."""
        del descriptor
        return Reference.parse(f"localhost/{self._work(name).made.origin}:{name.suite}")

    def session(
        self,
        name: Name,
        session: Session = Session(),  # noqa: B008 - immutable
    ) -> AbstractAsyncContextManager[None]:
        """Look at the mirrors, and make what was not made of them yet; one at a time."""
        return self._session(name, session)

    @asynccontextmanager
    async def _session(self, wanted: Name, session: Session) -> AsyncIterator[None]:
        machine = Platform.host().architecture
        if session.platform is not None and session.platform.architecture != machine:
            raise Unsupported(
                f"{wanted}: for {session.platform}: images are made for this machine's "
                f"architecture ({machine}) alone"
            )
        async with self._lock:
            try:
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                room = Path(tempfile.mkdtemp(prefix="work.", dir=self._directory))
            except OSError as error:
                raise ResourceExhausted(
                    f"debootstrap: {self._directory}: {error.strerror}"
                ) from error
            self._works[wanted] = work = _Work(wanted, session, room)
            try:
                await self._look(work)
                yield
            finally:
                del self._works[wanted]
                await asyncio.to_thread(shutil.rmtree, room)

    async def _look(self, work: _Work) -> None:
        work.session.say(f"Reading the Release files of {work.wanted.suite}")
        work.state = await release.look(work.wanted.suite, work.tools)
        known = self._remembered(work)
        if known.exists():
            work.made = msgspec.msgpack.decode(known.read_bytes(), type=Made)
        else:
            work.made = await self._make(work)
            self._remember(known, work.made)

    def _work(self, wanted: Name) -> _Work:
        try:
            return self._works[wanted]
        except KeyError:
            raise Unavailable(f"{wanted}: is not being pulled") from None

    # What is remembered

    def _remembered(self, work: _Work) -> Path:
        text = f"{RECIPE}\n{work.state.digest}\n{work.wanted}\n{Platform.host().architecture}\n"
        return self._directory / f"made.{hashlib.sha256(text.encode()).hexdigest()}"

    def _remember(self, path: Path, made: Made) -> None:
        fresh = path.with_name(f"new.{path.name}")
        lasting = Made(made.manifest, made.config, made.origin)
        fresh.write_bytes(msgspec.msgpack.encode(lasting))
        fresh.replace(path)
        there = sorted(self._directory.glob("made.*"), key=lambda one: one.stat().st_mtime)
        for old in there[:-KEPT]:
            old.unlink()

    # Making

    async def _make(self, work: _Work) -> Made:
        say, room, wanted = work.session.say, work.tools.directory, work.wanted
        unpacked, tree, target = room / "unpacked.tar", room / "tree.tar", room / "layer.tar"
        say("Fetching and unpacking packages")
        await self._unpack(work, unpacked)
        say("Setting packages up in a container")
        if work.session.workshop is None:
            raise Unsupported(f"{wanted}: needs an engine: pull it")
        environment = {
            "DEBIAN_FRONTEND": "noninteractive",
            "DEBCONF_NONINTERACTIVE_SEEN": "true",
            "SOURCE_DATE_EPOCH": str(work.state.epoch),
            "LC_ALL": "C",
        }
        command = ("/bin/sh", "-c", CONFIGURE)
        async with work.session.workshop.run(unpacked, command, environment) as made:
            unpacked.unlink()
            await _store(made, tree)
        say("Writing the layer")
        digest, size = await asyncio.to_thread(layer.write, tree, target, work.state.epoch)
        tree.unlink()
        return _documents(work, digest, size, str(target))

    async def _unpack(self, work: _Work, target: Path) -> None:
        suite = work.wanted.suite
        merged = suite not in SEPARATE_USR
        packages = [*work.wanted.wanted, *(["usr-is-merged"] if merged else [])]
        try:
            await work.tools.read(
                *("mmdebstrap", "--mode=root", "--variant=extract", "--skip=cleanup"),
                *("--format=tar", *(f"--include={package}" for package in packages)),
                *([f"--setup-hook={MERGED_USR}"] if merged else []),
                *(suite, str(target), *(source.line for source in work.state.sources)),
            )
        except Unavailable as error:
            if "Unable to locate package" in str(error):
                raise NotFound(str(error)) from error
            if "No space left" in str(error):
                raise ResourceExhausted(str(error)) from error
            raise

    # Content

    async def resolve(self, name: Name, credentials: Credentials | None = None) -> Descriptor:
        """Return the manifest's descriptor."""
        del credentials
        return _described(OCI_MANIFEST, self._work(name).made.manifest)

    async def fetch(
        self,
        name: Name,
        descriptor: Descriptor,
        offset: int = 0,
        credentials: Credentials | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Yield a document, or the layer; one that is gone is made again."""
        del credentials
        work = self._work(name)
        for document in (work.made.manifest, work.made.config):
            if descriptor.digest == str(Digest.of(document)):
                yield document[offset:]
                return
        if not work.made.path:
            again = await self._make(work)
            if again.manifest != work.made.manifest:
                self._remembered(work).unlink(missing_ok=True)
                raise DataLoss(f"{name}: another image was made of the same packages: pull again")
            work.made = again
        path = work.made.path
        fd = await in_thread(lambda: os.open(path, os.O_RDONLY | os.O_CLOEXEC), os.close)
        whole = Extent(fd, 0, os.fstat(fd).st_size)
        async with aclosing(pieces(whole, offset)) as stream:
            async for piece in stream:
                yield piece


async def _store(made: AsyncIterator[bytes], path: Path) -> None:
    try:
        with await in_thread(lambda: path.open("wb")) as file:
            await gather(lambda _: made, file.write)
    except OSError as error:
        raise ResourceExhausted(f"debootstrap: write {path.name}: {error.strerror}") from error


def _documents(work: _Work, digest: str, size: int, path: str) -> Made:
    when = times.rfc3339(work.state.epoch * 10**9)
    config = msgspec.json.encode(
        {
            "created": when,
            "architecture": Platform.host().architecture,
            "os": "linux",
            "config": {
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Cmd": ["bash"],
            },
            "rootfs": {"type": "layers", "diff_ids": [digest]},
            "history": [{"created": when, "created_by": str(work.wanted)}],
        }
    )
    manifest = msgspec.json.encode(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": _plain(OCI_CONFIG, str(Digest.of(config)), len(config)),
            "layers": [_plain(OCI_LAYER, digest, size)],
        }
    )
    return Made(manifest, config, work.state.origin, path)


def _plain(kind: str, digest: str, size: int) -> dict[str, object]:
    return {"mediaType": kind, "digest": digest, "size": size}


def _described(kind: str, document: bytes) -> Descriptor:
    return Descriptor(media_type=kind, digest=str(Digest.of(document)), size=len(document))
