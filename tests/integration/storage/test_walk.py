"""The walk of a container's life on every storage driver of the distribution, and what it leaves.

A tree that was changed, committed and changed again looks the same on all of them, entry by entry.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import Engine, running
from tests.support.needs import need_root, until
from tests.support.storage import DRIVERS, place_for

FILL = """
set -e
mkdir -p /work/gone /work/again/below /work/stays
echo one > /work/file; echo two > /work/changed; echo three > /work/gone/inside
echo four > /work/again/old; echo five > /work/again/below/old
ln /work/file /work/hard; ln -s file /work/soft; mkfifo /work/fifo
chown 12:34 /work/changed; chmod 4755 /work/file
"""
CHANGE = """
set -e
rm -r /work/gone /work/again; mkdir /work/again; echo new > /work/again/new
echo more >> /work/changed; chmod 711 /work/stays
rm /work/soft; mkdir /work/soft; mv /work/hard /work/moved; rm /bin/vi
chown 56:78 /work/stays; rm /work/file; mkdir /work/file
"""
LIST = """
find /work /bin/vi /etc/passwd -exec stat -c '%n %f %u %g %t %T' {} + 2>/dev/null | sort
find /work -type f -exec md5sum {} + | sort; find /work -type l -exec readlink {} +
"""


@pytest.fixture(scope="module", params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    need_root()
    return str(request.param)


@pytest.fixture(scope="module")
def engine(driver: str) -> Iterator[Engine]:
    with place_for(driver) as place:
        server = Engine("--storage-driver", driver, place=place)
        with running(server):
            yield server


def inside(engine: Engine, name: str, script: str) -> str:
    return engine.cli("exec", name, "sh", "-c", script).stdout


@pytest.fixture(scope="module")
def listings() -> dict[str, str]:
    """What the trees look like: the first driver's are what the others' are compared with."""
    return {}


def same(listings: dict[str, str], moment: str, found: str) -> None:
    assert len(found.splitlines()) > 8, found
    assert found == listings.setdefault(moment, found), moment


def test_walk(driver: str, engine: Engine, listings: dict[str, str]) -> None:
    """Run, exec, write, crash of the daemon, stop, start, remove."""
    assert engine.api("GET", "/info").json()["Driver"] == driver
    assert engine.cli("run", "--rm", "busybox", "echo", "hello").stdout == "hello\n"
    engine.cli("run", "-d", "--name", "walker", "busybox", "sleep", "600")
    inside(engine, "walker", FILL)
    same(listings, "filled", inside(engine, "walker", LIST))
    inside(engine, "walker", CHANGE)
    same(listings, "changed", inside(engine, "walker", LIST))
    engine.kill()
    engine.start()
    same(listings, "changed", inside(engine, "walker", LIST))
    inside(engine, "walker", "echo after > /work/after; rm /work/after")
    for _ in range(3):
        engine.cli("restart", "-t", "0", "walker")
    same(listings, "changed", inside(engine, "walker", LIST))
    engine.cli("stop", "-t", "0", "walker")
    engine.cli("start", "walker")
    inside(engine, "walker", FILL.replace("mkdir -p", "rm -r /work; mkdir -p"))
    same(listings, "filled again", inside(engine, "walker", LIST))
    engine.cli("rm", "-f", "walker")
    nothing_is_left(engine, driver)


AGAIN = """
set -e
rm /work/again/new; echo back > /work/again/old; mkdir /work/gone; echo x > /work/gone/other
rm -r /work/file; echo file > /work/file; chown 9:9 /work/changed; touch /bin/vi
"""


def test_committed_and_changed_again(driver: str, engine: Engine, listings: dict[str, str]) -> None:
    """Images of containers, one upon the other, and what `diff` says of them."""
    image = "busybox"
    for number, script in enumerate((FILL, CHANGE, AGAIN)):
        name = f"step{number}"
        engine.cli("run", "--name", name, image, "sh", "-c", script)
        said = "\n".join(sorted(engine.cli("diff", name).stdout.splitlines()))
        assert said == listings.setdefault(f"diff {number}", said)
        image = f"image{number}"
        engine.cli("commit", name, image)
        found = engine.cli("run", "--rm", image, "sh", "-c", LIST).stdout
        same(listings, f"committed {number}", found)
        engine.cli("rm", name)
    nothing_is_left(engine, driver)


def nothing_is_left(engine: Engine, driver: str) -> None:
    """No container's snapshot, nothing mounted, nobody who serves it."""
    storage = engine.data_root / "storage"
    until(
        lambda: not [path for path in storage.glob(f"{driver}*/active/*") if path.is_dir()],
        "the snapshots are gone",
    )
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    assert not [line for line in mounts if str(storage) in line]
    until(lambda: not holders(storage), "nothing holds anything of the storage", seconds=10)


def holders(storage: Path) -> list[str]:
    """Name the processes that have something below the storage open, the daemon's aside."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            if (process / "comm").read_text() != "fuse-overlayfs\n":
                continue
            links = [os.readlink(link) for link in (process / "fd").iterdir()]
        except OSError:
            continue
        found += [link for link in links if link.startswith(str(storage))]
    return found
