"""``oci-archive:PATH[:IMAGE]``: an OCI image layout in a tar archive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boxwood.drivers.hookspecs import hookimpl
from boxwood_plugins.registry import _layout
from boxwood_plugins.registry._archives import ArchiveTransport
from boxwood_plugins.registry._layouts import LayoutTransport

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from boxwood.drivers.registry import RegistryTransport
    from boxwood_plugins.registry._archives import Gathered
    from boxwood_plugins.registry._content import Extent
    from boxwood_plugins.registry._names import FileName
    from boxwood_plugins.registry._tars import Tar


class OciArchiveTransport(LayoutTransport, ArchiveTransport):
    """Layouts in archives; one image each when we write them."""

    scheme = "oci-archive"

    def place(self, name: FileName) -> AbstractContextManager[Tar]:
        """Open the archive, if the session has not."""
        return self.archive(name)

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
