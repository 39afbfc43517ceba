"""The grammars of mounts: ``HostConfig.Binds``, ``HostConfig.Mounts``, ``VolumesFrom``.

Pure: text and structs in, :class:`~boxwood.model.container.MountPoint` out. Texts of the errors
are Docker's.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

from boxwood.errors import InvalidArgument, Unsupported
from boxwood.model.config import HostConfig, MountRequest
from boxwood.model.container import MountPoint

BIND = "bind"
VOLUME = "volume"
TMPFS = "tmpfs"

TOO_SHORT = "volume name is too short, names should be at least two alphanumeric characters"
VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z")
_PROPAGATION = frozenset({"shared", "rshared", "slave", "rslave", "private", "rprivate"})
_LABELS = frozenset({"z", "Z"})
_CONSISTENCY = frozenset({"consistent", "cached", "delegated", "default"})
_TYPES = (BIND, VOLUME, TMPFS)
_Fail = Callable[[str], InvalidArgument]


def parse_bind(raw: str, volume_driver: str = "") -> MountPoint:
    """Parse ``[source:]destination[:options]``.

    A source that is no absolute path is the name of a volume; without a source the volume is
    anonymous (its ``name`` is empty).

    Raises:
        InvalidArgument: in Docker's words.
    """
    parts = raw.split(":")
    if len(parts) > 3 or not parts[0]:
        raise InvalidArgument(f"invalid volume specification: '{raw}'")
    source, destination, mode = "", parts[0], ""
    if len(parts) == 2:
        if _is_mode(parts[1]):  # /foo:ro: a volume without a name takes no mode
            raise InvalidArgument(f"invalid volume specification: '{raw}'")
        source, destination = parts
    elif len(parts) == 3:
        source, destination, mode = parts
        if mode and not _is_mode(mode):
            raise InvalidArgument(f"invalid mode: {mode}")
    destination = _destination(raw, destination, source)
    if source.startswith("/"):
        return _bind(raw, posixpath.normpath(source), destination, mode)
    return _volume(raw, source, destination, mode, volume_driver)


def _destination(raw: str, destination: str, source: str) -> str:
    kind = BIND if source.startswith("/") else VOLUME
    prefix = f"invalid volume specification: '{raw}': invalid mount config for type \"{kind}\": "
    if not destination.startswith("/"):
        raise InvalidArgument(
            f"{prefix}invalid mount path: '{destination}' mount path must be absolute"
        )
    clean = clean_path(destination)
    if clean == "/":
        raise InvalidArgument(f"{prefix}invalid specification: destination can't be '/'")
    return clean


def clean_path(path: str) -> str:
    """Return an absolute path without ``.``, ``..`` and double slashes."""
    return posixpath.normpath("/" + path.lstrip("/"))


def _words(mode: str) -> list[str]:
    return [word for word in mode.split(",") if word]


def _is_mode(mode: str) -> bool:
    words = _words(mode)
    groups = (
        {"ro", "rw"} & set(words),
        _PROPAGATION & set(words),
        _LABELS & set(words),
        _CONSISTENCY & set(words),
    )
    known = set().union(*groups) | {"nocopy"}
    return (
        bool(words)
        and all(word in known for word in words)
        and len(set(words)) == len(words)
        and all(len(group) <= 1 for group in groups)
    )


def _bind(raw: str, source: str, destination: str, mode: str) -> MountPoint:
    words = _words(mode)
    if "nocopy" in words:
        raise InvalidArgument(f"invalid volume specification: '{raw}'")
    spread = next((word for word in words if word in _PROPAGATION), "rprivate")
    return MountPoint(
        type=BIND,
        source=source,
        destination=destination,
        mode=mode,
        rw="ro" not in words,
        propagation=spread,
        options=("create", *_LABELS.intersection(words)),
    )


def _volume(raw: str, name: str, destination: str, mode: str, driver: str) -> MountPoint:
    words = _words(mode)
    _check_volume_name(name)
    if _PROPAGATION.intersection(words):
        raise InvalidArgument(
            f"invalid volume specification: '{raw}': invalid mount config for type \"volume\": "
            "field BindOptions must not be specified"
        )
    return MountPoint(
        type=VOLUME,
        name=name,
        destination=destination,
        driver=driver,
        mode=mode or "z",
        rw="ro" not in words,
        options=("nocopy",) if "nocopy" in words else (),
        anonymous=not name,
    )


def _check_volume_name(name: str) -> None:
    if len(name) == 1:
        raise InvalidArgument(f"create {name}: {TOO_SHORT}")
    if name and VOLUME_NAME.match(name) is None:
        raise InvalidArgument(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, '
            "use absolute path"
        )


def parse_mount(request: MountRequest) -> MountPoint | None:
    """Turn one entry of ``HostConfig.Mounts`` into a mount point; a tmpfs is None.

    A tmpfs needs no place in the record: the spec is built from the request itself.

    Raises:
        InvalidArgument: in Docker's words. Unsupported: a type that this engine does not do.
    """
    _check_mount(request)
    destination = clean_path(request.target)
    if request.type == TMPFS:
        return None
    options = []
    if request.type == BIND:
        wanted = request.bind_options
        if wanted is not None:
            if wanted.create_mountpoint:
                options.append("create")
            if wanted.non_recursive:
                options.append("non-recursive")
            if wanted.read_only_non_recursive:
                options.append("ro-non-recursive")
            if wanted.read_only_force_recursive:
                options.append("ro-force-recursive")
        return MountPoint(
            type=BIND,
            source=posixpath.normpath(request.source),
            destination=destination,
            rw=not request.read_only,
            propagation=(wanted.propagation if wanted else "") or "rprivate",
            options=tuple(options),
        )
    volume = request.volume_options
    return MountPoint(
        type=VOLUME,
        name=request.source,
        destination=destination,
        driver=volume.driver_config.name if volume and volume.driver_config else "",
        mode="z",
        rw=not request.read_only,
        options=("nocopy",) if volume and volume.no_copy else (),
        subpath=volume.subpath if volume else "",
        anonymous=not request.source,
    )


def _check_mount(request: MountRequest) -> None:
    def fail(reason: str) -> InvalidArgument:
        return InvalidArgument(f'invalid mount config for type "{request.type}": {reason}')

    if request.type in ("image", "npipe", "cluster"):
        raise Unsupported(f'mount type "{request.type}" is not supported by this engine')
    if request.type not in _TYPES:
        raise fail("mount type unknown")
    if not request.target:
        raise fail("field Target must not be empty")
    if not request.target.startswith("/"):
        raise fail(f"invalid mount path: '{request.target}' mount path must be absolute")
    if clean_path(request.target) == "/":
        raise fail("invalid specification: destination can't be '/'")
    for kind, name, value in (
        (BIND, "BindOptions", request.bind_options),
        (VOLUME, "VolumeOptions", request.volume_options),
        (TMPFS, "TmpfsOptions", request.tmpfs_options),
        ("image", "ImageOptions", request.image_options),
    ):
        if value is not None and kind != request.type:
            raise fail(f"field {name} must not be specified")
    _CHECKS[request.type](request, fail)


def _check_bind_mount(request: MountRequest, fail: _Fail) -> None:
    if not request.source:
        raise fail("field Source must not be empty")
    if not request.source.startswith("/"):
        raise fail(f"invalid mount path: '{request.source}' mount path must be absolute")
    options = request.bind_options
    if options is None:
        return
    if options.propagation and options.propagation not in _PROPAGATION:
        raise fail(f"invalid propagation mode: {options.propagation}")
    if options.read_only_non_recursive and options.read_only_force_recursive:
        raise fail("ReadOnlyNonRecursive conflicts with ReadOnlyForceRecursive")
    if (options.read_only_non_recursive or options.read_only_force_recursive) and (
        not request.read_only
    ):
        raise fail("recursive read-only options require ReadOnly")


def _check_volume_mount(request: MountRequest, fail: _Fail) -> None:
    if not request.source and request.read_only:
        raise fail("must not set ReadOnly mode when using anonymous volumes")
    _check_volume_name(request.source)
    subpath = request.volume_options.subpath if request.volume_options else ""
    if subpath.startswith("/") or ".." in subpath.split("/"):
        raise fail("subpath must be a relative path within the volume")


def _check_tmpfs_mount(request: MountRequest, fail: _Fail) -> None:
    if request.source:
        raise fail("field Source must not be specified")
    if request.tmpfs_options is not None and request.tmpfs_options.size_bytes < 0:
        raise fail("invalid size")


_CHECKS: dict[str, Callable[[MountRequest, _Fail], None]] = {
    BIND: _check_bind_mount,
    VOLUME: _check_volume_mount,
    TMPFS: _check_tmpfs_mount,
}


def parse_volumes_from(raw: str) -> tuple[str, str]:
    """Parse ``container[:ro|rw|z|Z]``; returns the container and the mode, which may be empty."""
    container, colon, mode = raw.partition(":")
    if not container:
        raise InvalidArgument("volumes-from specification cannot be an empty string")
    if colon and not _is_mode(mode):
        raise InvalidArgument(f"invalid mode: {mode}")
    if mode and (_PROPAGATION & set(_words(mode)) or "nocopy" in _words(mode)):
        raise InvalidArgument(f"invalid mode: {mode}")
    return container, mode


def tmpfs_destinations(host: HostConfig) -> list[str]:
    """Return where the container has a tmpfs of its own, by either grammar."""
    found = [clean_path(path) for path in host.tmpfs or {}]
    found += [clean_path(entry.target) for entry in host.mounts or () if entry.type == TMPFS]
    return found
