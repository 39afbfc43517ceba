"""The values of --egress."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwood.errors import InvalidArgument
from boxwood.model.egress import Policy, Rule, parse


def test_none_is_no_policy() -> None:
    assert parse([]) is None
    assert parse(["deny"]) == Policy()
    assert parse(["learn"]) == Policy(learn=True)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("example.org", Rule("example.org")),
        ("API.Example.org.", Rule("api.example.org")),
        ("example.org:443", Rule("example.org", 443)),
        ("example.org:53/udp", Rule("example.org", 53, "udp")),
        ("*.example.org:443", Rule("*.example.org", 443)),
        ("10.0.0.0/8", Rule("10.0.0.0/8")),
        ("10.1.2.3", Rule("10.1.2.3/32")),
        ("10.1.2.0/24:80/tcp", Rule("10.1.2.0/24", 80)),
        ("fd00::/8", Rule("fd00::/8")),
        ("[fd00::1]:443", Rule("fd00::1/128", 443)),
        ("[fd00::/64]:53/udp", Rule("fd00::/64", 53, "udp")),
        ("localhost", Rule("localhost")),
    ],
)
def test_rules(text: str, rule: Rule) -> None:
    assert parse([f"allow={text}"]) == Policy((rule,))
    assert parse([f"allow={rule}"]) == Policy((rule,)), "as it is shown"


def test_several() -> None:
    policy = parse(["allow=a.example:443, b.example", "deny", "allow=a.example:443"])
    assert policy == Policy((Rule("a.example", 443), Rule("b.example")))


@pytest.mark.parametrize(
    "value",
    [
        "", "allow", "allow=", "allow=,", "permit=a", "deny=a", "allow=a:0", "allow=a:65536",
        "allow=a/udp", "allow=a b", "allow=*", "allow=*.", "allow=a.*.b", "allow=-a.b",
        "allow=10.0.0.1/8", "allow=10.0.0.0/33", "allow=300.1.1.1", "allow=[::1", "allow=a:b",
        "allow=" + "a" * 64, "allow=" + ".".join(["a" * 60] * 5), "allow=a:80/sctp",
    ],
)  # fmt: skip
def test_nonsense(value: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^invalid egress: "):
        parse([value])


def test_learn_stands_alone() -> None:
    with pytest.raises(InvalidArgument):
        parse(["learn", "allow=a"])


def test_too_many() -> None:
    with pytest.raises(InvalidArgument, match="more than 256"):
        parse(["allow=" + ",".join(f"h{n}.example" for n in range(257))])


@given(st.text(max_size=60))
def test_whatever_is_typed(text: str) -> None:
    try:
        policy = parse([f"allow={text}"])
    except InvalidArgument:
        return
    assert policy is not None
    for rule in policy.rules:
        assert parse([f"allow={rule}"]) == Policy((rule,))
