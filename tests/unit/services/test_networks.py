"""The networks service over a driver of files and a real database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boxwood.drivers.manager import select
from boxwood.drivers.network import Attachment, NetworkDriver
from boxwood.errors import (
    AlreadyExists,
    Conflict,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from boxwood.model import times
from boxwood.model.config import EndpointSettings
from boxwood.model.network import IPAM, ConfigReference, IPAMConfig, NetworkCreate
from boxwood.services.events import EventsService
from boxwood.services.networks import Endpoint, NetworkSettings, NetworksService
from boxwood.store.database import Database
from tests.support.toynet import ToyNetwork, ToyOwn


class Bridge(ToyNetwork):
    """The same under the default network's driver's name; it notes what it is given."""

    name = "bridge"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.wanted: list[Attachment] = []
        self.told: asyncio.Event = asyncio.Event()

    def defaults(self, network: Any) -> Any:
        return network

    async def reconcile(self, wanted: Any) -> list[str]:
        self.wanted = list(wanted)
        return await super().reconcile(wanted)

    async def guard(self, tell: Any) -> None:
        tell("put back what was flushed")
        self.told.set()
        await asyncio.Event().wait()


class Room:
    """A service, its drivers' folder, what it published."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.database = Database(root / "db")
        self.events = EventsService()
        self.bridge = True
        self.users: dict[str, list[Endpoint]] = {}

    def select(self, name: str) -> NetworkDriver:
        root = self.root / name
        for kind in (ToyNetwork, ToyOwn):
            if name == kind.name:
                return kind(root)
        if name == "bridge" and self.bridge:
            return Bridge(root)
        if name == "bridge":
            raise NotFound("no such driver")
        driver: NetworkDriver = select("network", name, root=root, options={})
        return driver

    async def start(self, **settings: Any) -> NetworksService:
        """Make a service as a fresh daemon would."""
        service = NetworksService(
            self.database,
            self.select,
            self.events,
            NetworkSettings(**settings),
            "e" * 64,
            times.now(),
            lambda _: [],
        )
        service.endpoints_of = lambda key: self.users.get(key, [])
        await service.load()
        return service

    def files(self, driver: str = "toy") -> set[str]:
        """What the driver has made."""
        return {path.read_text() for path in (self.root / driver).glob("*")}

    def told(self) -> list[tuple[str, str]]:
        return [
            (event.action, event.actor.attributes["name"])
            for event in self.events.subscribe(since=1)._queue
            if event.action != "restore"
        ]


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path)
    yield made
    made.database.close()


def wanted(name: str = "mine", *subnets: str, **more: Any) -> NetworkCreate:
    ipam = IPAM(config=tuple(IPAMConfig(subnet=subnet) for subnet in subnets)) if subnets else None
    return NetworkCreate(**{"name": name, "driver": "toy", "ipam": ipam, **more})


async def test_a_network_lives_over_a_start(room: Room) -> None:
    service = await room.start()
    made, warning = await service.create(
        wanted(labels={"a": "b"}, options={"com.example.note": "x"})
    )
    assert warning == ""
    assert made.ipam.config == (IPAMConfig(subnet="172.18.0.0/16", gateway="172.18.0.1"),)
    assert room.files() == {"mine"}
    assert service.addresses.allocate(made.id, "a") == ("172.18.0.2/16",)
    again = await room.start()
    assert again.get("mine") == again.get(made.id) == again.get(made.id[:20]) == made
    assert again.spec(made).pools[0].gateway == "172.18.0.1"
    with pytest.raises(PermissionDenied):
        await again.create(wanted("two", "172.18.9.0/24"))
    assert (await again.create(wanted("two")))[0].ipam.config[0].subnet == "172.19.0.0/16"
    await again.remove("mine")
    assert room.files() == {"two"}
    assert room.told() == [("create", "mine"), ("create", "two"), ("destroy", "mine")]
    with pytest.raises(NotFound, match="network mine not found"):
        again.get("mine")
    with pytest.raises(NotFound):
        again.addresses.allocate(made.id, "a")


