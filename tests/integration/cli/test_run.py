"""`run` and what lives with it, against real engines."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.cli.conftest import IMAGE, Shell
from tests.support.needs import until
from tests.support.paths import BOXWOOD
from tests.support.terminal import run as on_terminal

pytestmark = pytest.mark.root
RUN = ("run", "--rm", "--network", "none")
MEGABYTES_20 = 20_000_000


def test_output_and_exit_code_are_the_containers(shell: Shell) -> None:
    done = shell.run(*RUN, IMAGE, "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 3)


def test_input_ends_with_ours(shell: Shell) -> None:
    done = shell.run(*RUN, "-i", IMAGE, "sh", "-c", "cat; echo end", input="hello\n")
    assert (done.stdout, done.returncode) == ("hello\nend\n", 0)


def test_without_i_there_is_no_input(shell: Shell) -> None:
    assert shell.run(*RUN, IMAGE, "cat", input="hello\n").stdout == ""


def test_20_megabytes_each_way_arrive_whole(shell: Shell) -> None:
    data = os.urandom(MEGABYTES_20)
    done = shell.run(*RUN, "-i", IMAGE, "cat", input=data, text=False)
    assert len(done.stdout) == len(data)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((*RUN, IMAGE, "sh", "-c", "exit 0"), 0),
        ((*RUN, IMAGE, "sh", "-c", "exit 137"), 137),
        ((*RUN, IMAGE, "sh", "-c", "exit 143"), 143),
        ((*RUN, IMAGE, "nosuch"), 127),
        ((*RUN, IMAGE, "/etc"), 126),
        (("run", "--bad"), 125),
        (("run", "--restart", "always", "--rm", IMAGE), 125),
        (("run", "--pull", "never", "nosuch:image"), 125),
        (("run",), 1),
        (("run", "-it", IMAGE), 1),
        (("run", "-d", "-a", "stdout", IMAGE), 1),
    ],
)
def test_exit_codes_and_words_are_dockers(shell: Shell, words: tuple[str, ...], code: int) -> None:
    ours, theirs = shell.run(*words), shell.docker(*words)
    assert (ours.returncode, theirs.returncode) == (code, code)
    assert ours.stdout == theirs.stdout
    assert normal(ours.stderr) == normal(theirs.stderr)


def normal(text: str) -> str:
    """Errors with the program's name made one, and without what every container has its own of."""
    lines = text.replace("boxwood", "docker").replace("See '", "Run '").splitlines()
    return "\n".join(line for line in lines if line)


def test_detached_prints_the_id_of_what_cannot_start(shell: Shell) -> None:
    """As the stock client: the container is there, and its id is how to get rid of it."""
    done = shell.run("run", "-d", "--network", "none", IMAGE, "no-such-program")
    assert done.returncode == 127
    key = done.stdout.strip()
    assert "no-such-program" in done.stderr
    assert shell.run("rm", key).stdout.strip() == key


def test_detached_prints_the_id_and_goes(shell: Shell) -> None:
    done = shell.run("run", "-d", "--network", "none", "--name", "dd", IMAGE, "sleep", "1000")
    ident = done.stdout.strip()
    assert len(ident) == 64
    assert (
        shell.run("inspect", "-f", "{{.Id}} {{.State.Running}}", "dd").stdout == f"{ident} true\n"
    )


def test_removed_containers_are_gone_when_run_returns(shell: Shell) -> None:
    assert shell.run(*RUN, "--name", "gone", IMAGE, "true").returncode == 0
    assert shell.run("ps", "-aq").stdout == ""
    assert shell.run(*RUN, "--name", "gone", IMAGE, "nosuch").returncode == 127
    assert shell.run("ps", "-aq").stdout == ""


