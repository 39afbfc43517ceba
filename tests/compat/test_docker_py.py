"""docker-py against both: each test holds for Debian's Docker daemon and for ours."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
import time
from collections.abc import Iterator
from datetime import datetime

import docker
import pytest
from docker.models.containers import Container

from tests.support.dockerd import Dockerd
from tests.support.engine import ALONE, Engine, Server, running
from tests.support.needs import until
from tests.support.tars import tar_of

pytestmark = [
    pytest.mark.root,
    # The library leaves sockets of hijacked connections to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SERVERS = ("dockerd", "engine")
QUIET = {"network_mode": "none"}


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Server:
    """Docker's daemon, then ours."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Server)
    return found


@pytest.fixture
def client(server: Server) -> Iterator[docker.DockerClient]:
    """A client of the server, which has no containers before and after."""
    server.remove_containers()
    made = docker.DockerClient(base_url=server.host, timeout=30)
    yield made
    made.close()
    server.remove_containers()


def sleeper(client: docker.DockerClient, name: str = "sleeper", **more: object) -> Container:
    """Start a container that sleeps."""
    found = client.containers.run(
        "busybox", ["sleep", "100"], name=name, detach=True, **QUIET, **more
    )
    assert isinstance(found, Container)
    return found


def test_version_is_negotiated(client: docker.DockerClient) -> None:
    """The library asks for the newest version both know."""
    assert client.ping() is True
    assert client.version()["ApiVersion"] >= "1.41"
    assert client.info()["OSType"] == "linux"


def test_run_returns_the_output(client: docker.DockerClient) -> None:
    """Standard output alone, unless both are asked for."""
    script = ["sh", "-c", "echo out; echo err >&2"]
    assert client.containers.run("busybox", script, remove=True, **QUIET) == b"out\n"
    both = client.containers.run("busybox", script, remove=True, stderr=True, **QUIET)
    assert sorted(both.splitlines()) == [b"err", b"out"]


def test_run_raises_the_status(client: docker.DockerClient) -> None:
    """A status that is not 0 is an error of the library's that carries it."""
    with pytest.raises(docker.errors.ContainerError) as caught:
        client.containers.run("busybox", ["sh", "-c", "echo bad >&2; exit 4"], remove=True, **QUIET)
    assert (caught.value.exit_status, caught.value.stderr) == (4, b"bad\n")


def test_missing_things(client: docker.DockerClient) -> None:
    """What is not there is NotFound, an image ImageNotFound."""
    with pytest.raises(docker.errors.NotFound):
        client.containers.get("nobody")
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("nothing:here")
    with pytest.raises(docker.errors.ImageNotFound):
        client.api.create_container("nothing:here", "true")


def test_no_such_command(client: docker.DockerClient) -> None:
    """A command that is not there is an error of the start; the container stays, as 127."""
    made = client.containers.create("busybox", ["no-such-command"], **QUIET)
    with pytest.raises(docker.errors.APIError) as caught:
        made.start()
    assert caught.value.status_code in (400, 404)
    made.reload()
    assert made.attrs["State"]["ExitCode"] == 127


def test_life(client: docker.DockerClient) -> None:
    """create, start, pause, unpause, rename, stop, start, kill, wait, remove."""
    made = client.containers.create("busybox", ["sleep", "100"], name="life", **QUIET)
    assert made.status == "created"
    made.start()
    made.reload()
    assert made.status == "running"
    made.pause()
    made.reload()
    assert made.status == "paused"
    made.unpause()
    made.rename("renamed")
    made.reload()
    assert (made.status, made.name) == ("running", "renamed")
    made.stop(timeout=0)
    made.reload()
    assert (made.status, made.attrs["State"]["ExitCode"]) == ("exited", 137)
    made.restart(timeout=0)
    made.kill("SIGKILL")
    assert made.wait()["StatusCode"] == 137
    made.remove()
    assert client.containers.list(all=True) == []


