"""Attacks on what the engine's Python reads of a container's tree.

The weakened form is another module, loaded from a copy of the source with one guard cut out.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from boxwood.errors import BoxwoodError
from boxwood.execution import worker_init, worker_trees, worker_users
from boxwood_ext.tar import TarError
from boxwood_plugins.volume import local
from tests.attacks.weaken import Builds
from tests.integration.tar.archives import archive, entry, hard, link
from tests.integration.tar.conftest import extract_into
from tests.integration.tar.test_hostile import ATTACKS as ARCHIVES
from tests.integration.tar.test_hostile import outside, snapshot  # noqa: F401
from tests.support.needs import need_root

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

EVIL = "evil:x:0:0::/:\n"


@pytest.fixture(autouse=True)
def _root() -> None:
    need_root()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A container's root with /etc and an empty user table; the host's folder is beside it."""
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (tmp_path / "host").mkdir()
    (tmp_path / "host/passwd").write_text(EVIL)
    return tmp_path / "root"


def ask(module: ModuleType, tree: Path, user: str) -> dict[str, Any] | None:
    """What the module makes of this user; None: refused."""
    root = os.open(tree, os.O_PATH)
    try:
        return dict(module.lookup_user({"user": user, "group_add": []}, [root]))
    except BoxwoodError:
        return None
    finally:
        os.close(root)


# Users


def hangs(module: ModuleType, tree: Path) -> bool:
    """CVE-2024-9676: the user table is a named pipe that nobody writes to."""
    pipe = tree / "etc/passwd"
    pipe.unlink()
    os.mkfifo(pipe)
    waiter = threading.Thread(target=ask, args=(module, tree, "evil"))
    waiter.start()
    waiter.join(1)
    hung = waiter.is_alive()
    os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))
    if hung:
        os.close(os.open(pipe, os.O_WRONLY))
    waiter.join(5)
    assert not waiter.is_alive()
    return hung


def reads_all(module: ModuleType, tree: Path) -> bool:
    """CVE-2024-9676's kin: a user table without end."""
    with open(tree / "etc/passwd", "w") as file:
        file.truncate(8 << 20)
        file.seek(8 << 20)
        file.write("\n" + EVIL)
    return ask(module, tree, "evil") is not None


def reads_the_hosts(module: ModuleType, tree: Path) -> bool:
    """CVE-2019-14271's kin: the user table is a link to the host's."""
    (tree / "etc/passwd").unlink()
    (tree / "etc/passwd").symlink_to(tree.parent / "host/passwd")
    return ask(module, tree, "evil") is not None


def takes_a_number_that_wraps(module: ModuleType, tree: Path) -> bool:
    """CVE-2024-40635."""
    return any(ask(module, tree, number) for number in ("4294967296", "4294967295", "2147483648"))


def takes_half_a_number(module: ModuleType, tree: Path) -> bool:
    """CVE-2026-30892."""
    return any(ask(module, tree, number) for number in ("1000x", "0x10", "0;", "0\n"))


Attack = Callable[[ModuleType, Path], bool]
USERS: list[tuple[Attack, tuple[str, ...], tuple[str, ...]]] = [
    (hangs, ("worker_users: regular files only", "worker_users: O_NONBLOCK"),
     ("worker_users: regular files only", "worker_users: O_NONBLOCK")),
    (reads_all, ("worker_users: FILE_LIMIT",), ()),
    (reads_the_hosts, ("worker_users: beneath the root",), ()),
    (takes_a_number_that_wraps, ("worker_users: bound of an id",), ()),
    (takes_half_a_number, ("worker_users: whole numbers",), ()),
]  # fmt: skip


def label(value: object) -> str:
    return str(getattr(value, "__name__", ""))


@pytest.mark.parametrize(("attack", "bites", "holds"), USERS, ids=label)
def test_users(
    attack: Attack, bites: tuple[str, ...], holds: tuple[str, ...], tree: Path, builds: Builds
) -> None:
    assert not attack(worker_users, tree)
    for alone in holds:
        assert not attack(builds.python(alone), tree)
    assert attack(builds.python(*bites), tree)


