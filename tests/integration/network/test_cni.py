"""The driver cni, beside what the kit asks: lists, errors of plugins, deadlines, crashes."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxwood.drivers.network import EndpointRequest, NetworkSpec
from boxwood.errors import (
    BoxwoodError,
    Conflict,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unsupported,
)
from boxwood.testing import faults
from boxwood.testing import network_world as world
from boxwood.testing.network import run
from boxwood.testing.network_kit import settled
from boxwood_ext import net, rtnl
from boxwood_plugins.network.cni import calls
from boxwood_plugins.network.cni.driver import CniDriver
from tests.support.cni import FOLDER, need_plugins, write_list
from tests.support.needs import need_root, until

BROKEN = {
    "no JSON": b"{",
    "no name": b'{"cniVersion": "1.0.0", "plugins": [{"type": "x"}]}',
    "no plugins": b'{"cniVersion": "1.0.0", "name": "n", "plugins": []}',
    "an old version": b'{"cniVersion": "0.1.0", "name": "n", "plugins": [{"type": "x"}]}',
    "a type that is a path": b'{"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "../x"}]}',
    "too long": b" " * ((1 << 20) + 1),
}


@pytest.fixture(autouse=True)
def _host() -> Iterator[None]:
    need_root()
    with world.host():
        yield


def spec(file: Path | str, **options: str) -> NetworkSpec:
    return NetworkSpec(id="ab" * 32, name="lan", options={"conflist": str(file), **options})


def request(number: int = 1) -> EndpointRequest:
    return EndpointRequest(sandbox="5a" * 32, network="ab" * 32, endpoint=f"{number:02x}" * 32)


def made(root: Path, file: Path, **options: str) -> tuple[CniDriver, NetworkSpec]:
    driver = CniDriver(root / "cni", {})
    network = driver.defaults(spec(file, **options))
    run(driver.create_network(network))
    return driver, network


def plugin(folder: Path, script: str) -> Path:
    """A list with one plugin, which is a script; the plugins are in ``folder``."""
    program = folder / "script"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return write_list(folder, plugins=[{"type": "script"}])


@pytest.mark.parametrize("what", BROKEN)
def test_lists_that_are_refused(what: str, tmp_path: Path) -> None:
    file = tmp_path / "x.conflist"
    file.write_bytes(BROKEN[what])
    with pytest.raises(InvalidArgument, match=r"x\.conflist"):
        CniDriver(tmp_path, {}).defaults(spec(file))


def test_a_list_is_found_by_its_name(tmp_path: Path) -> None:
    """Whatever its file is called; one that is broken keeps nobody from the others."""
    write_list(tmp_path, 1)
    (tmp_path / "a.conflist").write_bytes(b"{")
    driver = CniDriver(tmp_path / "root", {"conf-dir": str(tmp_path), "path": "/x"})
    assert driver.defaults(spec("kit1")).options == {"conflist": "kit1", "path": "/x"}
    with pytest.raises(NotFound, match="no network configuration list kit7"):
        driver.defaults(spec("kit7"))
    with pytest.raises(InvalidArgument, match="needs -o conflist="):
        driver.defaults(NetworkSpec(id="ab" * 32, name="lan"))


def test_a_plugin_that_is_missing(tmp_path: Path) -> None:
    driver, _ = made(tmp_path, write_list(tmp_path), path=str(tmp_path))
    netns = net.make_namespace()
    with open(netns, "rb"), pytest.raises(NotFound, match=r"no such plugin in .*Debian has them"):
        run(driver.attach(request(), netns))


@pytest.mark.parametrize(
    ("script", "error", "words"),
    [
        ("""echo '{"code": 7, "msg": "no such ip", "details": "x"}'; exit 1""", InvalidArgument,
         "cni: script: ADD: no such ip x"),
        ("""echo '{"code": 11, "msg": "busy"}'; exit 1""", Unavailable, "busy; try again"),
        ("echo it burns >&2; exit 3", Unavailable, "ADD: it burns"),
        ("exit 3", Unavailable, "ADD: exit status 3"),
        ("echo nonsense", Unavailable, "the answer is no result"),
        ("""echo '{"ips": 7}'""", Unavailable, "cannot be understood"),
    ],
)  # fmt: skip
def test_plugins_that_fail(
    tmp_path: Path, script: str, error: type[BoxwoodError], words: str
) -> None:
    """The sentence is the plugin's own; DEL follows, and nothing is kept."""
    script = f"cat >/dev/null; echo $CNI_COMMAND >>{tmp_path}/asked; {script}"
    driver, _ = made(tmp_path, plugin(tmp_path, script), path=str(tmp_path))
    netns = net.make_namespace()
    with open(netns, "rb"), pytest.raises(error, match=words):
        run(driver.attach(request(), netns))
    assert (tmp_path / "asked").read_text().split()[:2] == ["ADD", "DEL"]


