"""Signals, detach keys, failures' words, health's judgement, restart policies."""

from __future__ import annotations

import errno
import signal

import pytest

from boxwood.errors import InvalidArgument, LaunchError
from boxwood.model.config import ContainerConfig, HealthConfig, HostConfig, RestartPolicy
from boxwood.model.container import Container, Health, ProbeResult, State
from boxwood.model.signals import parse_signal
from boxwood.services.containers import failures
from boxwood.services.containers.attach import parse_detach_keys
from boxwood.services.containers.health import Schedule, has_probe, judge
from boxwood.services.containers.reconcile import wants_start


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("9", 9), ("KILL", 9), ("SIGKILL", 9), ("sigkill", 9), ("term", 15), ("RTMIN", 34),
        ("SIGRTMIN+3", 37), ("RTMAX-1", signal.SIGRTMAX - 1), ("IOT", signal.SIGABRT),
        ("+9", 9), ("0009", 9), ("RTMIN+15", 49), ("RTMAX-14", 50), ("CLD", 17), ("STKFLT", 16),
    ],
)  # fmt: skip
def test_signals(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "", "0", "65", "-9", "SIG", "NOPE", "9x", "SIGSIGKILL", "RTMIN+0", "RTMIN+16", "RTMAX-0",
        "RTMAX-15", " KILL", "EMT", "\N{FULLWIDTH DIGIT NINE}", "9" * 5000,
    ],
)  # fmt: skip
def test_bad_signals(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid signal"):
        parse_signal(text)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"), ("", b""), ("a", b"a"), ("ctrl-@", b"\0"),
        ("ctrl-[,x", b"\x1bx"), ("ctrl-_", b"\x1f"),
    ],
)  # fmt: skip
def test_detach_keys(text: str, keys: bytes) -> None:
    assert parse_detach_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-1", "ab", ",", "ctrl-p,,q", "ctrl-P"])
def test_bad_detach_keys(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_detach_keys(text)


@pytest.mark.parametrize(
    ("operation", "target", "number", "words", "code"),
    [
        ("command", "nosuch", errno.ENOENT, "executable file not found in $PATH", 127),
        ("exec", "/nosuch", errno.ENOENT, "stat /nosuch: no such file or directory", 127),
        ("command", "/x", errno.EACCES, 'exec: "/x": permission denied', 126),
        ("exec", "/etc", errno.EISDIR, "is a directory: unknown: permission denied", 126),
        ("bind", "/x", errno.ENOTDIR, "Are you trying to mount a directory onto a file", 126),
        ("cwd", "/x", errno.ENOENT, 'chdir to cwd ("/x")', 128),
        ("exec", "/x", errno.ENOEXEC, "exec format error", 128),
    ],
)
def test_words_of_a_failed_start(
    operation: str, target: str, number: int, words: str, code: int
) -> None:
    text, found = failures.start_failure(LaunchError("x", operation, target, number))
    assert words in text
    assert found == code


def probe(code: int) -> ProbeResult:
    return ProbeResult(exit_code=code)


def test_health_turns_at_its_bound_and_back_at_once() -> None:
    schedule = Schedule(HealthConfig(test=("CMD", "x"), retries=2))
    health = judge(Health(), probe(1), 100.0, schedule)
    assert (health.status, health.failing_streak) == ("starting", 1)
    health = judge(health, probe(1), 100.0, schedule)
    assert (health.status, health.failing_streak) == ("unhealthy", 2)
    health = judge(health, probe(0), 100.0, schedule)
    assert (health.status, health.failing_streak) == ("healthy", 0)


def test_failures_in_the_start_period_do_not_count_while_starting() -> None:
    schedule = Schedule(HealthConfig(test=("CMD", "x"), retries=1, start_period=10**10))
    health = judge(Health(), probe(1), 5.0, schedule)
    assert (health.status, health.failing_streak) == ("starting", 0)
    healthy = judge(health, probe(0), 5.0, schedule)
    assert judge(healthy, probe(1), 6.0, schedule).status == "unhealthy"
    assert judge(health, probe(1), 11.0, schedule).status == "unhealthy"


def test_five_probes_are_kept() -> None:
    health = Health()
    for code in range(7):
        health = judge(health, probe(code), 0.0, Schedule(HealthConfig()))
    assert [entry.exit_code for entry in health.log] == [2, 3, 4, 5, 6]


def test_the_next_probe_is_sooner_in_the_start_period() -> None:
    schedule = Schedule(HealthConfig(start_period=10**10, start_interval=10**9))
    assert schedule.delay(Health(), 5.0) == 1.0
    assert schedule.delay(Health(), 11.0) == 30.0
    assert schedule.delay(Health(status="healthy"), 5.0) == 30.0


@pytest.mark.parametrize(
    ("test", "expected"),
    [(None, False), ((), False), (("NONE",), False), (("CMD", "x"), True), (("CMD-SHELL", "x"), 1)],
)
def test_what_is_a_probe(test: tuple[str, ...] | None, expected: bool) -> None:
    assert has_probe(ContainerConfig(healthcheck=HealthConfig(test=test))) == bool(expected)


def stopped(policy: str, *, limit: int = 0, **state: object) -> Container:
    host = HostConfig(restart_policy=RestartPolicy(name=policy, maximum_retry_count=limit))
    return Container(
        id="a",
        name="n",
        created_at=1,
        image_id="",
        image_ref="",
        path="",
        args=(),
        config=ContainerConfig(),
        host_config=host,
        networks={},
        storage_driver="",
        snapshot_key="",
        state=State(**{"status": "exited", "has_started": True, **state}),
    )


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        (stopped("no"), False),
        (stopped("always"), True),
        (stopped("always", manually_stopped=True), True),
        (stopped("always", status="running"), False),
        (stopped("always", has_started=False, status="created"), False),
        (stopped("unless-stopped"), True),
        (stopped("unless-stopped", manually_stopped=True), False),
        (stopped("on-failure", exit_code=0), False),
        (stopped("on-failure", exit_code=1), True),
        (stopped("on-failure", exit_code=1, manually_stopped=True), False),
        (stopped("on-failure", limit=2, exit_code=1, restart_count=2), False),
    ],
)
def test_what_starts_with_the_daemon(container: Container, expected: bool) -> None:
    assert wants_start(container) is expected