def test_name_is_taken(client: docker.DockerClient) -> None:
    """Two of one name are a conflict."""
    sleeper(client, "one")
    with pytest.raises(docker.errors.APIError) as caught:
        client.containers.create("busybox", "true", name="one", **QUIET)
    assert caught.value.status_code == 409


def test_exec(client: docker.DockerClient) -> None:
    """Output, both streams apart, the status, user, environment, directory."""
    made = sleeper(client)
    assert made.exec_run("echo hi") == (0, b"hi\n")
    status, (out, err) = made.exec_run(["sh", "-c", "echo o; echo e >&2; exit 3"], demux=True)
    assert (status, out, err) == (3, b"o\n", b"e\n")
    where = made.exec_run(
        ["sh", "-c", "id -u; pwd; echo $A"], user="1000", workdir="/tmp", environment={"A": "b"}
    )
    assert where.output == b"1000\n/tmp\nb\n"
    assert made.exec_run(["tty"], tty=True).output == b"/dev/pts/0\r\n"
    stream = made.exec_run(["sh", "-c", "echo 1; echo 2"], stream=True)
    assert b"".join(stream.output) == b"1\n2\n"


def test_exec_socket_half_closes(client: docker.DockerClient) -> None:
    """What is written to an exec's socket arrives, and so does its end."""
    import socket

    made = sleeper(client)
    ident = client.api.exec_create(made.id, ["sh", "-c", "cat; echo end"], stdin=True)["Id"]
    wrapped = client.api.exec_start(ident, socket=True)
    raw = wrapped._sock
    raw.sendall(b"some words\n")
    raw.shutdown(socket.SHUT_WR)
    received = b""
    while piece := raw.recv(4096):
        received += piece
    raw.close()  # the library's own object does not
    wrapped.close()
    assert received.count(b"some words\n") == 1
    assert received.endswith(b"end\n")
    until(lambda: client.api.exec_inspect(ident)["Running"] is False, "the exec has ended")
    assert client.api.exec_inspect(ident)["ExitCode"] == 0


def test_attach_socket(client: docker.DockerClient) -> None:
    """A container that reads gets what is written to it."""
    import socket

    made = client.containers.create("busybox", ["cat"], stdin_open=True, name="reader", **QUIET)
    wrapped = made.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    made.start()
    raw = wrapped._sock
    raw.sendall(b"x" * 100_000 + b"\n")
    raw.shutdown(socket.SHUT_WR)
    size = 0
    while piece := raw.recv(65536):
        size += piece.count(b"x")
    raw.close()  # the library's own object does not
    wrapped.close()
    assert size == 100_000
    assert made.wait()["StatusCode"] == 0


def test_logs(client: docker.DockerClient) -> None:
    """All of it, the last lines, with times, as a stream that ends with the container."""
    script = "for i in 1 2 3; do echo line $i; done; sleep 0.5; echo last"
    made = client.containers.run("busybox", ["sh", "-c", script], detach=True, **QUIET)
    assert b"".join(made.logs(stream=True, follow=True)) == b"line 1\nline 2\nline 3\nlast\n"
    made.wait()
    assert made.logs(tail=1) == b"last\n"
    assert made.logs(stdout=False, stderr=True) == b""
    stamped = made.logs(timestamps=True, tail=1)
    assert stamped[4:5] == b"-"
    assert stamped.endswith(b"Z last\n")


def test_lists_and_filters(client: docker.DockerClient) -> None:
    """By state, label and name."""
    sleeper(client, "up", labels={"app": "web"})
    client.containers.run("busybox", "true", name="down", **QUIET)
    names = [one.name for one in client.containers.list()]
    assert names == ["up"]
    assert {one.name for one in client.containers.list(all=True)} == {"up", "down"}
    assert [one.name for one in client.containers.list(filters={"label": "app=web"})] == ["up"]
    exited = client.containers.list(all=True, filters={"status": "exited"})
    assert [one.name for one in exited] == ["down"]


