"""Networks through the API, the stock client and our command line, with a driver of files."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from boxwood.faultpoints import NETWORK_POINTS
from tests.support import toynet
from tests.support.engine import Engine
from tests.support.needs import need_root, until
from tests.support.strangers import install

Make = Callable[..., Engine]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Make an engine that finds the driver `toy`."""
    need_root()
    folder = tmp_path / "packages"
    source = Path(toynet.__file__).read_text()
    install(
        folder, "toynet", {"toynet": source}, "[boxwood.network]\ntoy = toynet\ntoyown = toynet\n"
    )
    made: list[Engine] = []

    def make(*flags: str, **variables: str) -> Engine:
        engine = Engine(*flags, variables={"PYTHONPATH": str(folder), **variables})
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.close()


@pytest.fixture
def engine(make: Make) -> Engine:
    """One that runs; its default network's link is its own."""
    engine = make()
    engine.start()
    return engine


def create(engine: Engine, name: str, **more: Any) -> Any:
    return engine.api("POST", "/networks/create", {"Name": name, "Driver": "toy", **more})


def shown(engine: Engine, ref: str, version: str = "") -> dict[str, Any]:
    answer = engine.api("GET", f"{version}/networks/{ref}")
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json()
    return found


def files(engine: Engine) -> set[str]:
    return {path.read_text() for path in (engine.exec_root / "network" / "toy").glob("*")}


def test_over_http(engine: Engine) -> None:
    ipam = {
        "Driver": "default",
        "Config": [
            {
                "Subnet": "10.66.0.0/16",
                "IPRange": "10.66.5.0/24",
                "Gateway": "10.66.0.9",
                "AuxiliaryAddresses": {"router": "10.66.5.1"},
            }
        ],
    }
    answer = create(
        engine, "mine", IPAM=ipam, Labels={"a": "b"}, Internal=True, Attachable=True,
        EnableIPv6=True, Options={"com.example.note": "x"}, CheckDuplicate=True,
    )  # fmt: skip
    assert (answer.status, answer.json()["Warning"]) == (201, "")
    key = answer.json()["Id"]
    found = shown(engine, "mine")
    (four, six) = found["IPAM"]["Config"]
    assert four == ipam["Config"][0]  # type: ignore[index]
    assert six["Gateway"] == six["Subnet"].replace("/64", "1")
    assert {name: found[name] for name in ("Id", "Driver", "Scope", "Internal", "Attachable")} == {
        "Id": key, "Driver": "toy", "Scope": "local", "Internal": True, "Attachable": True,
    }  # fmt: skip
    assert (found["EnableIPv4"], found["EnableIPv6"], found["Labels"]) == (True, True, {"a": "b"})
    assert found["Options"] == {"com.example.note": "x"}
    assert "Host" not in found
    host = engine.api("GET", "/networks/mine?host=1").json()["Host"]
    assert Path(host["file"]).read_text() == "mine"
    assert "EnableIPv4" not in shown(engine, "mine", "/v1.47")
    assert shown(engine, "mine", "/v1.24")["Id"] == key
    assert engine.api("GET", "/networks/mine?verbose=true&scope=local").status == 200
    assert engine.api("GET", "/networks/mine?verbose=much").status == 400
    assert engine.api("GET", "/networks/mine?scope=swarm").status == 404
    listed = engine.api("GET", "/networks").json()
    assert [one["Name"] for one in listed] == ["bridge", "host", "mine", "none"]
    taken = create(engine, "mine")
    assert (taken.status, taken.json()["message"]) == (
        409, "network with name mine already exists",
    )  # fmt: skip
    # A client that does not know of networks without IPv4 gets one with it, whatever it says.
    old = engine.api(
        "POST", "/v1.47/networks/create", {"Name": "old", "Driver": "toy", "EnableIPv4": False}
    )
    assert old.status == 201
    assert shown(engine, "old")["EnableIPv4"]
    assert engine.api("DELETE", f"/networks/{key[:12]}").status == 204
    assert engine.api("DELETE", "/networks/mine").status == 404
    assert files(engine) == {"old"}


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 400, "invalid name"),
        ({"Name": "bridge"}, 403, "operation is not permitted on predefined bridge network"),
        ({"Name": "x", "Driver": "host"}, 403, 'only one instance of "host" network is allowed'),
        ({"Name": "x", "Driver": "y"}, 404, "could not find plugin y in v1 plugin registry"),
        ({"Name": "x", "Options": {"y": "z"}}, 400, "unknown option y"),
        ({"Name": "x", "Scope": "global"}, 503, "This node is not a swarm manager"),
        (
            {"Name": "x", "IPAM": {"Config": [{"Subnet": "10.0.0.1/8"}]}},
            400,
            "invalid network config:\ninvalid subnet 10.0.0.1/8: it should be 10.0.0.0/8",
        ),
        (
            {"Name": "x", "IPAM": {"Config": [{"Subnet": "10.67.9.0/24"}]}},
            403,
            "Pool overlaps with other one on this address space",
        ),
        (
            {"Name": "x", "IPAM": {"Config": [{"Subnet": f"10.6{n}.0.0/24"} for n in "89"]}},
            403,
            "toy driver doesn't support multiple subnets",
        ),
        ({"Name": "x", "IPAM": {"Config": "all"}}, 400, ""),
        ({"Name": 5}, 400, ""),
    ],
)
def test_bad_input(engine: Engine, body: dict[str, Any], status: int, words: str) -> None:
    assert create(engine, "first", IPAM={"Config": [{"Subnet": "10.67.0.0/16"}]}).status == 201
    before = engine.api("GET", "/networks").json()
    answer = engine.api("POST", "/networks/create", {"Driver": "toy", **body})
    assert answer.status == status
    assert words in answer.json()["message"]
    assert engine.api("GET", "/networks").json() == before
    assert files(engine) == {"first"}


