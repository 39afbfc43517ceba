"""The contract of storage drivers, its values, and a base that makes a driver small.

Terms
-----
snapshot
    A file tree with a name, its *key*. It is *active* (writable), a *view* (read-only) or
    *committed* (immutable). Only a committed snapshot can be a parent.
parent
    The committed snapshot that a new one starts from. None: it starts empty.
mount
    What has to be mounted to see a snapshot's tree. The driver only says it; the core mounts.
layer
    A committed snapshot that holds what a layer of an image adds to its parent.
trash
    Where a removed snapshot waits for its deletion; nothing in it has a key any more.

Life
----
``prepare(key, parent)`` makes an active snapshot. Something is written to it: through its mounts
(a container), or straight into the place that ``unpack_target`` names (the extraction of a
layer). Then either ``commit(key, name)`` freezes it under a new key (the old key is gone), or
``remove(key)`` throws it away. ``view(key, parent)`` makes a read-only one; it is never
committed. A snapshot that has children cannot be removed.

Example: an image of two layers and a container on it::

    await driver.prepare("unpack-1", None)
    await driver.apply("unpack-1", stream, ApplyRequest())  # the first layer's tar
    await driver.commit("unpack-1", "layer-a")
    await driver.prepare("unpack-2", "layer-a")             # ... the second ...
    await driver.commit("unpack-2", "layer-b")
    await driver.prepare("c0ffee", "layer-b", options=SnapshotOptions(volatile=True))
    root = await driver.open_root("c0ffee")     # the container runs on it, and exits
    await driver.diff("c0ffee", sink)           # what it has changed, as a layer's tar
    driver.remove("c0ffee")                     # at once: its tree is in the trash
    await driver.cleanup()                      # takes its time, in a worker

What must hold
--------------
* A key is visible with all of its snapshot or not at all: each change is published by one rename
  or by what is as atomic. After a crash at any moment every snapshot that ``walk`` shows is
  whole; what was half made is found and removed by ``cleanup``.
* ``remove`` is quick whatever the size of the tree.
* A driver owns its root alone; two engines never share one. Methods are called from one thread.
* Methods that are not coroutines do short, local work on metadata. What takes long (copying,
  deleting) is awaited and goes to a worker by :attr:`StorageDriver.offload`.
* Keys match ``[A-Za-z0-9][A-Za-z0-9_.-]*``, up to 200 characters.

Errors: NotFound (no such key), AlreadyExists (key taken), InvalidArgument (a key of other
characters, a parent that is not committed), Conflict (removal of a parent, commit of what is not
active), Unsupported (an option that :attr:`StorageDriver.capabilities` does not declare),
ResourceExhausted (disk or inodes full; nothing is left of what was being made), Unavailable (this
machine cannot do it, with one sentence that says what is missing).

Capabilities
------------
``mounts-only``      the driver says what to mount and keeps no mount or process of its own;
                     without it, :meth:`StorageDriver.mounts` may raise Unsupported, and
                     :meth:`StorageDriver.open_root` is the driver's own
``parallel-apply``   layers of one image may be unpacked side by side, parents need not be there:
                     prepared without one, they get it by :meth:`StorageDriver.rebase`, and what
                     they take over from it by :meth:`StorageDriver.adopt`
``volatile``         honours :attr:`SnapshotOptions.volatile`
``id-map``           honours :attr:`SnapshotOptions.id_map`
``quota``            honours :attr:`SnapshotOptions.size_limit`
``shared-parent``    a snapshot costs nothing for what it shares with its parent
"""

from __future__ import annotations

from boxwood.drivers.storage.contract import StorageDriver
from boxwood.drivers.storage.directory import DirectoryDriver, gather
from boxwood.drivers.storage.values import (
    ID_MAP,
    MOUNTS_ONLY,
    PARALLEL_APPLY,
    QUOTA,
    SHARED_PARENT,
    VOLATILE,
    Applied,
    ApplyRequest,
    Branch,
    Diffed,
    IdMap,
    Kind,
    Mount,
    Mounter,
    Offload,
    SnapshotInfo,
    SnapshotOptions,
    UnpackTarget,
    Usage,
    as_boxwood_error,
    check_key,
    full_disk,
    open_directory,
)

__all__ = [
    "ID_MAP",
    "MOUNTS_ONLY",
    "PARALLEL_APPLY",
    "QUOTA",
    "SHARED_PARENT",
    "VOLATILE",
    "Applied",
    "ApplyRequest",
    "Branch",
    "Diffed",
    "DirectoryDriver",
    "IdMap",
    "Kind",
    "Mount",
    "Mounter",
    "Offload",
    "SnapshotInfo",
    "SnapshotOptions",
    "StorageDriver",
    "UnpackTarget",
    "Usage",
    "as_boxwood_error",
    "check_key",
    "full_disk",
    "gather",
    "open_directory",
]
