"""Which mount a path is on, and whether it can spread mounts."""

from __future__ import annotations

import pytest

from boxwood.services.containers.spread import find

MOUNTINFO = r"""
21 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 21 0:30 / /srv rw shared:7 - tmpfs a rw
31 30 0:31 / /srv/with\040blank rw master:3 shared:9 - tmpfs b rw
32 21 0:32 / /srv rw - tmpfs over rw
33 21 0:33 / /data rw master:5 - tmpfs c rw
""".strip()


@pytest.mark.parametrize(
    ("path", "point", "tags"),
    [
        ("/home/x", "/", ()),
        ("/srv", "/srv", ()),
        ("/srv/deep/er", "/srv", ()),
        ("/srvx", "/", ()),
        ("/srv/with blank/y", "/srv/with blank", ("master:3", "shared:9")),
        ("/data", "/data", ("master:5",)),
    ],
)
def test_find(path: str, point: str, tags: tuple[str, ...]) -> None:
    assert find(path, MOUNTINFO) == (point, tags)
