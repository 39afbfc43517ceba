"""The same scripts against Debian's Docker daemon and ours, with the same docker client.

Both must print the same and end with the same status, but for what allowed-differences.toml lists.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.differences import Allowed, Hunk, Words, allowed, hunks, words
from tests.compat.normal import Normaliser
from tests.support.dockerd import Dockerd
from tests.support.engine import ALONE, Engine, Server, running
from tests.support.paths import ROOT, clear_room, make_room
from tests.support.storage import CHOSEN, place_for

SCENARIOS = Path(__file__).with_name("scenarios")
NAMES = sorted(path.stem for path in SCENARIOS.glob("*.sh"))
# Debian's daemon speaks this version at most; asked for it, ours answers as that one did.
API_VERSION = "1.41"
SECONDS = 40
NET = "net-"
"""What scenarios begin with that are played in network namespaces of the engines' own."""

pytestmark = [pytest.mark.root, pytest.mark.timeout(3 * SECONDS)]

used: set[int] = set()
said: set[int] = set()
compared: set[str] = set()


@pytest.fixture(scope="module")
def tools() -> Iterator[Path]:
    """A folder with the command `terminal`, for the scenarios' PATH."""
    room = make_room("tools")
    terminal = room / "terminal"
    terminal.write_text(
        f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m tests.support.terminal "$@"\n'
    )
    terminal.chmod(0o755)
    yield room
    clear_room(room)


@pytest.fixture(scope="module")
def theirs_here() -> Iterator[Dockerd]:
    """Docker, with nothing in it but what the scenarios make."""
    with running(Dockerd()) as server:
        assert isinstance(server, Dockerd)
        yield server


@pytest.fixture(scope="module")
def ours_here() -> Iterator[Engine]:
    """Our engine, with nothing in it but what the scenarios make."""
    with place_for(CHOSEN) as place, running(Engine(place=place)) as server:
        assert isinstance(server, Engine)
        yield server


@pytest.fixture(scope="module")
def theirs_alone() -> Iterator[Dockerd]:
    """Docker in a network namespace of its own, with a bridge and all its rules."""
    with running(Dockerd(alone=True)) as server:
        assert isinstance(server, Dockerd)
        yield server


@pytest.fixture(scope="module")
def ours_alone() -> Iterator[Engine]:
    """Our engine in a network namespace of its own."""
    with running(Engine(before=ALONE)) as server:
        assert isinstance(server, Engine)
        yield server


def play(server: Server, name: str, tools: Path) -> dict[str, list[str]]:
    """Run a scenario in an empty folder against an engine without containers."""
    server.remove_containers()
    folder = make_room("scenario")
    path = f"{tools}:{server.environment()['PATH']}"
    inside = ("nsenter", f"--net=/proc/{server.pid}/ns/net") if name.startswith(NET) else ()
    try:
        done = server.run(
            *(*inside, "sh", SCENARIOS / f"{name}.sh"),
            cwd=folder,
            env={"DOCKER_API_VERSION": API_VERSION, "LC_ALL": "C", "TZ": "UTC", "PATH": path},
            timeout=SECONDS,
            check=False,
        )
    finally:
        server.remove_containers()
        shutil.rmtree(folder)
    normal = Normaliser(
        {
            str(folder): "<folder>",
            str(server.data_root): "<data-root>",
            str(server.exec_root): "<exec-root>",
            str(SCENARIOS): "<scenarios>",
        }
    )
    return {
        "stdout": normal(done.stdout),
        "stderr": normal(done.stderr),
        "status": [str(done.returncode)],
    }


def unexplained(name: str, stream: str, found: list[Hunk], entries: list[Allowed]) -> list[Hunk]:
    """Return the differences that no entry allows, noting the entries that were of use."""
    left = []
    for hunk in found:
        for number, entry in enumerate(entries):
            if (entry.scenario, entry.stream, entry.hunk) == (name, stream, hunk):
                used.add(number)
                break
        else:
            left.append(hunk)
    return left


def in_common_words(
    theirs: list[str], ours: list[str], rules: list[Words]
) -> tuple[list[str], list[str]]:
    """Return both texts in the form that the rules give them, noting the rules of use."""
    for number, rule in enumerate(rules):
        changed = [rule.theirs(line) for line in theirs]
        answered = [rule.ours(line) for line in ours]
        if changed != theirs and answered != ours:
            said.add(number)
        theirs, ours = changed, answered
    return theirs, ours


@pytest.mark.parametrize("name", NAMES)
def test_same(name: str, request: pytest.FixtureRequest, tools: Path) -> None:
    """A scenario prints the same and ends the same on both."""
    where = "alone" if name.startswith(NET) else "here"
    theirs = play(request.getfixturevalue(f"theirs_{where}"), name, tools)
    ours = play(request.getfixturevalue(f"ours_{where}"), name, tools)
    compared.add(name)
    entries, rules = allowed(), words()
    problems = []
    for stream in theirs:
        found = hunks(*in_common_words(theirs[stream], ours[stream], rules))
        problems += [f"{stream}:\n{hunk}" for hunk in unexplained(name, stream, found, entries)]
    if problems:
        pytest.fail(f"{name}: not the same on both:\n" + "\n".join(problems), pytrace=False)


def test_no_entry_is_idle() -> None:
    """Every allowed difference is still one, and of a scenario that there is."""
    idle = []
    for number, entry in enumerate(allowed()):
        assert entry.scenario in NAMES, entry
        if entry.scenario in compared and number not in used:
            idle.append(f"{entry.scenario}, {entry.stream}:\n{entry.hunk}")
    if compared == set(NAMES):
        rules = enumerate(words())
        idle += [f"words: {rule.docker.pattern}" for number, rule in rules if number not in said]
    if idle:
        pytest.fail("allowed, and no longer different:\n" + "\n".join(idle), pytrace=False)
