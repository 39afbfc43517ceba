"""Images from one Boxwood to another without a registry, and what hostile ones do not get."""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest

from tests.integration.images.make import docker_old
from tests.support.engine import Engine, running
from tests.support.needs import need_program, until
from tests.support.paths import BIN
from tests.support.peers import config_of, frame_of, offer_of, talking
from tests.support.tars import noise, tar_of

pytestmark = pytest.mark.root

TAR = {"Content-Type": "application/x-tar"}


@pytest.fixture(scope="module")
def other() -> Iterator[Engine]:
    """A second engine, empty."""
    with running(Engine(), busybox=False) as server:
        assert isinstance(server, Engine)
        yield server


@pytest.fixture
def pair(clean_engine: Engine, other: Engine) -> Iterator[tuple[Engine, Engine]]:
    """The shared engine, and the second one without an image, before and after."""
    _empty(other)
    yield clean_engine, other
    _empty(other)


@contextmanager
def varied(engine: Engine, **variables: str) -> Iterator[None]:
    """Have the engine run with these variables for a while; it is started anew twice."""
    engine.stop()
    engine._variables = variables
    try:
        engine.start()
        yield
    finally:
        if engine.process is not None:
            engine.stop()
        engine._variables = {}
        engine.start()


def _empty(engine: Engine) -> None:
    engine.remove_containers()
    for image in engine.api("GET", "/images/json?all=1").json():
        engine.api("DELETE", f"/images/{image['Id']}?force=1")
    for file in (engine.data_root / "content/partial").iterdir():
        file.unlink()


def clean(engine: Engine, partial: int = 0) -> None:
    """Nothing is here: no image, no layer, nothing unfinished but so many partials."""
    content = engine.data_root / "content"

    def nothing() -> bool:
        left = [*(content / "ingest").iterdir(), *(content / "recipes").iterdir()]
        left += [*(content / "chunks").iterdir(), *(content / "blobs/sha256").iterdir()]
        return not left and len(list((content / "partial").iterdir())) == partial

    until(nothing, "the engine is as it was before")
    assert engine.api("GET", "/images/json?all=1").json() == []


def make(engine: Engine, name: str, files: dict[str, bytes]) -> bytes:
    """Make an image of one layer; returns its tar."""
    tar = tar_of(files)
    answer = engine.api(
        "POST", f"/images/create?fromSrc=-&repo={name}&tag=latest", tar, headers=TAR
    )
    assert b'"error"' not in answer.body, answer.body
    return tar


def files_of(count: int = 60, size: int = 100_000) -> dict[str, bytes]:
    return {f"file{at:03}": noise(at, size) for at in range(count)}


def travelled(output: str) -> int:
    """Return the bytes that a command says have travelled."""
    if "nothing travelled" in output:
        return 0
    found = re.search(r"([\d.]+)(k?M?B) travelled", output)
    assert found is not None, output
    return int(float(found[1]) * {"B": 1, "kB": 1e3, "MB": 1e6}[found[2]])


def image_id(engine: Engine, name: str) -> str:
    return str(engine.api("GET", f"/images/{name}/json").json()["Id"])


def saved_tar(engine: Engine, name: str) -> str:
    """Return the SHA-256 of the topmost layer as `save` writes it."""
    data = engine.api("GET", f"/images/{name}/get").body
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        listed = archive.extractfile("manifest.json")
        assert listed is not None
        layer = archive.extractfile(json.loads(listed.read())[0]["Layers"][-1])
        assert layer is not None
        return hashlib.sha256(layer.read()).hexdigest()


def test_push_run_there_and_pull_back(pair: tuple[Engine, Engine]) -> None:
    near, far = pair
    near.docker("tag", "busybox", "ships:1")
    near.docker("run", "--name", "made", "--network", "none", "ships:1", "sh", "-c", "echo 1 >/one")
    near.docker("commit", "made", "ships:1")
    said = near.cli("push", far.host, "ships:1").stdout
    assert "ships:1: 2 new layers" in said
    assert image_id(far, "ships:1") == image_id(near, "ships:1")
    assert far.cli("run", "--rm", "--network", "none", "ships:1", "cat", "/one").stdout == "1\n"
    assert "nothing travelled" in near.cli("push", "ships:1", far.host).stdout
    near.docker("rm", "made")
    near.docker("rmi", "ships:1")
    said = near.cli("pull", far.host, "ships:1").stdout
    assert "ships:1: 1 new layer" in said  # busybox itself is here still
    assert near.cli("run", "--rm", "--network", "none", "ships:1", "cat", "/one").stdout == "1\n"
    assert near.cli("push", "-q", far.host, "ships:1").stdout == "ships:1\n"