def test_wait_for_the_next_exit(client: docker.DockerClient) -> None:
    """wait with a condition, and a status that is not 0."""
    made = client.containers.create("busybox", ["sh", "-c", "exit 9"], **QUIET)
    made.start()
    assert made.wait(condition="not-running")["StatusCode"] == 9


def test_events(client: docker.DockerClient) -> None:
    """The life of a container, replayed."""
    since = int(time.time())
    made = client.containers.run("busybox", "true", detach=True, name="seen", **QUIET)
    made.wait()
    made.remove()
    until_time = int(time.time()) + 1
    found = client.events(
        since=since,
        until=until_time,
        decode=True,
        filters={"type": "container", "container": made.id},
    )
    assert [one["Action"] for one in found] == ["create", "start", "die", "destroy"]


def test_images(client: docker.DockerClient) -> None:
    """Listed, tagged, removed; one in use is not."""
    image = client.images.get("busybox")
    assert image.tags == ["busybox:latest"]
    assert image.tag("other", "1")
    assert {"busybox:latest", "other:1"} == set(client.images.get("busybox").tags)
    client.images.remove("other:1")
    sleeper(client)
    with pytest.raises(docker.errors.APIError) as caught:
        client.images.remove("busybox")
    assert caught.value.status_code == 409


def test_import(client: docker.DockerClient) -> None:
    """An image from a tar that is sent along."""
    client.api.import_image_from_data(tar_of({"hello": b"hi"}), repository="imported", tag="1")
    assert client.images.get("imported:1").attrs["Os"] == "linux"
    client.images.remove("imported:1")


def test_volumes(client: docker.DockerClient) -> None:
    """Made, used, listed, kept from removal while in use, removed."""
    made = client.volumes.create("kept", labels={"a": "b"})
    assert made.attrs["Labels"] == {"a": "b"}
    volumes = {"kept": {"bind": "/kept", "mode": "rw"}}
    client.containers.run(
        "busybox", ["sh", "-c", "echo x >/kept/file"], volumes=volumes, remove=True, **QUIET
    )
    user = client.containers.create("busybox", ["cat", "/kept/file"], volumes=volumes, **QUIET)
    user.start()
    user.wait()
    assert user.logs() == b"x\n"
    with pytest.raises(docker.errors.APIError) as caught:
        made.remove()
    assert caught.value.status_code == 409
    user.remove()
    assert [one.name for one in client.volumes.list()] == ["kept"]
    made.remove()
    assert client.volumes.list() == []


def test_limits_are_in_the_record(client: docker.DockerClient) -> None:
    """What was asked for is what inspect says."""
    made = sleeper(
        client, mem_limit="32m", cpu_shares=512, pids_limit=20, read_only=True, user="1000"
    )
    limits = made.attrs["HostConfig"]
    assert (limits["Memory"], limits["CpuShares"], limits["PidsLimit"]) == (32 << 20, 512, 20)
    assert limits["ReadonlyRootfs"] is True
    assert made.exec_run("id -u").output == b"1000\n"


def test_status_of_errors(client: docker.DockerClient) -> None:
    """What the library makes its exceptions of: the status and the daemon's own sentence."""
    idle = client.containers.create("busybox", "true", name="idle", **QUIET)
    asleep = sleeper(client, "asleep")
    expected = [
        (404, "No such container", lambda: client.api.start("nobody")),
        (404, "No such exec instance", lambda: client.api.exec_inspect("0" * 64)),
        (404, "no such volume", lambda: client.volumes.get("nothing")),
        (404, "network nothing not found", lambda: client.networks.get("nothing")),
        (409, "is not running", lambda: idle.exec_run("true")),
        (409, "is not running", idle.kill),
        (409, "is not running", idle.pause),
        (409, "already in use", lambda: asleep.rename("idle")),
        (400, "invalid signal", lambda: asleep.kill("NOSUCH")),
    ]  # fmt: skip
    for status, words, call in expected:
        with pytest.raises(docker.errors.APIError) as caught:
            call()
        assert (caught.value.status_code, words) == (status, words), caught.value
        assert words.lower() in caught.value.explanation.lower()
    with pytest.raises(docker.errors.APIError) as caught:
        asleep.remove()
    assert caught.value.status_code == 409
    assert caught.value.is_client_error()
    asleep.remove(force=True)
    with pytest.raises(docker.errors.NotFound):
        asleep.reload()


