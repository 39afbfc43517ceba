"""The job that writes a layer's tar as one EROFS image."""

from __future__ import annotations

from typing import Any

from boxwood.execution.worker_archive import Feeder, fed, found_out
from boxwood_ext import tar


def erofs_layer(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Write a layer, compressed or not, as an image that the kernel mounts.

    Descriptors: the layer's bytes; the image, an empty file; with ``parent`` the tree that the
    layer is for. Arguments: as of ``unpack_layer``, without ``whiteouts`` and ``recipe``. Answers
    the fields of :class:`boxwood.drivers.storage.Applied`. After an error the image is worth
    nothing.
    """
    feeder = Feeder(fds[0], arguments)
    written = fed(
        feeder,
        lambda ring: tar.write_erofs(
            ring,
            fds[1],
            parent_fd=fds[2] if arguments.get("parent") else -1,
            userxattr=arguments.get("user_xattr", False),
            devices=arguments.get("devices", True),
            max_entries=arguments["max_entries"],
            max_bytes=arguments["max_bytes"],
            max_name=arguments.get("max_name", 4095),
        ),
    )
    return found_out(feeder, written, arguments)
