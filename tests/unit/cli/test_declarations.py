"""Declarations, help, completion and docs/cli.md say the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from boxwood.cli import docs, tree
from boxwood.cli import help as pages
from boxwood.cli.command import INTEGERS, REPEATED, Command, Flag
from boxwood.cli.completion import complete, script
from boxwood.cli.context import Context
from boxwood.cli.daemonflags import DAEMON_FLAGS
from boxwood.cli.options import GLOBAL_FLAGS
from boxwood.cli.runflags import CREATE_FLAGS, RUN_FLAGS

ROOT = Path(__file__).resolve().parents[3]
COMMANDS = ROOT / "runtime" / "boxwood" / "cli" / "commands"
MODULES = sorted({module for _, module in tree.walk()})
# facts/docker-cli.md section 4, and the flags of dockerd that issue 3 names.
# fmt: off
RUN_NAMES = frozenset((
    "attach", "add-host", "annotation", "blkio-weight", "blkio-weight-device",
    "device-read-bps", "device-write-bps", "device-read-iops", "device-write-iops",
    "cap-add", "cap-drop", "cgroup-parent", "cgroupns", "cidfile", "cpu-count",
    "cpu-percent", "isolation", "io-maxbandwidth", "io-maxiops", "cpu-period", "cpu-quota",
    "cpus", "cpu-shares", "cpuset-cpus", "cpuset-mems", "cpu-rt-period", "cpu-rt-runtime",
    "detach", "detach-keys", "device", "device-cgroup-rule", "dns", "dns-option",
    "dns-search", "domainname", "hostname", "entrypoint", "env", "env-file", "expose",
    "gpus", "group-add", "health-cmd", "health-interval", "health-retries",
    "health-start-interval", "health-start-period", "health-timeout", "no-healthcheck",
    "init", "interactive", "ip", "ip6", "link-local-ip", "mac-address", "network-alias",
    "ipc", "label", "label-file", "link", "log-driver", "log-opt", "memory",
    "memory-reservation", "memory-swap", "memory-swappiness", "oom-kill-disable",
    "oom-score-adj", "mount", "name", "network", "pid", "uts", "userns", "pids-limit",
    "platform", "privileged", "publish", "publish-all", "pull", "quiet", "read-only",
    "restart", "rm", "runtime", "security-opt", "shm-size", "tmpfs", "ulimit", "sysctl",
    "sig-proxy", "stop-signal", "stop-timeout", "storage-opt", "tty", "use-api-socket",
    "user", "workdir", "volume", "volume-driver", "volumes-from", "disable-content-trust",
))
# fmt: on


def flags_of(module: str) -> tuple[Flag, ...]:
    return tree.load(module).flags


@pytest.mark.parametrize("module", MODULES)
def test_a_declaration_is_whole(module: str) -> None:
    command = tree.load(module)
    assert isinstance(command, Command)
    assert command.short
    assert not command.short.endswith(".")
    names = [name for flag in command.flags for name in (flag.name, *flag.aliases)]
    letters = [flag.short for flag in command.flags if flag.short]
    assert len(names) == len(set(names))
    assert len(letters) == len(set(letters))
    assert "help" not in names


@pytest.mark.parametrize("module", MODULES)
def test_every_flag_explains_itself(module: str) -> None:
    for flag in flags_of(module):
        assert flag.help, flag.name
        assert not flag.help.removesuffix("...").endswith("."), flag.name
        assert flag.help[0].isupper() or flag.help[0] == "/", flag.name
        if flag.default is not None and flag.kind in INTEGERS:
            assert isinstance(flag.default, int)
        if flag.kind in REPEATED:
            assert flag.default is None


def test_every_module_is_a_command_that_can_be_typed() -> None:
    files = {path.stem for path in COMMANDS.glob("*.py")} - {"__init__"}
    assert files == set(MODULES)


def test_run_has_dockers_flags() -> None:
    names = {flag.name for flag in RUN_FLAGS}
    assert names >= RUN_NAMES
    only_run = names - {flag.name for flag in CREATE_FLAGS}
    assert only_run == {"detach", "detach-keys", "sig-proxy"}


def test_a_group_lists_what_stands_at_the_top() -> None:
    for alias_group, aliases in tree.ALIASES.items():
        members = tree.GROUPS[alias_group][1]
        assert set(aliases.values()) <= set(members)
        assert not set(aliases) & set(members)


def test_spellings_are_those_that_are_found() -> None:
    assert tree.spellings("ps") == ["container ls", "container list", "container ps", "ps"]
    assert tree.spellings("rmi") == ["image rm", "image remove", "rmi"]


def test_the_page_is_what_the_declarations_say() -> None:
    page = ROOT / "docs" / "cli.md"
    assert page.read_text(encoding="utf-8") == docs.render(), "run ./dev docs"


@pytest.mark.parametrize("module", MODULES)
def test_the_page_names_every_command_and_flag(module: str) -> None:
    page = docs.render()
    start = page.index(f"### {tree.spellings(module)[-1]}\n")
    section = page[start : page.find("\n### ", start + 1)]
    for flag in flags_of(module):
        assert flag.hidden or f"`--{flag.name}`" in section
    for spelling in tree.spellings(module):
        assert f"boxwood {spelling}" in section


@pytest.mark.parametrize("module", MODULES)
def test_the_help_shows_every_flag(module: str) -> None:
    text = pages.command_help("boxwood", f"boxwood {module}", module)
    for flag in flags_of(module):
        assert flag.hidden or f"--{flag.name}" in text
    assert max(map(len, text.splitlines())) <= 130


def test_the_programs_help_names_every_command() -> None:
    text = pages.program_help("docker")
    words = set(text.split())
    assert words >= set(tree.TOP) | set(tree.GROUPS)
    assert "Usage:  docker [OPTIONS] COMMAND" in text


def context() -> Context:
    values = {flag.dest: [] if flag.repeated else flag.default for flag in GLOBAL_FLAGS}
    return Context("boxwood", values | {"host": ["unix:///nonexistent/engine.sock"]}, [])


@pytest.mark.parametrize(
    ("words", "candidates"),
    [
        (["rest"], ["restart"]),
        (["volu"], ["volume"]),
        (["volume", ""], ["create", "inspect", "ls", "prune", "rm"]),
        (["volume", "cr"], ["create"]),
        (["ps", "--no"], ["--no-trunc"]),
        (["container", "ls", "--no"], ["--no-trunc"]),
        (["-H", "unix:///x", "ps", "--no"], ["--no-trunc"]),
        (["--tlsv"], ["--tlsverify"]),
        (["run", "busybox", "--no"], []),
        (["start", ""], []),
        (["nonsense", ""], []),
    ],
)
def test_completion(words: list[str], candidates: list[str]) -> None:
    assert complete(context(), words) == candidates


@pytest.mark.parametrize("shell", ["bash"])
def test_the_script_is_one_that_the_shell_reads(shell: str) -> None:
    done = subprocess.run(
        [shell, "-n"], input=script("boxwood", shell), text=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_daemons_flags_leave_absent_what_was_not_given() -> None:
    assert all(flag.default is None for flag in DAEMON_FLAGS)


HEAVY = ("typing", "json", "re", "enum", "socket", "signal", "click", "msgspec", "dataclasses")


def test_running_a_container_imports_little() -> None:
    """What a `boxwood run` may not pay for; the client's and the command line's own modules."""
    code = (
        "import sys\n"
        "import boxwood.cli.main, boxwood.cli.tree, boxwood.cli.commands.run\n"
        "from boxwood.cli.opts import build_create_body\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    # -I -S: neither the environment nor a .pth file of the tools brings modules along.
    path = f"import sys; sys.path[:0] = {[str(ROOT / 'runtime')]!r}\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", path + code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