def test_run_as_a_stream(client: docker.DockerClient) -> None:
    """The output in pieces; wait with a time limit that passes is a timeout of the client."""
    import requests

    script = ["sh", "-c", "for i in 1 2 3; do echo $i; done"]
    assert b"".join(client.containers.run("busybox", script, stream=True, **QUIET)) == b"1\n2\n3\n"
    with pytest.raises(requests.exceptions.RequestException):
        sleeper(client).wait(timeout=0.2)


def test_restart_has_a_new_process(client: docker.DockerClient) -> None:
    """The same container, another process, started later."""
    made = sleeper(client)
    made.reload()
    before = made.attrs["State"]
    made.restart(timeout=0)
    made.reload()
    after = made.attrs["State"]
    assert after["Running"]
    assert after["Pid"] != before["Pid"]
    assert after["StartedAt"] > before["StartedAt"]


def test_exec_demux_as_a_stream(client: docker.DockerClient) -> None:
    """Pieces that know which of the two streams they come from; and one that is detached."""
    made = sleeper(client)
    found = made.exec_run(["sh", "-c", "echo o; echo e >&2"], stream=True, demux=True).output
    pairs = list(found)
    assert b"".join(out for out, _ in pairs if out) == b"o\n"
    assert b"".join(err for _, err in pairs if err) == b"e\n"
    made.exec_run(["touch", "/made"], detach=True)
    until(lambda: made.exec_run(["ls", "/made"]).exit_code == 0, "the detached exec has run")
    assert made.exec_run("no-such-program").exit_code in (126, 127)


def test_attach_as_a_stream(client: docker.DockerClient) -> None:
    """What is written from then until the end, and nothing from before."""
    script = "echo first; until [ -e /go ]; do sleep 0.05; done; echo last"
    made = client.containers.run("busybox", ["sh", "-c", script], detach=True, **QUIET)
    until(lambda: made.logs() == b"first\n", "the first line is logged")
    # Not `logs=True`: the library loses what comes in one piece with the answer's head.
    stream = made.attach(stream=True)
    made.exec_run(["touch", "/go"])
    assert b"".join(stream) == b"last\n"


def test_logs_between_times(client: docker.DockerClient) -> None:
    """`since` and `until` cut at times; following ends with the container."""
    script = ["sh", "-c", "echo old; sleep 1.1; echo new"]
    made = client.containers.run("busybox", script, detach=True, **QUIET)
    made.wait()
    times = [line.split()[0].decode() for line in made.logs(timestamps=True).splitlines()]
    between = datetime.fromisoformat(times[0][:19] + "+00:00").timestamp() + 1
    assert made.logs(since=between) == b"new\n"
    assert made.logs(until=between) == b"old\n"
    assert made.logs(tail=0) == b""


def test_events_as_they_come(client: docker.DockerClient) -> None:
    """A stream that waits, and ends when it is closed."""
    stream = client.events(decode=True, filters={"type": "container"})
    seen: list[str] = []

    def read() -> None:
        for event in stream:
            seen.append(event["Action"])
            if event["Action"] == "destroy":
                return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        client.containers.run("busybox", "true", remove=True, **QUIET)
        reader.join(10)
    finally:
        stream.close()
        reader.join(10)
    # Docker's client attaches first, and `die` may pass the attach's end.
    assert [action for action in seen if action != "attach"] == [
        "create",
        "start",
        "die",
        "destroy",
    ]


