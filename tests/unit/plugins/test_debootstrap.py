"""Names of the transport ``debootstrap``, and the layer that it makes of a container's tree."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from boxwood.errors import DataLoss, InvalidArgument
from boxwood_plugins.registry.debootstrap import layer, name
from boxwood_plugins.registry.debootstrap.name import Name

EPOCH = 1_700_000_000


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("debootstrap:bookworm", Name("bookworm")),
        ("debootstrap:trixie,variant=apt", Name("trixie", "apt")),
        ("debootstrap:sid,include=git,curl", Name("sid", "minbase", ("curl", "git"))),
        (
            "debootstrap:sid,include=g++,variant=essential,include=curl",
            Name("sid", "essential", ("curl", "g++")),
        ),
    ],
)
def test_names(text: str, meant: Name) -> None:
    """Read, and written so that it reads the same; the order of packages says nothing."""
    assert name.parse(text) == meant
    assert name.parse(str(meant)) == meant


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("", "no suite ''"),
        ("../etc", "no suite '../etc'"),
        ("-o=x", "no suite '-o=x'"),
        ("bookworm,variant=big", "no variant 'big'"),
        ("bookworm,curl", "unknown option 'curl'"),
        ("bookworm,size=3", "unknown option '3'"),
        ("bookworm,include=", "'' is no name of a package"),
        ("bookworm,include=-oDir=/", "is no name of a package"),
        ("bookworm,include=?essential", "'?essential' is no name of a package"),
    ],
)
def test_bad_names(rest: str, words: str) -> None:
    """One sentence; nothing that apt would take for an option gets to it."""
    with pytest.raises(InvalidArgument, match=r"debootstrap:") as caught:
        name.parse(f"debootstrap:{rest}")
    assert words in str(caught.value)


def tree(path: Path, members: list[tuple[str, bytes, float]], order: int = 1) -> Path:
    """Write a tar of files (name, content, time)."""
    with tarfile.open(path, "w") as file:
        for where, content, when in members[::order]:
            member = tarfile.TarInfo(where)
            member.size, member.mtime, member.uname = len(content), when, "somebody"
            file.addfile(member, io.BytesIO(content))
    return path


def test_the_same_bytes_each_time(tmp_path: Path) -> None:
    """Order, late times, logs, caches and the machine's own names do not matter."""
    kept = [("usr/bin/a", b"a", 1_600_000_000), ("etc/passwd", b"root", EPOCH + 50.25)]
    other = [(one, content, when + 7 * (when > EPOCH)) for one, content, when in kept]
    noise = [
        ("var/log/dpkg.log", b"now", EPOCH + 1),
        ("etc/hostname", b"here", EPOCH + 1),
        ("etc/machine-id", b"0123", EPOCH + 1),
        ("var/lib/dpkg/status-old", b"", EPOCH + 1),
        (".dockerenv", b"", EPOCH + 1),
    ]
    first = tree(tmp_path / "1", [*kept, ("etc/machine-id", b"ffff", EPOCH + 9)])
    second = tree(tmp_path / "2", [*other, *noise], -1)
    made = layer.write(first, tmp_path / "layer1", EPOCH)
    assert layer.write(second, tmp_path / "layer2", EPOCH) == made
    with tarfile.open(tmp_path / "layer1") as file:
        assert file.getnames() == ["etc/machine-id", "etc/passwd", "usr/bin/a"]
        assert [int(one.mtime) for one in file] == [EPOCH, EPOCH, 1_600_000_000]
        assert file.getmember("etc/machine-id").size == 0


def test_a_tree_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "no").write_bytes(b"x" * 2000)
    with pytest.raises(DataLoss):
        layer.write(tmp_path / "no", tmp_path / "layer", EPOCH)
