"""Fields of the container's config: what is run, as whom, where, with what around it."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import pytest

from tests.integration.fields.box import TIMEOUT, Api, Box, body_of
from tests.integration.fields.claims import shows
from tests.support.http import UnixConnection

pytestmark = pytest.mark.root


@shows("ContainerConfig.Image", "ContainerConfig.Cmd", "ContainerConfig.Entrypoint")
def test_what_runs(api: Api) -> None:
    assert api.run("echo", "a", "b c").out == "a b c\n"
    assert api.run("x", "y", config={"Entrypoint": ["echo", "-n"]}).out == "x y"
    assert api.run(config={"Entrypoint": "pwd"}).out == "/\n", "the image's Cmd is dropped"
    assert "no-such" in api.refused(404, config={"Image": "no-such", "Cmd": ["true"]})


def test_the_platform_that_is_asked_for(api: Api) -> None:
    """Another one than the image's is never run: the docker client goes and pulls it instead."""
    own = api.ok("GET", "/images/busybox/json")["Architecture"]
    other = "s390x" if own != "s390x" else "riscv64"
    for platform, status, words in (
        (f"linux/{own}", 201, ""),
        (own, 201, ""),
        ("linux", 201, ""),
        ("", 201, ""),
        (f"linux/{other}", 404, "but its platform"),
        (f"windows/{own}", 404, "does not match the specified platform"),
        ("a/b/c/d", 400, "cannot parse platform specifier"),
    ):
        where = f"/containers/create?platform={platform}"
        answer = api.call("POST", where, body_of("true"))
        if answer.status == 201:
            api.remove(answer.json()["Id"])
        assert (answer.status, words in str(answer.body)) == (status, True), (platform, answer)


@shows("ContainerConfig.Env")
def test_environment(api: Api, default: Box) -> None:
    out = api.sh("env", config={"Env": ["A=1", "B=x=y", "PATH=/bin", "EMPTY="]}).splitlines()
    assert {"A=1", "B=x=y", "PATH=/bin", "EMPTY="} <= set(out)
    assert "A=1" not in default.sh("env").splitlines()
    assert "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" in default.sh("env")


@shows("ContainerConfig.WorkingDir")
def test_working_directory(api: Api, default: Box) -> None:
    out = api.sh("pwd; stat -c '%u %g %a' .", config={"WorkingDir": "/made/for/me"})
    assert out.split() == ["/made/for/me", "0", "0", "755"]
    host = {"ReadonlyRootfs": True}
    out = api.sh("pwd; touch x 2>&1", config={"WorkingDir": "/made/too"}, host=host)
    assert out == "/made/too\ntouch: x: Read-only file system\n"
    done = api.create(body_of("pwd", config={"WorkingDir": "/proc/no/such"}, host=host))
    answer = api.call("POST", f"/containers/{done.json()['Id']}/start")
    api.remove(done.json()["Id"])
    assert 'chdir to cwd ("/proc/no/such") set in config.json failed' in answer.message
    assert default.sh("pwd") == "/\n"


@shows("ContainerConfig.User", "HostConfig.GroupAdd")
def test_user_and_groups(api: Api, default: Box) -> None:
    def ids(user: str, *groups: str) -> str:
        host = {"GroupAdd": list(groups)}
        return api.sh("id; echo $HOME", config={"User": user}, host=host)

    assert ids("user") == "uid=1000(user) gid=1000(user) groups=29(audio),1000(user)\n/home\n"
    assert ids("1234:29") == "uid=1234 gid=29(audio) groups=29(audio)\n/\n"
    groups = api.sh("id -G", config={"User": "1234:5"}, host={"GroupAdd": ["777", "audio"]})
    assert set(groups.split()) == {"5", "777", "29"}
    assert default.sh("id -u; id -G") == "0\n0\n"


@shows("ContainerConfig.Hostname", "ContainerConfig.Domainname")
def test_names(api: Api, default: Box) -> None:
    config = {"Hostname": "web", "Domainname": "example.org"}
    out = api.sh("hostname; cat /proc/sys/kernel/domainname /etc/hostname; env", config=config)
    assert out.split()[:3] == ["web", "example.org", "web"]
    assert "HOSTNAME=web" in out.split()
    assert default.sh("hostname") == default.id[:12] + "\n"
    assert default.sh("cat /proc/sys/kernel/domainname") == "(none)\n"


@shows("ContainerConfig.Tty", "HostConfig.ConsoleSize")
def test_terminal(api: Api, default: Box) -> None:
    script = "stty size; tty; echo $TERM; stat -c %F /dev/console"
    out = api.sh(script, config={"Tty": True}, host={"ConsoleSize": [33, 77]})
    assert out.splitlines() == ["33 77", "/dev/pts/0", "xterm", "character special file"]
    assert "not a tty" in default.sh("tty")
    assert "No such file" in default.sh("stat /dev/console")


def attach(api: Api, box: Box, streams: str) -> socket.socket:
    """Attach to a container; the raw connection, its headers read."""
    connection = UnixConnection(api.engine.socket, TIMEOUT)
    connection.request(
        "POST",
        f"/containers/{box.id}/attach?stream=1&{streams}",
        headers={"Connection": "Upgrade", "Upgrade": "tcp"},
    )
    found = b""
    assert connection.sock is not None
    while b"\r\n\r\n" not in found:
        found += connection.sock.recv(1)
    assert found.startswith(b"HTTP/1.1 101 "), found
    return connection.sock


