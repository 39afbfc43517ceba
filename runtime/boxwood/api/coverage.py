"""``python -m boxwood.api.coverage``: the coverage table of ``docs/api-coverage.md``."""

from __future__ import annotations

import sys

from boxwood.api import versions
from boxwood.api.operations import OPERATIONS
from boxwood.api.routes import all_routes
from boxwood.api.routing import OWN, SERVED

_INTRO = """# Coverage of the Engine API

Each operation of Docker's Engine API, and whether this engine serves it. Written from the routes
by `python -m boxwood.api.coverage`; a test keeps it true. API versions {oldest} to {newest} are
accepted.

- **served**: answers as Docker does.
- **refused**: is not part of this engine (swarm, Docker's managed plugins); the answer says so.
- **not yet**: answers 501 with its name.

"""


def states() -> dict[str, str]:
    """Return the state of each operation, by ``METHOD /path``, in the order of Docker's file."""
    found = {f"{route.method} {_bare(route.pattern)}": route.state for route in all_routes()}
    return {operation: found[_bare(operation)] for operation in OPERATIONS}


def render() -> str:
    """Return the whole document."""
    known = states()
    intro = _INTRO.format(
        oldest=versions.text(versions.MINIMUM), newest=versions.text(versions.NEWEST)
    )
    count = sum(state == SERVED for state in known.values())
    rows = [f"| `{operation}` | {state} |" for operation, state in known.items()]
    own = [
        f"| `{route.method} {route.pattern}` | {_summary(route.handler.__doc__)} |"
        for route in all_routes()
        if route.state == OWN
    ]
    lines = [
        f"{count} of {len(known)} operations are served.",
        "",
        "| operation | state |",
        "| --- | --- |",
        *rows,
        "",
        "## Besides",
        "",
        "| operation | what it answers |",
        "| --- | --- |",
        *own,
    ]
    return intro + "\n".join(lines) + "\n"


def _summary(doc: str | None) -> str:
    return (doc or "").partition(": ")[2].rstrip(".")


def _bare(operation: str) -> str:
    return "/".join("{}" if part.startswith("{") else part for part in operation.split("/"))


if __name__ == "__main__":
    sys.stdout.write(render())