async def test_what_is_refused_leaves_nothing(room: Room) -> None:
    service = await room.start()
    await service.create(wanted("taken"))
    before = room.files()
    cases: list[tuple[type[Exception], str, NetworkCreate]] = [
        (AlreadyExists, "network with name taken already exists", wanted("taken")),
        (InvalidArgument, "invalid name: ", wanted(" ")),
        (PermissionDenied, "operation is not permitted on predefined host", wanted("host")),
        (NotFound, "could not find plugin x in v1 plugin registry", wanted(driver="x")),
        (PermissionDenied, 'only one instance of "null" network', wanted(driver="null")),
        (PermissionDenied, 'only one instance of "host" network', wanted(driver="host")),
        (NotFound, "could not find plugin x in", wanted(ipam=IPAM(driver="x"))),
        (InvalidArgument, "unknown option y", wanted(options={"y": "z"})),
        (Conflict, "as asked", wanted(options={"com.example.fail": "1"})),
        (PermissionDenied, "multiple subnets", wanted("m", "10.0.0.0/24", "10.0.1.0/24")),
        (InvalidArgument, "it should be 10.0.0.0/24", wanted("m", "10.0.0.1/24")),
        (InvalidArgument, "IPv4 or IPv6 must be enabled", wanted(ipv4=False)),
        (PermissionDenied, "Ingress network can only", wanted(ingress=True)),
        (PermissionDenied, "cannot create a swarm scoped", wanted(scope="swarm")),
        (Unavailable, "This node is not a swarm manager", wanted(scope="global")),
        (InvalidArgument, "null ipam", wanted("m", "10.0.0.0/24", ipam=IPAM(
            driver="null", config=(IPAMConfig(subnet="10.0.0.0/24"),)))),
    ]  # fmt: skip
    for error, words, request in cases:
        with pytest.raises(error) as refused:
            await service.create(request)
        assert words in str(refused.value), request
    assert room.files() == before
    assert len(service.list()) == 4
    # Nor did they keep a subnet for themselves.
    made, _ = await service.create(wanted("next"))
    assert made.ipam.config[0].subnet == "172.19.0.0/16"
    room.database.run("SELECT 1")


async def test_families(room: Room) -> None:
    service = await room.start()
    made, _ = await service.create(wanted(ipv4=False, ipv6=True))
    (config,) = made.ipam.config or ()
    assert config.subnet.startswith("fd")
    (address,) = service.addresses.allocate(made.id, "a")
    assert address.endswith("::2/64")
    # A subnet of a family that is off is no subnet, as for Docker; even a wrong one.
    plain, _ = await service.create(wanted("plain", "fd00:5::/64", "10.6.0.0/24"))
    assert [config.subnet for config in plain.ipam.config] == ["10.6.0.0/24"]
    none, _ = await service.create(wanted("none at all", ipam=IPAM(driver="null")))
    assert none.ipam.config == ()
    assert service.addresses.allocate(none.id, "a") == ()


async def test_a_network_in_use_stays(room: Room) -> None:
    service = await room.start()
    made, _ = await service.create(wanted())
    key = "f" * 64
    room.users[made.id] = [Endpoint("c" * 64, "web", key, EndpointSettings())]
    with pytest.raises(PermissionDenied) as refused:
        await service.remove("mine")
    assert str(refused.value) == (
        f"error while removing network: network mine id {made.id} has active endpoints "
        f'(name:"web" id:"{key[:12]}")'
    )
    room.users.clear()
    service.addresses.allocate(made.id, key)  # a container that is being started
    with pytest.raises(PermissionDenied, match="active endpoints"):
        await service.remove("mine")
    assert await service.prune() == []
    service.addresses.release(made.id, key)
    for name in ("bridge", "host", "none"):
        with pytest.raises(PermissionDenied, match="pre-defined network and cannot be removed"):
            await service.remove(name)
    assert await service.prune() == ["mine"]
    assert room.files() == set()


async def test_two_at_once(room: Room) -> None:
    """Of two clients one makes it; of two that remove it, one does."""
    service = await room.start()
    made = await asyncio.gather(
        service.create(wanted()), service.create(wanted()), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in made) == ["AlreadyExists", "tuple"]
    gone = await asyncio.gather(
        service.remove("mine"), service.remove("mine"), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in gone) == ["NoneType", "NotFound"]


