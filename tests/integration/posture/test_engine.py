"""The posture once more through the whole engine: the API, the shim, the real docker client."""

from __future__ import annotations

import fcntl
import json
import os
import re
from pathlib import Path

import pytest

from tests.integration.posture.box import DEVICES
from tests.support.engine import Engine

pytestmark = pytest.mark.root

RUN = ("run", "--rm", "--network", "none")
DEFAULT_CAPS = "00000000a80425fb"
STATUS = "grep -E '^(Cap|Seccomp:|NoNew|Groups)' /proc/self/status"


def ask(engine: Engine, *args: str, code: int = 0) -> str:
    done = engine.docker(*args, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout + (done.stderr if code else "")


def fields(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+):\s*(.*)$", text, re.MULTILINE))


def test_default_container(engine: Engine) -> None:
    out = ask(engine, *RUN, "busybox", "sh", "-c", f"{STATUS}; ls /proc/1/fd; ls /dev; :")
    found = fields(out)
    assert {found[name] for name in ("CapPrm", "CapEff", "CapBnd")} == {DEFAULT_CAPS}
    assert found["CapInh"] == found["CapAmb"] == "0" * 16
    assert (found["Seccomp"], found["NoNewPrivs"]) == ("2", "0")
    rest = out[out.index("NoNewPrivs") :].split("\n", 1)[1].split()
    rest = [word for word in rest if not word.startswith("Seccomp") and word != "2:"]
    assert rest[-len(DEVICES) :] == DEVICES
    assert rest[: -len(DEVICES)][-3:] == ["0", "1", "2"]


def test_a_user_and_an_exec(engine: Engine) -> None:
    name = "posture-exec"
    ask(engine, "run", "-d", "--network", "none", "--name", name, "busybox", "sleep", "300")
    try:
        for options, caps in (((), DEFAULT_CAPS), (("-u", "1000"), "0" * 16)):
            found = fields(ask(engine, "exec", *options, name, "sh", "-c", STATUS))
            assert (found["CapEff"], found["CapInh"], found["Seccomp"]) == (caps, "0" * 16, "2")
        assert ask(engine, "exec", name, "sh", "-c", "ls /proc/$$/fd; :").split() == ["0", "1", "2"]
        for number in (3, 4, 5, 8):
            where = f"/proc/self/fd/{number}"
            ask(engine, "exec", "-w", where, name, "true", code=126)
        for user in ("1000x", "-1", "4294967296"):
            # a value that begins with a dash needs the equals sign
            done = engine.docker("exec", f"--user={user}", name, "id", check=False)
            assert done.returncode != 0
            assert "uid=0" not in done.stdout
    finally:
        ask(engine, "rm", "-f", name)


def test_a_leaked_descriptor_as_working_directory(engine: Engine) -> None:
    for number in range(3, 12):
        ask(engine, *RUN, "-w", f"/proc/self/fd/{number}", "busybox", "true", code=125)


def test_privileged(engine: Engine) -> None:
    found = fields(ask(engine, *RUN, "--privileged", "busybox", "sh", "-c", STATUS))
    with open("/proc/self/status") as file:
        assert found["CapEff"] == fields(file.read())["CapBnd"]
    assert found["Seccomp"] == "0"


def test_warnings_of_a_clamped_limit_reach_the_client(engine: Engine) -> None:
    body = {
        "Image": "busybox",
        "HostConfig": {
            "NetworkMode": "none",
            "OomScoreAdj": -1000,
            "Ulimits": [{"Name": "nofile", "Soft": 1 << 30, "Hard": 1 << 30}],
        },
    }
    answer = engine.api("POST", "/containers/create", body)
    assert answer.status == 201
    made = json.loads(answer.body)
    try:
        with open("/proc/self/status") as file:
            may = int(fields(file.read())["CapEff"], 16) >> 24 & 1
        assert len([w for w in made["Warnings"] or [] if "CAP_SYS_RESOURCE" in w]) == (
            0 if may else 2
        )
    finally:
        engine.api("DELETE", f"/containers/{made['Id']}")


def test_killed_for_want_of_memory(engine: Engine) -> None:
    name = "posture-oom"
    limits = ("-m", "16m", "--memory-swap", "16m")
    command = ("busybox", "tail", "/dev/zero")
    ask(engine, "run", "--network", "none", "--name", name, *limits, *command, code=137)
    try:
        assert ask(engine, "inspect", "-f", "{{.State.OOMKilled}}", name) == "true\n"
    finally:
        ask(engine, "rm", name)


def test_the_shim_cannot_be_overwritten(engine: Engine) -> None:
    """CVE-2019-5736: what /proc/PID/exe of ours leads to is a sealed memfd, no file of the host."""
    name = "posture-shim"
    ask(engine, "run", "-d", "--network", "none", "--name", name, "busybox", "sleep", "300")
    try:
        pid = ask(engine, "inspect", "-f", "{{.State.Pid}}", name).strip()
        shim = fields(Path(f"/proc/{pid}/status").read_text())["PPid"]
        program = Path(f"/proc/{shim}/exe")
        assert str(program.readlink()).startswith("/memfd:")
        fd = os.open(program, os.O_RDONLY)
        try:
            assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE
        finally:
            os.close(fd)
        with pytest.raises(OSError):
            os.open(program, os.O_WRONLY)
    finally:
        ask(engine, "rm", "-f", name)
