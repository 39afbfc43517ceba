"""Commands beside the stock client, on the same engine: the same output, the same code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.cli.conftest import IMAGE, Shell
from tests.support.paths import BOXWOOD

pytestmark = pytest.mark.root


READ_ONLY = [
    ("ps",),
    ("ps", "-a"),
    ("ps", "-aq"),
    ("ps", "-as"),
    ("ps", "-a", "--no-trunc"),
    ("ps", "-n", "1"),
    ("ps", "-lq"),
    ("ps", "-aqf", "status=exited"),
    ("ps", "-a", "--filter", "name=one", "--format", '{{.Names}} {{.State}} {{.Label "k"}}'),
    ("ps", "-a", "--format", "table {{.Names}}\t{{.Image}}"),
    ("ps", "-a", "--format", "json"),
    ("container", "ls", "-a"),
    ("container", "list", "-aq"),
    ("images",),
    ("images", "-q", "--no-trunc"),
    ("images", "--digests"),
    ("images", "--format", "{{.Repository}}:{{.Tag}}"),
    ("image", "ls", "nosuch"),
    ("inspect", "one"),
    ("inspect", "-f", "{{.Name}} {{.State.Status}} {{json .Config.Labels}}", "one"),
    ("inspect", "-f", "{{json .Mounts}}", "one"),
    ("inspect", "-s", "-f", "{{.SizeRw}}", "one"),
    ("inspect", "one", IMAGE),
    ("inspect", "nope", "one"),
    ("inspect", "--type", "image", "one"),
    ("inspect", "--type", "foo", "one"),
    ("inspect", "-f", "{{", "one"),
    ("inspect", "-f", "{{.Foo}}", "one"),
    ("container", "inspect", "nope"),
    ("image", "inspect", IMAGE),
    ("image", "inspect", "nope"),
    ("volume", "inspect", "nope"),
    ("network", "inspect", "nope"),
    ("network", "inspect", "none"),
    ("network", "ls"),
    ("network", "ls", "-q", "--no-trunc"),
    ("volume", "ls"),
    ("volume", "ls", "-q"),
    ("history", IMAGE),
    ("history", "--no-trunc", "-q", IMAGE),
    ("logs", "done"),
    ("logs", "-n", "1", "done"),
    ("logs", "-t", "done"),
    ("logs", "nope"),
    ("port", "one"),
    ("port", "one", "80"),
    ("wait", "done"),
    ("wait", "nope"),
    ("start", "nope"),
    ("stop", "nope", "nope2"),
    ("kill", "done"),
    ("kill", "-s", "FOO", "one"),
    ("pause", "done"),
    ("rm", "one"),
    ("rm", "nope"),
    ("rm", "-f", "nope"),
    ("rmi", "nope"),
    ("rmi", "-f", "nope"),
    ("rename", "nope", "x"),
    ("rename", "one", "one"),
    ("tag", "nope", "x"),
    ("exec", "done", "true"),
    ("exec", "-it", "done", "sh"),
    ("exec", "one", "sh", "-c", "exit 9"),
    ("attach", "done"),
    ("volume", "rm", "nope"),
    ("volume", "rm", "-f", "nope"),
    ("events", "--since", "1", "--until", "2"),
    ("events", "--since", "x"),
    ("events", "--format", "{{", "--until", "2"),
    ("create", "nosuch:image", "--pull", "never"),
    ("run", "--name", "one", "--network", "none", IMAGE, "true"),
    ("run", "-p", "foo", IMAGE),
    ("run", "-e", "=x", IMAGE),
    ("run", "--mount", "type=foo,dst=/x", IMAGE),
    ("run", "--ulimit", "foo", IMAGE),
    ("run", "-m", "1x", IMAGE),
    ("version", "--format", "{{.Server.Version}}"),
    ("version", "--format", "{{"),
    ("info", "--format", "{{.Driver}} {{.OSType}}"),
    ("info", "--format", "{{"),
    ("ps", "--bad"),
    ("ps", "extra"),
    ("ps", "-n"),
    ("ps", "-f", "foo"),
    ("ps", "-f", "foo=bar"),
    ("container", "nosuch"),
    ("nosuch",),
    ("--bad", "ps"),
    ("-l", "foo", "ps"),
    ("rename", "a"),
    ("volume", "create", "--name", "v", "v"),
    ("stop", "-t", "x", "one"),
    ("tag", IMAGE, "x:"),
    ("tag", IMAGE, ""),
    ("tag", IMAGE, "0" * 64),
    ("tag", IMAGE, "-q"),
    ("pull", f"{IMAGE}:"),
    ("pull", ""),
    ("pull", "0" * 64),
    ("push", "x:"),
    ("commit", "done", "x:"),
    ("commit", "done", ":x"),
    ("commit", "done", "0" * 64),
    ("import", "-", "x:"),
    ("load", "-i", "/nosuch/file"),
    ("save", "-o", "/nosuch/file", IMAGE),
    ("save", "-o", "/", IMAGE),
    ("export", "-o", "/nosuch/file", "done"),
    ("export", "-o", "/", "done"),
    ("cp", ":/x", "/nosuch"),
    ("image", "prune"),
    ("start", "-a", "one", "done"),
]


@pytest.fixture
def two(shell: Shell, sleeper: Callable[..., str]) -> Shell:
    """An engine with one container that runs and one that is done."""
    sleeper("one", "-l", "k=v", "-l", "com.example.app=web")
    done = shell.run("run", "--name", "done", "--network", "none", IMAGE, "sh", "-c",
                     "echo a; echo b >&2; exit 3")  # fmt: skip
    assert done.returncode == 3
    return shell


def test_what_only_reads_is_the_same(two: Shell) -> None:
    """One engine with two containers for all of them: making those takes longest."""
    different = []
    for words in READ_ONLY:
        ours, theirs = two.run(*words), two.docker(*words)
        found, wanted = outcome(*words, done=ours), outcome(*words, done=theirs)
        if found != wanted:
            different.append(f"{' '.join(words)}\n  ours   {found}\n  docker {wanted}")
    assert not different, "\n" + "\n".join(different)


def test_disk_usage_is_the_same(two: Shell) -> None:
    """Each image, container and volume as the stock client lists it; our archives come after."""
    volume = two.run("volume", "create").stdout.strip()
    two.run("run", "--name", "more", "--network", "none", "-v", f"{volume}:/v", IMAGE, "sh", "-c",
            "echo x > /v/x; echo y > /y")  # fmt: skip
    try:
        ours, theirs = two.run("system", "df", "-v"), two.docker("system", "df", "-v")
        assert (ours.returncode, ours.stderr) == (0, "")
        assert volume in ours.stdout
        assert steady(ours.stdout).startswith(steady(theirs.stdout))
        assert two.run("system", "df").stdout == two.docker("system", "df").stdout
    finally:
        two.run("rm", "-f", "more")
        two.run("volume", "rm", volume)


def outcome(*words: str, done: object) -> tuple[int, str, str]:
    """Code, stdout and stderr, with the program's name and what a clock moves made one."""
    code, out, err = done.returncode, done.stdout, done.stderr  # type: ignore[attr-defined]
    err = err.replace("boxwood", "docker").replace("Boxwood", "Docker").replace("See '", "Run '")
    return code, steady(out), "\n".join(line for line in err.splitlines() if line)


