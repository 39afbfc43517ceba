"""``dir:PATH``: one image as plain files, for people who look into it (skopeo's layout).

``version``, ``manifest.json``, each blob under the hexadecimal part of its digest, and the
manifests of an index as ``HEX.manifest.json``.
"""

from __future__ import annotations

import os
import re
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING

import msgspec

from boxwood.drivers.hookspecs import hookimpl
from boxwood.drivers.registry import RegistryTransport, Session
from boxwood.errors import DataLoss, InvalidArgument, NotFound, Unsupported
from boxwood.model.descriptor import DOCUMENT_LIMIT, INDEXES, MANIFESTS, Descriptor, Manifest
from boxwood.model.digest import Digest
from boxwood_plugins.registry._content import entered, gather, in_thread
from boxwood_plugins.registry._files import Folder, content, has, read
from boxwood_plugins.registry._layout import kind_of
from boxwood_plugins.registry._names import FileName, by_path, parse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from boxwood.drivers.registry import Credentials
    from boxwood.model.reference import Reference

TOP = "manifest.json"
VERSION = "version"
_SAYS = b"Directory Transport Version: "
_OURS = re.compile(r"[0-9a-f]{64}(\.manifest\.json)?|sha512-[0-9a-f]{128}|signature-[0-9]+")


def _file(digest: str) -> str:
    parsed = Digest.parse(digest)
    return parsed.hex if parsed.algorithm == "sha256" else f"{parsed.algorithm}-{parsed.hex}"


class DirTransport(RegistryTransport[FileName]):
    """Directories of one image each."""

    scheme = "dir"

    def parse(self, text: str) -> FileName:
        """Parse ``dir:PATH``."""
        return parse(self.scheme, text, images=False)

    def pinned(self, name: FileName, digest: Digest) -> FileName:
        """Return the name of a manifest in the same directory."""
        return FileName(self.scheme, name.path, "", str(digest))

    async def local_name(self, name: FileName, descriptor: Descriptor) -> Reference | None:
        """Return ``localhost/DIRECTORY:latest``: nothing there says a name."""
        del descriptor
        return by_path(name.path, "")

    async def resolve(self, name: FileName, credentials: Credentials | None = None) -> Descriptor:
        """Read the manifest to learn what it is."""
        del credentials

        def work() -> Descriptor:
            with Folder(name.path) as folder:
                data = _manifest(folder, name)
            found = name.digest or str(Digest.of(data))
            return Descriptor(media_type=kind_of(data), digest=found, size=len(data))

        return await in_thread(work)

    async def fetch(
        self,
        name: FileName,
        descriptor: Descriptor,
        offset: int = 0,
        credentials: Credentials | None = None,
    ) -> AsyncIterator[bytes]:
        """Read a file."""
        del credentials
        async with entered(lambda: Folder(name.path)) as folder:
            path = _file(descriptor.digest)
            if descriptor.media_type in INDEXES | MANIFESTS:
                path = await in_thread(lambda: _manifest_path(folder, descriptor.digest))
            async with aclosing(content(folder, path, descriptor, offset)) as stream:
                async for piece in stream:
                    yield piece

    # Writing

    def session(
        self,
        name: FileName,
        session: Session = Session(),  # noqa: B008 - immutable
    ) -> AbstractAsyncContextManager[None]:
        """Keep what was there until the new image is whole; then it goes."""
        return self._written(name) if session.writing else super().session(name, session)

    @asynccontextmanager
    async def _written(self, name: FileName) -> AsyncIterator[None]:
        yield
        await in_thread(lambda: _swept(name.path))

    async def push(
        self,
        name: FileName,
        descriptor: Descriptor,
        source: Callable[[int], AsyncIterator[bytes]],
        credentials: Credentials | None = None,
        mount_from: Sequence[str] = (),
    ) -> None:
        """Write a file; the top manifest takes the place of the one before."""
        del credentials, mount_from
        async with entered(lambda: _made(name.path)) as folder:
            if descriptor.media_type not in INDEXES | MANIFESTS:
                await folder.store(_file(descriptor.digest), descriptor, source)
            elif name.digest:
                path = f"{_file(descriptor.digest)}.{TOP}"
                await folder.store(path, descriptor, source)
            else:
                await self._push_top(folder, descriptor, source)

    async def _push_top(
        self,
        folder: Folder,
        descriptor: Descriptor,
        source: Callable[[int], AsyncIterator[bytes]],
    ) -> None:
        data = bytearray()
        await gather(source, data.extend)
        digest = Digest.parse(descriptor.digest)
        if len(data) > DOCUMENT_LIMIT or Digest.of(bytes(data), digest.algorithm) != digest:
            raise InvalidArgument(f"push: {digest}: other bytes came")

        def work() -> None:
            with folder.locked():
                folder.replace(TOP, bytes(data))

        await in_thread(work)


