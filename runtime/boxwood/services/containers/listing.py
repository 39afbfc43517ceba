"""Which containers a list shows (Engine API ``ContainerList``)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from boxwood.errors import InvalidArgument, NotFound
from boxwood.model import container as states

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from boxwood.model.container import Container
    from boxwood.services.containers.context import Images
    from boxwood.services.containers.store import ContainerStore

KNOWN = frozenset(
    {
        "ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label",
        "name", "network", "publish", "since", "status", "volume",
    }
)  # fmt: skip
_STATUSES = frozenset(
    {
        states.CREATED, states.RUNNING, states.PAUSED, states.RESTARTING, states.REMOVING,
        states.EXITED, states.DEAD,
    }
)  # fmt: skip
_HEALTH = frozenset({"starting", "healthy", "unhealthy", "none"})


class Lister:
    """Filters, order and limit. Takes no lock."""

    def __init__(self, store: ContainerStore, images: Images) -> None:
        self._store = store
        self._images = images

    def list(
        self, every: bool, limit: int, filters: Mapping[str, Iterable[str]]
    ) -> list[Container]:
        """Return containers, the newest first; raises InvalidArgument for a filter."""
        wanted = {key: tuple(values) for key, values in filters.items() if tuple(values)}
        for key in filters:
            if key not in KNOWN:
                raise InvalidArgument(f"invalid filter '{key}'")
        tests = [self._compile(key, values) for key, values in wanted.items()]
        if not (every or limit > 0 or "status" in wanted or "exited" in wanted):
            tests.append(lambda entry: entry.state.running or
                         entry.state.status == states.RESTARTING)  # fmt: skip
        found = [entry for entry in self._store if all(test(entry) for test in tests)]
        found.sort(key=lambda entry: (-entry.created_at, entry.id))
        return found[:limit] if limit > 0 else found

    def _compile(self, key: str, values: tuple[str, ...]) -> Callable[[Container], bool]:
        if key in ("before", "since"):
            return self._by_age(key, values)
        if key == "ancestor":
            return self._by_ancestor(values)
        return _SIMPLE[key](values)

    def _by_age(self, key: str, values: tuple[str, ...]) -> Callable[[Container], bool]:
        times = [self._store.get(ref).created_at for ref in values]
        if key == "before":
            return lambda entry: all(entry.created_at < time for time in times)
        return lambda entry: all(entry.created_at > time for time in times)

    def _by_ancestor(self, values: tuple[str, ...]) -> Callable[[Container], bool]:
        """Containers of an image, or of one that is built upon its layers."""
        ids, chains = set(), []
        for ref in values:
            try:
                image = self._images.get(ref)
            except (NotFound, InvalidArgument):
                continue
            ids.add(str(image.id))
            chains.append(tuple(image.config.rootfs.diff_ids))

        def test(entry: Container) -> bool:
            if entry.image_id in ids:
                return True
            try:
                layers = self._images.get(entry.image_id).config.rootfs.diff_ids
            except (NotFound, InvalidArgument):
                return False
            return any(chain and tuple(layers[: len(chain)]) == chain for chain in chains)

        return test


def by_label(values: tuple[str, ...]) -> Callable[[Container], bool]:
    """Return the test for all of ``name`` or ``name=value``."""
    pairs = [value.partition("=") for value in values]

    def test(entry: Container) -> bool:
        labels = entry.config.labels or {}
        return all(
            name in labels and (not equals or labels[name] == value)
            for name, equals, value in pairs
        )

    return test


def _by_name(values: tuple[str, ...]) -> Callable[[Container], bool]:
    def compiled(value: str) -> re.Pattern[str]:
        try:
            return re.compile(value)
        except re.error:
            return re.compile(re.escape(value))

    patterns = [compiled(value) for value in values]
    return lambda entry: any(
        pattern.search(entry.name) or pattern.search("/" + entry.name) for pattern in patterns
    )


def _by_status(values: tuple[str, ...]) -> Callable[[Container], bool]:
    for value in values:
        if value not in _STATUSES:
            raise InvalidArgument(f"invalid filter 'status={value}'")
    wanted = frozenset(values)
    return lambda entry: entry.state.status in wanted


def _by_exit(values: tuple[str, ...]) -> Callable[[Container], bool]:
    if not all(re.fullmatch(r"-?\d+", value) for value in values):
        raise InvalidArgument(f"invalid filter 'exited={values[0]}'")
    codes = {int(value) for value in values}
    return lambda entry: (
        not entry.state.running and entry.state.has_started and entry.state.exit_code in codes
    )


def _by_health(values: tuple[str, ...]) -> Callable[[Container], bool]:
    for value in values:
        if value not in _HEALTH:
            raise InvalidArgument(f"invalid filter 'health={value}'")
    wanted = frozenset(values)
    return lambda entry: (entry.state.health.status if entry.state.health else "none") in wanted


def _ports(values: tuple[str, ...]) -> set[str]:
    """Return the ports of ``80``, ``80/udp``, ``80-90``; raises InvalidArgument."""
    wanted = set()
    for value in values:
        ports, _, protocol = value.partition("/")
        first, _, last = ports.partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()):
            raise InvalidArgument(f"invalid port filter: {value}")
        numbers = range(int(first), min(int(last or first), 65535) + 1)
        wanted |= {f"{number}/{protocol or 'tcp'}" for number in numbers}
    return wanted


def _by_exposed(values: tuple[str, ...]) -> Callable[[Container], bool]:
    wanted = _ports(values)
    return lambda entry: not wanted.isdisjoint(entry.config.exposed_ports or {})


def _by_published(values: tuple[str, ...]) -> Callable[[Container], bool]:
    wanted = _ports(values)
    return lambda entry: not wanted.isdisjoint(port.key for port in entry.sandbox.ports)


def _no_task(values: tuple[str, ...]) -> Callable[[Container], bool]:
    for value in values:
        if value.lower() not in ("false", "0", "true", "1"):
            raise InvalidArgument(f"invalid filter 'is-task=[{value}]'")
    return lambda _: any(value.lower() in ("false", "0") for value in values)


_SIMPLE: dict[str, Callable[[tuple[str, ...]], Callable[[Container], bool]]] = {
    "label": by_label,
    "name": _by_name,
    "status": _by_status,
    "exited": _by_exit,
    "health": _by_health,
    "expose": _by_exposed,
    "publish": _by_published,
    "id": lambda values: lambda entry: any(entry.id.startswith(value) for value in values),
    "is-task": _no_task,
    "isolation": lambda values: lambda _: any(v in ("", "default") for v in values),
    "network": lambda values: (
        lambda entry: any(
            value in entry.networks
            or any(at.network_id.startswith(value) for at in entry.networks.values())
            for value in values
        )
    ),
    "volume": lambda values: (
        lambda entry: any(
            value in (point.name, point.source, point.destination)
            for point in entry.mounts
            for value in values
        )
    ),
}
