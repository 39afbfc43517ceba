"""Engine API objects as rows of `ps`, `images`, `volume ls`, `network ls` and `history`."""

from __future__ import annotations

import time

from boxwood.cli.format._list import Row
from boxwood.cli.format._ports import ports_column
from boxwood.cli.format._units import (
    command_column,
    ellipsis,
    go_time,
    human_duration,
    human_size,
    rfc3339,
    short_id,
)
from boxwood.cli.template import NilPointer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


MOUNT_LENGTH = 15  # runes of a mount's name
CREATED_BY_LENGTH = 45  # runes of an image's instruction
_NONE = "<none>"


def _ago(created: float, now: float | None) -> str:
    elapsed = (time.time() if now is None else now) - created
    return human_duration(elapsed) + " ago"


def _labels(labels: Mapping[str, str] | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items()))


class ContainerRow(Row):
    """A line of `ps`."""

    go_name = "formatter.ContainerContext"
    raw_format = (
        "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\n"
        "created_at: {{.CreatedAt}}\nstate: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\n"
        "names: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n"
    )


def container_row(
    container: Mapping[str, Any],
    *,
    no_trunc: bool = False,
    size: bool = False,
    now: float | None = None,
) -> Row:
    """A container of `GET /containers/json`. `now` is the time in seconds that ages count from.

    `size` adds the size to the row's raw form; the field itself is always there.
    """
    created = container.get("Created") or 0
    labels = container.get("Labels") or {}
    networks = (container.get("NetworkSettings") or {}).get("Networks") or {}
    mounts = container.get("Mounts") or []
    ident = container["Id"]
    row = ContainerRow(
        Command=command_column(container.get("Command") or "", no_trunc=no_trunc),
        CreatedAt=go_time(created),
        ID=ident if no_trunc else short_id(ident),
        Image=_image_column(container, no_trunc),
        Labels=_labels(labels),
        LocalVolumes=str(sum(mount.get("Driver") == "local" for mount in mounts)),
        Mounts=",".join(_mount_name(mount, no_trunc) for mount in mounts),
        Names=_names(container.get("Names") or [], no_trunc),
        Networks=",".join(sorted(networks)),
        Platform=_platform(container),
        Ports=ports_column(container.get("Ports")),
        RunningFor=_ago(created, now),
        Size=_container_size(container),
        State=container.get("State") or "",
        Status=container.get("Status") or "",
    )
    row.labels = labels
    if size:
        row.raw_format = ContainerRow.raw_format + "size: {{.Size}}\n"
    return row


def _platform(container: Mapping[str, Any]) -> object:
    """The platform of the image, where the daemon says it; else Go's nil pointer."""
    described = (container.get("ImageManifestDescriptor") or {}).get("platform") or {}
    parts = (described.get("os"), described.get("architecture"), described.get("variant"))
    return "/".join(part for part in parts if part) or NilPointer("v1.Platform")


def _mount_name(mount: Mapping[str, Any], no_trunc: bool) -> str:
    name = mount.get("Name") or mount.get("Source") or ""
    return name if no_trunc else ellipsis(name, MOUNT_LENGTH)


def _names(names: list[str], no_trunc: bool) -> str:
    """The names without their slash; links (a/b) only with `no_trunc`."""
    bare = [name.removeprefix("/") for name in names]
    if not no_trunc:
        bare = [name for name in bare if "/" not in name][:1] or bare
    return ",".join(bare)


def _image_column(container: Mapping[str, Any], no_trunc: bool) -> str:
    """The image as the user named it; a digest goes when there is a tag."""
    image: str = container.get("Image") or ""
    if not image:
        return "<no image>"
    if no_trunc:
        return image
    ident = short_id(container.get("ImageID") or "")
    if ident and ident == short_id(image):
        return ident
    name, at, _ = image.partition("@")
    if at and ":" in name.rpartition("/")[2]:
        return name
    return image


def _container_size(container: Mapping[str, Any]) -> str:
    shown = human_size(container.get("SizeRw") or 0)
    root = container.get("SizeRootFs") or 0
    return f"{shown} (virtual {human_size(root)})" if root > 0 else shown


class _Probe(ContainerRow):
    """A row that notes whether a template looks at its size."""

    size_seen = False

    def method(self, name: str) -> Callable[..., object] | None:
        """Every field that a template names is looked for here first."""
        self.size_seen = self.size_seen or name == "Size"
        return super().method(name)


def container_template_needs_size(template: str) -> bool:
    """Whether a `ps` template shows sizes, which the daemon must be asked for.

    `ps` tries its template before it asks for anything. Raises TemplateError, in the words that
    Docker has for this command alone.
    """
    from boxwood.cli.template import Template, TemplateError

    probe = _Probe(container_row({"Id": ""}))
    probe.labels = {}
    try:
        Template(template).render(probe)
    except TemplateError as error:
        doing = "parse" if error.parsing else "execute"
        raise type(error)(f"failed to {doing} template: {error}") from None
    return probe.size_seen


class ImageRow(Row):
    """A line of `images`."""

    go_name = "formatter.imageContext"
    raw_format = (
        "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\n"
        "created_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n"
    )


