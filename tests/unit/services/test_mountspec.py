"""The grammars of mounts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwood.errors import BoxwoodError, InvalidArgument, Unsupported
from boxwood.model.config import (
    BindOptions,
    HostConfig,
    MountRequest,
    TmpfsOptions,
    VolumeOptions,
)
from boxwood.services.containers import mountspec


@pytest.mark.parametrize(
    ("raw", "kind", "source", "name", "destination", "rw", "mode"),
    [
        ("/a:/b", "bind", "/a", "", "/b", True, ""),
        ("/a/../c:/b/", "bind", "/c", "", "/b", True, ""),
        ("/a:/b:ro", "bind", "/a", "", "/b", False, "ro"),
        ("/a:/b:ro,z", "bind", "/a", "", "/b", False, "ro,z"),
        ("vol:/b", "volume", "", "vol", "/b", True, "z"),
        ("vol:/b:ro,nocopy", "volume", "", "vol", "/b", False, "ro,nocopy"),
        ("/b", "volume", "", "", "/b", True, "z"),
    ],
)
def test_binds(
    raw: str, kind: str, source: str, name: str, destination: str, rw: bool, mode: str
) -> None:
    point = mountspec.parse_bind(raw)
    assert (point.type, point.source, point.name) == (kind, source, name)
    assert (point.destination, point.rw, point.mode) == (destination, rw, mode)
    assert point.anonymous is (kind == "volume" and not name)


def test_propagation_of_binds() -> None:
    assert mountspec.parse_bind("/a:/b").propagation == "rprivate"
    assert mountspec.parse_bind("/a:/b:rslave").propagation == "rslave"


@pytest.mark.parametrize(
    "raw",
    [
        "", ":/a", "a:b:c:d", "/a:b", "/a:/", "/a:/b:bogus", "/a:/b:ro,rw", "/a:/b:ro,ro",
        "/a:/b:nocopy", "vol:/b:rshared", "/foo:ro", "v!l:/b", "/a:/b:shared,slave",
    ],
)  # fmt: skip
def test_bad_binds(raw: str) -> None:
    with pytest.raises(InvalidArgument):
        mountspec.parse_bind(raw)


@given(st.text(alphabet="/:.,aroz ", max_size=24))
def test_any_text_is_a_mount_or_refused(raw: str) -> None:
    try:
        point = mountspec.parse_bind(raw)
    except InvalidArgument:
        return
    assert point.destination.startswith("/")
    assert point.destination != "/"
    assert ".." not in point.destination.split("/")


def test_mounts() -> None:
    bind = mountspec.parse_mount(
        MountRequest(
            type="bind",
            source="/s/../x",
            target="/t",
            read_only=True,
            bind_options=BindOptions(propagation="rshared", create_mountpoint=True),
        )
    )
    assert bind is not None
    assert (bind.source, bind.destination, bind.rw) == ("/x", "/t", False)
    assert bind.propagation == "rshared"
    assert "create" in bind.options
    volume = mountspec.parse_mount(
        MountRequest(
            type="volume",
            source="vol",
            target="/t",
            volume_options=VolumeOptions(no_copy=True, subpath="a/b"),
        )
    )
    assert volume is not None
    assert (volume.name, volume.options, volume.subpath) == ("vol", ("nocopy",), "a/b")
    assert mountspec.parse_mount(MountRequest(type="tmpfs", target="/t")) is None


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (MountRequest(type="bogus", target="/t"), "mount type unknown"),
        (MountRequest(type="bind", target="/t"), "field Source must not be empty"),
        (MountRequest(type="bind", source="/s"), "field Target must not be empty"),
        (MountRequest(type="bind", source="s", target="/t"), "must be absolute"),
        (MountRequest(type="bind", source="/s", target="t"), "must be absolute"),
        (MountRequest(type="bind", source="/s", target="/"), "destination can't be '/'"),
        (
            MountRequest(type="bind", source="/s", target="/t", volume_options=VolumeOptions()),
            "field VolumeOptions must not be specified",
        ),
        (MountRequest(type="volume", target="/t", read_only=True), "anonymous volumes"),
        (
            MountRequest(
                type="volume",
                source="vol",
                target="/t",
                volume_options=VolumeOptions(subpath="../x"),
            ),
            "subpath",
        ),
        (MountRequest(type="tmpfs", source="/s", target="/t"), "field Source must not"),
        (
            MountRequest(type="tmpfs", target="/t", tmpfs_options=TmpfsOptions(size_bytes=-1)),
            "invalid size",
        ),
    ],
)
def test_bad_mounts(request_: MountRequest, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        mountspec.parse_mount(request_)


def test_an_image_mount_is_refused_by_name() -> None:
    with pytest.raises(Unsupported, match="image"):
        mountspec.parse_mount(MountRequest(type="image", source="x", target="/t"))


@pytest.mark.parametrize(
    ("raw", "expected"), [("c", ("c", "")), ("c:ro", ("c", "ro")), ("c:rw,z", ("c", "rw,z"))]
)
def test_volumes_from(raw: str, expected: tuple[str, str]) -> None:
    assert mountspec.parse_volumes_from(raw) == expected


@pytest.mark.parametrize("raw", ["", ":ro", "c:bogus", "c:nocopy", "c:rshared"])
def test_bad_volumes_from(raw: str) -> None:
    with pytest.raises(BoxwoodError):
        mountspec.parse_volumes_from(raw)


def test_where_a_tmpfs_is() -> None:
    host = HostConfig(tmpfs={"/a/": "size=1m"}, mounts=(MountRequest(type="tmpfs", target="/b"),))
    assert mountspec.tmpfs_destinations(host) == ["/a", "/b"]
