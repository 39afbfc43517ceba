"""Laws of what layers carry: kinds of files, whiteouts, apply and diff."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import os
import random
import stat
import tarfile
from pathlib import Path

import pytest

from boxwood.drivers.storage import PARALLEL_APPLY, Applied, ApplyRequest, StorageDriver
from boxwood.errors import (
    BoxwoodError,
    Conflict,
    InvalidArgument,
    NotFound,
    TooLarge,
    Unsupported,
)
from boxwood.testing.storage_kit import (
    StorageKit,
    apply_layer,
    layer_of,
    listing_of,
    memory_file,
    run,
    shown,
)
from boxwood.testing.trees import differences, grow, look


def archive(*entries: tuple[str, bytes | None]) -> bytes:
    """Return a tar of files (name, content) and folders (name, None)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.mtime, info.mode = 1_000_000_000, 0o644
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def names_below(tree: Path) -> list[str]:
    """Return the names of all that is in a tree, sorted."""
    return sorted(look(tree))


class TreeLaws(StorageKit):
    """What a file is and has survives commits and copies."""

    def test_metadata_is_kept(self, driver: StorageDriver) -> None:
        """Owners, modes, times, links, pipes and hard links survive a commit."""
        with self.change(driver, "one", None) as tree:
            file = tree / "file"
            file.write_text("x")
            os.chown(file, 12345, 54321)
            file.chmod(0o4751)
            os.utime(file, ns=(1_000_000_001, 1_234_567_890_123_456_789))
            os.link(file, tree / "hard")
            (tree / "soft").symlink_to("/nowhere")
            os.mkfifo(tree / "pipe", 0o640)
            (tree / "dir").mkdir()
            (tree / "dir").chmod(0o1777)
        run(driver.prepare("c", "one"))
        with shown(driver, "c") as tree:
            status = (tree / "file").stat()
            assert (status.st_uid, status.st_gid) == (12345, 54321)
            assert stat.S_IMODE(status.st_mode) == 0o4751
            assert status.st_mtime_ns == 1_234_567_890_123_456_789
            assert (tree / "hard").stat().st_ino == status.st_ino
            assert os.readlink(tree / "soft") == "/nowhere"
            assert stat.S_ISFIFO((tree / "pipe").lstat().st_mode)
            assert stat.S_IMODE((tree / "dir").stat().st_mode) == 0o1777

    def test_attributes_are_kept(self, driver: StorageDriver) -> None:
        """Extended attributes and file capabilities survive a commit."""
        net_raw = bytes.fromhex("0100000200200000000000000000000000000000")
        with self.change(driver, "one", None) as tree:
            (tree / "file").write_text("x")
            os.setxattr(tree / "file", "user.colour", b"blue")
            os.setxattr(tree / "file", "security.capability", net_raw)
            (tree / "dir").mkdir()
            os.setxattr(tree / "dir", "user.colour", b"red")
        for key in ("one", "c"):
            if key == "c":
                run(driver.prepare("c", "one"))
            with shown(driver, key) as tree:
                assert os.getxattr(tree / "file", "user.colour") == b"blue"
                assert os.getxattr(tree / "file", "security.capability") == net_raw
                assert os.getxattr(tree / "dir", "user.colour") == b"red"

    def test_holes_stay_holes(self, driver: StorageDriver) -> None:
        """A sparse file takes no room for what is not in it, on its way into a layer neither."""
        with self.change(driver, "one", None) as tree, (tree / "sparse").open("wb") as file:
            file.truncate(64 << 20)
            file.seek(32 << 20)
            file.write(b"data")
        run(driver.prepare("c", "one"))
        with shown(driver, "c") as tree:
            status = (tree / "sparse").stat()
            assert status.st_size == 64 << 20
            with (tree / "sparse").open("rb") as file:
                first = os.lseek(file.fileno(), 0, os.SEEK_DATA)
            # Some say what a file would take without its holes, but know them.
            assert status.st_blocks * 512 < 4 << 20 or first >= 16 << 20
        assert len(layer_of(driver, "one")) < 1 << 20

    def test_writing_to_a_hard_link(self, driver: StorageDriver) -> None:
        """Hard links made in one layer are one file; the parent's copy is not."""
        with self.change(driver, "one", None) as tree:
            (tree / "lower").write_text("lower")
            os.link(tree / "lower", tree / "lower2")
        run(driver.prepare("c", "one"))
        with shown(driver, "c") as tree:
            (tree / "new").write_text("new")
            os.link(tree / "new", tree / "new2")
            (tree / "new2").write_text("both")
            assert (tree / "new").read_text() == "both"
            os.link(tree / "lower", tree / "lower3")
            (tree / "lower3").write_text("changed")
            assert (tree / "lower").read_text() == "changed"
        with shown(driver, "one") as tree:
            assert (tree / "lower").read_text() == "lower"
            assert (tree / "lower2").stat().st_ino == (tree / "lower").stat().st_ino
            assert not (tree / "lower3").exists()

    def test_deletions_are_committed(self, driver: StorageDriver) -> None:
        """What a layer deletes is gone for its children, also when it comes back as another."""
        with self.change(driver, "one", None) as tree:
            (tree / "dir").mkdir()
            (tree / "dir/old").write_text("old")
            (tree / "file").write_text("file")
            (tree / "gone").mkdir()
            (tree / "gone/below").write_text("below")
        with self.change(driver, "two", "one") as tree:
            (tree / "dir/old").unlink()
            (tree / "dir").rmdir()
            (tree / "dir").mkdir()
            (tree / "file").unlink()
            (tree / "file").mkdir()
            (tree / "gone/below").unlink()
            (tree / "gone").rmdir()
        run(driver.prepare("c", "two"))
        with shown(driver, "c") as tree:
            assert names_below(tree) == ["dir", "file"]
            assert (tree / "file").is_dir()