def test_the_id_file(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "id"
    done = shell.run("run", "-d", "--network", "none", "--cidfile", path, IMAGE, "true")
    assert path.read_text() == done.stdout.strip()
    again = shell.run("run", "--cidfile", path, IMAGE, "true")
    assert again.returncode == 125
    assert "container ID file found" in again.stderr
    other = tmp_path / "other"
    assert shell.run("run", "--pull", "never", "--cidfile", other, "nosuch").returncode == 125
    assert not other.exists()


def start(shell: Shell, *words: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    """Our command line in the background, its output kept."""
    return subprocess.Popen(
        [str(BOXWOOD), *words],
        env=shell.environment,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


TRAP = "trap 'echo caught; exit 6' TERM; echo ready; while true; do sleep 0.1; done"


def test_signals_go_to_the_container(shell: Shell) -> None:
    client = start(shell, *RUN, "--name", "sig", IMAGE, "sh", "-c", TRAP)
    assert client.stdout is not None
    assert client.stdout.readline() == "ready\n"
    client.send_signal(signal.SIGTERM)
    out, _ = client.communicate(timeout=30)
    assert (out, client.returncode) == ("caught\n", 6)


def test_without_the_proxy_a_signal_is_ours_alone(
    shell: Shell, sleeper: Callable[..., str]
) -> None:
    sleeper("alone")
    client = start(shell, "attach", "--sig-proxy=false", "alone")
    time.sleep(0.5)
    client.send_signal(signal.SIGINT)
    client.communicate(timeout=30)
    assert client.returncode == -signal.SIGINT
    assert shell.run("inspect", "-f", "{{.State.Running}}", "alone").stdout == "true\n"


def test_a_reader_that_goes_away_ends_the_client_as_a_pipe_does(shell: Shell) -> None:
    client = start(shell, "run", "--network", "none", "--name", "yes", IMAGE, "yes")
    assert client.stdout is not None
    client.stdout.readline()
    client.stdout.close()
    assert client.wait(30) == -signal.SIGPIPE
    assert client.stderr is not None
    assert client.stderr.read() == ""
    client.stderr.close()


def test_attach_joins_and_takes_the_exit_code(shell: Shell) -> None:
    shell.run("run", "-di", "--network", "none", "--name", "att", IMAGE, "sh")
    # Docker 20.10 stops an attached output with the input: this one stays open till the end.
    client = start(shell, "attach", "att", stdin=subprocess.PIPE)
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write("echo hello\n")
    client.stdin.flush()
    assert client.stdout.readline() == "hello\n"
    client.communicate("exit 4\n", timeout=30)
    assert client.returncode == 4
    done = shell.run("attach", "att")
    assert done.returncode == 1
    assert done.stderr == "You cannot attach to a stopped container, start it first\n"


def test_start_attached_takes_the_exit_code(shell: Shell) -> None:
    shell.run("create", "--network", "none", "--name", "st", IMAGE, "sh", "-c", "echo hi; exit 5")
    done = shell.run("start", "-a", "st")
    assert (done.stdout, done.returncode) == ("hi\n", 5)


def test_exec(shell: Shell, sleeper: Callable[..., str]) -> None:
    sleeper("exe")
    done = shell.run("exec", "-i", "exe", "sh", "-c", "cat; echo e >&2; exit 7", input="in")
    assert (done.stdout, done.stderr, done.returncode) == ("in", "e\n", 7)
    done = shell.run("exec", "-e", "A=b", "-w", "/tmp", "-u", "1:1", "exe", "sh", "-c",
                     "echo $A; pwd; id -u")  # fmt: skip
    assert done.stdout == "b\n/tmp\n1\n"
    assert shell.run("exec", "-d", "exe", "touch", "/tmp/made").returncode == 0
    until(lambda: shell.run("exec", "exe", "ls", "/tmp/made").returncode == 0, "exec -d ran")
    assert shell.run("exec", "exe", "nosuch").returncode in (126, 127)
    assert shell.run("exec", "nope", "true").stderr.endswith("No such container: nope\n")


def terminal(
    shell: Shell, *words: str, lines: tuple[bytes, ...] = (), prompt: bytes = b"# "
) -> tuple[int, bytes]:
    """Our command line on a terminal of 24 rows and 80 columns."""
    environment = [f"{key}={value}" for key, value in shell.environment.items()]
    return on_terminal(["env", "-i", *environment, str(BOXWOOD), *words], lines, prompt)


# A prompt of our own: busybox's shell asks the terminal questions behind its own one.
# Engines before API 1.44 learn the terminal's size only after the start.
ASK = "sleep 0.3; stty size; tty; printf 'ready# '; read -r code; exit $code"


def test_a_terminal_has_our_size(shell: Shell) -> None:
    code, out = terminal(shell, *RUN, "-it", IMAGE, "sh", "-c", ASK, lines=(b"5\r",))
    assert code == 5, out
    assert out.startswith(b"24 80\r\n/dev/"), out


@pytest.mark.parametrize("flags", [(), ("--detach-keys", "ctrl-a,x")])
def test_the_keys_detach_from_run_attach_and_exec(shell: Shell, flags: tuple[str, ...]) -> None:
    keys = (b"\x01x" if flags else b"\x10\x11",)
    talk = ("sh", "-c", "while sleep 0.1; do printf 'ready# '; done")
    code, out = terminal(
        shell, "run", "-it", "--network", "none", "--name", "term", *flags, IMAGE, *talk, lines=keys
    )
    assert code == 0, out
    assert shell.run("inspect", "-f", "{{.State.Running}}", "term").stdout == "true\n"
    code, out = terminal(shell, "exec", "-it", *flags, "term", *talk, lines=keys)
    assert (code, out.endswith(b"read escape sequence\r\n")) == (1, True), out
    code, out = terminal(shell, "attach", *flags, "term", lines=keys)
    assert (code, out.endswith(b"read escape sequence\r\n")) == (1, True), out
    assert shell.run("inspect", "-f", "{{.State.Running}}", "term").stdout == "true\n"


def test_the_terminal_is_as_before(shell: Shell) -> None:
    script = f"stty -g > $0.1; {BOXWOOD} {' '.join(RUN)} -it {IMAGE} true; stty -g > $0.2"
    base = shell.config / "tty"
    environment = [f"{key}={value}" for key, value in shell.environment.items()]
    code, out = on_terminal(["env", "-i", *environment, "sh", "-c", script, str(base)], (), b"")
    assert code == 0, out
    assert Path(f"{base}.1").read_text() == Path(f"{base}.2").read_text() != ""
