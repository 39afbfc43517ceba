"""Sizes, durations, tables, ports and rows, as Docker writes them (its client is the oracle in
tests/integration/cli_opts/test_lists.py)."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwood.cli.format import (
    command_column,
    container_row,
    ellipsis,
    human_duration,
    human_size,
    human_size_binary,
    inspect_print,
    ports_column,
    print_list,
    short_id,
    table_text,
)
from boxwood.cli.format._list import text_width
from boxwood.cli.template import TemplateError


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (1210, "1.21kB"),
        (5_600_000, "5.6MB"),
        (1e15, "1PB"),
    ],
)
def test_human_size(size: float, text: str) -> None:
    assert human_size(size) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0B"), (2048, "2KiB"), (2_048_000, "1.953MiB"), (1 << 30, "1GiB")]
)
def test_human_size_binary(size: float, text: str) -> None:
    assert human_size_binary(size) == text


MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "Less than a second"),
        (0.9, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (MINUTE, "About a minute"),
        (2 * MINUTE, "2 minutes"),
        (59 * MINUTE + 59, "59 minutes"),
        (HOUR, "About an hour"),
        (1.5 * HOUR, "2 hours"),
        (3 * HOUR, "3 hours"),
        (47 * HOUR, "47 hours"),
        (2 * DAY, "2 days"),
        (13 * DAY, "13 days"),
        (14 * DAY, "2 weeks"),
        (59 * DAY, "8 weeks"),
        (60 * DAY, "2 months"),
        (729 * DAY, "24 months"),
        (730 * DAY, "2 years"),
    ],
)
def test_human_duration(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def test_ids_and_commands() -> None:
    assert short_id("sha256:" + "ab" * 32) == "ab" * 6
    assert ellipsis("abcdef", 4) == "abc…"
    assert ellipsis("abc", 3) == "abc"
    assert ellipsis("abc", 1) == "a"
    assert command_column('sh -c "echo"') == r'"sh -c \"echo\""'
    assert command_column("x" * 21) == '"' + "x" * 19 + '…"'
    assert command_column("x" * 21, no_trunc=True) == '"' + "x" * 21 + '"'


def test_ports_are_merged_into_ranges() -> None:
    same = [
        {"IP": "0.0.0.0", "PrivatePort": port, "PublicPort": port, "Type": "tcp"}
        for port in (82, 80, 81)
    ]
    assert ports_column(same) == "0.0.0.0:80-82->80-82/tcp"
    mixed = [*same, {"PrivatePort": 53, "Type": "udp"}, {"PrivatePort": 55, "Type": "udp"}]
    assert ports_column(mixed) == "53/udp, 55/udp, 0.0.0.0:80-82->80-82/tcp"
    assert ports_column(None) == ""


def rows_shown(template: str | None, rows: list[Any], quiet: str | None = None) -> str:
    out = io.StringIO()
    print_list(
        rows,
        template=template,
        default_table=r"table {{.ID}}\t{{.Name}}",
        headers={"ID": "ID", "Name": "NAME"},
        quiet_field=quiet,
        out=out,
    )
    return out.getvalue()


def test_list_forms() -> None:
    rows = [{"ID": "1", "Name": "<a>"}, {"ID": "22", "Name": "b"}]
    assert rows_shown(None, []) == "ID        NAME\n"
    assert rows_shown(None, rows) == "ID        NAME\n1         <a>\n22        b\n"
    assert rows_shown("json", rows[:1]) == '{"ID":"1","Name":"\\u003ca\\u003e"}\n'
    assert rows_shown("{{.ID}}-{{.Name}}", rows) == "1-<a>\n22-b\n"
    assert rows_shown(r"table {{.Name}}\t{{.ID}}", rows).startswith("NAME      ID\n")
    assert rows_shown("{{.ID}}", rows, quiet="Name") == "<a>\nb\n"
    assert rows_shown(None, [], quiet="ID") == ""


def test_nothing_is_written_before_an_error() -> None:
    out = io.StringIO()
    with pytest.raises(TemplateError, match="template parsing error"):
        print_list(
            [{"ID": "1"}],
            template="{{.ID}}{{.Nope}}",
            default_table="",
            headers={},
            quiet_field=None,
            out=out,
        )
    assert out.getvalue() == ""


@given(
    st.lists(
        st.lists(
            st.text(st.characters(exclude_characters="\t\n", exclude_categories=["Cs"])),
            min_size=3,
            max_size=3,
        ),
        min_size=1,
    )
)
def test_columns_start_together(rows: list[list[str]]) -> None:
    lines = table_text(["A", "B", "C"], rows).split("\n")[:-1]
    assert len(lines) == len(rows) + 1
    for column in (0, 1):
        width = max(10, *(text_width(row[column]) + 3 for row in rows))
        for line, row in zip(lines[1:], rows, strict=True):
            cell = row[column] + " " * (width - text_width(row[column]))
            assert line.startswith(cell)
        lines = [
            "",
            *(
                line[len(row[column]) + width - text_width(row[column]) :]
                for line, row in zip(lines[1:], rows, strict=True)
            ),
        ]


def test_container_row_has_every_field() -> None:
    row = container_row(
        {"Id": "ab" * 32, "Names": ["/web"], "Image": "i", "Command": "c", "Created": 1000},
        now=1000 + 7200,
    )
    assert row["RunningFor"] == "2 hours ago"
    assert row["Names"] == "web"
    names = set(
        "Command CreatedAt ID Image Labels LocalVolumes Mounts Names Networks Platform Ports "
        "RunningFor Size State Status".split()
    )
    assert row.keys() == names


def test_inspect_print() -> None:
    out = io.StringIO()
    inspect_print([{"b": 1, "a": ["<é>"], "e": {}}], None, out)
    assert (
        out.getvalue()
        == json.dumps([{"b": 1, "a": ["<é>"], "e": {}}], indent=4, ensure_ascii=False) + "\n"
    )
    out = io.StringIO()
    inspect_print([], None, out)
    assert out.getvalue() == "[]\n"
    out = io.StringIO()
    inspect_print([{"Id": "1"}, {"Id": "2"}], "{{.Id}}", out, kind="container")
    assert out.getvalue() == "1\n2\n"


def test_inspect_knows_fields_that_json_leaves_out() -> None:
    out = io.StringIO()
    state = {"Status": "running"}
    template = "{{if .State.Health}}h{{else}}-{{end}} {{index .Config.Labels `x`}}|{{.ID}}"
    inspect_print([{"Id": "1", "State": state, "Config": {}}], template, out, kind="container")
    assert out.getvalue() == "- |1\n"
