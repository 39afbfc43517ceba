"""Snapshots as plain copies: each is a folder with all of its files."""

from boxwood.drivers.hookspecs import hookimpl
from boxwood.drivers.storage import DirectoryDriver, Kind, Mount, open_directory


class PlainDriver(DirectoryDriver):
    """Slow, big, and works everywhere."""

    name = "plain"

    async def fill(self, directory, parents, info):
        """Make the files of a new snapshot in `directory`; `parents` are those it stands on."""
        tree = directory / "fs"
        tree.mkdir()
        tree.chmod(0o755)
        if parents:
            with open_directory(parents[0] / "fs") as source, open_directory(tree) as target:
                # Copying takes long and reads what containers wrote: a confined worker does it.
                await self.offload("copy_tree", {}, [source, target])

    def mounts_of(self, directory, parents, info):
        """Say what the engine is to mount for a snapshot."""
        return [Mount("bind", str(directory / "fs"), ("ro",) if info.kind is Kind.VIEW else ())]

    def measured(self, directory):
        """Say which folder's size is the snapshot's."""
        return directory / "fs"


@hookimpl
def storage_driver(name, root, options):
    """Hand the driver over when it is asked for by its name."""
    return PlainDriver(root) if name == PlainDriver.name else None