def steady(text: str) -> str:
    """Ages differ between two calls by a second; the columns that hold them do too."""
    import re

    text = re.sub(r"(About |Less than )?(\d+|a|an) (seconds?|minutes?)( ago)?", "AGE", text)
    return "\n".join(re.sub(r" {2,}", "  ", line).rstrip() for line in text.splitlines())


def test_targets_echo_as_typed(shell: Shell, sleeper: Callable[..., str]) -> None:
    ident = sleeper("xx")
    for words in (("pause", "xx"), ("unpause", ident[:12]), ("stop", "-t0", "xx"), ("start", "xx"),
                  ("restart", "-t", "0", "xx"), ("kill", "xx"), ("rm", "xx")):  # fmt: skip
        done = shell.run(*words)
        assert (done.stdout, done.stderr) == (f"{words[-1]}\n", ""), words


def test_several_targets_each_have_their_line(shell: Shell, sleeper: Callable[..., str]) -> None:
    sleeper("xx")
    sleeper("yy")
    done = shell.run("rm", "-f", "xx", "nope", "yy")
    assert done.stdout == "xx\nyy\n"
    assert done.stderr == "Error response from daemon: No such container: nope\n"
    assert done.returncode == 0
    assert shell.run("rm", "nope").returncode == 1


def test_events_tell_a_life(shell: Shell) -> None:
    shell.run("run", "--rm", "--network", "none", "--name", "life", IMAGE, "true")
    done = shell.run("events", "--since", "1m", "--until", "0s", "-f", "container=life",
                     "--format", "{{.Action}}")  # fmt: skip
    actions = done.stdout.split()
    assert actions[0] == "create"
    assert "start" in actions
    assert actions[-1] == "destroy"


