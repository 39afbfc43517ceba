"""Flags are read as pflag reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwood.cli.command import Command, Flag
from boxwood.cli.errors import HelpRequested, UsageError
from boxwood.cli.parser import check_count, parse, parse_bool, parse_int

FLAGS = (
    Flag("all", "bool", "", "a"),
    Flag("quiet", "bool", "", "q"),
    Flag("sig-proxy", "bool", "", default=True),
    Flag("maybe", "bool", "", optional=True),
    Flag("last", "int", "", "n", default=-1),
    Flag("weight", "uint16", ""),
    Flag("name", "string", ""),
    Flag("env", "list", "", "e"),
    Flag("alias", "strings", ""),
    Flag("filter", "filter", "", "f"),
    Flag("timeout", "int", "", "t", aliases=("time",)),
)


def make(*, interspersed: bool = True, least: int = 0, most: int | None = None) -> Command:
    return Command(lambda *_: 0, "", flags=FLAGS, interspersed=interspersed, least=least, most=most)


COMMAND = make()


def test_nothing_gives_the_defaults() -> None:
    values, args = parse(COMMAND, [])
    assert args == []
    assert values == {
        "all": False,
        "quiet": False,
        "sig_proxy": True,
        "maybe": None,
        "last": -1,
        "weight": None,
        "name": None,
        "env": [],
        "alias": [],
        "filter": [],
        "timeout": None,
    }


@pytest.mark.parametrize(
    ("argv", "dest", "value"),
    [
        (["-a"], "all", True),
        (["--all=false"], "all", False),
        (["-a=false"], "all", False),
        (["-qa"], "all", True),
        (["--sig-proxy=0"], "sig_proxy", False),
        (["--maybe=F"], "maybe", False),
        (["-n5"], "last", 5),
        (["-n", "5"], "last", 5),
        (["-n=5"], "last", 5),
        (["-qn", "0x10"], "last", 16),
        (["--last=-1"], "last", -1),
        (["--last", "-3"], "last", -3),
        (["--last", "017"], "last", 15),
        (["--name="], "name", ""),
        (["--name", "--all"], "name", "--all"),
        (["--name=a=b"], "name", "a=b"),
        (["-e", "A=1", "-eB=2", "--env=C=a,b"], "env", ["A=1", "B=2", "C=a,b"]),
        (["--alias", "a,b", "--alias=c"], "alias", ["a", "b", "c"]),
        (["-f", "a=b", "-fc=d"], "filter", ["a=b", "c=d"]),
        (["--time", "3"], "timeout", 3),
    ],
)
def test_spellings(argv: list[str], dest: str, value: object) -> None:
    values, args = parse(COMMAND, argv)
    assert values[dest] == value
    assert args == []


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--bad"], "unknown flag: --bad"),
        (["--bad=1"], "unknown flag: --bad"),
        (["-x"], "unknown shorthand flag: 'x' in -x"),
        (["-ax"], "unknown shorthand flag: 'x' in -x"),
        (["-axq"], "unknown shorthand flag: 'x' in -xq"),
        (["--name"], "flag needs an argument: --name"),
        (["-n"], "flag needs an argument: 'n' in -n"),
        (["-an"], "flag needs an argument: 'n' in -n"),
        (["---all"], "bad flag syntax: ---all"),
        (["--=x"], "bad flag syntax: --=x"),
        (
            ["--all=maybe"],
            (
                'invalid argument "maybe" for "-a, --all" flag: '
                'strconv.ParseBool: parsing "maybe": invalid syntax'
            ),
        ),
        (
            ["-n", "x"],
            (
                'invalid argument "x" for "-n, --last" flag: '
                'strconv.ParseInt: parsing "x": invalid syntax'
            ),
        ),
        (
            ["--weight", "70000"],
            (
                'invalid argument "70000" for "--weight" flag: '
                'strconv.ParseUint: parsing "70000": value out of range'
            ),
        ),
        (
            ["-f", "x"],
            (
                'invalid argument "x" for "-f, --filter" flag: '
                "bad format of filter (expected name=value)"
            ),
        ),
    ],
)
def test_what_cannot_be_read(argv: list[str], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(COMMAND, argv)
    assert caught.value.text == text
    assert caught.value.flag


def test_flags_stand_anywhere_unless_they_end_at_the_first_argument() -> None:
    argv = ["-a", "image", "-q", "--name", "x"]
    values, args = parse(COMMAND, argv)
    assert (values["quiet"], args) == (True, ["image"])
    values, args = parse(make(interspersed=False), argv)
    assert (values["all"], values["quiet"]) == (True, False)
    assert args == ["image", "-q", "--name", "x"]


def test_two_dashes_end_the_flags_and_one_is_an_argument() -> None:
    assert parse(COMMAND, ["-", "--", "-a", "--"])[1] == ["-", "-a", "--"]
    assert parse(make(interspersed=False), ["--", "-a", "--", "-q"])[1] == ["-a", "--", "-q"]
    assert parse(make(interspersed=False), ["x", "--", "-a"])[1] == ["x", "--", "-a"]


def test_help_counts_when_all_before_it_was_right() -> None:
    with pytest.raises(HelpRequested):
        parse(COMMAND, ["-a", "--help", "--bad"])
    with pytest.raises(UsageError):
        parse(COMMAND, ["--bad", "--help"])
    with pytest.raises(HelpRequested):
        parse(COMMAND, ["-h"])


@pytest.mark.property
@given(st.lists(st.text(max_size=12), max_size=8), st.booleans())
def test_any_words_are_read_or_refused(argv: list[str], interspersed: bool) -> None:
    try:
        _, args = parse(make(interspersed=interspersed), argv)
    except (UsageError, HelpRequested):
        return
    rest = iter(argv)
    assert all(word in rest for word in args), "the arguments keep their order"


@pytest.mark.property
@given(st.integers(-(1 << 70), 1 << 70))
def test_integers_have_bounds(number: int) -> None:
    if -(1 << 63) <= number < 1 << 63:
        assert parse_int(str(number), "int") == number
    else:
        with pytest.raises(ValueError, match="out of range"):
            parse_int(str(number), "int")


@pytest.mark.parametrize("text", ["", "1.0", "++1", " 1", "1 ", "0b2", "08", "_1", "１"])
def test_what_is_no_integer(text: str) -> None:
    with pytest.raises(ValueError, match="invalid syntax"):
        parse_int(text, "int")


@pytest.mark.parametrize("text", ["yes", "tRUE", "", "2", "on"])
def test_what_is_no_boolean(text: str) -> None:
    with pytest.raises(ValueError, match="ParseBool"):
        parse_bool(text)


@pytest.mark.parametrize(
    ("least", "most", "count", "text"),
    [
        (0, 0, 1, "'c' accepts no arguments"),
        (1, 1, 2, "'c' requires 1 argument"),
        (2, 2, 1, "'c' requires 2 arguments"),
        (1, None, 0, "'c' requires at least 1 argument"),
        (0, 1, 2, "'c' requires at most 1 argument"),
        (1, 2, 3, "'c' requires at least 1 and at most 2 arguments"),
    ],
)
def test_counts_of_arguments(least: int, most: int | None, count: int, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_count(make(least=least, most=most), count, "c")
    assert caught.value.text == text
    assert not caught.value.flag
