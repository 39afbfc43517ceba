"""Finding, listing and loading plugins. Nothing is built on import."""

from __future__ import annotations

import logging
from importlib import metadata
from typing import TYPE_CHECKING, Any

import msgspec
import pluggy

from boxwood.drivers.hookspecs import PROJECT, SPECS
from boxwood.errors import BoxwoodError, InvalidArgument, NotFound, PluginError

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger(__name__)

# The one driver hook of each kind and the argument that names the driver in it.
_DRIVER_HOOKS = {
    "storage": ("storage_driver", "name"),
    "isolation": ("isolation_driver", "name"),
    "network": ("network_driver", "name"),
    "volume": ("volume_driver", "name"),
    "log": ("log_driver", "name"),
    "registry": ("registry_transport", "scheme"),
}


class PluginInfo(msgspec.Struct, frozen=True):
    """What the metadata says of one plugin; ``error`` is set once loading it has failed."""

    kind: str
    name: str
    module: str
    distribution: str
    version: str
    error: str = ""


_failed: dict[tuple[str, str], str] = {}


def kinds() -> tuple[str, ...]:
    """Return the kinds of plugins there are."""
    return tuple(SPECS)


def load_manager(kind: str) -> pluggy.PluginManager:
    """Return a fresh plugin manager that knows the hooks of ``kind`` and no plugin yet.

    Raises:
        InvalidArgument: there is no such kind.
    """
    if kind not in SPECS:
        raise InvalidArgument(f"plugin: {kind}: no such kind of plugin")
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(SPECS[kind])
    return manager


def available(kind: str) -> list[PluginInfo]:
    """Return the plugins of ``kind`` that are installed, by name, from metadata alone."""
    found = {point.name: _describe(kind, point) for point in _points(kind)}
    return [found[name] for name in sorted(found)]


def register(manager: pluggy.PluginManager, kind: str, name: str) -> object:
    """Import the plugin ``name`` of ``kind`` and register it; returns the plugin.

    A plugin that is already registered is returned as it is. One that fails is not left
    registered, and its failure is shown by :func:`available`.

    Raises:
        NotFound: no entry point of that name.
        PluginError: it could not be imported, or has a hook that its kind does not know.
    """
    known = manager.get_plugin(name)
    if known is not None:
        return known
    point = _find(kind, name)
    try:
        plugin: object = point.load()
        manager.register(plugin, name=name)
        manager.check_pending()
    except Exception as error:
        if manager.get_plugin(name) is not None:
            manager.unregister(name=name)
        _failed[kind, name] = str(error)
        raise PluginError(f"load plugin: {kind}/{name}: {error}") from error
    return plugin


def select(kind: str, name: str, **arguments: Any) -> Any:
    """Import the driver ``name`` of ``kind``, and nothing else, and return its object.

    Args:
        kind: a kind that has drivers (any but ``extension``).
        name: the entry point's name.
        arguments: the other arguments of the driver hook (``root``, ``options``).

    Raises:
        NotFound: there is no such driver.
        PluginError: it did not load, raised something of its own, or returned None.
        BoxwoodError: what the driver said of the machine or its options.
    """
    hook, key = _DRIVER_HOOKS[kind]
    manager = load_manager(kind)
    register(manager, kind, name)
    try:
        driver = getattr(manager.hook, hook)(**{key: name}, **arguments)
    except BoxwoodError:
        raise
    except Exception as error:
        _failed[kind, name] = str(error)
        raise PluginError(f"plugin: {kind}/{name}: {error}") from error
    if driver is None:
        raise PluginError(f"plugin: {kind}/{name}: returned no driver")
    return driver


def ranked(kind: str) -> list[str]:
    """Return the drivers of ``kind`` that may be chosen without being asked for, the best first.

    Each is imported for it; one that does not load is left out, and :func:`available` says why.
    """
    rank = f"{kind}_rank"
    found = []
    for info in available(kind):
        manager = load_manager(kind)
        try:
            register(manager, kind, info.name)
            value = getattr(manager.hook, rank)(name=info.name)
        except Exception as error:  # noqa: BLE001 - a stranger's code is not to stop the engine
            log.warning("plugin: %s/%s: not asked for its rank: %s", kind, info.name, error)
            continue
        if isinstance(value, int):
            found.append((-value, info.name))
    return [name for _, name in sorted(found)]


def load_extensions(names: Iterable[str]) -> pluggy.PluginManager:
    """Return a manager with the extensions ``names`` registered; a bad one is left out and logged.

    The engine goes on without one that is missing or fails. One with a hook that does not exist,
    or that wants arguments which its hook does not have, would never be asked: a spelling mistake
    in ``admit`` must not open the door, so that is an error.

    Raises:
        PluginError: a hook is unknown; names plugin and hook.
    """
    manager = load_manager("extension")
    for name in names:
        try:
            register(manager, "extension", name)
        except (NotFound, PluginError) as error:
            if isinstance(error.__cause__, pluggy.PluginValidationError):
                raise
            log.error("%s; the engine goes on without it", error)
    return manager


def drop(manager: pluggy.PluginManager, kind: str, name: str, cause: str) -> None:
    """Go on without a plugin that failed after it was loaded; :func:`available` shows ``cause``."""
    manager.unregister(name=name)
    _failed[kind, name] = cause
    log.error("plugin: %s/%s: %s; the engine goes on without it", kind, name, cause)


def _points(kind: str) -> Iterable[metadata.EntryPoint]:
    return metadata.entry_points(group=f"boxwood.{kind}")


def _find(kind: str, name: str) -> metadata.EntryPoint:
    for point in _points(kind):
        if point.name == name:
            return point
    raise NotFound(f"plugin: {kind}/{name}: not installed")


def _describe(kind: str, point: metadata.EntryPoint) -> PluginInfo:
    dist = point.dist
    return PluginInfo(
        kind=kind,
        name=point.name,
        module=point.value,
        distribution=dist.name if dist else "",
        version=dist.version if dist else "",
        error=_failed.get((kind, point.name), ""),
    )
