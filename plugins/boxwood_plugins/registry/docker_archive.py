"""``docker-archive:PATH[:NAME[:TAG]|:@N]``: what ``docker save`` writes and ``docker load`` reads.

Such an archive has no manifest of a registry's kind: one is made of its ``manifest.json``, the
same each time. Its layers are bare tars, whose digests are the image's diff ids; what a push
brings compressed is decompressed. Source: facts/formats-and-protocols.md section 5.
"""

from __future__ import annotations

import bz2
import lzma
import os
from contextlib import aclosing
from typing import IO, TYPE_CHECKING, Any, cast

import msgspec
import zstandard
from isal import igzip_lib

from boxwood.drivers.hookspecs import hookimpl
from boxwood.errors import DataLoss, InvalidArgument, NotFound, TooLarge
from boxwood.model.damage import XZ_MEMORY, ZSTD_WINDOW, damage
from boxwood.model.descriptor import (
    CONFIGS,
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    INDEXES,
    MANIFESTS,
    Descriptor,
    Manifest,
)
from boxwood.model.digest import Digest
from boxwood.model.image import LAYER_LIMIT, ImageConfig
from boxwood.model.reference import Reference
from boxwood_plugins.registry._archives import ArchiveTransport
from boxwood_plugins.registry._content import Extent, Sink, entered, in_thread, write_all
from boxwood_plugins.registry._files import content, read
from boxwood_plugins.registry._names import as_reference, by_path
from boxwood_plugins.registry._tars import UNPACKED_LIMIT, compression

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from boxwood.drivers.registry import Credentials, RegistryTransport
    from boxwood_plugins.registry._archives import Gathered
    from boxwood_plugins.registry._content import Source
    from boxwood_plugins.registry._names import FileName
    from boxwood_plugins.registry._tars import Tar

LIST = "manifest.json"
_PIECE = 1 << 20
_BROKEN: tuple[type[BaseException], ...] = (
    cast(type[BaseException], igzip_lib.error),
    zstandard.ZstdError,
    lzma.LZMAError,
    EOFError,
    ValueError,
    OSError,
)


class _Entry(msgspec.Struct, frozen=True):
    config: str = msgspec.field(name="Config")
    repo_tags: tuple[str, ...] | None = msgspec.field(default=None, name="RepoTags")
    layers: tuple[str, ...] | None = msgspec.field(default=None, name="Layers")


class _Image(msgspec.Struct, frozen=True):
    """One image of an archive, as a registry would have it."""

    manifest: Descriptor
    document: bytes
    files: dict[str, str]
    """Where config and layers lie, by digest."""
    names: tuple[str, ...]


