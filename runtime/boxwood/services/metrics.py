"""What the engine and its extensions measure, as Prometheus reads it (text format 0.0.4)."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from boxwood.errors import AlreadyExists, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")


class Metrics:
    """Every metric by its name. Values are read when somebody asks."""

    def __init__(self) -> None:
        """There are none yet."""
        self._metrics: dict[str, tuple[str, str, Callable[[], float]]] = {}
        self._quiet: set[str] = set()

    def add(self, kind: str, name: str, doc: str, read: Callable[[], float]) -> None:
        """Add a ``gauge`` or ``counter``.

        Raises:
            InvalidArgument: the name is not of lower-case letters, digits and ``_``.
            AlreadyExists: there is one of the name.
        """
        if _NAME.match(name) is None:
            raise InvalidArgument(f"metric: {name}: not of lower-case letters, digits and _")
        if name in self._metrics:
            raise AlreadyExists(f"metric: {name}: is there already")
        self._metrics[name] = (kind, doc, read)

    def drop(self, prefix: str) -> None:
        """Forget every metric whose name begins with ``prefix``."""
        self._metrics = {
            name: metric for name, metric in self._metrics.items() if not name.startswith(prefix)
        }

    def of(self, plugin: str) -> PluginMetrics:
        """Return the table that an extension gets."""
        return PluginMetrics(self, prefix_of(plugin))

    def render(self) -> str:
        """Return the text; one that fails is left out, and logged once."""
        lines: list[str] = []
        for name, (kind, doc, read) in sorted(self._metrics.items()):
            try:
                value = float(read())
            except Exception as error:  # an extension's: the others are still wanted
                if name not in self._quiet:
                    self._quiet.add(name)
                    log.error("metric: %s: %s", name, error, exc_info=error)
                continue
            text = doc.replace("\\", r"\\").replace("\n", r"\n")
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{name} {value:g}"]
        return "".join(f"{line}\n" for line in lines)


def prefix_of(plugin: str) -> str:
    """Return what the names of an extension's metrics begin with."""
    return f"boxwood_{re.sub('[^a-z0-9]', '_', plugin.lower())}_"


class PluginMetrics:
    """Where one extension adds what it measures: :class:`boxwood.drivers.extension.Metrics`."""

    def __init__(self, metrics: Metrics, prefix: str) -> None:
        """``prefix`` is put before every name."""
        self._metrics = metrics
        self._prefix = prefix

    def gauge(self, name: str, doc: str, read: Callable[[], float]) -> None:
        """Add a value that is read when somebody asks. Raises as :meth:`Metrics.add`."""
        self._metrics.add("gauge", self._prefix + name, doc, read)

    def counter(self, name: str, doc: str, read: Callable[[], float]) -> None:
        """Add a value that only grows. Raises as :meth:`Metrics.add`."""
        self._metrics.add("counter", self._prefix + name, doc, read)
