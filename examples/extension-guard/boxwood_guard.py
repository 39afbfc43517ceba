"""Marks every container, lets nobody but root have a privileged one, and keeps a journal.

Enabled by `"plugins": ["guard"]` in the daemon's configuration. The journal is the file that the
environment variable `GUARD_JOURNAL` of the daemon names.
"""

import os

from boxwood.drivers.hookspecs import hookimpl
from boxwood.errors import PermissionDenied

MARK = "org.example.guarded"
REFUSED = []


@hookimpl
def adjust_spec(spec, container):
    """Annotate the OCI document, and tell the process who watches over it."""
    spec.setdefault("annotations", {})[MARK] = container.name
    spec["process"].setdefault("env", []).append(f"GUARDED={container.name}")


@hookimpl
def admit(request):
    """Refuse a privileged container to everybody but root."""
    if request.action != "container.create" or request.peer.uid == 0:
        return
    if request.value.host_config.privileged:
        REFUSED.append(request.peer.uid)
        raise PermissionDenied(f"guard: user {request.peer.uid} may not have privileged containers")


@hookimpl
def on_event(event):
    """Add a line to the journal."""
    path = os.environ.get("GUARD_JOURNAL")
    if path:
        with open(path, "a", encoding="utf-8") as journal:
            journal.write(f"{event.type} {event.action} {event.actor.id[:12]}\n")


@hookimpl
def register_routes(api):
    """Serve `GET /ext/guard/hello/NAME`."""

    async def hello(call):
        return {"hello": call.params["name"], "loud": call.flag("loud")}

    api.add("GET", "/ext/guard/hello/{name}", hello)


@hookimpl
def register_metrics(registry):
    """Count refusals: `boxwood_guard_refused_total`."""
    registry.counter("refused_total", "Containers that were refused.", lambda: len(REFUSED))