def test_events(engine: Engine) -> None:
    key = create(engine, "mine").json()["Id"]
    engine.api("DELETE", "/networks/mine")
    until_then = f"{time.time() + 1}"
    out = engine.docker("events", "--since", "1h", "--until", until_then, "--format", "json").stdout
    told = [json.loads(line) for line in out.splitlines()]
    assert [(one["Action"], one["Actor"]) for one in told if one["Type"] == "network"] == [
        (action, {"ID": key, "Attributes": {"name": "mine", "type": "toy"}})
        for action in ("create", "destroy")
    ]


def test_both_clients(engine: Engine) -> None:
    """The same words make the same networks, and show them alike."""
    for name, run in (("theirs", engine.docker), ("ours", engine.cli)):
        third = "1" if name == "theirs" else "2"
        key = run(
            *("network", "create", "-d", "toy", "--subnet", f"10.66.{third}.0/24"),
            *("--ip-range", f"10.66.{third}.128/25", "--gateway", f"10.66.{third}.9"),
            *("--aux-address", f"a=10.66.{third}.130", "--internal", "--attachable", "--ipv6"),
            *("--label", "x=y", "-o", "com.example.note=n", name),
        ).stdout.strip()
        assert shown(engine, name)["Id"] == key
    theirs, ours = shown(engine, "theirs"), shown(engine, "ours")
    for network in (theirs, ours):
        for key in ("Id", "Name", "Created"):
            del network[key]
        del network["IPAM"]["Config"][1]
    text = json.dumps(theirs).replace("10.66.1.", "10.66.2.")
    assert json.loads(text) == ours
    for args in (
        ("network", "ls"),
        ("network", "ls", "-q", "--no-trunc"),
        ("network", "ls", "--filter", "driver=toy", "--format", "{{.Name}} {{.IPv6}} {{.Labels}}"),
        ("network", "ls", "--filter", "type=custom", "--filter", "label=x=y", "--format", "json"),
        ("network", "ls", "--filter", "dangling=true", "-q"),
        ("network", "inspect", "ours", "bridge"),
        ("network", "inspect", "-v", "ours"),
        ("network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", "ours"),
    ):
        assert engine.cli(*args).stdout == engine.docker(*args).stdout, args
    for run in (engine.docker, engine.cli):
        run("network", "create", "-d", "toy", "one")
        run("network", "create", "-d", "toy", "two")
        assert run("network", "rm", "one", "two").stdout == "one\ntwo\n"
        assert run("network", "rm", "-f", "one").stdout in ("", "one\n")
        assert run("network", "rm", "one", check=False).returncode == 1
        run("network", "create", "-d", "toy", "three")
        assert "three" in run("network", "prune", "-f", "--filter", "label!=x").stdout
    assert engine.cli("network", "prune", "-f").stdout == "Deleted Networks:\nours\ntheirs\n\n"
    assert files(engine) == set()


@pytest.mark.parametrize(
    "flags",
    [
        "--subnet 10.0.0.0",
        "--subnet 10.0.0.0/8 --subnet 10.1.0.0/16",
        "--subnet 10.0.0.0/24 --gateway 10.1.0.1",
        "--subnet 10.0.0.0/24 --gateway 10.0.0.1 --gateway 10.0.0.2",
        "--subnet 10.0.0.0/24 --subnet 10.1.0.0/24 --gateway 10.0.0.1 --gateway 10.0.0.2",
        "--subnet 10.0.0.0/24 --subnet 10.1.0.0/24 --ip-range 10.0.0.0/25 --ip-range 10.0.0.9/32",
        "--subnet 10.0.0.0/24 --ip-range 10.1.0.0/25",
        "--subnet 10.0.0.0/24 --ip-range nonsense",
        "--subnet 10.0.0.0/24 --gateway nonsense",
        "--subnet 10.0.0.0/24 --aux-address a=10.1.0.1",
        "--subnet 10.0.0.0/24 --aux-address a=nonsense",
        "--gateway 10.1.0.1",
        "--subnet 10.0.0.1/24",
        "-o nonsense=1",
        "-d nonsense",
        "--config-from nonsense",
    ],
)
def test_both_clients_refuse_alike(engine: Engine, flags: str) -> None:
    args = ("network", "create", "-d", "toy", *flags.split(), "mine")
    theirs, ours = (run(*args, check=False) for run in (engine.docker, engine.cli))
    assert (ours.returncode, ours.stderr) == (theirs.returncode, theirs.stderr)
    assert ours.returncode == 1
    assert files(engine) == set()


