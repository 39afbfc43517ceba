"""Networks of other drivers than `bridge` in a running engine: macvlan and cni."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cni import need_plugins, tables_as_before, write_list
from tests.support.engine import Engine
from tests.support.needs import until

pytestmark = pytest.mark.root

SERVE = "echo over the wire >/index.html; exec httpd -f -h /"
FETCH = "for i in 1 2 3 4 5 6 7 8 9; do wget -qO- web && exit; sleep 1; done; exit 1"


@pytest.fixture(autouse=True)
def _tables() -> Iterator[None]:
    with tables_as_before():
        yield


def speak(engine: Engine, network: str) -> dict[str, str]:
    """Two containers reach each other by name; returns what inspect says of the first's place."""
    run = ("run", "-d", "--network", network, "--name", "web", "busybox", "sh", "-c", SERVE)
    engine.cli(*run)
    client = ("run", "--rm", "--network", network, "busybox", "sh", "-c", FETCH)
    assert engine.cli(*client).stdout == "over the wire\n"
    (told,) = json.loads(engine.cli("inspect", "web").stdout)
    place: dict[str, str] = told["NetworkSettings"]["Networks"][network]
    found = engine.cli("exec", "web", "ip", "-4", "addr", "show", "eth0").stdout
    assert f"inet {place['IPAddress']}/{place['IPPrefixLen']} " in found
    assert place["MacAddress"] in engine.cli("exec", "web", "ip", "link", "show", "eth0").stdout
    engine.cli("rm", "-f", "web")
    engine.cli("network", "rm", network)
    return place


def links() -> set[str]:
    """The links that these drivers leave on the host."""
    names = {path.name for path in Path("/sys/class/net").iterdir()}
    return {name for name in names if name.startswith(("dm-", "kit-"))}


def test_macvlan(make_engine: Callable[..., Engine]) -> None:
    """Without a parent it is internal; its link goes with it."""
    engine = make_engine()
    identity = engine.cli("network", "create", "-d", "macvlan", "--subnet", "10.97.4.0/24", "lan")
    parent = f"dm-{identity.stdout[:12]}"
    assert parent in links()
    (told,) = json.loads(engine.cli("network", "inspect", "lan").stdout)
    assert told["Internal"] is True
    assert speak(engine, "lan")["IPAddress"].startswith("10.97.4.")
    assert parent not in links()


def test_cni(make_engine: Callable[..., Engine], tmp_path: Path) -> None:
    """The addresses are the plugins', and the engine tells them."""
    need_plugins()
    engine = make_engine()
    file = write_list(tmp_path, 0)
    engine.cli("network", "create", "-d", "cni", "-o", f"conflist={file}", "pods")
    place = speak(engine, "pods")
    assert place["IPAddress"].startswith("10.214.0.")
    assert place["Gateway"] == "10.214.0.1"
    assert "kit-cni0" not in links()


@pytest.mark.parametrize("driver", ["macvlan", "cni"])
def test_the_daemon_is_killed(
    driver: str, make_engine: Callable[..., Engine], tmp_path: Path
) -> None:
    """What runs stays joined; what ended meanwhile leaves nothing, and its name may be used."""
    option = "macvlan_mode=bridge"
    if driver == "cni":
        need_plugins()
        option = f"conflist={write_list(tmp_path, 0)}"
    engine, before = make_engine(), links()
    engine.cli("network", "create", "-d", driver, "-o", option, "net")
    for name in ("web", "gone"):
        run = ("run", "-d", "--network", "net", "--name", name, "busybox", "sh", "-c", SERVE)
        engine.cli(*run)
    (told,) = json.loads(engine.cli("inspect", "gone").stdout)
    engine.kill()
    os.kill(told["State"]["Pid"], signal.SIGKILL)
    engine.start()
    client = ("run", "--rm", "--network", "net", "busybox", "sh", "-c", FETCH)
    assert engine.cli(*client).stdout == "over the wire\n"
    engine.cli("rm", "gone")
    engine.cli("rm", "-f", "web")
    engine.cli("network", "rm", "net")
    # Sandboxes that are going take their own links along.
    until(lambda: links() <= before, "no link is left")
    kept = tmp_path / "ipam/kit0"
    assert not kept.exists() or [one for one in kept.iterdir() if one.name[0].isdigit()] == []