def test_images_are_loaded(client: docker.DockerClient) -> None:
    """From what `docker save` writes: named, listed, with its history and its configuration."""
    (image,) = client.images.load(saved("loaded:1"))
    try:
        assert image.tags == ["loaded:1"]
        assert image.attrs["Config"]["Cmd"] == ["true"]
        assert [step["CreatedBy"] for step in image.history()] == ["by hand"]
        assert "loaded:1" in [tag for one in client.images.list() for tag in one.tags]
        assert [one.id for one in client.images.list(name="loaded")] == [image.id]
        assert client.images.list(filters={"reference": "absent*"}) == []
        assert client.images.get(image.id) == image
    finally:
        client.images.remove(image.id)
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("loaded:1")
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.remove("loaded:1")


def saved(name: str) -> bytes:
    """What `docker save` writes of an image with one small layer."""
    layer = tar_of({"hello": b"hi"})
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["true"]},
            "created": "2024-01-02T03:04:05Z",
            "history": [{"created": "2024-01-02T03:04:05Z", "created_by": "by hand"}],
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"],
            },
        }
    ).encode()
    entry = {"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}
    manifest = json.dumps([entry]).encode()
    return tar_of({"config.json": config, "layer.tar": layer, "manifest.json": manifest})


def test_volumes_are_found(client: docker.DockerClient) -> None:
    """By label and by name; made again, it is the same one."""
    client.volumes.create("named", labels={"a": "b"})
    client.volumes.create("plain")
    assert [one.name for one in client.volumes.list(filters={"label": "a=b"})] == ["named"]
    assert client.volumes.get("named").attrs["Driver"] == "local"
    assert client.volumes.create("named").attrs["Labels"] == {"a": "b"}  # it is there already
    client.volumes.get("plain").remove()
    client.volumes.get("named").remove(force=True)
    assert client.volumes.list() == []


def test_containers_are_pruned(client: docker.DockerClient) -> None:
    """Those that have ended; those that run stay."""
    sleeper(client, "stays")
    ended = client.containers.create("busybox", "true", **QUIET)
    assert client.containers.prune()["ContainersDeleted"] == [ended.id]
    assert [one.name for one in client.containers.list(all=True)] == ["stays"]


def test_networks(client: docker.DockerClient) -> None:
    """Those that are always there, by list, filter and name; none is to be removed."""
    assert {"host", "none"} <= {one.name for one in client.networks.list()}
    (found,) = client.networks.list(names=["none"])
    assert found.attrs["Driver"] == "null"
    host = client.networks.get("host")
    assert (host.attrs["Scope"], host.attrs["Driver"]) == ("local", "host")
    made = sleeper(client)
    made.reload()
    assert list(made.attrs["NetworkSettings"]["Networks"]) == ["none"]
    with pytest.raises(docker.errors.APIError) as caught:
        host.remove()
    assert caught.value.status_code == 403


@pytest.fixture(scope="module", params=SERVERS)
def networked(request: pytest.FixtureRequest) -> Iterator[docker.DockerClient]:
    """A client of each daemon, which has a network namespace and its rules to itself."""
    made = Dockerd(alone=True) if request.param == "dockerd" else Engine(before=ALONE)
    with running(made) as server:
        client = docker.DockerClient(base_url=server.host, timeout=30)
        yield client
        client.close()
        server.remove_containers()


def addresses(container: Container) -> dict[str, str]:
    """Where a container is, by network."""
    container.reload()
    networks = container.attrs["NetworkSettings"]["Networks"]
    return {name: at["IPAddress"] for name, at in networks.items()}


def test_containers_in_networks(networked: docker.DockerClient) -> None:
    """Made, connected with address and alias, found, disconnected, pruned."""
    pools = [docker.types.IPAMPool(subnet="10.94.0.0/24", gateway="10.94.0.1")]
    back = networked.networks.create("back", ipam=docker.types.IPAMConfig(pool_configs=pools))
    front = networked.networks.create("front", driver="bridge", labels={"mine": "yes"})
    with pytest.raises(docker.errors.APIError) as caught:
        networked.networks.create("back", check_duplicate=True)
    assert caught.value.status_code == 409
    options = {"name": "member", "detach": True, "network": "front"}
    member = networked.containers.run("busybox", ["sleep", "100"], **options)
    back.connect(member, ipv4_address="10.94.0.77", aliases=["db"])
    assert addresses(member)["back"] == "10.94.0.77"
    back.reload()
    assert [one.name for one in back.containers] == ["member"]
    asked = networked.containers.run(
        "busybox", ["ping", "-c", "1", "-W", "5", "db"], network="back", remove=True
    )
    assert b"10.94.0.77" in asked
    with pytest.raises(docker.errors.APIError) as caught:
        back.remove()
    assert caught.value.status_code == 403
    front.disconnect(member)
    assert list(addresses(member)) == ["back"]
    assert [one.name for one in networked.networks.list(filters={"label": "mine"})] == ["front"]
    assert networked.networks.prune()["NetworksDeleted"] == ["front"]
    member.remove(force=True)
    back.remove()
    with pytest.raises(docker.errors.NotFound):
        networked.networks.get("back")


def test_endpoints_of_a_create(networked: docker.DockerClient) -> None:
    """The low level: networking_config, links, ports and what `port` answers."""
    low = networked.api
    made = networked.networks.create("low")
    endpoint = low.create_endpoint_config(aliases=["one"])
    host = low.create_host_config(port_bindings={80: ("127.0.0.1",), "53/udp": None})
    key = low.create_container(
        "busybox",
        ["sleep", "100"],
        ports=[80, (53, "udp")],
        host_config=host,
        networking_config=low.create_networking_config({"low": endpoint}),
    )["Id"]
    low.start(key)
    shown = low.inspect_container(key)["NetworkSettings"]
    assert list(shown["Networks"]) == ["low"]
    assert "one" in shown["Networks"]["low"]["Aliases"]
    (bound,) = low.port(key, 80)
    assert bound["HostIp"] == "127.0.0.1"
    assert int(bound["HostPort"]) > 1024
    assert low.port(key, "53/udp")
    assert low.port(key, 81) is None
    container = networked.containers.get(key)
    assert container.ports["80/tcp"] == [bound]
    container.stop(timeout=0)
    container.reload()
    assert container.ports == {}
    low.remove_container(key)
    made.remove()


def test_copies_in_and_out(client: docker.DockerClient) -> None:
    """put_archive and get_archive, of a container that runs and of one that does not."""
    container = sleeper(client)
    assert container.put_archive("/tmp", tar_of({"a/b": b"inside"})) is True
    for stopped in (False, True):
        if stopped:
            container.stop(timeout=0)
        pieces, stat = container.get_archive("/tmp/a/b")
        assert (stat["name"], stat["size"], stat["linkTarget"]) == ("b", 6, "")
        with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
            member = archive.extractfile("b")
            assert member is not None
            assert member.read() == b"inside"
    with pytest.raises(docker.errors.NotFound, match="Could not find the file /no"):
        container.get_archive("/no")
    with pytest.raises(docker.errors.NotFound):
        container.put_archive("/no", tar_of({"x": b""}))


def test_changes_commit_save_load_export(client: docker.DockerClient) -> None:
    """What a container has changed, as a list, an image, an archive and back."""
    container = client.containers.run(
        "busybox", ["sh", "-c", "echo mine >/new; rm /bin/vi"], name="one", detach=True, **QUIET
    )
    container.wait()
    changed = {entry["Path"]: entry["Kind"] for entry in container.diff()}
    assert changed == {"/new": 1, "/bin": 0, "/bin/vi": 2}
    image = container.commit("made", tag="it", author="me", message="so", changes="ENV A=b")
    assert image.attrs["Author"] == "me"
    assert image.attrs["Comment"] == "so"
    assert "A=b" in image.attrs["Config"]["Env"]
    saved = b"".join(image.save(named="made:it"))
    with tarfile.open(fileobj=io.BytesIO(b"".join(container.export()))) as archive:
        assert "new" in archive.getnames()
        assert "bin/vi" not in archive.getnames()
    client.images.remove("made:it")
    loaded = client.images.load(saved)
    assert [(found.id, found.tags) for found in loaded] == [(image.id, ["made:it"])]
    client.images.remove("made:it")