def image_row(
    image: Mapping[str, Any],
    *,
    repository: str = _NONE,
    tag: str = _NONE,
    digest: str = _NONE,
    no_trunc: bool = False,
    now: float | None = None,
) -> Row:
    """An image of `GET /images/json` under one of its names."""
    created = image.get("Created") or 0
    size = image.get("Size") or 0
    containers = image.get("Containers") or 0
    shared = image.get("SharedSize") or 0
    return ImageRow(
        Containers="N/A" if containers == -1 else str(containers),
        CreatedAt=go_time(created),
        CreatedSince=_ago(created, now),
        Digest=digest,
        ID=image["Id"] if no_trunc else short_id(image["Id"]),
        Repository=repository,
        SharedSize="N/A" if shared == -1 else human_size(shared, 4),
        Size=human_size(size),
        Tag=tag,
        UniqueSize="N/A" if shared == -1 else human_size(size - shared, 4),
        VirtualSize=human_size(size, 4),
    )


def image_rows(
    image: Mapping[str, Any],
    *,
    no_trunc: bool = False,
    digests: bool = False,
    now: float | None = None,
) -> list[Row]:
    """All lines of an image: one for each tag, with `digests` one for each tag and digest."""
    return [
        image_row(image, repository=repo, tag=tag, digest=digest, no_trunc=no_trunc, now=now)
        for repo, tag, digest in _image_names(image, digests)
    ]


def _image_names(image: Mapping[str, Any], digests: bool) -> list[tuple[str, str, str]]:
    tags: dict[str, list[str]] = {}
    for name in image.get("RepoTags") or []:
        repo, _, tag = name.rpartition(":")
        if name != "<none>:<none>":
            tags.setdefault(repo, []).append(tag)
    known: dict[str, list[str]] = {}
    for name in image.get("RepoDigests") or []:
        repo, _, digest = name.partition("@")
        if name != "<none>@<none>":
            known.setdefault(repo, []).append(digest)
    if not tags and not known:
        return [(_NONE, _NONE, _NONE)]
    found: list[tuple[str, str, str]] = []
    for repo, names in tags.items():
        values = known.pop(repo, []) if digests else (known.pop(repo, []) and [_NONE])
        found += [(repo, tag, digest) for tag in names for digest in values or [_NONE]]
    for repo, values in known.items():
        found += [(repo, _NONE, digest) for digest in (values if digests else [""])]
    return found


class VolumeRow(Row):
    """A line of `volume ls`."""

    go_name = "formatter.volumeContext"
    raw_format = "name: {{.Name}}\ndriver: {{.Driver}}\n"


def volume_row(volume: Mapping[str, Any]) -> Row:
    """A volume of `GET /volumes`."""
    labels = volume.get("Labels") or {}
    usage = volume.get("UsageData") or None
    row = VolumeRow(
        Availability="N/A",
        Driver=volume.get("Driver") or "",
        Group="N/A",
        Labels=_labels(labels),
        Links=str(usage["RefCount"]) if usage else "N/A",
        Mountpoint=volume.get("Mountpoint") or "",
        Name=volume["Name"],
        Scope=volume.get("Scope") or "",
        Size=human_size(usage["Size"]) if usage else "N/A",
        Status="N/A",
    )
    row.labels = labels
    return row


class NetworkRow(Row):
    """A line of `network ls`."""

    go_name = "network.networkContext"
    raw_format = "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n"


def network_row(network: Mapping[str, Any], *, no_trunc: bool = False) -> Row:
    """A network of `GET /networks`."""
    labels = network.get("Labels") or {}
    row = NetworkRow(
        CreatedAt=go_api_time(network.get("Created") or ""),
        Driver=network.get("Driver") or "",
        ID=network["Id"] if no_trunc else short_id(network["Id"]),
        IPv4="true" if network.get("EnableIPv4") else "false",
        IPv6="true" if network.get("EnableIPv6") else "false",
        Internal="true" if network.get("Internal") else "false",
        Labels=_labels(labels),
        Name=network["Name"],
        Scope=network.get("Scope") or "",
    )
    row.labels = labels
    return row


def go_api_time(text: str) -> str:
    """An RFC 3339 time of the API as Go's Time.String has it."""
    date, _, rest = text.partition("T")
    clock, zone = rest, "Z"
    for mark in "Z+-":
        if mark in rest:
            clock, zone = rest[: rest.index(mark)], rest[rest.index(mark) :]
            break
    if not rest:
        return "0001-01-01 00:00:00 +0000 UTC"
    if "." in clock:
        clock = clock.rstrip("0").rstrip(".")
    shown = "+0000 UTC" if zone == "Z" else f"{zone.replace(':', '')} {zone.replace(':', '')}"
    return f"{date} {clock} {shown}"


class HistoryRow(Row):
    """A line of `history`."""

    go_name = "image.historyContext"


def history_row(
    layer: Mapping[str, Any],
    *,
    no_trunc: bool = False,
    human: bool = True,
    now: float | None = None,
) -> Row:
    """A layer of `GET /images/X/history`; without `human`, sizes and times are exact."""
    created = layer.get("Created") or 0
    stamp = rfc3339(created)
    text = (layer.get("CreatedBy") or "").replace("\t", " ")
    size = layer.get("Size") or 0
    ident = layer.get("Id") or ""
    return HistoryRow(
        Comment=layer.get("Comment") or "",
        CreatedAt=stamp,
        CreatedBy=text if no_trunc else ellipsis(text, CREATED_BY_LENGTH),
        CreatedSince=_since(created, now) if human else stamp,
        ID=ident if no_trunc else short_id(ident),
        Size=human_size(size) if human else str(size),
    )


def _since(created: int, now: float | None) -> str:
    return "N/A" if created <= 0 else _ago(created, now)
