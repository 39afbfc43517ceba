"""``oci:PATH[:IMAGE]``: an OCI image layout in a directory, of one image or many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boxwood.drivers.hookspecs import hookimpl
from boxwood.errors import InvalidArgument
from boxwood.model.descriptor import INDEXES, MANIFESTS
from boxwood.model.wire import replace
from boxwood_plugins.registry import _layout
from boxwood_plugins.registry._content import entered, in_thread
from boxwood_plugins.registry._files import Folder, has, read
from boxwood_plugins.registry._layouts import LayoutTransport
from boxwood_plugins.registry._names import FileName, parse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from boxwood.drivers.registry import Credentials, RegistryTransport
    from boxwood.model.descriptor import Descriptor
    from boxwood.model.digest import Digest


class OciTransport(LayoutTransport):
    """Layouts in directories. Their blobs are shared by all images of the directory."""

    scheme = "oci"

    def parse(self, text: str) -> FileName:
        """Parse ``oci:PATH[:IMAGE][@DIGEST]``."""
        return parse(self.scheme, text)

    def pinned(self, name: FileName, digest: Digest) -> FileName:
        """Return the name of a manifest in the same layout."""
        return FileName(self.scheme, name.path, "", str(digest))

    def tagged(self, name: FileName, tag: str) -> FileName:
        """Return the name of another image of the same layout."""
        return parse(self.scheme, f"{self.scheme}:{name.path}:{tag}")

    def place(self, name: FileName) -> Folder:
        """Open the directory."""
        return Folder(name.path)

    async def push(
        self,
        name: FileName,
        descriptor: Descriptor,
        source: Callable[[int], AsyncIterator[bytes]],
        credentials: Credentials | None = None,
        mount_from: Sequence[str] = (),
    ) -> None:
        """Write a blob; a manifest that is named, or about another, goes into the index."""
        del credentials, mount_from
        async with entered(lambda: _made(name.path)) as folder:
            await folder.store(_layout.blob(descriptor.digest), descriptor, source)
            if descriptor.media_type not in INDEXES | MANIFESTS:
                return
            if name.digest:
                await in_thread(lambda: _attached(folder, name, descriptor))
            else:
                await in_thread(lambda: _listed(folder, name, descriptor))


def _made(path: str) -> Folder:
    """Open a layout to write into it, which is begun in a directory that is new or empty.

    Raises:
        InvalidArgument: the directory holds something else.
    """
    folder = Folder(path, make=True)
    try:
        with folder.locked():
            if not _layout.has_mark(folder):
                if [one for one in folder.names() if not one.startswith(".oci-layout.")]:
                    raise InvalidArgument(f"{path}: neither an OCI image layout nor empty")
                folder.replace(_layout.MARK, _layout.MARKED)
        _layout.check_mark(folder, path)
    except BaseException:
        folder.close()
        raise
    return folder


def _attached(folder: Folder, name: FileName, descriptor: Descriptor) -> None:
    """List a manifest without a name that is about another: nothing else leads to it."""
    said = _layout.about(folder, descriptor)
    if said.subject is not None:
        _listed(folder, name, replace(descriptor, artifact_type=said.kind))


def _listed(folder: Folder, name: FileName, descriptor: Descriptor) -> None:
    with folder.locked():
        index = read(folder, _layout.INDEX) if has(folder, _layout.INDEX) else _layout.EMPTY
        folder.replace(_layout.INDEX, _layout.with_entry(index, descriptor, name.image))


@hookimpl
def registry_transport(
    scheme: str, options: Mapping[str, str]
) -> RegistryTransport[FileName] | None:
    """Hand over the transport."""
    del options
    return OciTransport() if scheme == OciTransport.scheme else None
