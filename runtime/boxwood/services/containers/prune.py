"""Removing what does not run (Engine API ``ContainerPrune``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boxwood.errors import Conflict, InvalidArgument, NotFound
from boxwood.model import container as states
from boxwood.model import times
from boxwood.model.moments import moment_of
from boxwood.services.containers.listing import by_label

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from boxwood.model.container import Container

_FILTERS = frozenset({"label", "label!", "until"})


async def prune(
    containers: Iterable[Container],
    filters: Mapping[str, Iterable[str]],
    size: Callable[[str], Awaitable[int]],
    remove: Callable[[str], Awaitable[None]],
) -> tuple[list[str], int]:
    """Remove the containers that do not run and that the filters let through.

    Args:
        containers: all of them.
        filters: ``label``, ``label!``, ``until``.
        size: the bytes that a container has written, by id.
        remove: removes one by id; NotFound and Conflict mean that somebody was quicker.

    Returns:
        the ids of those that are gone, and the bytes that they took.

    Raises:
        InvalidArgument: a filter.
    """
    test = _test(filters)
    removed, freed = [], 0
    for container in [entry for entry in containers if test(entry)]:
        try:
            written = await size(container.id)
            await remove(container.id)
        except (NotFound, Conflict):
            continue
        removed.append(container.id)
        freed += written
    return removed, freed


def _test(filters: Mapping[str, Iterable[str]]) -> Callable[[Container], bool]:
    wanted = {key: tuple(values) for key, values in filters.items()}
    for key in wanted:
        if key not in _FILTERS:
            raise InvalidArgument(f"invalid filter '{key}'")
    until = wanted.get("until", ())
    if len(until) > 1:
        raise InvalidArgument("more than one until filter specified")
    limit = moment_of(until[0]) * times.SECOND if until else None
    has = by_label(wanted.get("label", ()))
    unwanted = [by_label((value,)) for value in wanted.get("label!", ())]

    def test(entry: Container) -> bool:
        rests = not entry.state.running and entry.state.status not in (
            states.RESTARTING,
            states.REMOVING,
        )
        old = limit is None or entry.created_at < limit
        return rests and old and has(entry) and not any(other(entry) for other in unwanted)

    return test