class DiffLaws(StorageKit):
    """What a snapshot changes, as a list and as a tar."""

    def test_a_listing_names_what_has_changed(self, driver: StorageDriver) -> None:
        """Added, changed and deleted, folders above them too, and nothing else."""
        with self.change(driver, "one", None) as tree:
            for name in ("dir", "still"):
                (tree / name).mkdir()
                (tree / name / "file").write_text("old")
            (tree / "gone").write_text("gone")
        run(driver.prepare("c", "one"))
        assert listing_of(driver, "c") == []
        with shown(driver, "c") as tree:
            (tree / "dir/file").write_text("new!")
            (tree / "dir/more").write_text("more")
            (tree / "gone").unlink()
            (tree / "still/file").read_text()
        wanted = [("A", "/dir/more"), ("C", "/dir"), ("C", "/dir/file"), ("D", "/gone")]
        assert sorted(listing_of(driver, "c")) == wanted

    def test_a_layer_has_whiteouts(self, driver: StorageDriver) -> None:
        """What is deleted is named by a whiteout; files that did not change are not there."""
        with self.change(driver, "one", None) as tree:
            (tree / "gone").write_text("gone")
            (tree / "still").write_text("still")
        with self.change(driver, "two", "one") as tree:
            (tree / "gone").unlink()
            (tree / "new").write_text("new")
        with tarfile.open(fileobj=io.BytesIO(layer_of(driver, "two"))) as tar:
            names = {name.strip("./") for name in tar.getnames()}
        assert {"wh.gone", "new"} <= names, names
        assert "still" not in names

    def test_a_diff_is_the_same_each_time(self, driver: StorageDriver) -> None:
        """The same tree gives the same bytes: opened, committed, and of a view none."""
        self.layer(driver, "one", None)
        run(driver.prepare("c", "one"))
        with shown(driver, "c") as tree:
            grow(tree, random.Random(7), 60)
            while_open = layer_of(driver, "c")
        assert layer_of(driver, "c") == while_open
        run(driver.commit("c", "two"))
        assert layer_of(driver, "two") == while_open
        run(driver.view("v", "two"))
        assert listing_of(driver, "v") == []

    def test_apply_of_a_diff_makes_the_same_tree(
        self, driver: StorageDriver, thorough: bool
    ) -> None:
        """For random trees A and B: the difference of B to A, applied on A, makes B."""
        for number in range(60 if thorough else 4):
            # The same few in a short run: a server of FUSE that a driver stands on may have faults
            # of its own, in one tree of hundreds.
            seed = random.randrange(1 << 32) if thorough else number
            dice = random.Random(seed)
            one, two, three = (f"{name}-{number}" for name in ("one", "two", "three"))
            with self.change(driver, one, None) as tree:
                grow(tree, dice, 60)
            with self.change(driver, two, one) as tree:
                grow(tree, dice, 60)
            for name, parent in ((two, one), (one, None)):
                layer = layer_of(driver, name)
                run(driver.prepare(f"{three}-new", parent))
                apply_layer(driver, f"{three}-new", layer)
                run(driver.commit(f"{three}-new", three))
                with shown(driver, name) as wanted, shown(driver, three) as made:
                    # Names of a parent's file may part when one of them is written to.
                    links = parent is None
                    found = differences(look(wanted, links=links), look(made, links=links))
                assert not found, f"seed {seed}, layer {name}: {found}"
                assert layer_of(driver, three) == layer, f"seed {seed}, layer {name}: other bytes"
                driver.remove(three)
        run(driver.cleanup())


