"""The fields of an exec."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.integration.fields.box import TIMEOUT, Api, Box
from tests.integration.fields.claims import shows
from tests.support.http import UnixConnection
from tests.support.needs import until

pytestmark = pytest.mark.root


@shows("ExecConfig.Cmd", "ExecConfig.AttachStdout", "ExecConfig.AttachStderr")
def test_command_and_streams(default: Box) -> None:
    both = default.exec("sh", "-c", "echo out; echo err >&2; exit 3")
    assert (both.code, both.out, both.err) == (3, "out\n", "err\n")
    one = default.exec("sh", "-c", "echo out; echo err >&2", AttachStderr=False)
    assert (one.out, one.err) == ("out\n", "")
    other = default.exec("sh", "-c", "echo out; echo err >&2", AttachStdout=False)
    assert (other.out, other.err) == ("", "err\n")
    answer = default.api.call("POST", f"/containers/{default.id}/exec", {"Cmd": []})
    assert answer.status == 400


@shows("ExecConfig.User", "ExecConfig.Env", "ExecConfig.WorkingDir")
def test_user_environment_and_directory(default: Box) -> None:
    out = default.sh("id -u; pwd; echo $A", User="user", Env=["A=1"], WorkingDir="/home")
    assert out.split() == ["1000", "/home", "1"]
    assert default.sh("id -u; pwd; echo $A").split() == ["0", "/"]
    missing = default.exec("true", WorkingDir="/no/such")
    assert missing.code != 0


@shows("ExecConfig.Privileged")
def test_privileged(default: Box) -> None:
    show = "grep -E 'CapBnd|Seccomp:' /proc/self/status"
    privileged, plain = default.sh(show, Privileged=True).split(), default.sh(show).split()
    assert plain[1] == "00000000a80425fb"
    own = int(Path("/proc/self/status").read_text().split("CapBnd:")[1].split()[0], 16)
    assert int(privileged[1], 16) == own
    assert plain[3] == "2"


@shows("ExecConfig.Tty", "ExecStart.Tty", "ExecConfig.ConsoleSize", "ExecStart.ConsoleSize")
def test_terminal(api: Api, default: Box) -> None:
    with_tty = default.exec("sh", "-c", "tty; stty size", Tty=True, ConsoleSize=[31, 71])
    assert with_tty.out.split()[-2:] == ["31", "71"]
    assert "/dev/pts/" in with_tty.out
    assert "not a tty" in default.sh("tty")
    body = {"AttachStdout": True, "Tty": True, "Cmd": ["stty", "size"]}
    key = api.ok("POST", f"/containers/{default.id}/exec", body)["Id"]
    start = {"Tty": True, "ConsoleSize": [32, 72]}
    assert api.engine.api("POST", f"/exec/{key}/start", start).body.split() == [b"32", b"72"]


def attached(api: Api, key: str) -> socket.socket:
    connection = UnixConnection(api.engine.socket, TIMEOUT)
    headers = {"Connection": "Upgrade", "Upgrade": "tcp", "Content-Type": "application/json"}
    connection.request("POST", f"/exec/{key}/start", '{"Tty":true}', headers)
    assert connection.sock is not None
    found = b""
    while b"\r\n\r\n" not in found:
        found += connection.sock.recv(1)
    assert b" 101 " in found.splitlines()[0], found
    return connection.sock


@shows("ExecConfig.AttachStdin", "ExecConfig.DetachKeys")
def test_input_and_the_keys_that_leave(api: Api, default: Box) -> None:
    body = {"AttachStdin": True, "AttachStdout": True, "Tty": True, "DetachKeys": "ctrl-a,q",
            "Cmd": ["cat"]}  # fmt: skip
    key = api.ok("POST", f"/containers/{default.id}/exec", body)["Id"]
    with attached(api, key) as client:
        client.sendall(b"hello\n")
        found = b""
        while found.count(b"hello") < 2:
            found += client.recv(100)
        client.sendall(b"\x01q")
        while client.recv(100):
            pass
    document = until(
        lambda: (found := api.ok("GET", f"/exec/{key}/json"))["Pid"] and found, "it has a pid"
    )
    assert document["Running"] is True, "only the client left"
    os.kill(document["Pid"], 9)
    until(lambda: not api.ok("GET", f"/exec/{key}/json")["Running"], "it has ended")
    wrong = {"Cmd": ["true"], "DetachKeys": "nonsense-key"}
    answer = api.call("POST", f"/containers/{default.id}/exec", wrong)
    assert answer.status == 400
    none = {"AttachStdout": True, "Cmd": ["wc", "-c"]}
    key = api.ok("POST", f"/containers/{default.id}/exec", none)["Id"]
    assert b"0\n" in api.engine.api("POST", f"/exec/{key}/start", {}).body


def test_it_runs_from_the_moment_it_is_started(api: Api, default: Box) -> None:
    """A client that has all its output must not take an exec whose code is not known for ended."""
    body = {"AttachStdin": True, "AttachStdout": True, "Tty": True, "Cmd": ["cat"]}
    for _ in range(20):
        key = api.ok("POST", f"/containers/{default.id}/exec", body)["Id"]
        with attached(api, key) as client:
            client.sendall(b"x\n")
            client.recv(10)
            assert api.ok("GET", f"/exec/{key}/json")["Running"] is True
            client.sendall(b"\x04")
            while client.recv(100):
                pass
        assert api.ok("GET", f"/exec/{key}/json")["ExitCode"] in (0, None)


@shows("ExecStart.Detach")
def test_detached(api: Api, default: Box) -> None:
    body = {"Cmd": ["sh", "-c", "sleep 0.5; touch /tmp/detached; exit 4"]}
    key = api.ok("POST", f"/containers/{default.id}/exec", body)["Id"]
    api.ok("POST", f"/exec/{key}/start", {"Detach": True})
    assert api.ok("GET", f"/exec/{key}/json")["Running"] is True, "nobody waits for its end"
    until(lambda: api.ok("GET", f"/exec/{key}/json")["ExitCode"] == 4, "it has ended")
    assert default.sh("ls /tmp/detached") == "/tmp/detached\n"