@pytest.mark.parametrize("way", ["push", "pull"])
def test_of_a_layer_that_is_alike_the_difference_travels(
    pair: tuple[Engine, Engine], way: str
) -> None:
    near, far = pair
    files = files_of()
    make(near, "alike", files)
    command = ("push", far.host) if way == "push" else ("-H", far.host, "pull", near.host)
    assert travelled(near.cli(*command, "alike").stdout) > 6_000_000
    files["file030"] = b"changed"
    files["file031"] += noise(1000, 50_000)
    tar = make(near, "alike", files)
    assert travelled(near.cli(*command, "alike").stdout) < 600_000
    assert image_id(far, "alike") == image_id(near, "alike")
    assert saved_tar(far, "alike") == hashlib.sha256(tar).hexdigest()
    # Its bytes can be made again of its files, and those are right.
    assert "nothing wrong" in far.cli("system", "fsck", "--deep").stdout


def test_the_same_layer_on_another_parent_does_not_travel(pair: tuple[Engine, Engine]) -> None:
    _, far = pair
    tar = tar_of(files_of(4))
    with talking(far.socket, "receive?name=one") as peer:
        peer.send(b"O", offer_of(tar))
        assert peer.asked() == {"layer": 0, "what": "all"}
        peer.send(b"D", frame_of(tar))
        peer.send(b"E")
        assert peer.receive()[0] == b"Z"
    with talking(far.socket, "receive?name=two") as peer:
        peer.send(b"O", offer_of(tar_of({"below": b"1"}), tar))
        assert peer.asked() == {"layer": 0, "what": "all"}
        peer.send(b"D", frame_of(tar_of({"below": b"1"})))
        peer.send(b"E")
        assert peer.receive()[0] == b"Z"
    assert saved_tar(far, "two") == hashlib.sha256(tar).hexdigest()


def test_small_layers_do_not_wait_for_each_other(pair: tuple[Engine, Engine]) -> None:
    """Whole layers are asked for ahead, nine in all; one that comes twice is asked for once."""
    _, far = pair
    tars = [tar_of({f"file{at}": b"x" * at}) for at in range(12)]
    tars.append(tars[0])
    with talking(far.socket, "receive?name=many") as peer:
        peer.send(b"O", offer_of(*tars))
        asked = [peer.asked()["layer"] for _ in range(9)]
        for answered in range(12):
            for kind, data in ((b"D", frame_of(tars[asked[answered]])), (b"E", b"")):
                peer.send(kind, data)
            if len(asked) < 12:
                asked.append(peer.asked()["layer"])
        assert asked == list(range(12))
        assert peer.receive()[0] == b"Z"
    assert len(far.api("GET", "/images/many/json").json()["RootFS"]["Layers"]) == 13


def _give(far: Engine, name: str, *tars: bytes) -> list[tuple[int, str]]:
    """Send an image by hand, all of each layer; returns what was asked, lists being refused."""
    questions = []
    with talking(far.socket, f"receive?name={name}") as peer:
        peer.send(b"O", offer_of(*tars))
        while (frame := peer.receive())[0] == b"A":
            asked = msgspec.msgpack.decode(frame[1])
            questions.append((asked["layer"], asked["what"]))
            data = frame_of(tars[asked["layer"]]) if asked["what"] == "all" else b"no list"
            peer.send(b"D", data)
            peer.send(b"E")
        assert frame[0] == b"Z", frame
    return questions