def test_config_only(engine: Engine) -> None:
    engine.docker("network", "create", "--config-only", "--subnet", "10.66.0.0/24", "source")
    engine.docker("network", "create", "-d", "toy", "--config-from", "source", "mine")
    found = shown(engine, "mine")
    assert found["ConfigFrom"] == {"Network": "source"}
    assert found["IPAM"]["Config"] == [{"Subnet": "10.66.0.0/24", "Gateway": "10.66.0.1"}]
    refused = engine.docker("network", "rm", "source", check=False)
    assert 'configuration network "source" is in use' in refused.stderr
    refused = engine.docker("run", "--network", "source", "busybox", check=False)
    assert refused.returncode == 125


def test_what_is_on_the_host(engine: Engine) -> None:
    """Ours alone prints it: a person looks for what the driver has made."""
    engine.cli("network", "create", "-d", "toy", "mine")
    (found,) = json.loads(engine.cli("network", "inspect", "--host", "mine").stdout)
    assert Path(found["Host"]["file"]).read_text() == "mine"
    one = engine.cli("network", "inspect", "--host", "-f", "{{.Host.file}}", "mine").stdout
    assert Path(one.strip()).name == found["Id"]


def test_addresses_that_the_driver_gives_out(engine: Engine) -> None:
    """What it says the endpoint has is what clients and the hosts file see, over a kill too."""
    engine.add_busybox()
    engine.docker("network", "create", "-d", "toyown", "mine")
    assert shown(engine, "mine")["IPAM"]["Config"] == []
    sleep = ("--network", "mine", "busybox", "sleep", "1000")
    engine.docker("run", "-d", "--name", "any", *sleep)
    engine.docker("run", "-d", "--name", "certain", "--ip", "10.99.7.40", *sleep)
    for name, address in (("any", "10.99.7.9"), ("certain", "10.99.7.40")):
        at = engine.api("GET", f"/containers/{name}/json").json()["NetworkSettings"]["Networks"]
        found = at["mine"]
        assert (found["IPAddress"], found["IPPrefixLen"]) == (address, 24)
        assert (found["Gateway"], found["MacAddress"]) == ("10.99.7.1", "02:00:00:00:00:09")
        assert address in engine.docker("exec", name, "cat", "/etc/hosts").stdout
    engine.restart()
    refused = engine.docker("network", "rm", "mine", check=False)
    assert 'name:"any"' in refused.stderr
    assert 'name:"certain"' in refused.stderr
    engine.remove_containers()
    engine.docker("network", "rm", "mine")


@pytest.mark.parametrize("point", NETWORK_POINTS)
def test_the_daemon_dies_in_each_step(make: Make, point: str) -> None:
    """What the driver made and what is recorded are the same again after the next start."""
    engine = make()
    engine.start()
    assert create(engine, "kept").status == 201
    engine.stop()
    engine._variables["BOXWOOD_FAULT"] = point
    engine.start()
    removes = point.startswith("network.remove")
    ipam = {"Config": [{"Subnet": "10.66.0.0/24"}]}
    body = {"Name": "new", "Driver": "toy", "IPAM": ipam}
    last = ("DELETE", "/networks/kept") if removes else ("POST", "/networks/create", body)
    with pytest.raises((OSError, EOFError, ValueError)):
        engine.api(*last)
    process = engine.process
    assert process is not None
    until(lambda: process.poll() is not None, "the daemon died")
    engine.process = None
    del engine._variables["BOXWOOD_FAULT"]
    engine.start()
    custom = [
        one["Name"] for one in engine.api("GET", "/networks").json() if one["Driver"] == "toy"
    ]
    assert files(engine) == set(custom)
    recorded = {"network.create.recorded": {"new", "kept"}, "network.remove.recorded": set()}
    assert set(custom) == recorded.get(point, {"kept"})
    # Nothing of it is in the way of doing it again.
    if removes:
        assert engine.api("DELETE", "/networks/kept").status == (404 if not custom else 204)
    else:
        again = create(engine, "new", IPAM=ipam)
        assert again.status == (409 if "new" in custom else 201)


def test_a_thousand_networks(make: Make) -> None:
    """More than Docker's pools have, and a start with them."""
    engine = make()
    engine.start()
    subnets = set()
    for number in range(1000):
        assert create(engine, f"n{number}").status == 201
    for one in engine.api("GET", "/networks").json():
        subnets |= {config["Subnet"] for config in one["IPAM"]["Config"]}
    assert len(subnets) >= 1000
    engine.restart()
    assert len(files(engine)) == 1000
    gone = engine.api("POST", "/networks/prune", timeout=60).json()["NetworksDeleted"]
    assert len(gone) == 1000
    assert files(engine) == set()