async def test_configurations(room: Room) -> None:
    service = await room.start()
    config = IPAM(config=(IPAMConfig(subnet="10.7.0.0/24"),))
    source = NetworkCreate(
        name="source", config_only=True, ipam=config, labels={"a": "b"},
        options={"com.example.note": "x"},
    )  # fmt: skip
    made, _ = await service.create(source)
    assert (made.driver, made.config_only) == ("null", True)
    with pytest.raises(PermissionDenied, match="configuration network"):
        service.resolve("source")
    taken = wanted("taken", config_from=ConfigReference(network="source"))
    user, _ = await service.create(taken)
    assert user.config_from == "source"
    assert user.labels == {"a": "b"}
    assert user.options == {"com.example.note": "x"}
    assert user.ipam.config == (IPAMConfig(subnet="10.7.0.0/24", gateway="10.7.0.1"),)
    with pytest.raises(PermissionDenied, match="is in use"):
        await service.remove("source")
    for error, words, request in (
        (NotFound, "does not exist", wanted(config_from=ConfigReference(network="nope"))),
        (NotFound, "does not exist", wanted(config_from=ConfigReference(network="taken"))),
        (
            PermissionDenied,
            "user specified configurations",
            wanted(config_from=ConfigReference(network="source"), labels={"x": "y"}),
        ),
        (
            PermissionDenied,
            "can only contain network specific fields",
            wanted(config_only=True, internal=True),
        ),
        (
            PermissionDenied,
            "cannot depend on another",
            wanted(config_only=True, config_from=ConfigReference(network="source")),
        ),
    ):
        with pytest.raises(error, match=words):
            await service.create(request)
    assert await service.prune() == ["taken"]
    await service.remove("source")


async def test_filters(room: Room) -> None:
    service = await room.start()
    await service.create(wanted("web", labels={"tier": "front", "x": ""}))
    made, _ = await service.create(wanted("data", labels={"tier": "back"}))
    room.users[made.id] = [Endpoint("c" * 64, "db", "f" * 64, EndpointSettings())]

    def names(**filters: tuple[str, ...]) -> list[str]:
        return [network.name for network in service.list(filters)]

    assert names() == ["bridge", "data", "host", "none", "web"]
    assert names(name=("^da", "eb$")) == ["data", "web"]
    assert names(name=("(",)) == []
    assert names(id=(made.id[:10],)) == ["data"]
    assert names(driver=("toy",)) == ["data", "web"]
    assert names(type=("builtin",)) == ["bridge", "host", "none"]
    assert names(type=("custom", "builtin")) == ["bridge", "data", "host", "none", "web"]
    assert names(scope=("swarm",)) == []
    assert names(dangling=("true",)) == ["web"]
    assert names(dangling=("0",)) == ["bridge", "data", "host", "none"]
    assert names(label=("tier=front",)) == ["web"]
    assert names(label=("tier", "x")) == ["web"]
    assert names(label=("tier=",), driver=("toy",)) == []
    for filters in ({"colour": ("x",)}, {"dangling": ("x",)}, {"type": ("x",)}):
        with pytest.raises(InvalidArgument, match="invalid filter"):
            service.list(filters)
    assert await service.prune({"label!": ("tier=front",)}) == []
    assert await service.prune({"until": ("1h",)}) == []
    with pytest.raises(InvalidArgument):
        await service.prune({"until": ("1h", "2h")})
    with pytest.raises(InvalidArgument):
        await service.prune({"name": ("x",)})
    assert await service.prune({"label": ("tier",)}) == ["web"]


async def test_the_default_network(room: Room) -> None:
    service = await room.start(mtu=1400, icc=False, ipv6=True, bridge="bw-test")
    network = service.get("bridge")
    assert network.options == {
        "com.docker.network.bridge.default_bridge": "true",
        "com.docker.network.bridge.enable_icc": "false",
        "com.docker.network.bridge.enable_ip_masquerade": "true",
        "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
        "com.docker.network.bridge.name": "bw-test",
        "com.docker.network.driver.mtu": "1400",
    }
    assert service.spec(network).default
    assert [config.subnet.partition(":")[0][:2] for config in network.ipam.config] == ["17", "fd"]
    # The next start keeps its id and its subnet, and takes what the configuration says now.
    again = (await room.start()).get("bridge")
    assert again.id == network.id
    assert again.ipam.config == network.ipam.config[:1]
    assert again.options["com.docker.network.driver.mtu"] == "1500"
    service = await room.start(bip="10.9.0.5/16", fixed_cidr="10.9.8.0/24")
    assert service.get("bridge").ipam.config == (
        IPAMConfig(subnet="10.9.0.0/16", gateway="10.9.0.5", ip_range="10.9.8.0/24"),
    )
    assert service.addresses.allocate(network.id, "a") == ("10.9.8.0/16",)
    with pytest.raises(InvalidArgument, match="doesn't contain ip-range"):
        await room.start(bip="10.9.0.5/16", fixed_cidr="10.8.8.0/24")


