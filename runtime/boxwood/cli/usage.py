"""What `system df -v` lists: images, containers, volumes and build cache, one by one."""

from __future__ import annotations

import sys

from boxwood.cli.listing import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

_IMAGES = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "Size": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "Containers": "CONTAINERS",
}
_CONTAINERS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "LocalVolumes": "LOCAL VOLUMES",
    "Size": "SIZE",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "Names": "NAMES",
}
_VOLUMES = {"Name": "VOLUME NAME", "Links": "LINKS", "Size": "SIZE"}
_CACHE = {
    "ID": "CACHE ID",
    "CacheType": "CACHE TYPE",
    "Size": "SIZE",
    "CreatedSince": "CREATED",
    "LastUsedSince": "LAST USED",
    "UsageCount": "USAGE",
    "Shared": "SHARED",
}


def show_each(usage: Mapping[str, Any]) -> None:
    """Print what `GET /system/df` tells, as Docker does."""
    from boxwood.cli.format import container_row, human_size

    images = [_image(image) for image in usage.get("Images") or []]
    # What a container shares with its image is the image's.
    containers = [
        container_row({**item, "SizeRootFs": 0}) for item in usage.get("Containers") or []
    ]
    volumes = [_volume(volume) for volume in usage.get("Volumes") or []]
    cache = sum(int(item.get("Size") or 0) for item in usage.get("BuildCache") or [])
    _part("Images space usage:", images, _IMAGES)
    _part("\nContainers space usage:", containers, _CONTAINERS)
    _part("\nLocal Volumes space usage:", volumes, _VOLUMES)
    # Nothing is built here yet: there is nothing to list.
    _part(f"\nBuild cache usage: {human_size(cache, 4)}", [], _CACHE)


def _part(title: str, rows: Iterable[Mapping[str, Any]], headers: dict[str, str]) -> None:
    """A title and a table of the headers' columns."""
    sys.stdout.write(f"{title}\n\n")
    sys.stdout.flush()
    table = "\t".join(f"{{{{.{name}}}}}" for name in headers)
    show(rows, template=None, table=table, headers=headers)


def _image(image: Mapping[str, Any]) -> Mapping[str, Any]:
    """An image under the first of its names."""
    from boxwood.cli.format import image_row

    names = image.get("RepoTags") or []
    if not names:
        return image_row(image)
    repository, _, tag = names[0].rpartition(":")
    return image_row(image, repository=repository, tag=tag)


def _volume(volume: Mapping[str, Any]) -> dict[str, str]:
    from boxwood.cli.format import human_size

    data = volume.get("UsageData") or {}
    size, links = int(data.get("Size", -1)), int(data.get("RefCount", -1))
    return {
        "Links": "N/A" if links < 0 else str(links),
        "Name": volume["Name"],
        "Size": "N/A" if size < 0 else human_size(size),
    }
