"""The small grammars of flags: sizes, durations, times, files, CSV, ports, mounts.

What Docker's client makes of whole command lines stands in tests/integration/cli_opts.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwood.cli.opts import (
    OptError,
    build_create_body,
    parse_bytes,
    parse_cpus,
    parse_duration,
    parse_env_file,
    parse_filters,
    parse_signal,
    parse_time,
)
from boxwood.cli.opts._csv import parse_csv
from boxwood.cli.opts._mounts import mount, volume
from boxwood.cli.opts._net import parse_network
from boxwood.cli.opts._ports import exposed, published


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("10", 10), ("1k", 1024), ("1.5g", 3 << 29), ("64MiB", 64 << 20), ("2 t", 2 << 40)],
)
def test_bytes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "1x", "1kk", "nan", "inf", "1e400", "9999p", "1_0"]
)
def test_bad_bytes(text: str) -> None:
    with pytest.raises(OptError):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("0", 0),
        ("1s", 10**9),
        ("1h30m", 5400 * 10**9),
        ("-1.5s", -1_500_000_000),
        ("1.5ms", 1_500_000),
        (".5s", 500_000_000),
        ("1us", 1000),
        ("1µs", 1000),
    ],
)
def test_duration(text: str, nanos: int) -> None:
    assert parse_duration(text) == nanos


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 'time: invalid duration ""'),
        ("1", 'time: missing unit in duration "1"'),
        ("1x", 'time: unknown unit "x" in duration "1x"'),
        ("s", 'time: invalid duration "s"'),
        ("99999999h", 'time: invalid duration "99999999h"'),
    ],
)
def test_bad_duration(text: str, words: str) -> None:
    with pytest.raises(OptError) as caught:
        parse_duration(text)
    assert str(caught.value) == words


@pytest.mark.parametrize(
    ("text", "nanos"), [("1", 10**9), ("0.5", 5 * 10**8), ("3/2", 15 * 10**8), ("1e-9", 1)]
)
def test_cpus(text: str, nanos: int) -> None:
    assert parse_cpus(text) == nanos


@pytest.mark.parametrize(
    "text", ["", "x", "1/0", "1e", "0x1", "1e-10", "1/3", "9" * 60, "1e999999"]
)
def test_bad_cpus(text: str) -> None:
    with pytest.raises(OptError):
        parse_cpus(text)


@pytest.mark.parametrize(
    ("text", "stamp"),
    [
        ("1714557600", "1714557600"),
        ("1714557600.5", "1714557600.5"),
        ("10m", "999400.000000000"),
        ("2024-05-01T10:00:00Z", "1714557600.000000000"),
        ("2024-05-01T10:00:00.25Z", "1714557600.250000000"),
        ("2024-05-01T12:00:00+02:00", "1714557600.000000000"),
        ("2024-05-01T10:00Z", "1714557600.000000000"),
        ("2024-05-01Z", "1714521600.000000000"),
        ("2024-02-29Z", "1709164800.000000000"),
        ("2024-02-30Z", None),
        ("2024-05", None),
        ("-5", None),
        ("2024-13-01", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_time(text: str, stamp: str | None) -> None:
    if stamp is None:
        with pytest.raises(OptError):
            parse_time(text, now=1_000_000)
    else:
        assert parse_time(text, now=1_000_000) == stamp


def test_filters_and_signals() -> None:
    assert parse_filters(["a=1", "A = 2", "a=1", "b=x=y"]) == {"a": ["1", "2"], "b": ["x=y"]}
    with pytest.raises(OptError):
        parse_filters(["x"])
    assert [parse_signal(each) for each in ("kill", "SIGTERM", "9", "rtmin+3")] == [
        "SIGKILL",
        "SIGTERM",
        "9",
        "SIGRTMIN+3",
    ]
    with pytest.raises(OptError):
        parse_signal("")


def test_env_file(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_bytes(b"\xef\xbb\xbf# c\nA=1\r\n  B = 2\n")
    with pytest.raises(OptError, match="contains whitespaces"):
        parse_env_file(str(path), {})
    path.write_text('A="x"\nKNOWN\nUNKNOWN\n\n#B=1\nC=\n')
    assert parse_env_file(str(path), {"KNOWN": "k"}) == ['A="x"', "KNOWN=k", "C="]
    path.write_bytes(b"A=\xff\n")
    with pytest.raises(OptError, match="invalid utf8 bytes at line 1"):
        parse_env_file(str(path), {})
    with pytest.raises(OptError, match="no such file or directory"):
        parse_env_file(str(tmp_path / "none"), {})


@given(st.lists(st.text(st.characters(exclude_characters="\r\n")), min_size=1))
def test_csv_reads_what_csv_writes(fields: list[str]) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(fields)
    if out.getvalue():
        assert parse_csv(out.getvalue()) == fields


grammars = st.sampled_from(
    [
        parse_csv,
        parse_bytes,
        parse_cpus,
        parse_duration,
        parse_time,
        parse_network,
        parse_signal,
        volume,
        mount,
        lambda text: published([text]),
        lambda text: exposed([text]),
    ]
)
PIECES = (*"abz019.,:=/-[]\"' +eé", "type", "bind", "src=", "dst=/", "tcp")
flag_text = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@given(grammars, flag_text)
def test_any_text_is_read_or_refused(grammar: Any, text: str) -> None:
    try:
        grammar(text)
    except OptError:
        return


def test_flags_are_refused_in_docker_words() -> None:
    with pytest.raises(OptError) as caught:
        build_create_body({"env": [""]}, "img", [])
    assert caught.value.in_flag
    assert str(caught.value).startswith('invalid argument "" for "-e, --env" flag: ')
    with pytest.raises(OptError) as caught:
        build_create_body({"rm": True, "restart": "always"}, "img", [])
    assert not caught.value.in_flag
    with pytest.raises(OptError, match="both --attach and --detach"):
        build_create_body({"detach": True, "attach": ["stdin"]}, "img", [])


def test_request() -> None:
    flags = {"name": "n", "platform": "linux/amd64", "interactive": True, "detach": True}
    request = build_create_body(flags, "img", ["sh"])
    body, name, query = request
    assert (name, query, request.warnings) == ("n", {"platform": "linux/amd64"}, [])
    assert body["Cmd"] == ["sh"]
    assert body["OpenStdin"] is True
    assert body["AttachStdin"] is body["AttachStdout"] is body["StdinOnce"] is False


def test_warnings() -> None:
    flags = {"dns": ["127.0.0.53"], "oom_kill_disable": True}
    assert len(build_create_body(flags, "img", []).warnings) == 2