def test_which_layers_are_compared(pair: tuple[Engine, Engine]) -> None:
    """Of the same name anywhere, of other names in the same place; and of a fitting size."""
    _, far = pair
    base, app, new = (tar_of({"f": noise(seed, 400_000)}) for seed in range(3))
    small, large = tar_of({"s": b"1"}), tar_of({"l": noise(4, 1_500_000)})
    assert _give(far, "one:1", small, app) == [(0, "all"), (1, "all")]
    assert _give(far, "two:1", small, base, new) == [(1, "list"), (1, "all"), (2, "all")]
    other = tar_of({"f": noise(9, 400_000)})
    assert _give(far, "two:2", other, large) == [(0, "list"), (0, "all"), (1, "list"), (1, "all")]


def test_an_id_goes_without_a_name(pair: tuple[Engine, Engine]) -> None:
    near, far = pair
    key = image_id(near, "busybox")
    assert key in near.cli("push", far.host, key).stdout
    [image] = far.api("GET", "/images/json?all=1").json()
    assert (image["Id"], image["RepoTags"]) == (key, [])


def test_where_all_blobs_are_kept_and_not_every_name_is_taken(
    make_engine: Callable[..., Engine], clean_engine: Engine, tmp_path: Path
) -> None:
    settings = tmp_path / "daemon.json"
    rules = [{"match": "*/denied", "pull": "deny"}, {"match": "*/signed", "require": ["/key"]}]
    settings.write_text(json.dumps({"keep-blobs": "always", "registry-policy": rules}))
    far = make_engine("--config-file", str(settings), busybox=False)
    for name, words in (("x.y/denied", "denied by"), ("x.y/signed", "requires a signature")):
        answer = far.api("POST", f"/boxwood/store/receive?name={name}")
        assert answer.status == 403
        assert words in answer.message
    files = files_of(20)
    make(clean_engine, "kept", files)
    clean_engine.cli("push", far.host, "kept")
    files["file003"] = b"other"
    tar = make(clean_engine, "kept", files)
    assert travelled(clean_engine.cli("push", far.host, "kept").stdout) < 600_000
    digest = hashlib.sha256(tar).hexdigest()
    assert (far.data_root / "content/blobs/sha256" / digest).read_bytes() == tar
    assert saved_tar(far, "kept") == digest


def test_a_layer_whose_list_would_be_too_long_comes_whole(
    pair: tuple[Engine, Engine],
) -> None:
    """Whichever of the two finds that out: the one that gives, or the one that gets."""
    near, far = pair
    files = files_of(20)
    with varied(far, BOXWOOD_LIST_LIMIT="3000"):
        make(near, "long", files)
        near.cli("push", far.host, "long")
        for giver, getter in ((far, near), (near, far)):
            files[f"file{len(files):03}"] = b"new"
            tar = make(giver, "long", files)
            assert travelled(giver.cli("push", getter.host, "long").stdout) > 1_800_000
            assert saved_tar(getter, "long") == hashlib.sha256(tar).hexdigest()


# Faults


