"""The Python client of Docker against our socket."""

from __future__ import annotations

import io
import tarfile
import threading

import pytest

docker = pytest.importorskip("docker")
from docker import errors  # noqa: E402 - after the skip

pytestmark = [
    pytest.mark.root,
    # The client leaves sockets of hijacked connections to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

NONE = {"network_mode": "none"}
LOOP = ["sh", "-c", "trap 'exit 5' TERM; while :; do echo tick; sleep 0.1; done"]


@pytest.fixture(params=[None, "1.24", "1.43"], ids=["newest", "1.24", "1.43"])
def client(clean_engine, request):
    made = docker.DockerClient(base_url=clean_engine.host, version=request.param, timeout=30)
    yield made
    made.close()


def test_the_engine(client):
    assert client.ping()
    assert client.version()["ApiVersion"]
    assert client.info()["OSType"] == "linux"


def test_run(client):
    assert client.containers.run("busybox", ["echo", "hi"], remove=True, **NONE) == b"hi\n"
    with pytest.raises(errors.ContainerError) as caught:
        client.containers.run("busybox", ["sh", "-c", "echo bad >&2; exit 3"], **NONE)
    assert caught.value.exit_status == 3
    assert b"bad" in caught.value.stderr


def test_a_life(client):
    container = client.containers.run("busybox", LOOP, detach=True, name="life", **NONE)
    assert client.containers.get("life").status == "running"
    assert [found.name for found in client.containers.list()] == ["life"]
    assert b"tick" in next(container.logs(stream=True, follow=True))
    container.pause()
    container.reload()
    assert container.status == "paused"
    container.unpause()
    container.rename("other")
    container.stop(timeout=5)
    assert container.wait()["StatusCode"] == 5
    container.start()
    container.restart(timeout=1)
    container.kill()
    assert container.wait()["StatusCode"] == 137
    container.remove()
    with pytest.raises(errors.NotFound):
        client.containers.get("other")


def test_exec(client):
    container = client.containers.run("busybox", LOOP, detach=True, **NONE)
    code, output = container.exec_run(["sh", "-c", "echo out; echo err >&2; exit 4"], demux=True)
    assert (code, output) == (4, (b"out\n", b"err\n"))
    assert container.exec_run("tty", tty=True).output.startswith(b"/dev/pts/")
    stream = container.exec_run("echo streamed", stream=True).output
    assert b"".join(stream) == b"streamed\n"
    container.remove(force=True)


def test_attach_with_a_socket(client):
    container = client.containers.create("busybox", "cat", stdin_open=True, **NONE)
    sock = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    plain = getattr(sock, "_sock", sock)
    plain.sendall(b"through\n")
    assert plain.recv(8) == b"\x01\0\0\0\0\0\0\x08"
    assert plain.recv(8) == b"through\n"
    plain.close()  # the library's own object does not
    sock.close()
    container.remove(force=True)


def test_events(client):
    seen = []
    stream = client.events(decode=True, filters={"type": "container"})
    watcher = threading.Thread(target=lambda: seen.extend(_until_destroy(stream)))
    watcher.start()
    client.containers.run("busybox", "true", remove=True, **NONE)
    watcher.join(20)
    stream.close()
    actions = [event["Action"] for event in seen]
    assert [action for action in actions if action in ("create", "start", "die", "destroy")] == [
        "create", "start", "die", "destroy",
    ]  # fmt: skip


def _until_destroy(stream):
    for event in stream:
        yield event
        if event["Action"] == "destroy":
            return


def test_images(client):
    image = client.images.get("busybox")
    assert "busybox:latest" in image.tags
    assert image.tag("other", "v1")
    assert "other:v1" in [tag for found in client.images.list() for tag in found.tags]
    client.images.remove("other:v1")
    assert image.history()
    with pytest.raises(errors.ImageNotFound):
        client.images.get("nonsense")
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    client.api.import_image(content.getvalue(), repository="imported", tag="1")
    client.images.remove("imported:1")


def test_volumes(client):
    volume = client.volumes.create("kept", labels={"a": "b"})
    assert client.volumes.get("kept").attrs["Labels"] == {"a": "b"}
    mounts = {"kept": {"bind": "/data", "mode": "rw"}}
    client.containers.run("busybox", "touch /data/f", volumes=mounts, remove=True, **NONE)
    output = client.containers.run("busybox", "ls /data", volumes=mounts, remove=True, **NONE)
    assert output == b"f\n"
    volume.remove()
    assert "kept" not in [found.name for found in client.volumes.list()]


def test_networks(client):
    assert {"bridge", "host", "none"} <= {network.name for network in client.networks.list()}


def test_a_pull_that_cannot_be_says_why(client):
    with pytest.raises(errors.APIError, match=r"registry 127\.0\.0\.1:1: "):
        client.images.pull("127.0.0.1:1/nonsense", tag="latest")
