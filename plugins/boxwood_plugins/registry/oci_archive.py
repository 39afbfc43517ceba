"""``oci-archive:PATH[:IMAGE]``: an OCI image layout in a tar archive."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from boxwood.drivers.hookspecs import hookimpl
from boxwood.model.descriptor import OCI_MANIFEST
from boxwood_plugins.registry import _layout
from boxwood_plugins.registry._archives import ArchiveTransport
from boxwood_plugins.registry._content import in_thread
from boxwood_plugins.registry._files import content

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from boxwood.drivers.registry import Credentials, RegistryTransport
    from boxwood.model.descriptor import Descriptor
    from boxwood.model.reference import Reference
    from boxwood_plugins.registry._archives import Gathered
    from boxwood_plugins.registry._content import Extent
    from boxwood_plugins.registry._names import FileName


class OciArchiveTransport(ArchiveTransport):
    """Layouts in archives; one image each when we write them."""

    scheme = "oci-archive"
    made_as = OCI_MANIFEST

    async def local_name(self, name: FileName, descriptor: Descriptor) -> Reference | None:
        """Return the whole name that the layout says, or ``localhost/FILE:IMAGE``."""
        listed = await in_thread(lambda: self._entries(name))
        return _layout.local_name(name, descriptor, listed)

    async def resolve(self, name: FileName, credentials: Credentials | None = None) -> Descriptor:
        """Look into the index."""
        del credentials

        def work() -> Descriptor:
            with self.archive(name) as tar:
                return _layout.find(tar, name)

        return await in_thread(work)

    async def fetch(
        self,
        name: FileName,
        descriptor: Descriptor,
        offset: int = 0,
        credentials: Credentials | None = None,
    ) -> AsyncIterator[bytes]:
        """Read a blob where it lies."""
        del credentials
        path = _layout.blob(descriptor.digest)
        with await in_thread(lambda: self.archive(name)) as tar:
            async with aclosing(content(tar, path, descriptor, offset)) as stream:
                async for piece in stream:
                    yield piece

    async def tags(self, name: FileName, credentials: Credentials | None = None) -> list[str]:
        """Return the names of the archive's images."""
        del credentials
        return _layout.names(await in_thread(lambda: self._entries(name)))

    def _entries(self, name: FileName) -> list[Descriptor]:
        with self.archive(name) as tar:
            return _layout.entries(tar, name.path)

    def finish(self, name: FileName, gathered: Gathered) -> None:
        """Write the layout."""
        assert gathered.top is not None
        index = _layout.with_entry(_layout.EMPTY, gathered.top, name.image)
        files: list[tuple[str, bytes | Extent]] = [
            (_layout.MARK, _layout.MARKED),
            (_layout.INDEX, index),
        ]
        contents = sorted(gathered.contents.items())
        files += [(_layout.blob(digest), extent) for digest, extent in contents]
        gathered.write(files)


@hookimpl
def registry_transport(
    scheme: str, options: Mapping[str, str]
) -> RegistryTransport[FileName] | None:
    """Hand over the transport."""
    del options
    return OciArchiveTransport() if scheme == OciArchiveTransport.scheme else None