class ApplyLaws(StorageKit):
    """Layers from archives."""

    def apply(self, driver: StorageDriver, name: str, parent: str | None, layer: bytes) -> Applied:
        """Make the layer ``name`` of an archive."""
        run(driver.prepare(f"{name}-new", parent))
        found = apply_layer(driver, f"{name}-new", layer)
        run(driver.commit(f"{name}-new", name))
        return found

    def test_whiteouts(self, driver: StorageDriver) -> None:
        """A whiteout hides a file or a whole folder, at the root and below."""
        lower = archive(
            ("file", b"1"), ("dir", None), ("dir/a", b"a"), ("dir/b", b"b"), ("all", None),
            ("all/below", b"x"), ("still", b"still"),
        )  # fmt: skip
        upper = archive((".wh.file", b""), ("dir/.wh.a", b""), (".wh.all", b""))
        self.apply(driver, "one", None, lower)
        self.apply(driver, "two", "one", upper)
        with shown(driver, "two") as tree:
            assert names_below(tree) == ["dir", "dir/b", "still"]
        with shown(driver, "one") as tree:
            assert "all/below" in names_below(tree)

    def test_opaque_folders(self, driver: StorageDriver) -> None:
        """An opaque folder shows what its layer has, wherever in the archive it says so."""
        lower = archive(("dir", None), ("dir/a", b"a"), ("dir/sub", None), ("dir/sub/b", b"b"))
        self.apply(driver, "one", None, lower)
        first = archive(("dir", None), ("dir/.wh..wh..opq", b""), ("dir/new", b"n"))
        last = archive(("dir", None), ("dir/new", b"n"), ("dir/.wh..wh..opq", b""))
        for name, layer in (("first", first), ("last", last)):
            self.apply(driver, name, "one", layer)
            with shown(driver, name) as tree:
                assert names_below(tree) == ["dir", "dir/new"], name

    def test_an_opaque_root(self, driver: StorageDriver) -> None:
        """An opaque root hides everything."""
        self.apply(driver, "one", None, archive(("a", b"a"), ("d", None), ("d/b", b"b")))
        self.apply(driver, "two", "one", archive((".wh..wh..opq", b""), ("new", b"n")))
        with shown(driver, "two") as tree:
            assert names_below(tree) == ["new"]

    def test_gone_and_here_again(self, driver: StorageDriver) -> None:
        """What a layer deletes and another brings again is the other's."""
        self.apply(driver, "one", None, archive(("d", None), ("d/old", b"o"), ("f", b"1")))
        self.apply(driver, "two", "one", archive((".wh.d", b""), (".wh.f", b"")))
        self.apply(driver, "three", "two", archive(("d", None), ("d/new", b"n"), ("f", b"3")))
        with shown(driver, "three") as tree:
            assert names_below(tree) == ["d", "d/new", "f"]
            assert (tree / "f").read_bytes() == b"3"

    def test_digests_are_told_and_verified(self, driver: StorageDriver) -> None:
        """Both digests come back; a wrong one is an error, and retry works."""
        layer = archive(("file", b"x" * 10_000))
        packed = gzip.compress(layer)
        inner, outer = (f"sha256:{hashlib.sha256(data).hexdigest()}" for data in (layer, packed))
        found = self.apply(driver, "one", None, packed)
        assert (found.diff_id, found.digest) == (inner, outer)
        assert (found.stored, found.tar_size) == (len(packed), len(layer))
        assert found.compression == "gzip"
        wrong = f"sha256:{'0' * 64}"
        for request in (ApplyRequest(diff_id=wrong), ApplyRequest(digest=wrong)):
            run(driver.prepare("c", None))
            with pytest.raises(InvalidArgument):
                apply_layer(driver, "c", packed, request)
            driver.remove("c")
        run(driver.prepare("c", None))
        apply_layer(driver, "c", packed, ApplyRequest(diff_id=inner, digest=outer))

    def test_broken_archives(self, driver: StorageDriver, root: Path) -> None:
        """A damaged, hostile or too large layer is an error, and leaves nothing outside."""
        good = gzip.compress(archive(("file", os.urandom(50_000))))
        outside = archive(("../../../../escaped", b"x"))
        for number, layer in enumerate((good[: len(good) // 2], b"\x1f\x8b no gzip", outside)):
            run(driver.prepare(f"c-{number}", None))
            with pytest.raises(InvalidArgument):
                apply_layer(driver, f"c-{number}", layer)
            driver.remove(f"c-{number}")
        run(driver.prepare("big", None))
        with pytest.raises(TooLarge):
            apply_layer(driver, "big", good, ApplyRequest(max_bytes=10_000))
        driver.remove("big")
        run(driver.cleanup())
        assert not list(root.parent.glob("**/escaped"))
        assert list(driver.walk()) == []

    def test_unpack_target(self, driver: StorageDriver) -> None:
        """What is put where the driver says is what its tree shows."""
        run(driver.prepare("n", None))
        target = driver.unpack_target("n")
        if target is not None:
            (target.path / "put").write_text("put")
            run(driver.commit("n", "one"))
            with shown(driver, "one") as tree:
                assert (tree / "put").read_text() == "put"

    def test_a_branch_holds_changes_alone(self, driver: StorageDriver) -> None:
        """Where a driver has branches, nothing of the parent is in one."""
        self.apply(driver, "one", None, archive(("lower", b"l")))
        self.apply(driver, "two", "one", archive(("upper", b"u")))
        branch = driver.branch("two")
        if branch is not None:
            assert names_below(branch.path) == ["upper"]

    def test_many_applied_at_once(self, driver: StorageDriver) -> None:
        """Layers are unpacked side by side and none gets what is another's."""
        layers = [archive((f"file-{n}", os.urandom(30_000)), ("same", b"%d" % n)) for n in range(6)]

        async def one(number: int) -> None:
            key = f"n-{number}"
            await driver.prepare(key, None)
            with memory_file() as stream:
                os.write(stream, layers[number])
                os.lseek(stream, 0, os.SEEK_SET)
                await driver.apply(key, stream, ApplyRequest())
            await driver.commit(key, f"layer-{number}")

        async def every() -> None:
            await asyncio.gather(*(one(number) for number in range(len(layers))))

        run(every())
        for number in range(len(layers)):
            with shown(driver, f"layer-{number}") as tree:
                assert names_below(tree) == [f"file-{number}", "same"]
                assert (tree / "same").read_bytes() == b"%d" % number

    def test_parallel_apply(self, driver: StorageDriver) -> None:
        """Who claims it: layers unpacked without their parents, then stacked in order."""
        if PARALLEL_APPLY not in driver.capabilities:
            return
        run(driver.prepare("two-new", None))
        target = driver.unpack_target("two-new")
        assert target is not None, "parallel-apply without a place to unpack into"
        assert target.whiteouts != "delete", "whiteouts cannot delete what is not there yet"
        layer = archive((".wh.gone", b""), ("two", b"2"), ("below/three", b"3"))
        found = apply_layer(driver, "two-new", layer)
        assert (found.lacked, found.implied) == (False, (b"below",))
        self.apply(driver, "one", None, archive(("gone", b"g"), ("one", b"1"), ("below", None)))
        run(driver.rebase("two-new", "one"))
        run(driver.adopt("two-new", found.implied))
        assert driver.stat("two-new").parent == "one"
        with pytest.raises(Conflict):  # it has a parent now
            driver.remove("one")
        with pytest.raises(Conflict):
            run(driver.rebase("two-new", "one"))
        run(driver.commit("two-new", "two"))
        with shown(driver, "two") as tree:
            assert names_below(tree) == ["below", "below/three", "one", "two"]
            assert (tree / "below").stat().st_mtime == 1_000_000_000
        driver.remove("two")
        driver.remove("one")

    def test_rebase(self, driver: StorageDriver) -> None:
        """Who does not claim `parallel-apply` refuses; keys and parents are looked at."""
        run(driver.prepare("new", None))
        self.apply(driver, "one", None, archive(("one", b"1")))
        if PARALLEL_APPLY not in driver.capabilities:
            with pytest.raises(Unsupported):
                run(driver.rebase("new", "one"))
            return
        for key, parent, error in (
            ("nothing", "one", NotFound),
            ("new", "nothing", NotFound),
            ("new", "new", InvalidArgument),
            ("one", "one", Conflict),
        ):
            with pytest.raises(error):
                run(driver.rebase(key, parent))
        assert driver.stat("new").parent is None

    def test_errors_of_apply_and_diff(self, driver: StorageDriver) -> None:
        """Neither knows keys that are not there; a committed snapshot takes no layer."""
        self.layer(driver, "one", None)
        with pytest.raises(BoxwoodError):
            apply_layer(driver, "nothing", archive(("a", b"a")))
        with pytest.raises(BoxwoodError):
            layer_of(driver, "nothing")
