"""The engine that starts by itself, at its default place in a mount namespace of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.needs import need_program, need_root
from tests.support.paths import BOXWOOD, clean_environment

pytestmark = pytest.mark.root
# Where the default engine lives; each is hidden under a tmpfs for the time of the test.
PLACES = (Path("/run/boxwood"), Path("/var/lib/boxwood"))


@pytest.fixture
def places() -> Iterator[None]:
    """The mount points, made where they are not and removed again."""
    need_root()
    made = [path for path in PLACES if not path.exists()]
    for path in made:
        path.mkdir()
    yield
    for path in made:
        path.rmdir()


def alone(script: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a script where the default places are empty and nobody else's.

    What runs at its end as the default engine is killed.
    """
    mounts = "; ".join(f"mount -t tmpfs -o mode=711 none {path}" for path in PLACES)
    # A network namespace too: the default bridge is made there.
    command = [need_program("unshare"), "-mn", "--propagation", "private", "sh", "-c"]
    return subprocess.run(
        [*command, f"set -e; {mounts}; {script}", "sh", str(BOXWOOD)],
        env=clean_environment(**more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


# Prints the numbers of the daemons that serve the default socket, with session and cgroups, and
# ends them.
FIND = r"""
own=$(readlink /proc/self/ns/mnt)
session() { cut -d' ' -f6 "$1/stat"; }
for dir in /proc/[0-9]*; do
    line=$(cat $dir/cmdline 2>/dev/null | tr '\0' ' ')
    case $line in *python*' -P -m boxwood daemon '*) ;; *) continue ;; esac
    case $line in *case*) continue ;; esac
    [ "$(readlink $dir/ns/mnt)" = "$own" ] || continue
    echo "daemon ${dir#/proc/} session $(session $dir) of $(session /proc/$$)"
    grep -h . $dir/cgroup | sed 's/^/cgroup /'
    kill ${dir#/proc/}
    while [ -e $dir ] && ! grep -q '^State:.Z' $dir/status; do sleep 0.05; done
done
"""


def test_one_engine_starts_however_many_ask_at_once(places: None) -> None:
    ask = "for i in 1 2 3 4 5 6; do $1 version --format '{{.Server.Version}}' & done; wait"
    done = alone(f"{ask}; {FIND}")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    daemons = [line.split() for line in lines if line.startswith("daemon ")]
    assert len(daemons) == 1, done.stdout + done.stderr
    assert len([line for line in lines if line[:1].isdigit()]) == 6
    assert done.stderr.count("starting one") == 1
    _, _, _, session, _, ours = daemons[0]
    assert session != ours
    cgroups = [line.removeprefix("cgroup ") for line in lines if line.startswith("cgroup ")]
    # <number>:<controllers>:<path>: at the root of each hierarchy that is mounted.
    mounted = {line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()
               if line.split()[2].startswith("cgroup")}  # fmt: skip
    for line in cgroups:
        _, controllers, path = line.split(":", 2)
        if any(f"/{controllers}" in place for place in mounted if controllers):
            assert path == "/", line


def test_it_can_be_switched_off(places: None) -> None:
    done = alone("$1 ps", BOXWOOD_AUTOSTART="0")
    assert done.returncode == 1
    assert done.stderr == (
        "Cannot connect to the Boxwood daemon at unix:///run/boxwood/boxwood.sock. "
        "Is the boxwood daemon running?\n"
    )


def test_an_engine_that_does_not_come_up_shows_its_log(places: None) -> None:
    # The data root is a file: no engine can live there.
    script = "umount /var/lib/boxwood; mount --bind /dev/null /var/lib/boxwood 2>/dev/null || "
    script += "mount -t tmpfs -o ro none /var/lib/boxwood; $1 ps"
    done = alone(script)
    assert done.returncode == 1
    assert "its log ends with:" in done.stderr
    assert "/var/lib/boxwood" in done.stderr


def test_another_engine_than_the_default_is_never_started(tmp_path: Path) -> None:
    environment = clean_environment(BOXWOOD_HOST=f"unix://{tmp_path}/no.sock")
    done = subprocess.run(
        [BOXWOOD, "ps"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "starting" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_nobody_but_root_is_told_why_none_can_be_started(places: None) -> None:
    user = os.environ.get("BOXWOOD_TEST_UID", "65534")
    become = f"setpriv --reuid {user} --regid {user} --clear-groups"
    done = alone(f"HOME=/nonexistent {become} $1 ps")
    assert done.returncode == 1
    assert done.stderr.startswith("Cannot connect to the Boxwood daemon: none is running, and")
    assert done.stderr.count("\n") == 1


def test_a_killed_client_leaves_the_engine(places: None) -> None:
    script = f"""
    setsid sh -c '$0 version >/dev/null 2>&1; kill -9 0' "$1" || true
    $1 version --format 'still {{{{.Server.Version}}}}'
    {FIND}
    """
    done = alone(script)
    assert "still" in done.stdout, done.stdout + done.stderr
    assert done.stdout.count("daemon ") == 1
    assert "starting" not in done.stderr