# Trees


def makes_outside(module: ModuleType, tree: Path, host: Path) -> bool:
    """CVE-2026-41579, CVE-2025-24965: the image's /dev and /etc are links to the host."""
    for name in ("dev", "etc"):
        (tree / name).symlink_to(host)
    root = os.open(tree, os.O_PATH)
    try:
        module.make_init_layer({}, [root])
    except OSError:
        pass
    finally:
        os.close(root)
    return len(os.listdir(host)) > 0


def test_the_init_layer(tmp_path: Path, builds: Builds) -> None:
    guards = ("worker_init: O_NOFOLLOW", "worker_init: looks at the link")
    modules = [worker_init, *(builds.python(guard) for guard in guards), builds.python(*guards)]
    bitten = []
    for number, module in enumerate(modules):
        tree, host = tmp_path / f"root{number}", tmp_path / f"host{number}"
        tree.mkdir()
        host.mkdir()
        bitten.append(makes_outside(module, tree, host))
    assert bitten == [False, False, False, True]


def seeded(module: ModuleType, tree: Path, path: str, volume: Path) -> None:
    root, target = os.open(tree, os.O_PATH), os.open(volume, os.O_PATH)
    try:
        module.seed_volume({"path": path}, [root, target])
    except OSError:
        pass
    finally:
        os.close(root)
        os.close(target)


def test_a_volume_is_seeded_from_the_image_only(tree: Path, tmp_path: Path, builds: Builds) -> None:
    """CVE-2022-23648: the image's VOLUME is a link to the host."""
    (tree / "data").symlink_to(tmp_path / "host")
    volume = tmp_path / "volume"
    volume.mkdir()
    seeded(worker_trees, tree, "/data", volume)
    seeded(worker_trees, tree, f"/../../../../../../../..{tmp_path}/host", volume)
    assert os.listdir(volume) == []
    weak = builds.python("worker_trees: a volume's seed beneath the root")
    seeded(weak, tree, "/data", volume)
    assert (volume / "passwd").read_text() == EVIL


def test_a_volume_that_holds_something_is_left_alone(
    tree: Path, tmp_path: Path, builds: Builds
) -> None:
    """CVE-2020-1726: the image's content comes over what the volume holds."""
    (tree / "data").mkdir()
    (tree / "data/planted").write_text("x")
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "own").write_text("own")
    seeded(worker_trees, tree, "/data", volume)
    assert os.listdir(volume) == ["own"]
    seeded(builds.python("worker_trees: only an empty volume"), tree, "/data", volume)
    assert sorted(os.listdir(volume)) == ["own", "planted"]


async def removes_another(module: ModuleType, folder: Path) -> bool:
    """moby#53377: the name of a volume leads to a folder beside the volumes."""
    (folder / "volumes").mkdir(parents=True)
    (folder / "victim").mkdir()
    with contextlib.suppress(BoxwoodError):
        await module.LocalVolumes(folder / "volumes").remove("../victim")
    return not (folder / "victim").exists()


async def test_a_name_is_no_path(tmp_path: Path, builds: Builds) -> None:
    weak = builds.python("volume/local: names are checked")
    assert not await removes_another(local, tmp_path / "1")
    assert await removes_another(weak, tmp_path / "2")


# Archives

# Those whose way out is a link of the archive's own: one guard stops them.
LINKED = [
    "link, then write through it", "two links", "whiteout through a link",
    "opaque through a link", "directory mode through a link", "device through a link",
    "hard link through a link", "link of a name, then a file of it",
    "relative link, then write through it", "link below a directory",
]  # fmt: skip
# Those that go upwards by name: two guards stop them, each by itself.
UPWARDS = ["dot dot", "dot dot inside", "hard link outside", "whiteout outside"]
# An absolute name and the whiteout of ".." bite the trusting extractor of test_hostile.py: here a
# name loses its slashes before anything else, and the whiteout is refused by its form.
FORMS = ["delete", "overlay", "aufs"]
# A mark of a branch covers what is below; what stands beside it in the same place is left alone.
DELETED_ONLY = {"whiteout through a link", "whiteout outside"}
IN_ROOT = "tar/internal.h: RESOLVE_IN_ROOT"


