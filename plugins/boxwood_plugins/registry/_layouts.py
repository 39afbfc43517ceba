"""OCI image layouts, wherever they are: what reading them from directories and archives share."""

from __future__ import annotations

import abc
from contextlib import AbstractContextManager, aclosing
from typing import TYPE_CHECKING

from boxwood.drivers.registry import RegistryTransport
from boxwood.model.descriptor import OCI_MANIFEST
from boxwood_plugins.registry import _layout
from boxwood_plugins.registry._content import entered, in_thread
from boxwood_plugins.registry._files import Place, content
from boxwood_plugins.registry._names import FileName

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from boxwood.drivers.registry import Credentials
    from boxwood.model.descriptor import Descriptor
    from boxwood.model.digest import Digest
    from boxwood.model.reference import Reference


class LayoutTransport(RegistryTransport[FileName]):
    """Layouts. A subclass says how one is opened."""

    made_as = OCI_MANIFEST

    @abc.abstractmethod
    def place(self, name: FileName) -> AbstractContextManager[Place]:
        """Open the layout's files; called and entered in a thread. Errors as :meth:`resolve`."""

    async def local_name(self, name: FileName, descriptor: Descriptor) -> Reference | None:
        """Return the whole name that the layout says, or ``localhost/PLACE:IMAGE``."""
        listed = await in_thread(lambda: self._entries(name))
        return _layout.local_name(name, descriptor, listed)

    async def resolve(self, name: FileName, credentials: Credentials | None = None) -> Descriptor:
        """Look into the index."""
        del credentials

        def work() -> Descriptor:
            with self.place(name) as place:
                return _layout.find(place, name)

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
        async with (
            entered(lambda: self.place(name)) as place,
            aclosing(content(place, path, descriptor, offset)) as stream,
        ):
            async for piece in stream:
                yield piece

    async def tags(self, name: FileName, credentials: Credentials | None = None) -> list[str]:
        """Return the names of the layout's images."""
        del credentials
        return _layout.names(await in_thread(lambda: self._entries(name)))

    async def referrers(
        self,
        name: FileName,
        digest: Digest,
        artifact_type: str = "",
        credentials: Credentials | None = None,
    ) -> list[Descriptor]:
        """Look for them in the index."""
        del credentials

        def work() -> list[Descriptor]:
            with self.place(name) as place:
                return _layout.referrers(place, name, digest)

        found = await in_thread(work)
        return [one for one in found if artifact_type in ("", one.artifact_type)]

    def _entries(self, name: FileName) -> list[Descriptor]:
        with self.place(name) as place:
            return _layout.entries(place, name.path)