class DockerArchiveTransport(ArchiveTransport):
    """Archives as Docker writes them; one image each when we write them."""

    scheme = "docker-archive"

    async def local_name(self, name: FileName, descriptor: Descriptor) -> Reference | None:
        """Return the name that was asked for or the image's first, or ``localhost/FILE``."""
        del descriptor
        names = (await in_thread(lambda: self._image(name))).names
        if (asked := _asked(name)) is not None:
            return asked
        return as_reference(names[0]) if names else by_path(name.path, "")

    async def resolve(self, name: FileName, credentials: Credentials | None = None) -> Descriptor:
        """Make the manifest."""
        del credentials
        return (await in_thread(lambda: self._image(name))).manifest

    async def fetch(
        self,
        name: FileName,
        descriptor: Descriptor,
        offset: int = 0,
        credentials: Credentials | None = None,
    ) -> AsyncIterator[bytes]:
        """Yield the manifest that was made, or a file where it lies."""
        del credentials
        image = await in_thread(lambda: self._image(name))
        if descriptor.digest == image.manifest.digest:
            yield image.document[offset:]
            return
        if (path := image.files.get(descriptor.digest)) is None:
            raise NotFound(f"{name}: {descriptor.digest}: not in the archive")
        async with (
            entered(lambda: self.archive(name)) as tar,
            aclosing(content(tar, path, descriptor, offset)) as stream,
        ):
            async for piece in stream:
                yield piece

    # Reading

    def _image(self, name: FileName) -> _Image:
        with self.archive(name) as tar:
            if (known := tar.notes.get(str(name))) is None:
                known = tar.notes[str(name)] = _described(tar, _chosen(tar, name))
            assert isinstance(known, _Image)
            if name.digest and name.digest != known.manifest.digest:
                raise NotFound(f"{name}: no such manifest there")
            return known

    # Writing

    async def take(self, gathered: Gathered, descriptor: Descriptor, source: Source) -> None:
        """Keep documents as they come, and of a layer the bare tar."""
        documents = INDEXES | MANIFESTS | set(CONFIGS.values())
        if descriptor.media_type in documents:
            await gathered.take(descriptor, source)
            return
        sink = await gathered.take(descriptor, source, _LayerSink)
        assert isinstance(sink, _LayerSink)
        gathered.plain[descriptor.digest] = sink.diff_id

    def finish(self, name: FileName, gathered: Gathered) -> None:
        """Write the archive; raises InvalidArgument for what it cannot hold."""
        assert gathered.top is not None
        if gathered.top.media_type in INDEXES:
            raise InvalidArgument(f"push: {name}: it holds images, and this is an index of several")
        manifest = msgspec.json.decode(gathered.read(gathered.top.digest), type=Manifest)
        if manifest.config is None:
            raise InvalidArgument(f"push: {name}: the manifest names no config")
        config = ImageConfig.parse(gathered.read(manifest.config.digest))
        extents = [gathered.extent(layer.digest) for layer in manifest.layers or ()]
        found = [gathered.plain.get(layer.digest, "") for layer in manifest.layers or ()]
        if found != [str(one) for one in config.rootfs.diff_ids]:
            raise InvalidArgument(f"push: {name}: the layers are not those of the config")
        layers = [f"{Digest.parse(one).hex}.tar" for one in found]
        document = f"{Digest.parse(manifest.config.digest).hex}.json"
        called = _asked(name) or gathered.called
        tags = [called.familiar] if called is not None and called.tag else None
        listed = msgspec.json.encode([{"Config": document, "RepoTags": tags, "Layers": layers}])
        files: list[tuple[str, bytes | Extent]] = list(
            dict(zip(layers, extents, strict=True)).items()
        )
        files += [(document, gathered.extent(manifest.config.digest)), (LIST, listed)]
        gathered.write(files)


def _asked(name: FileName) -> Reference | None:
    """Return the image that a name says; raises InvalidArgument."""
    if not name.image or name.image.startswith("@"):
        return None
    return Reference.parse(name.image).with_default_tag()


def _chosen(tar: Tar, name: FileName) -> _Entry:
    try:
        entries = msgspec.json.decode(read(tar, LIST), type=tuple[_Entry, ...])
    except NotFound as error:
        raise InvalidArgument(f"{name.path}: not an archive of docker save") from error
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidArgument(f"{name.path}: {LIST}: {error}") from error
    wanted = _asked(name)
    if name.image.startswith("@"):
        at = name.image[1:]
        if not at.isdecimal() or int(at) >= len(entries):
            raise NotFound(f"{name}: the archive holds {len(entries)} images, from @0 on")
        return entries[int(at)]
    if wanted is not None:
        for entry in entries:
            if wanted in [as_reference(tag) for tag in entry.repo_tags or ()]:
                return entry
        names = [tag[:130] for entry in entries[:10] for tag in (entry.repo_tags or ())[:10]]
        raise NotFound(f"{name}: no such image there; there are {', '.join(names) or 'no names'}")
    if len(entries) != 1:
        raise InvalidArgument(f"{name}: {len(entries)} images are there: name one, or :@0")
    return entries[0]


def _described(tar: Tar, entry: _Entry) -> _Image:
    """Make the manifest of one image of the archive."""
    document = read(tar, entry.config)
    config = ImageConfig.parse(document)
    paths, wanted = entry.layers or (), config.rootfs.diff_ids
    if len(paths) != len(wanted) or len(paths) > LAYER_LIMIT:
        raise InvalidArgument(
            f"{tar.path}: {len(paths)} layers are listed, the config has {len(wanted)}"
        )
    layers = [_layer(tar, path, diff_id) for path, diff_id in zip(paths, wanted, strict=True)]
    top = Descriptor(media_type=DOCKER_CONFIG, digest=Digest.of(document), size=len(document))
    made = msgspec.json.encode(
        {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": _plain(top),
            "layers": [_plain(layer) for layer in layers],
        }
    )
    files = dict(zip([layer.digest for layer in layers], paths, strict=True))
    return _Image(
        manifest=Descriptor(
            media_type=DOCKER_MANIFEST, digest=str(Digest.of(made)), size=len(made)
        ),
        document=made,
        files={**files, top.digest: entry.config},
        names=entry.repo_tags or (),
    )


