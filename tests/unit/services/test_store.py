"""Container records: names, lookup, what survives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from boxwood.errors import AlreadyExists, DataLoss, InvalidArgument, NotFound, ResourceExhausted
from boxwood.model.config import ContainerConfig, EndpointSettings, HostConfig
from boxwood.model.container import Container, MountPoint, State
from boxwood.model.wire import replace
from boxwood.services.containers.listing import Lister
from boxwood.services.containers.store import ContainerStore
from boxwood.store.database import Database, Records


def container(key: str, name: str, **changes: object) -> Container:
    values: dict[str, object] = {
        "created_at": 1,
        "image_id": "sha256:i",
        "image_ref": "busybox",
        "path": "sh",
        "args": (),
        "config": ContainerConfig(image="busybox", labels={"a": "1"}),
        "host_config": HostConfig(),
        "networks": {"none": EndpointSettings(network_id="n" * 64)},
        "storage_driver": "overlay",
        "snapshot_key": key,
        **changes,
    }
    return Container(id=key, name=name, **values)  # type: ignore[arg-type]


A, B, C = "a" * 64, "ab" + "0" * 62, "c" * 64


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "db")
    yield made
    made.close()


def test_what_is_put_is_found_by_a_fresh_daemon(database: Database) -> None:
    store = ContainerStore(database.records("containers"))
    one = container(A, "web", mounts=(MountPoint(type="bind", options=("create",)),))
    store.put(one)
    fresh = ContainerStore(database.records("containers"))
    fresh.load()
    assert fresh.get("web") == fresh.get("/web") == fresh.get("aa") == one


def test_lookup(database: Database) -> None:
    store = ContainerStore(database.records("containers"))
    store.put(container(A, "one"))
    store.put(container(B, "aaa"))
    assert store.get(A).name == "one"
    assert store.get("aaa").id == B  # a name goes before a prefix
    with pytest.raises(InvalidArgument, match="multiple IDs found with provided prefix: a"):
        store.get("a")
    for ref in ("", "zz", "/"):
        with pytest.raises(NotFound, match="No such container"):
            store.get(ref)


def test_names_are_reserved_and_given_back(database: Database) -> None:
    store = ContainerStore(database.records("containers"))
    store.reserve("web", A)
    with pytest.raises(AlreadyExists, match=f'already in use by container "{A}"'):
        store.reserve("web", B)
    store.release("web", A)
    store.put(container(B, "web"))
    store.release("web", B)  # it has a record: the name stays
    assert store.owner("web") == B
    store.put(replace(store.get("web"), name="other"))
    assert (store.owner("web"), store.owner("other")) == (None, B)
    store.delete(store.get("other"))
    assert store.owner("other") is None
    assert len(store) == 0


def test_a_broken_record_is_named(database: Database) -> None:
    database.records("containers").put(A, b"{")
    with pytest.raises(DataLoss, match=A):
        ContainerStore(database.records("containers")).load()


def test_a_full_disk_keeps_nobody_from_seeing_what_happened(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ContainerStore(database.records("containers"))
    store.put(container(A, "web"))

    def full(self: Records, key: str, body: bytes) -> None:
        raise ResourceExhausted("full")

    monkeypatch.setattr(Records, "put", full)
    store.keep(replace(store.get("web"), state=State(status="exited", exit_code=3)))
    assert store.get("web").state.exit_code == 3


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["new", "old"]),
        ({"name": ["^/ol"]}, ["old"]),
        ({"name": ["["]}, []),
        ({"id": ["aa"]}, ["old"]),
        ({"label": ["a=1"]}, ["new", "old"]),
        ({"label": ["a=2"]}, []),
        ({"status": ["exited"]}, ["old"]),
        ({"exited": ["3"]}, ["old"]),
        ({"exited": ["0"]}, []),
        ({"health": ["none"]}, ["new", "old"]),
        ({"before": ["new"]}, ["old"]),
        ({"since": ["old"]}, ["new"]),
        ({"network": ["none"]}, ["new", "old"]),
        ({"volume": ["data"]}, ["new"]),
        ({"expose": ["80-81/tcp"]}, ["new"]),
        ({"publish": ["80"]}, []),
        ({"is-task": ["false"]}, ["new", "old"]),
        ({"is-task": ["true"]}, []),
        ({"name": ["old"], "status": ["running"]}, []),
    ],
)
def test_filters(database: Database, filters: dict[str, list[str]], expected: list[str]) -> None:
    store = ContainerStore(database.records("containers"))
    ended = State(status="exited", exit_code=3, has_started=True)
    store.put(container(A, "old", created_at=1, state=ended))
    config = ContainerConfig(labels={"a": "1"}, exposed_ports={"80/tcp": {}})
    mounts = (MountPoint(type="volume", name="data", destination="/d"),)
    running = State(status="running", has_started=True)
    store.put(container(C, "new", created_at=2, state=running, config=config, mounts=mounts))
    lister = Lister(store, None)  # type: ignore[arg-type]
    assert [entry.name for entry in lister.list(True, 0, filters)] == expected


@pytest.mark.parametrize(
    "filters",
    [{"x": ["y"]}, {"status": ["odd"]}, {"exited": ["x"]}, {"health": ["odd"]}, {"expose": ["x"]}],
)
def test_bad_filters(database: Database, filters: dict[str, list[str]]) -> None:
    lister = Lister(ContainerStore(database.records("containers")), None)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument):
        lister.list(True, 0, filters)


def test_only_running_ones_unless_asked(database: Database) -> None:
    store = ContainerStore(database.records("containers"))
    store.put(container(A, "old", created_at=1))
    store.put(container(B, "back", created_at=2, state=State(status="restarting")))
    store.put(container(C, "new", created_at=3, state=State(status="paused")))
    lister = Lister(store, None)  # type: ignore[arg-type]

    def names(every: bool, limit: int) -> list[str]:
        return [entry.name for entry in lister.list(every, limit, {})]

    assert names(False, 0) == ["new", "back"]
    assert names(True, 0) == ["new", "back", "old"]
    assert names(False, 3) == ["new", "back", "old"]
    assert names(False, 1) == ["new"]
