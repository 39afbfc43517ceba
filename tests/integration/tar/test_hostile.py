"""Archives that mean harm. Each bites the trusting extractor and not the compiled one."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from boxwood_ext.tar import TarError
from tests.integration.tar import reference
from tests.integration.tar.archives import archive, entry, folder, hard, link

BAD = b"owned"
Attack = Callable[[Path], bytes]

# Each gets the directory outside of the root, which holds `victim` (0644, "safe") and `folder`.
ATTACKS: dict[str, Attack] = {
    "dot dot": lambda out: archive(entry(f"../{out.name}/victim", data=BAD)),
    "dot dot inside": lambda out: archive(
        folder("a"), entry(f"a/../../{out.name}/victim", data=BAD)
    ),
    "absolute": lambda out: archive(entry(str(out / "victim"), data=BAD)),
    "link, then write through it": lambda out: archive(
        link("a", str(out)), entry("a/victim", data=BAD)
    ),
    "relative link, then write through it": lambda out: archive(
        link("a", f"../{out.name}"), entry("a/victim", data=BAD)
    ),
    "two links": lambda out: archive(
        link("a", "b"), link("b", str(out)), entry("a/victim", data=BAD)
    ),
    "link below a directory": lambda out: archive(
        folder("d"), link("d/up", "../.."), entry(f"d/up/{out.name}/victim", data=BAD)
    ),
    "hard link outside": lambda out: archive(
        hard("a", f"../{out.name}/victim"), entry("b", data=b"x")
    ),
    "hard link through a link": lambda out: archive(
        link("a", str(out)), hard("b", "a/victim"), entry("c", data=b"x")
    ),
    "whiteout outside": lambda out: archive(entry(f"../{out.name}/.wh.victim")),
    "whiteout through a link": lambda out: archive(link("a", str(out)), entry("a/.wh.victim")),
    "opaque through a link": lambda out: archive(link("a", str(out)), entry("a/.wh..wh..opq")),
    "whiteout of dot dot": lambda _: archive(entry(".wh...")),
    "directory mode through a link": lambda out: archive(
        link("a", str(out)), folder("a/folder", mode=0o4777)
    ),
    "device through a link": lambda out: archive(
        link("a", str(out)),
        entry("a/device", tarfile.CHRTYPE, devmajor=1, devminor=3),
    ),
    "link of a name, then a file of it": lambda out: archive(
        link("a", str(out / "new")), entry("a", data=BAD), link("b", str(out)), folder("b/made")
    ),
}


def snapshot(path: Path) -> Any:
    """Return all that an attack could have changed."""
    return sorted(
        (str(p), p.lstat().st_mode, p.lstat().st_nlink, p.lstat().st_uid,
         p.read_bytes() if p.is_file() else b"",
         os.listxattr(p, follow_symlinks=False))
        for p in ([path, *path.rglob("*")] if path.exists() else [])
    )  # fmt: skip


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    out = tmp_path / "outside"
    (out / "folder").mkdir(parents=True)
    (out / "folder").chmod(0o755)
    (out / "victim").write_text("safe")
    (out / "victim").chmod(0o644)
    return out


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("whiteouts", ["delete", "overlay", "aufs", "plain"])
def test_nothing_outside_changes(
    name: str, whiteouts: str, tmp_path: Path, outside: Path, extract: Any
) -> None:
    before = snapshot(outside)
    parent = sorted(os.listdir(tmp_path))
    failed = None
    try:
        extract(ATTACKS[name](outside), tmp_path / "root", whiteouts=whiteouts)
    except TarError as error:
        failed = error
    assert failed is None or (failed.kind in ("hostile", "malformed", "system") and failed.name)
    assert snapshot(outside) == before
    assert sorted(os.listdir(tmp_path)) == sorted([*parent, "root"])


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("whiteouts", ["overlay", "aufs"])
def test_nothing_outside_changes_on_a_hostile_layer(
    name: str, whiteouts: str, tmp_path: Path, outside: Path, extract: Any
) -> None:
    """The tree below may mean harm too: links that lead out, to be copied up or written through."""
    (tmp_path / "below").mkdir()
    for place in ("a", "d", "e"):
        (tmp_path / "below" / place).symlink_to(outside)
    before = snapshot(outside)
    below = os.open(tmp_path / "below", os.O_PATH)
    for data in (ATTACKS[name](outside), archive(hard("x", "e/victim")), archive(entry("e/new"))):
        for prefix in ("d", ""):
            with suppress(TarError):
                extract(
                    data, tmp_path / "root", whiteouts=whiteouts, parent_fd=below, prefix=prefix
                )
    os.close(below)
    assert snapshot(outside) == before
    held = [p for p in (tmp_path / "root").rglob("*") if p.is_file() and not p.is_symlink()]
    assert all(path.read_bytes() != b"safe" for path in held)


@pytest.mark.parametrize("name", ATTACKS)
def test_the_attack_bites_an_extractor_without_checks(
    name: str, tmp_path: Path, outside: Path
) -> None:
    before = snapshot(outside)
    root = tmp_path / "root"
    root.mkdir()
    try:
        reference.extract(ATTACKS[name](outside), root)
    except OSError:
        pass
    assert snapshot(outside) != before or not root.exists()


REFUSED: dict[str, tuple[bytes, str]] = {
    "dot dot": (archive(entry("a/../b")), "hostile"),
    "empty whiteout": (archive(entry(".wh.")), "hostile"),
    "whiteout of dot": (archive(entry("d/.wh..")), "hostile"),
    "whiteout of dot dot": (archive(entry("d/.wh...")), "hostile"),
    "whiteout in the middle": (archive(entry("a/.wh.b/c")), "hostile"),
    "overlay's whiteout as a device": (
        archive(entry("a", tarfile.CHRTYPE, devmajor=0, devminor=0)),
        "hostile",
    ),
    "hard link to a directory": (archive(folder("d"), hard("a", "d")), "hostile"),
    "hard link with dot dot": (archive(entry("b"), hard("a", "../b")), "hostile"),
    "hard link to nothing": (archive(hard("a", "b")), "system"),
    "the root as a file": (archive(entry(".")), "hostile"),
    "below a file": (archive(entry("a"), entry("a/b")), "malformed"),
    "component too long": (archive(entry("x" * 256)), "budget"),
    "path too long": (archive(entry("/".join(["x" * 200] * 21))), "budget"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("whiteouts", ["delete", "overlay"])
def test_refused(name: str, whiteouts: str, tmp_path: Path, extract: Any) -> None:
    data, kind = REFUSED[name]
    with pytest.raises(TarError) as caught:
        extract(data, tmp_path / "root", whiteouts=whiteouts)
    assert caught.value.kind == kind
    assert caught.value.name


def test_a_hard_link_to_what_was_deleted(tmp_path: Path, extract: Any) -> None:
    data = archive(entry(".wh.a"), hard("b", "a"))
    with pytest.raises(TarError) as caught:
        extract(data, tmp_path / "root", whiteouts="overlay")
    assert caught.value.kind == "hostile"


def test_budgets(tmp_path: Path, extract: Any) -> None:
    data = archive(entry("a", data=b"x" * 1000), entry("b", data=b"x" * 1000))
    for number, options in enumerate(({"max_entries": 1}, {"max_bytes": 1999})):
        with pytest.raises(TarError) as caught:
            extract(data, tmp_path / str(number), **options)
        assert (caught.value.kind, caught.value.name) == ("budget", "b")
    extract(data, tmp_path / "fits", max_entries=2, max_bytes=2000)


def test_aufs_metadata_is_skipped(tmp_path: Path, extract: Any) -> None:
    data = archive(
        folder(".wh..wh.plnk"), entry(".wh..wh.plnk/1", data=b"x"), entry(".wh..wh.aufs")
    )
    root = tmp_path / "root"
    assert extract(data, root)["skipped"] == 3
    assert os.listdir(root) == []


def test_marks_of_overlay_are_not_taken_from_archives(tmp_path: Path, extract: Any) -> None:
    """``trusted.overlay.redirect`` of a stranger would show any directory of the layers below."""
    info, _ = folder("d")
    info.pax_headers = {
        "SCHILY.xattr.trusted.overlay.redirect": "/etc",
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.user.overlay.opaque": "y",
        "SCHILY.xattr.security.selinux": "label",
        "SCHILY.xattr.user.kept": "yes",
    }
    root = tmp_path / "root"
    assert extract(archive((info, b"")), root, whiteouts="overlay")["skipped_xattrs"] == 4
    assert os.listxattr(root / "d") == ["user.kept"]


def test_a_link_is_not_followed_when_it_is_replaced(tmp_path: Path, extract: Any) -> None:
    """A directory over a link replaces the link (facts, section 4)."""
    root = tmp_path / "root"
    extract(archive(folder("real"), link("l", "real"), folder("l", mode=0o700)), root)
    assert not (root / "l").is_symlink()
    assert (root / "l").is_dir()
    assert stat.S_IMODE((root / "real").stat().st_mode) == 0o755


def test_links_resolve_inside_the_root(tmp_path: Path, extract: Any) -> None:
    """An absolute link means the root, as in a container; too many ``..`` end there."""
    root = tmp_path / "root"
    data = archive(
        folder("usr"),
        folder("usr/lib"),
        link("lib", "/usr/lib"),
        link("up", "../../../usr"),
        entry("lib/a", data=b"a"),
        entry("up/lib/b", data=b"b"),
    )
    extract(data, root)
    assert sorted(os.listdir(root / "usr/lib")) == ["a", "b"]


def test_a_loop_of_links_is_an_error(tmp_path: Path, extract: Any) -> None:
    with pytest.raises(TarError):
        extract(archive(link("a", "b"), link("b", "a"), entry("a/c")), tmp_path / "root")
