"""What older API versions have besides: one table, no version numbers in the routes.

A row says: before minor N, an answer of this shape gets these fields. The newest shape is the
one that :mod:`boxwood.api.shapes` builds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from boxwood.model.network import PREDEFINED
from boxwood.model.times import NEVER

Object = dict[str, Any]


class Legacy(NamedTuple):
    """One row: ``change`` is applied to answers of ``shape`` before minor ``before``."""

    shape: str
    before: int
    change: Callable[[Object], None]
    why: str


_NETWORK_TOP = (
    ("EndpointID", "EndpointID", ""),
    ("Gateway", "Gateway", ""),
    ("GlobalIPv6Address", "GlobalIPv6Address", ""),
    ("GlobalIPv6PrefixLen", "GlobalIPv6PrefixLen", 0),
    ("IPAddress", "IPAddress", ""),
    ("IPPrefixLen", "IPPrefixLen", 0),
    ("IPv6Gateway", "IPv6Gateway", ""),
    ("MacAddress", "MacAddress", ""),
)
_EMPTY_CONFIG: Object = {
    "Hostname": "",
    "Domainname": "",
    "User": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Env": None,
    "Cmd": None,
    "Image": "",
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": None,
}


def _network_top(container: Object) -> None:
    settings = container["NetworkSettings"]
    endpoint = settings["Networks"].get("bridge") or {}
    for name, source, default in _NETWORK_TOP:
        settings[name] = endpoint.get(source) or default
    settings.update(
        Bridge="",
        HairpinMode=False,
        LinkLocalIPv6Address="",
        LinkLocalIPv6PrefixLen=0,
        SecondaryIPAddresses=None,
        SecondaryIPv6Addresses=None,
    )


def _container_mac(container: Object) -> None:
    for endpoint in container["NetworkSettings"]["Networks"].values():
        if endpoint.get("MacAddress"):
            container["Config"]["MacAddress"] = endpoint["MacAddress"]
            return


def _alias_names(container: Object) -> None:
    names = [container["Id"][:12], container["Config"]["Hostname"]]
    for name, endpoint in container["NetworkSettings"]["Networks"].items():
        if name not in PREDEFINED:
            endpoint["Aliases"] = list(dict.fromkeys([*(endpoint["Aliases"] or ()), *names]))


def _virtual_size(image: Object) -> None:
    image["VirtualSize"] = image["Size"]


def _parent(image: Object) -> None:
    image["Container"] = ""


def _parent_config(image: Object) -> None:
    volumes = (image.get("Config") or {}).get("Volumes")
    image["ContainerConfig"] = {**_EMPTY_CONFIG, "Volumes": volumes}


def _image_config(image: Object) -> None:
    image["Config"] = {**_EMPTY_CONFIG, **(image.get("Config") or {})}


def _image_created(image: Object) -> None:
    image["Created"] = image.get("Created") or NEVER


def _no_names(image: Object) -> None:
    if not image["RepoTags"] and not image["RepoDigests"]:
        image["RepoTags"] = ["<none>:<none>"]
        image["RepoDigests"] = ["<none>@<none>"]


def _no_count(image: Object) -> None:
    image["Containers"] = -1


def _event_top(event: Object) -> None:
    if event["Type"] not in ("container", "image"):
        return
    event["status"] = event["Action"]
    event["id"] = event["Actor"]["ID"]
    if event["Type"] == "container":
        event["from"] = event["Actor"]["Attributes"].get("image", "")


def _no_ipv4_switch(network: Object) -> None:
    del network["EnableIPv4"]


TABLE: tuple[Legacy, ...] = (
    Legacy("container", 52, _network_top, "addresses of the bridge endpoint at the top"),
    Legacy("container", 45, _alias_names, "aliases have the short id and the host name"),
    Legacy("container", 52, _container_mac, "Config.MacAddress"),
    Legacy("image", 52, _image_config, "Config has its empty fields"),
    Legacy("image", 45, _parent, "Container of the builder"),
    # Docker leaves it out from 1.45 on, and Compose 1.29 (Debian 12's), which asks for the newest
    # version there is, then cannot make a container anew: KeyError.
    Legacy("image", 52, _parent_config, "ContainerConfig, of which Compose reads the volumes"),
    Legacy("image", 44, _virtual_size, "VirtualSize, equal to Size"),
    Legacy("image", 44, _image_created, "a missing Created is the zero time"),
    Legacy("image summary", 51, _no_count, "Containers was never counted"),
    Legacy("image summary", 44, _virtual_size, "VirtualSize, equal to Size"),
    Legacy("image summary", 43, _no_names, "names of an image without a name"),
    Legacy("network", 48, _no_ipv4_switch, "EnableIPv4 came with networks that have none"),
    Legacy("event", 52, _event_top, "status, id and from; the CLI before 25 needs them"),
)
HIDDEN_EVENTS: tuple[tuple[int, str, str], ...] = ((46, "image", "create"),)
"""(before minor, type, action) of events that older clients do not get."""


def wrap(shape: str, minor: int, value: Object) -> Object:
    """Add to ``value``, in place, what clients of this version expect; returns it."""
    for row in TABLE:
        if minor < row.before and row.shape == shape:
            row.change(value)
    return value


def hidden(minor: int, kind: str, action: str) -> bool:
    """Whether an event is not shown to clients of this version."""
    return any(
        minor < before and kind == wanted and action == name
        for before, wanted, name in HIDDEN_EVENTS
    )
