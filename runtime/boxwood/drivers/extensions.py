"""Calling the hooks of extensions one plugin at a time, so that each failure has a name."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeVar

from boxwood.drivers import manager
from boxwood.drivers.extension import Verdict
from boxwood.errors import BoxwoodError, PluginError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pluggy

    from boxwood.drivers.extension import Metrics, RouteTable, Verification
    from boxwood.model.container import Container
    from boxwood.model.event import Event

log = logging.getLogger(__name__)
Table = TypeVar("Table", bound="RouteTable")


def implementations(
    plugins: pluggy.PluginManager, hook: str
) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield name and function of each plugin that has ``hook``, the one loaded last first.

    The function takes the hook's keywords, whichever of them the plugin wants.
    """
    for impl in getattr(plugins.hook, hook).get_hookimpls()[::-1]:

        def call(impl: Any = impl, /, **arguments: Any) -> Any:
            return impl.function(*(arguments[name] for name in impl.argnames))

        yield impl.plugin_name, call


def adjust_spec(plugins: pluggy.PluginManager, spec: dict[str, Any], container: Container) -> None:
    """Have every extension change the document in place.

    Raises:
        PluginError: one failed; names it.
        BoxwoodError: what an extension raised of our own errors, as it is.
    """
    for name, hook in implementations(plugins, "adjust_spec"):
        try:
            hook(spec=spec, container=container)
        except BoxwoodError:
            raise
        except Exception as error:  # a stranger's code: whatever it raises gets its name
            raise PluginError(f"adjust spec: {container.id[:12]}: {name}: {error}") from error


def choose(plugins: pluggy.PluginManager, hook: str, /, **arguments: Any) -> str:
    """Return the first answer to ``choose_subnet`` or ``choose_address``; empty: nobody chooses.

    Raises:
        PluginError: one failed, or answered with no text; names it.
        BoxwoodError: what an extension raised of our own errors, as it is.
    """
    for name, call in implementations(plugins, hook):
        try:
            found = call(**arguments)
        except BoxwoodError:
            raise
        except Exception as error:  # a stranger's code: whatever it raises gets its name
            raise PluginError(f"{hook}: {name}: {error}") from error
        if found is None:
            continue
        if not isinstance(found, str) or not found:
            raise PluginError(f"{hook}: {name}: not a text: {found!r}")
        return found
    return ""


async def verify_image(plugins: pluggy.PluginManager, image: Verification) -> Verdict | None:
    """Ask every extension about an image; returns the first verdict, None: nobody has one.

    Raises:
        PermissionDenied: one refuses it.
        PluginError: one failed, or answered with no verdict; names it.
        BoxwoodError: what an extension raised of our own errors, as it is.
    """
    verdict: Verdict | None = None
    for name, hook in implementations(plugins, "verify_image"):
        try:
            found = await hook(image=image)
        except BoxwoodError:
            raise
        except Exception as error:  # a stranger's code: whatever it raises gets its name
            raise PluginError(f"verify image: {name}: {error}") from error
        if found is not None and not isinstance(found, Verdict):
            raise PluginError(f"verify image: {name}: no verdict: {found!r}")
        verdict = verdict or found
    return verdict


class Observer:
    """Shows events to the extensions; the failure of one is logged once and changes nothing."""

    def __init__(self, plugins: pluggy.PluginManager) -> None:
        """``plugins`` is asked anew for each event."""
        self._plugins = plugins
        self._quiet: set[str] = set()

    def __call__(self, event: Event) -> None:
        """Call ``on_event`` of each extension."""
        for name, hook in implementations(self._plugins, "on_event"):
            try:
                hook(event=event)
            except Exception as error:  # not ours, and nothing may come of it
                if name not in self._quiet:
                    self._quiet.add(name)
                    log.error("extension: %s: on_event: %s", name, error, exc_info=error)


def register_routes(
    plugins: pluggy.PluginManager, table: Callable[[str], Table]
) -> Iterator[tuple[str, Table]]:
    """Yield each extension that has routes with its table filled.

    One that fails is unregistered and its failure logged and listed: none of its routes is
    served, and no other hook of it is called any more.

    Args:
        plugins: the loaded extensions.
        table: makes the table of an extension, by its name.
    """
    for name, hook in list(implementations(plugins, "register_routes")):
        routes = table(name)
        try:
            hook(api=routes)
        except Exception as error:  # noqa: BLE001  not ours: the engine goes on without it
            manager.drop(plugins, "extension", name, f"register routes: {error}")
        else:
            yield name, routes


def register_metrics(
    plugins: pluggy.PluginManager,
    table: Callable[[str], Metrics],
    undo: Callable[[str], None],
) -> None:
    """Have each extension add its metrics; one that fails is unregistered, logged and listed.

    Args:
        plugins: the loaded extensions.
        table: makes the table of an extension, by its name.
        undo: takes out what the table of a failed one has.
    """
    for name, hook in list(implementations(plugins, "register_metrics")):
        try:
            hook(registry=table(name))
        except Exception as error:  # noqa: BLE001 - not ours: the engine goes on without it
            undo(name)
            manager.drop(plugins, "extension", name, f"register metrics: {error}")