def test_what_came_before_a_cut_does_not_come_again(pair: tuple[Engine, Engine]) -> None:
    near, far = pair
    tar = make(near, "cut", files_of())
    with talking(far.socket, "receive?name=cut") as peer:
        peer.send(b"O", offer_of(tar))
        assert peer.asked()["what"] == "all"
        peer.send(b"D", frame_of(tar[: len(tar) // 2]))
        gathered = far.data_root / "content/partial" / f"tar-{hashlib.sha256(tar).hexdigest()}"
        until(lambda: gathered.stat().st_size >= len(tar) // 2, "half of it is there")
        far.kill()
    far.start()
    clean(far, partial=1)
    # The half less a chunk, which was cut in two.
    assert travelled(near.cli("push", far.host, "cut").stdout) < len(tar) // 2 + 400_000
    assert saved_tar(far, "cut") == hashlib.sha256(tar).hexdigest()
    assert not gathered.exists()


def test_killed_before_the_image_is_recorded(pair: tuple[Engine, Engine]) -> None:
    near, far = pair
    with varied(far, BOXWOOD_FAULT="receive.unpacked"):
        assert near.cli("push", far.host, "busybox", check=False).returncode == 1
        far.kill()
    clean(far)
    near.cli("push", far.host, "busybox")
    assert image_id(far, "busybox") == image_id(near, "busybox")


def make_many(engine: Engine, name: str, files: dict[str, bytes]) -> None:
    """Make an image of a layer for each five of these."""
    names = sorted(files)
    parts = [names[at : at + 5] for at in range(0, len(names), 5)]
    tars = [tar_of({name: files[name] for name in part}) for part in parts]
    answer = engine.api(
        "POST", "/images/load", docker_old(*tars, names=[f"{name}:latest"]), headers=TAR
    )
    assert b'"error"' not in answer.body, answer.body


@pytest.mark.parametrize("making", [make, make_many])
def test_killed_at_any_time(
    pair: tuple[Engine, Engine], soak: bool, making: Callable[..., object]
) -> None:
    """Either engine, or the client: nothing half is to be seen, and the next push completes.

    Of many layers some are there, some are alike, and the others are asked for ahead.
    """
    near, far = pair
    count = 100 if soak else 40
    files = files_of(count)
    making(near, "any", files)
    near.cli("push", far.host, "any")
    old = image_id(far, "any")
    files |= {f"file{at:03}": noise(5000 + at, 100_000) for at in range(0, count, 3)}
    middle = range(count * 2 // 5, count * 3 // 5)
    files |= {f"file{at:03}": noise(6000 + at, 100_000) for at in middle}
    making(near, "any", files)
    seeds = random.Random(8)
    for _ in range(60 if soak else 1):
        command = [str(near.program), "push", "-q", far.host, "any"]
        pushing = subprocess.Popen(
            command, env=near.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(seeds.uniform(0.05, 1.0))
        victim = seeds.choice(("near", "far", "client") if soak else ("far",))
        if victim == "client":
            pushing.kill()
        else:
            (near if victim == "near" else far).restart()
        done = pushing.wait(60) == 0
        assert image_id(far, "any") in (
            {image_id(near, "any")} if done else {old, image_id(near, "any")}
        )
        if image_id(far, "any") != old:
            far.api("POST", f"/images/{old}/tag?repo=any&tag=latest")
            far.api("DELETE", f"/images/{image_id(near, 'any')}?force=1")
    near.cli("push", far.host, "any")
    assert image_id(far, "any") == image_id(near, "any")
    assert "nothing wrong" in far.cli("system", "fsck", "--deep").stdout
    content = far.data_root / "content"

    def nothing_unfinished() -> bool:
        return not [*(content / "ingest").iterdir(), *(content / "partial").iterdir()]

    until(nothing_unfinished, "nothing unfinished is left")


def test_a_damaged_layer_there_costs_the_whole_one(pair: tuple[Engine, Engine]) -> None:
    near, far = pair
    files = files_of(20)
    make(near, "hurt", files)
    near.cli("push", far.host, "hurt")
    files["file010"] = b"changed"
    make(near, "hurt", files)
    paths = [
        Path(one)
        for one in glob(f"{far.data_root}/storage/**/file005", recursive=True)
        if "/trash/" not in one
    ]
    if not paths:
        pytest.skip("this storage driver keeps no plain files")
    for path in paths:
        path.write_bytes(noise(77, len(files["file005"])))
    assert travelled(near.cli("push", far.host, "hurt").stdout) > 1_900_000
    assert image_id(far, "hurt") == image_id(near, "hurt")
    far.docker("create", "--name", "look", "hurt", "x")
    copied = far.api("GET", "/containers/look/archive?path=/file005").body
    far.docker("rm", "look")
    assert files["file005"] in copied


# Hostile senders


SMALL = tar_of({"a": b"1" * 1000})


@pytest.mark.parametrize(
    "offer",
    [
        b"",
        b"\xff" * 40,
        offer_of(SMALL, config=b"{}"),
        offer_of(SMALL, config=b"not json"),
        offer_of(SMALL, config=b"[" * 100_000),
        offer_of(SMALL, sizes=[]),
        offer_of(SMALL, sizes=[0]),
        offer_of(SMALL, sizes=[-1]),
        offer_of(SMALL, sizes=[1 << 63]),
        offer_of(*[SMALL] * 2000),
        offer_of(SMALL, config=config_of(SMALL).replace(b"linux", b"other")),
        offer_of(SMALL, config=config_of(SMALL).replace(b"sha256:", b"../../../")),
    ],
)
def test_offers_that_are_none(pair: tuple[Engine, Engine], offer: bytes) -> None:
    _, far = pair
    with talking(far.socket, "receive?name=x") as peer:
        peer.send(b"O", offer)
        assert peer.failure()
    clean(far)


@pytest.mark.parametrize(
    "sent",
    [
        [(b"D", frame_of(tar_of({"a": b"2" * 1000}))), (b"E", b"")],
        [(b"D", frame_of(bytes(100 << 20))), (b"E", b"")],
        [(b"D", frame_of(SMALL)[:-4]), (b"E", b"")],
        [(b"D", b"no frame"), (b"E", b"")],
        [(b"E", b"")],
        [(b"D", b"")],
        [(b"D", noise(1, 1 << 20))] * 3,
        [(b"Z", b"")],
        [(b"X", b"")],
        [(b"O", offer_of(SMALL))],
        [(b"F", b"I give up")],
    ],
    ids="wrong bomb cut noise nothing empty endless done unknown again gives-up".split(),
)
def test_layers_that_are_not_what_was_offered(
    pair: tuple[Engine, Engine], sent: list[tuple[bytes, bytes]]
) -> None:
    _, far = pair
    with talking(far.socket, "receive?name=x") as peer:
        peer.send(b"O", offer_of(SMALL))
        assert peer.asked() == {"layer": 0, "what": "all"}
        for kind, data in sent:
            peer.send(kind, data)
        assert peer.failure()
    partials = list((far.data_root / "content/partial").iterdir())
    assert sum(path.stat().st_size for path in partials) <= len(SMALL)
    clean(far, partial=len(partials))


def test_a_frame_beyond_all_bounds(pair: tuple[Engine, Engine]) -> None:
    _, far = pair
    with talking(far.socket, "receive?name=x") as peer:
        peer.raw(b"O\xff\xff\xff\xff")
        assert "4294967295" in peer.failure()
    clean(far)


def test_a_list_that_lies_costs_the_whole_layer(pair: tuple[Engine, Engine]) -> None:
    """Equal prints of other bytes: the layer's own digest finds it, and all of it is asked for."""
    near, far = pair
    files = files_of(20)
    make(near, "liar", files)
    near.cli("push", far.host, "liar")
    files["file004"] = noise(500, 100_000)
    tar = tar_of(files)
    with talking(near.socket, "send?image=liar") as sender:
        assert sender.receive()[0] == b"O"
        sender.send(b"A", _ask("list"))
        old = sender.stream()
    with talking(far.socket, "receive?name=liar") as peer:
        peer.send(b"O", offer_of(tar))
        assert peer.asked()["what"] == "list"
        peer.send(b"D", old)
        peer.send(b"E")
        assert peer.asked()["what"] == "all"
        peer.send(b"D", frame_of(tar))
        peer.send(b"E")
        assert peer.receive()[0] == b"Z"
    assert saved_tar(far, "liar") == hashlib.sha256(tar).hexdigest()


@pytest.mark.parametrize("name", ["x@sha256:" + "0" * 64, "UPPER", "a/../b", "x:" + "t" * 200])
def test_names_that_are_none(pair: tuple[Engine, Engine], name: str) -> None:
    _, far = pair
    answer = far.api("POST", f"/boxwood/store/receive?name={quote(name)}")
    assert answer.status == 400
    clean(far)


# Hostile receivers


def _ask(what: str, layer: int = 0) -> bytes:
    return msgspec.msgpack.encode({"layer": layer, "what": what})


@pytest.mark.parametrize(
    "frame",
    [
        (b"A", _ask("list", 1)),
        (b"A", _ask("list", -1)),
        (b"A", _ask("all", 1 << 62)),
        (b"A", _ask("../../boxwood.db")),
        (b"A", b"\xc1"),
        (b"X", b""),
        (b"D", b""),
    ],
)
def test_questions_that_are_none(clean_engine: Engine, frame: tuple[bytes, bytes]) -> None:
    with talking(clean_engine.socket, "send?image=busybox") as peer:
        assert peer.receive()[0] == b"O"
        peer.send(*frame)
        assert peer.failure()
    assert clean_engine.api("GET", "/_ping").status == 200


def test_bits_of_no_chunk_get_nothing(clean_engine: Engine) -> None:
    with talking(clean_engine.socket, "send?image=busybox") as peer:
        assert peer.receive()[0] == b"O"
        peer.send(b"A", _ask("some"))
        peer.send(b"E")
        assert len(peer.stream()) < 32
        peer.send(b"A", _ask("some"))
        for _ in range(5):
            peer.send(b"D", bytes(256 << 10))
        assert "more" in peer.failure()


def test_a_client_that_goes_leaves_nothing(pair: tuple[Engine, Engine]) -> None:
    near, far = pair
    with talking(near.socket, "send?image=busybox") as peer:
        assert peer.receive()[0] == b"O"
        peer.send(b"A", _ask("all"))
    tar = tar_of(files_of(4))
    with talking(far.socket, "receive?name=x") as peer:
        peer.send(b"O", offer_of(tar))
        assert peer.asked()["what"] == "all"
    clean(far)


# The command line, and ssh


def test_what_the_command_line_refuses(pair: tuple[Engine, Engine], tmp_path: Path) -> None:
    near, far = pair

    def refused(*args: str) -> str:
        done = near.cli(*args, check=False)
        assert done.returncode == 1, done.stdout
        return done.stderr

    assert "No such image: none:latest" in refused("push", far.host, "none")
    assert "No such image: none:latest" in refused("pull", far.host, "none")
    assert "Cannot connect" in refused("push", f"unix://{tmp_path}/none", "busybox")
    assert "name one image" in refused("push", far.host, near.host)
    assert "no engine" in refused("pull", "busybox", "other")
    clean(far)


@pytest.fixture
def sshd(other: Engine, tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A real sshd on a port of its own; yields that and a folder whose `ssh` finds the key."""
    need_program("sshd")
    keygen = [need_program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f"]
    for name in ("host", "user"):
        subprocess.run([*keygen, str(tmp_path / name)], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    room = Path("/run/sshd")  # where it puts the part of it that has no rights
    made = not room.exists()
    room.mkdir(mode=0o755, exist_ok=True)
    (tmp_path / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {tmp_path}/host\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {tmp_path}/user.pub\nStrictModes no\nPermitRootLogin yes\n"
        f"SetEnv PATH={BIN}:/usr/bin:/bin BOXWOOD_HOST={other.host}\n"
    )
    known = (tmp_path / "host.pub").read_text()
    (tmp_path / "known").write_text(f"[127.0.0.1]:{port} {known}")
    (tmp_path / "ssh_config").write_text(
        f"IdentityFile {tmp_path}/user\nUserKnownHostsFile {tmp_path}/known\nBatchMode yes\n"
    )
    programs = tmp_path / "bin"
    programs.mkdir()
    script = programs / "ssh"
    script.write_text(f'#!/bin/sh\nexec {need_program("ssh")} -F {tmp_path}/ssh_config "$@"\n')
    script.chmod(0o755)
    server = subprocess.Popen(
        [
            need_program("sshd"),
            "-D",
            "-f",
            str(tmp_path / "sshd_config"),
            "-E",
            str(tmp_path / "log"),
        ]
    )
    try:
        until(lambda: _listens(port), "sshd listens")
        yield port, programs
    finally:
        server.terminate()
        server.wait(10)
        if made:
            room.rmdir()


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_through_ssh(pair: tuple[Engine, Engine], sshd: tuple[int, Path]) -> None:
    near, far = pair
    port, programs = sshd
    path = {"PATH": f"{programs}:{near.environment()['PATH']}"}
    where = f"ssh://root@127.0.0.1:{port}"
    assert "1 new layer" in near.cli("push", where, "busybox", env=path).stdout
    assert image_id(far, "busybox") == image_id(near, "busybox")
    assert "nothing travelled" in near.cli("pull", where, "busybox", env=path).stdout
    # Any command speaks to an engine that way, with a path too.
    run = ("run", "--rm", "-i", "--network", "none", "busybox", "cat")
    assert near.cli("-H", where + str(far.socket), *run, input="hi", env=path).stdout == "hi"
    gone = near.cli("-H", f"ssh://root@127.0.0.1:{port + 1}", "ps", env=path, check=False)
    assert gone.returncode == 1
    assert "ssh ended with exit status 255" in gone.stderr