def drain(connection: socket.socket) -> bytes:
    found = b""
    while data := connection.recv(65536):
        found += data
    return found


@shows("ContainerConfig.OpenStdin", "ContainerConfig.StdinOnce", "ContainerConfig.AttachStdin")
def test_standard_input(api: Api, default: Box) -> None:
    assert api.run("cat").out == "", "without OpenStdin there is nothing to read"
    once = {"OpenStdin": True, "StdinOnce": True, "AttachStdin": True}
    with api.made("cat", config=once) as box, attach(api, box, "stdin=1&stdout=1") as client:
        box.start()
        client.sendall(b"hello\n")
        client.shutdown(socket.SHUT_WR)
        assert drain(client)[8:] == b"hello\n"
        assert box.wait() == 0
        assert box.inspect()["Config"]["AttachStdin"] is True
    with api.living("cat", config={"OpenStdin": True}) as box:
        with attach(api, box, "stdin=1") as client:
            client.sendall(b"one\n")
            client.shutdown(socket.SHUT_WR)
        with attach(api, box, "stdin=1") as client:
            client.sendall(b"two\n")
        end = time.monotonic() + 10
        while b"two" not in box.logs().body and time.monotonic() < end:
            time.sleep(0.02)
        assert b"two" in box.logs().body
        assert box.status == "running", "its input stays open for the next client"


@shows("ContainerConfig.AttachStdout", "ContainerConfig.AttachStderr")
def test_attached_streams(api: Api) -> None:
    """What a client wants to attach to; it does so itself, in the streams that it names."""
    config = {"AttachStdout": True, "AttachStderr": False}
    with api.made("sh", "-c", "echo out; echo err >&2", config=config) as box:
        shown = box.inspect()["Config"]
        assert (shown["AttachStdout"], shown["AttachStderr"]) == (True, False)
        with attach(api, box, "stdout=1") as client:
            box.start()
            assert drain(client)[8:] == b"out\n"


@shows("ContainerConfig.ExposedPorts", "ContainerConfig.Labels")
def test_what_is_only_shown(api: Api) -> None:
    config = {"ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Labels": {"a": "1", "b": ""}}
    with api.made("true", config=config) as box:
        shown = box.inspect()["Config"]
        assert shown["ExposedPorts"] == config["ExposedPorts"]
        assert shown["Labels"] == config["Labels"]
        query = "?all=1&filters=%7B%22label%22%3A%5B%22a%3D1%22%5D%7D"
        assert box.id in [one["Id"] for one in api.ok("GET", f"/containers/json{query}")]


@shows("ContainerConfig.NetworkDisabled")
def test_network_disabled(api: Api) -> None:
    host = {"NetworkMode": "host"}
    assert api.sh("ls /sys/class/net", host=host).split() != ["lo"]
    out = api.sh("ls /sys/class/net", host=host, config={"NetworkDisabled": True})
    assert out.split() == ["lo"]


@shows("ContainerConfig.StopSignal", "ContainerConfig.StopTimeout")
def test_how_it_is_stopped(api: Api) -> None:
    script = "trap 'echo usr1; exit 7' USR1; trap 'echo term' TERM; while :; do sleep 0.02; done"
    with api.living("sh", "-c", f"echo up; {script}", config={"StopSignal": "SIGUSR1"}) as box:
        wait_for(box, b"up")
        api.ok("POST", f"/containers/{box.id}/stop")
        assert box.inspect()["State"]["ExitCode"] == 7
    ignore = "trap '' TERM; echo up; while :; do sleep 0.02; done"
    with api.living("sh", "-c", ignore, config={"StopTimeout": 1}) as box:
        wait_for(box, b"up")
        began = time.monotonic()
        api.ok("POST", f"/containers/{box.id}/stop")
        assert 0.9 < time.monotonic() - began < 4
        assert box.inspect()["State"]["ExitCode"] == 128 + signal.SIGKILL


def wait_for(box: Box, text: bytes) -> None:
    end = time.monotonic() + 10
    while text not in box.logs().body:
        assert time.monotonic() < end, text
        time.sleep(0.02)


@shows("HostConfig.Init")
def test_an_init_reaps_and_passes_signals_on(api: Api, default: Box) -> None:
    with api.living(host={"Init": True}) as box:
        assert "docker-init" in box.sh("tr '\\0' ' ' </proc/1/cmdline")
        box.sh("(sleep 0.05 &) ; exit 0")
        time.sleep(0.2)
        assert "Z" not in box.sh("cut -d' ' -f3 /proc/[0-9]*/stat")
        began = time.monotonic()
        api.ok("POST", f"/containers/{box.id}/stop?t=5")
        assert time.monotonic() - began < 4
        assert box.inspect()["State"]["ExitCode"] == 143
    assert "docker-init" not in default.sh("cat /proc/1/cmdline")
    assert api.run("sh", "-c", "exit 5", host={"Init": True}).code == 5


@shows("HostConfig.Annotations")
def test_annotations_reach_the_runtime_document(api: Api) -> None:
    with api.living(host={"Annotations": {"com.example.key": "value"}}) as box:
        assert box.inspect()["HostConfig"]["Annotations"] == {"com.example.key": "value"}
        folder = Path(api.engine.exec_root, "containers", box.id)
        assert any(
            b'"com.example.key":"value"' in one.read_bytes() for one in folder.glob("*.json")
        )
