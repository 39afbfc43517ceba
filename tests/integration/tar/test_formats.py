"""The formats: GNU tar's and Python's archives, by hand where they cannot, and broken ones."""

from __future__ import annotations

import os
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from boxwood_ext import tar as ext
from boxwood_ext.tar import TarError
from tests.integration.tar.archives import (
    archive,
    entry,
    folder,
    hard,
    header,
    link,
    listing,
    pax,
    record,
)
from tests.support.needs import need_program


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with one of everything."""
    root = tmp_path / "tree"
    (root / "dir/deep").mkdir(parents=True)
    long = root / ("n" * 120) / ("m" * 120)
    long.mkdir(parents=True)
    (long / ("f" * 200)).write_text("long name")
    (root / "file").write_bytes(os.urandom(100_000))
    (root / "empty").touch()
    os.link(root / "file", root / "dir/hard")
    (root / "soft").symlink_to("dir/deep")
    (root / "long-link").symlink_to("x/" * 200)
    os.mkfifo(root / "pipe", 0o640)
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(root / "disk", stat.S_IFBLK | 0o600, os.makedev(7, 200))
    with (root / "sparse").open("wb") as file:
        file.truncate(3 << 20)
        for at in (0, 1 << 20, 2 << 20):
            file.seek(at)
            file.write(b"data")
    (root / "suid").write_text("x")
    os.chown(root / "suid", 1234, 5678)
    (root / "suid").chmod(0o6755)
    os.setxattr(root / "file", "user.test", b"value\0with zero")
    # cap_net_raw=ep, as setcap writes it
    os.setxattr(
        root / "suid",
        "security.capability",
        bytes.fromhex("0100000200200000000000000000000000000000"),
    )
    os.utime(root / "dir", ns=(0, 1_500_000_000_123_456_789))
    os.utime(root / "file", ns=(0, 1_500_000_000_123_456_789))
    return root


FORMATS = {
    "posix": ["--format=posix", "--xattrs", "--xattrs-include=*"],
    "posix sparse": ["--format=posix", "--xattrs", "--xattrs-include=*", "-S"],
    "posix sparse 0.1": ["--format=posix", "-S", "--sparse-version=0.1"],
    "posix sparse 0.0": ["--format=posix", "-S", "--sparse-version=0.0"],
    "gnu": ["--format=gnu"],
    "gnu sparse": ["--format=gnu", "-S"],
}


@pytest.mark.parametrize("name", FORMATS)
def test_as_gnu_tar(name: str, tree: Path, tmp_path: Path, extract: Any) -> None:
    options = FORMATS[name]
    program = need_program("tar")
    done = subprocess.run(
        [program, "--numeric-owner", *options, "-C", str(tree), "-cf", "-", "."],
        check=True,
        capture_output=True,
    )
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    keep = [option for option in options if option.startswith("--xattrs")]
    subprocess.run(
        [program, "--numeric-owner", *keep, "-p", "-C", str(theirs), "-xf", "-"],
        check=True,
        input=done.stdout,
    )
    extract(done.stdout, tmp_path / "ours")
    assert listing(tmp_path / "ours") == listing(theirs)
    if "sparse" in name:
        assert (tmp_path / "ours/sparse").stat().st_blocks < 200


def test_numbers_beyond_the_header(tmp_path: Path, extract: Any) -> None:
    """Ids and times that only PAX or base 256 can say."""
    big = entry("a", uid=3_000_000_000, gid=2_500_000_000, mtime=-5.5)
    for number, format in enumerate((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)):
        root = tmp_path / str(number)
        extract(archive(big, format=format), root)
        status = (root / "a").stat()
        assert (status.st_uid, status.st_gid) == (3_000_000_000, 2_500_000_000)
        assert status.st_mtime_ns in (-5_500_000_000, -5_000_000_000, -6_000_000_000)


@pytest.mark.parametrize("uid", [b"4294967295", b"-1", b"1e3", b"0x0", b"99999999999999999999"])
def test_ids_that_are_none(uid: bytes, tmp_path: Path, extract: Any) -> None:
    """(uid_t)-1 would leave the file with root."""
    data = pax(record(b"uid", uid)) + header(b"a") + bytes(1024)
    with pytest.raises(TarError) as caught:
        extract(data, tmp_path / "root")
    assert caught.value.kind == "malformed"


BROKEN = {
    "text": b"this is not a tar archive\n" * 100,
    "short": b"x" * 100,
    "cut in the header": archive(entry("a", data=b"x"))[:300],
    "cut in the content": header(b"a", 10_000) + b"x" * 600,
    "checksum": header(b"a")[:-1] + b"\1" + bytes(1024),
    "unknown type": header(b"a", 0, b"Z") + bytes(1024),
    "negative size": header(b"a", size_field=b"\xff" * 12) + bytes(1024),
    "pax length": pax(b"99 path=a\n") + header(b"a") + bytes(1024),
    "pax length zero": pax(b"0 path=a\n") + header(b"a") + bytes(1024),
    "pax without equals": pax(b"9 path a\n") + header(b"a") + bytes(1024),
    "pax without newline": pax(b"9 path=ab") + header(b"a") + bytes(1024),
    "pax zero byte": pax(record(b"path", b"a\0b")) + header(b"a") + bytes(1024),
    "pax zero byte in the key": pax(record(b"pa\0th", b"a")) + header(b"a") + bytes(1024),
    "pax size": pax(record(b"size", b"99999999999999999999")) + header(b"a") + bytes(1024),
    "pax mtime": pax(record(b"mtime", b"1.2.3")) + header(b"a") + bytes(1024),
    "huge pax": header(b"x", 2 << 20, b"x") + bytes(3 << 20),
    "huge long name": header(b"x", 1 << 20, b"L") + bytes(2 << 20),
    "endless specials": pax(record(b"path", b"a")) * 2000,
    "link without a target": header(b"a", 0, b"2") + bytes(1024),
    "sparse map leaves the file": pax(
        record(b"GNU.sparse.size", b"10"), record(b"GNU.sparse.map", b"100,5")
    )
    + header(b"a", 5)
    + bytes(1536),
    "sparse map overlaps": pax(
        record(b"GNU.sparse.size", b"10"), record(b"GNU.sparse.map", b"0,5,3,5")
    )
    + header(b"a", 10)
    + bytes(1536),
    "sparse map is larger than its content": pax(
        record(b"GNU.sparse.size", b"1000"), record(b"GNU.sparse.map", b"0,500")
    )
    + header(b"a", 5)
    + bytes(1536),
    "sparse map overflows": pax(
        record(b"GNU.sparse.size", b"10"),
        record(b"GNU.sparse.map", b"9223372036854775807,9223372036854775807"),
    )
    + header(b"a", 5)
    + bytes(1536),
    "new sparse map without end": pax(
        record(b"GNU.sparse.major", b"1"), record(b"GNU.sparse.realsize", b"10")
    )
    + header(b"a", 512)
    + b"1" * 512
    + bytes(1024),
    "old sparse map": header(b"a", 5, b"S")[:386] + b"\xff" * 24 + bytes(1000),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken(name: str, tmp_path: Path, extract: Any) -> None:
    with pytest.raises(TarError) as caught:
        extract(BROKEN[name], tmp_path / "root")
    assert caught.value.kind in ("malformed", "budget")


def test_pax_overrides(tmp_path: Path, extract: Any) -> None:
    """What PAX says wins over the header, for the next entry only."""
    data = pax(record(b"path", b"real"), record(b"size", b"3"), record(b"uid", b"77"))
    data += header(b"shown", 512) + b"abc" + bytes(509)
    data += header(b"next", 2) + b"xy" + bytes(510) + bytes(1024)
    root = tmp_path / "root"
    extract(data, root)
    assert sorted(os.listdir(root)) == ["next", "real"]
    assert (root / "real").read_bytes() == b"abc"
    assert ((root / "real").stat().st_uid, (root / "next").stat().st_uid) == (77, 0)


def test_pax_overrides_cannot_lead_outside(tmp_path: Path, extract: Any) -> None:
    data = pax(record(b"path", b"../evil")) + header(b"good") + bytes(1024)
    with pytest.raises(TarError) as caught:
        extract(data, tmp_path / "root")
    assert caught.value.kind == "hostile"
    assert not (tmp_path / "evil").exists()


def test_end_without_trailer_and_with_garbage(tmp_path: Path, extract: Any) -> None:
    """The stream is read to its end: its digest is of all of it."""
    whole = header(b"a", 1) + b"x" + bytes(511)
    extract(whole, tmp_path / "1")
    assert extract(whole + bytes(1024) + b"rubbish" * 999, tmp_path / "2")["stream_bytes"] == (
        len(whole) + 1024 + 7 * 999
    )
    assert os.listdir(tmp_path / "2") == ["a"]


def test_replacing(tmp_path: Path, extract: Any) -> None:
    """Later entries replace earlier ones, of whatever kind; directories are merged."""
    data = archive(
        folder("d"), entry("d/a", data=b"1"), entry("f"), folder("g"), entry("g/x"),
        entry("f", data=b"2"), folder("f"), entry("g", data=b"file"), folder("d", mode=0o700),
        hard("h", "d/a"), link("d/a", "/nowhere"), hard("i", "d/a"), hard("i", "i"),
    )  # fmt: skip
    root = tmp_path / "root"
    extract(data, root)
    assert (root / "f").is_dir()
    assert (root / "g").read_bytes() == b"file"
    assert (root / "h").read_bytes() == b"1"
    assert os.readlink(root / "i") == "/nowhere"
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o700


def test_directory_times_come_last(tmp_path: Path, extract: Any) -> None:
    data = archive(
        folder("d", mtime=5),
        folder("d", mtime=1000),
        entry("d/a"),
        folder("d/e", mtime=2000),
        entry("d/e/b"),
    )
    root = tmp_path / "root"
    extract(data, root)
    assert (root / "d").stat().st_mtime == 1000
    assert (root / "d/e").stat().st_mtime == 2000


def test_archives_of_archives_take_files_and_links_only(tmp_path: Path, extract: Any) -> None:
    root = tmp_path / "root"
    extract(
        archive(entry("a", mode=0o4777, uid=7), link("l", "a"), entry(".wh.x")),
        root,
        whiteouts="plain",
        archive=True,
    )
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o600
    assert (root / "a").stat().st_uid == 0
    assert (root / ".wh.x").exists()
    for kind in (tarfile.CHRTYPE, tarfile.FIFOTYPE):
        with pytest.raises(TarError):
            extract(archive(entry("d", kind, devmajor=1)), root, whiteouts="plain", archive=True)


def test_no_devices_where_there_can_be_none(tmp_path: Path, extract: Any) -> None:
    data = archive(
        entry("d", tarfile.CHRTYPE, devmajor=1, devminor=3), entry("p", tarfile.FIFOTYPE)
    )
    assert extract(data, tmp_path / "root", devices=False)["skipped"] == 1
    assert os.listdir(tmp_path / "root") == ["p"]


def test_remove_tree(tmp_path: Path) -> None:
    """Deeper than any path, links kept outside, nothing there is fine."""
    (tmp_path / "kept").write_text("x")
    top = os.open(tmp_path, os.O_RDONLY)
    current = os.open(tmp_path, os.O_RDONLY)
    os.mkdir("deep", dir_fd=current)
    first = os.open("deep", os.O_RDONLY, dir_fd=current)
    os.symlink(tmp_path / "kept", "link", dir_fd=first)
    os.symlink(tmp_path, "up", dir_fd=first)
    os.close(current)
    for _ in range(3000):
        os.mkdir("d" * 20, dir_fd=first)
        below = os.open("d" * 20, os.O_RDONLY, dir_fd=first)
        os.close(first)
        first = below
    os.close(first)
    assert ext.remove_tree(top, "deep") == 3003
    assert os.listdir(top) == ["kept"]
    assert ext.remove_tree(top, "deep") == 0
    for name in ("", ".", "..", "a/b", "a\0b"):
        with pytest.raises(ValueError):
            ext.remove_tree(top, name)
    os.close(top)


def test_remove_tree_stays_on_its_file_system(tmp_path: Path) -> None:
    (tmp_path / "t/mnt").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path / "t/mnt"], check=True)
    try:
        (tmp_path / "t/mnt/file").write_text("x")
        top = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(OSError, match="cross-device"):
            ext.remove_tree(top, "t")
        os.close(top)
        assert (tmp_path / "t/mnt/file").exists()
    finally:
        subprocess.run(["umount", tmp_path / "t/mnt"], check=True)