@pytest.fixture(scope="module")
def trusting(builds: Builds) -> ModuleType:
    return builds.tar(IN_ROOT)


@pytest.fixture(scope="module")
def climbing(builds: Builds) -> ModuleType:
    return builds.tar(IN_ROOT, "tar/path.c: names that lead upwards")


def held(data: bytes, root: Path, outside: Path, how: ModuleType | None, **options: Any) -> bool:  # noqa: F811
    """Extract with the installed extractor or a weakened one; is the outside as it was?"""
    before = snapshot(outside)
    # A refusal is as good as a harmless extraction; the weakened build has its own class of it.
    with contextlib.suppress(TarError, *([how.TarError] if how else [])):
        extract_into(data, root, module=how, **options)
    return bool(snapshot(outside) == before)


def each(names: list[str]) -> list[Any]:
    """Pairs of an archive and a form of the branch in which it bites a trusting extractor."""
    return [
        pytest.param(name, form, id=f"{name}-{form}")
        for name in names
        for form in FORMS
        if form == "delete" or name not in DELETED_ONLY
    ]


@pytest.mark.parametrize(("name", "form"), each(LINKED))
def test_archives_whose_links_lead_out(
    name: str,
    form: str,
    tmp_path: Path,
    outside: Path,  # noqa: F811
    trusting: ModuleType,
) -> None:
    """CVE-2021-32760, CVE-2025-47290 and their kin, in every form of the branch."""
    data = ARCHIVES[name](outside)
    assert held(data, tmp_path / "root0", outside, None, whiteouts=form)
    assert not held(data, tmp_path / "root1", outside, trusting, whiteouts=form)


@pytest.mark.parametrize(("name", "form"), each(UPWARDS))
def test_archives_whose_names_lead_out(
    name: str,
    form: str,
    tmp_path: Path,
    outside: Path,  # noqa: F811
    climbing: ModuleType,
) -> None:
    """The oldest of them all."""
    data = ARCHIVES[name](outside)
    assert held(data, tmp_path / "root0", outside, None, whiteouts=form)
    assert not held(data, tmp_path / "root1", outside, climbing, whiteouts=form)


@pytest.mark.parametrize("form", ["overlay", "aufs"])
def test_a_mark_through_a_link(
    form: str,
    tmp_path: Path,
    outside: Path,  # noqa: F811
    trusting: ModuleType,
) -> None:
    """The mark of a deletion, made where a layer's link leads: a device or a file of the host's."""
    data = archive(link("a", str(outside)), entry("a/.wh.new"))
    assert held(data, tmp_path / "root0", outside, None, whiteouts=form)
    assert not held(data, tmp_path / "root1", outside, trusting, whiteouts=form)


@pytest.mark.parametrize("form", ["overlay", "aufs"])
def test_a_layer_below_whose_links_lead_out(
    form: str,
    tmp_path: Path,
    outside: Path,  # noqa: F811
    trusting: ModuleType,
) -> None:
    """A branch is unpacked upon a hostile layer: the host's file would be copied up into it."""
    (tmp_path / "below").mkdir()
    (tmp_path / "below/e").symlink_to(outside)
    data = archive(hard("stolen", "e/victim"))
    below = os.open(tmp_path / "below", os.O_PATH)
    found = []
    for number, how in enumerate((None, trusting)):
        root = tmp_path / f"root{number}"
        held(data, root, outside, how, whiteouts=form, parent_fd=below)
        stolen = root / "stolen"
        found.append(stolen.is_file() and stolen.read_text() == "safe")
    os.close(below)
    assert found == [False, True]