def _layer(tar: Tar, path: str, diff_id: str) -> Descriptor:
    """Describe a layer: a bare tar's digest is its diff id, that of another is computed."""
    extent = tar.open(path)
    try:
        packed = compression(os.pread(extent.fd, min(6, extent.size), extent.start))
        kind = f"{DOCKER_LAYER}.{packed}" if packed else DOCKER_LAYER
        digest = _digest(extent) if packed else Digest.parse(diff_id)
    finally:
        os.close(extent.fd)
    return Descriptor(media_type=kind, digest=str(digest), size=extent.size)


def _digest(extent: Extent) -> Digest:
    hasher = Digest.of(b"").hasher()
    at, end = extent.start, extent.start + extent.size
    while at < end:
        piece = os.pread(extent.fd, min(_PIECE, end - at), at)
        if not piece:
            raise DataLoss("a file was cut short while it was read")
        hasher.update(piece)
        at += len(piece)
    return Digest.from_hasher(hasher)


def _plain(descriptor: Descriptor) -> dict[str, Any]:
    return {
        "mediaType": descriptor.media_type,
        "size": descriptor.size,
        "digest": str.__str__(descriptor.digest),
    }


class _LayerSink(Sink):
    """A layer on its way into the archive: checked as it comes, written decompressed."""

    diff_id = ""

    def __init__(self, fd: int, descriptor: Descriptor) -> None:
        super().__init__(fd, descriptor)
        self._plain = Digest.of(b"").hasher()
        self._unpacked = 0
        self._begun = b""
        self._stream: Any = None
        self._zstd: Any = None
        self._kind: str | None = None

    def write(self, piece: bytes) -> None:
        """Take compressed bytes."""
        if self._kind is None:
            self._begun += piece
            if len(self._begun) < 6:
                return
            piece = self._start()
        self._feed(piece)

    def _start(self) -> bytes:
        begun, self._begun = self._begun, b""
        self._kind = compression(begun)
        if self._kind == "zstd":
            decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
            self._zstd = decompressor.stream_writer(
                cast(IO[bytes], _Into(self._put)), closefd=False
            )
        elif self._kind:
            self._stream = _decompressor(self._kind)
        return begun

    def _feed(self, piece: bytes) -> None:
        try:
            if self._stream is not None:
                self._inflate(piece)
            elif self._zstd is not None:
                self._zstd.write(piece)
            else:
                self._put(piece)
        except _BROKEN as error:
            raise self._damaged(error) from error

    def _damaged(self, error: BaseException) -> InvalidArgument:
        assert self._kind is not None
        return InvalidArgument(f"layer {self._digest}: {damage(self._kind, error, self._at)}")

    def _inflate(self, piece: bytes) -> None:
        while piece:
            if self._stream.eof:  # a further member, or zeros
                piece = piece.lstrip(b"\0")
                if not piece:
                    return
                self._stream = _decompressor(str(self._kind))
            self._put(self._stream.decompress(piece, _PIECE))
            while not self._stream.eof and not self._stream.needs_input:
                self._put(self._stream.decompress(b"", _PIECE))
            piece = self._stream.unused_data if self._stream.eof else b""

    def _put(self, plain: bytes) -> None:
        self._unpacked += len(plain)
        if self._unpacked > UNPACKED_LIMIT:
            raise TooLarge(f"push: a layer unpacks to more than {UNPACKED_LIMIT} bytes")
        self._plain.update(plain)
        write_all(self.fd, plain)

    def end(self) -> None:
        """Check the whole; raises InvalidArgument."""
        super().end()
        if self._kind is None:
            self._feed(self._start())
        if self._stream is not None and not self._stream.eof:
            raise self._damaged(EOFError())
        self.diff_id = str(Digest.from_hasher(self._plain))


def _decompressor(kind: str) -> Any:
    """Return what takes one member or stream: all three kinds have the same methods."""
    if kind == "xz":
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)
    if kind == "bzip2":
        return bz2.BZ2Decompressor()
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


class _Into:
    """A file object that only takes."""

    def __init__(self, take: Any) -> None:
        self.write = take


@hookimpl
def registry_transport(
    scheme: str, options: Mapping[str, str]
) -> RegistryTransport[FileName] | None:
    """Hand over the transport."""
    del options
    return DockerArchiveTransport() if scheme == DockerArchiveTransport.scheme else None