def test_a_plugin_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed at its deadline, with what it started; what is left is tried again."""
    monkeypatch.setattr(calls, "SECONDS", 0.5)
    script = f'cat >/dev/null; sh -c "echo \\$\\$ >{tmp_path}/pid; exec sleep 600"; true'
    driver, _ = made(tmp_path, plugin(tmp_path, script), path=str(tmp_path))
    netns = net.make_namespace()
    with open(netns, "rb"), pytest.raises(DeadlineExceeded, match="ADD: no answer in"):
        run(driver.attach(request(), netns))
    pid = int((tmp_path / "pid").read_text())
    assert not os.path.exists(f"/proc/{pid}/fd") or "Z" in Path(f"/proc/{pid}/stat").read_text()
    (told,) = run(driver.reconcile([]))
    assert "not removed: cni: script: DEL: no answer" in told
    plugin(tmp_path, "cat >/dev/null")
    assert run(driver.reconcile([])) == [f"endpoint {'01' * 6} of cni is removed"]
    assert run(driver.reconcile([])) == []


def test_what_the_runtime_gives(tmp_path: Path) -> None:
    """Capabilities get their values; what no plugin takes is refused."""
    driver, _ = made(tmp_path, plugin(tmp_path, "exit 1"), path=str(tmp_path))
    for changes in ({"mac_address": "02:00:00:00:00:01"}, {"addresses": ("10.1.1.9/24",)}):
        asked = EndpointRequest(sandbox="s", network="ab" * 32, endpoint="ab", **changes)
        with pytest.raises(InvalidArgument, match="from nobody"):
            run(driver.attach(asked, -1))


def test_check_says_what_has_changed(tmp_path: Path) -> None:
    """`update` has the plugins look; an address that somebody took away is told."""
    need_plugins()
    driver, network = made(tmp_path, write_list(tmp_path))
    netns = net.make_namespace()
    with open(netns, "rb"):
        found = run(driver.attach(request(), netns))
        same = {"gateways": found.gateways, "ports": ()}
        assert run(driver.update(found, netns, **same)) == found
        with pytest.raises(Unsupported):
            run(driver.update(found, netns, gateways=("10.1.1.1",), ports=()))
        with pytest.raises(Conflict, match="eth0 is taken"):
            run(driver.attach(request(2), netns))
        with net.Netlink(netns) as channel:
            channel.batch([rtnl.delete_address(channel.index("eth0"), found.addresses[0])])
        with pytest.raises(BoxwoodError, match="cni: bridge: CHECK: "):
            run(driver.update(found, netns, **same))
        run(driver.detach(found, netns))
    run(driver.remove_network(network))


def test_killed_while_a_plugin_works(tmp_path: Path) -> None:
    """At some calls of an ADD: afterwards links, files and the address are gone."""
    need_plugins()
    before = world.look()
    file = write_list(tmp_path)
    (tmp_path / "ipam/kit0").mkdir(parents=True)
    for at in (2, 6, 12, 20, 28, 36):
        netns = net.make_namespace()

        def work(netns: int = netns) -> str:
            driver, _ = made(tmp_path, file)
            run(driver.attach(request(), netns))
            return "ok"

        faults.attempt(work, at=at, network=True)
        os.close(netns)
        driver, _ = made(tmp_path, file)
        told = run(driver.reconcile([]))
        assert "not removed" not in " ".join(told)
        assert run(driver.reconcile([])) == []
        assert settled(before) == []
        assert list((tmp_path / "cni/results").glob("*.json")) == []
        kept = [name for name in os.listdir(tmp_path / "ipam/kit0") if name[0].isdigit()]
        assert kept == []


def test_a_plugin_outlives_the_daemon(tmp_path: Path) -> None:
    """It is ended before its work is undone, in the sandbox, which lives on."""
    need_plugins()
    before = world.look()
    script = f"cat >/dev/null; [ $CNI_COMMAND = ADD ] || exit 0; echo $$ >{tmp_path}/pid"
    file = plugin(tmp_path, f"{script}; mv {tmp_path}/pid {tmp_path}/works; sleep 600; true")
    content = json.loads(write_list(tmp_path).read_text())
    content["plugins"][1] = {"type": "script"}
    file.write_text(json.dumps(content))
    netns = net.make_namespace()
    with open(netns, "rb"), subprocess.Popen(["nsenter", f"--net=/proc/self/fd/{netns}", "cat"],
            stdin=subprocess.PIPE, pass_fds=[netns]) as sandbox:  # fmt: skip
        daemon = os.fork()
        if daemon == 0:
            driver, _ = made(tmp_path, file, path=f"{tmp_path}:{FOLDER}")
            run(driver.attach(request(), netns))
            os._exit(1)
        until((tmp_path / "works").exists, "the second plugin works")
        os.kill(daemon, signal.SIGKILL)
        os.waitpid(daemon, 0)
        process = os.pidfd_open(int((tmp_path / "works").read_text()))
        driver, _ = made(tmp_path, file, path=f"{tmp_path}:{FOLDER}")
        told = run(driver.reconcile([]))
        assert told == [f"endpoint {'01' * 6} of cni is removed"]
        assert select.select([process], [], [], 0)[0], "it still runs"
        os.close(process)
        with net.Netlink(netns) as channel, pytest.raises(OSError, match="eth0"):
            channel.index("eth0")
        sandbox.communicate()
    assert settled(before) == []


def test_debians_plugins_are_asked_as_they_stand(tmp_path: Path) -> None:
    """Keys of a list reach the plugin unchanged, with the last one's result."""
    log = f"cat >>{tmp_path}/said; echo >>{tmp_path}/said; echo '{{\"ips\": []}}'"
    file = plugin(tmp_path, log)
    content = json.loads(file.read_text())
    content["plugins"] = [{"type": "script", "own": {"a": [1]}}, {"type": "script", "second": True}]
    file.write_text(json.dumps(content))
    driver, _ = made(tmp_path, file, path=str(tmp_path))
    netns = net.make_namespace()
    with open(netns, "rb"):
        run(driver.detach(run(driver.attach(request(), netns)), netns))
    first, second, *undone = [
        json.loads(line) for line in (tmp_path / "said").read_text().splitlines()
    ]
    assert first == {"type": "script", "own": {"a": [1]}, "name": "kit0", "cniVersion": "1.0.0"}
    assert second["second"] is True
    assert second["prevResult"] == {"ips": []}
    assert [one.get("second") for one in undone] == [True, None]