def test_volumes(shell: Shell) -> None:
    assert (
        shell.run("volume", "create", "--label", "a=b", "boxwood-cli-v").stdout == "boxwood-cli-v\n"
    )
    try:
        found = json.loads(shell.run("volume", "inspect", "boxwood-cli-v").stdout)
        assert found[0]["Labels"] == {"a": "b"}
        done = shell.run("run", "--rm", "--network", "none", "-v", "boxwood-cli-v:/v", IMAGE,
                         "sh", "-c", "echo kept > /v/file")  # fmt: skip
        assert done.returncode == 0, done.stderr
        done = shell.run("run", "--rm", "--network", "none", "--mount",
                         "src=boxwood-cli-v,dst=/v", IMAGE, "cat", "/v/file")  # fmt: skip
        assert done.stdout == "kept\n"
    finally:
        assert shell.run("volume", "rm", "boxwood-cli-v").stdout == "boxwood-cli-v\n"


def test_images(shell: Shell) -> None:
    assert shell.run("tag", IMAGE, "boxwood-cli/x:y").returncode == 0
    names = shell.run("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
    assert "boxwood-cli/x:y" in names
    assert shell.run("rmi", "boxwood-cli/x:y").stdout == "Untagged: boxwood-cli/x:y\n"


def test_formats_of_the_configuration_count(shell: Shell, sleeper: Callable[..., str]) -> None:
    sleeper("conf")
    config = shell.config / "config.json"
    config.write_text(json.dumps({"psFormat": "{{.Names}}!", "HttpHeaders": {"X-A": "b"}}))
    assert shell.run("ps").stdout == "conf!\n"
    assert shell.run("ps", "--format", "{{.Names}}?").stdout == "conf?\n"
    other = shell.config / "other"
    other.mkdir()
    assert shell.run("--config", str(other), "ps").stdout.startswith("CONTAINER ID")
    config.write_text("[]")
    broken = shell.run("ps")
    assert broken.returncode == 0
    assert broken.stderr == f"WARNING: Error loading config file: {config}: not a JSON object\n"


def test_dockers_plugins_are_led_to_the_engine(shell: Shell) -> None:
    folder = shell.config / "cli-plugins"
    folder.mkdir()
    plugin = folder / "docker-hello"
    plugin.write_text('#!/bin/sh\necho "$DOCKER_HOST" "$@"\nexit 9\n')
    plugin.chmod(0o755)
    done = shell.run("-D", "hello", "--there")
    assert (done.stdout, done.returncode) == (f"{shell.host} -D hello --there\n", 9)


def test_the_link_named_docker_is_a_docker(shell: Shell, tmp_path: Path) -> None:
    import subprocess

    link = tmp_path / "docker"
    link.symlink_to(BOXWOOD)
    environment = shell.environment
    del environment["BOXWOOD_HOST"]
    done = subprocess.run([link, "ps", "-q"], env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    done = subprocess.run(
        [link, "run", "--bad"], env=environment, capture_output=True, text=True, check=False
    )
    assert "Run 'docker run --help'" in done.stderr
    environment["DOCKER_HOST"] = "unix:///nonexistent"
    done = subprocess.run(
        [link, "ps"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr == (
        "Cannot connect to the Docker daemon at unix:///nonexistent. "
        "Is the docker daemon running?\n"
    )
    environment = shell.environment | {"BOXWOOD_HOST": "unix:///nonexistent"}
    done = subprocess.run(
        [BOXWOOD, "ps"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Cannot connect to the Boxwood daemon at unix:///nonexistent" in done.stderr