async def test_options_of_the_configuration(room: Room) -> None:
    service = await room.start(
        options={"toy": {"com.example.note": "a", "com.docker.network.driver.mtu": "9"}}
    )
    made, _ = await service.create(wanted(options={"com.example.note": "b"}))
    assert made.options == {"com.example.note": "b", "com.docker.network.driver.mtu": "9"}


async def test_a_subnet_of_the_host_is_warned_of(room: Room) -> None:
    service = await room.start()
    service._pools._routes = lambda version: [(10 << 24, (11 << 24) - 1)] if version == 4 else []
    _, warning = await service.create(wanted("mine", "10.3.0.0/16"))
    assert warning == "the host has routes into 10.3.0.0/16 already"


async def test_drivers_restore_and_guard(room: Room) -> None:
    service = await room.start()
    await service.create(wanted())
    orphan = room.root / "toy" / ("d" * 64)
    orphan.write_text("half")
    default = service.get("bridge")
    attachment = Attachment(network=default.id, sandbox="s", endpoint="e")
    after = await room.start()
    gone = Attachment(network="9" * 64)
    assert await after.restore([attachment, gone]) == ["removed network half"]
    driver = after.driver("bridge")
    assert isinstance(driver, Bridge)
    assert driver.wanted == [attachment]
    await driver.told.wait()
    assert "restore" in [event.action for event in room.events.subscribe(since=1)._queue]
    await after.close()
    await after.close()


async def test_a_driver_that_fails_at_the_start(room: Room) -> None:
    """The network is there, says why it does not work, and works when it can."""
    service = await room.start()
    made, _ = await service.create(wanted())
    (room.root / "toy" / made.id).unlink()
    (room.root / "toy").rmdir()
    (room.root / "toy").write_text("in the way")
    original = ToyNetwork.create_network

    async def fail(self: ToyNetwork, network: Any) -> None:
        raise Conflict(f"create network: {network.name}: in the way")

    (room.root / "toy").unlink()
    ToyNetwork.create_network = fail  # type: ignore[method-assign]
    try:
        again = await room.start()
        with pytest.raises(Conflict, match="in the way"):
            await again.ensure(made)
    finally:
        ToyNetwork.create_network = original  # type: ignore[method-assign]
    await again.ensure(made)
    await again.ensure(made)
    assert room.files() == {"mine"}


async def test_an_engine_without_a_bridge_driver(room: Room) -> None:
    room.bridge = False
    service = await room.start()
    network, driver = service.resolve("bridge")
    assert network is not None
    assert driver.name == "none"
    assert service.resolve("container:x")[0] is None
    assert await service.restore() == []


async def test_a_driver_that_gives_out_addresses_itself(room: Room) -> None:
    """The core chooses nothing, hands on what is asked for, and counts the owners."""
    service = await room.start()
    made, _ = await service.create(wanted(driver="toyown"))
    assert made.ipam.config == ()
    for again in (service, await room.start()):
        addresses = again.addresses
        assert addresses.allocate(made.id, "a") == ()
        addresses.check(made.id, "10.1.2.3")
        with pytest.raises(InvalidArgument):
            addresses.check(made.id, "nonsense")
        assert addresses.allocate(made.id, "b", "10.1.2.3", "fd00::3") == (
            "10.1.2.3/32", "fd00::3/128",
        )  # fmt: skip
        addresses.claim(made.id, "c", ["10.99.7.9/24"])
        assert addresses.owners(made.id) == {"a", "b", "c"}
        with pytest.raises(PermissionDenied, match="active endpoints"):
            await again.remove("mine")
        for owner in "abc":
            addresses.release(made.id, owner)
    await again.remove("mine")


async def test_a_driver_that_is_gone(room: Room) -> None:
    """Its networks can be removed all the same."""
    service = await room.start()
    await service.create(wanted())
    original, room.select = room.select, lambda name: original("?" if name == "toy" else name)  # type: ignore[method-assign]
    again = await room.start()
    with pytest.raises(NotFound, match="could not find plugin toy"):
        again.resolve("mine")
    await again.restore()
    await again.remove("mine")
    assert "mine" not in [network.name for network in again.list()]