def _manifest_path(folder: Folder, digest: str) -> str:
    """Return the file of a manifest: the top one, or one that an index names."""
    path = f"{_file(digest)}.{TOP}"
    if has(folder, path):
        return path
    wanted = Digest.parse(digest)
    if Digest.of(read(folder, TOP), wanted.algorithm) != wanted:
        raise NotFound(f"{folder.path}: {digest}: no such manifest there")
    return TOP


def _manifest(folder: Folder, name: FileName) -> bytes:
    if has(folder, VERSION) and not read(folder, VERSION, 4096).startswith(_SAYS + b"1."):
        raise Unsupported(f"{name.path}: of a version that is not known here")
    if not has(folder, TOP):
        raise NotFound(f"{name}: no image is there")
    return read(folder, _manifest_path(folder, name.digest) if name.digest else TOP)


def _made(path: str) -> Folder:
    """Open a directory to write an image into it: one that is new, empty, or has one already.

    Raises:
        InvalidArgument: it holds something else.
    """
    folder = Folder(path, make=True)
    try:
        with folder.locked():
            if not has(folder, VERSION):
                if [one for one in folder.names() if one != f".{VERSION}.boxwood"]:
                    raise InvalidArgument(f"{path}: neither an image's directory nor empty")
                folder.replace(VERSION, _SAYS + b"1.1\n")
            elif not read(folder, VERSION, 4096).startswith(_SAYS):
                raise InvalidArgument(f"{path}: neither an image's directory nor empty")
    except BaseException:
        folder.close()
        raise
    return folder


def _swept(path: str) -> None:
    """Remove what the image that is there now does not name."""
    with Folder(path) as folder, folder.locked():
        if not has(folder, TOP):
            return
        kept = _named(folder, read(folder, TOP))
        for one in folder.names():
            if one not in kept and _OURS.fullmatch(one):
                with suppress(FileNotFoundError):
                    os.unlink(one, dir_fd=folder.fd)


def _named(folder: Folder, document: bytes, depth: int = 3) -> set[str]:
    """Return the files that a manifest names, those of the manifests of an index too."""
    try:
        manifest = msgspec.json.decode(document, type=Manifest)
    except msgspec.MsgspecError as error:
        raise DataLoss(f"{folder.path}: {TOP}: {error}") from error
    found = {_file(layer.digest) for layer in manifest.layers or ()}
    if manifest.config is not None:
        found.add(_file(manifest.config.digest))
    for entry in manifest.manifests or ():
        path = f"{_file(entry.digest)}.{TOP}"
        if has(folder, path) and depth:  # files that name each other end there
            found |= {path, *_named(folder, read(folder, path), depth - 1)}
    return found


@hookimpl
def registry_transport(
    scheme: str, options: Mapping[str, str]
) -> RegistryTransport[FileName] | None:
    """Hand over the transport."""
    del options
    return DirTransport() if scheme == DirTransport.scheme else None
