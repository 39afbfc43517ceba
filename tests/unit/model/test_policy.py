"""Rules about repositories: which ones a pattern means, and which rule decides."""

from __future__ import annotations

import pytest

from boxwood.errors import InvalidArgument, PermissionDenied
from boxwood.model.policy import RegistryPolicy, RegistryRule, Requirement, check_rules, matches
from boxwood.model.reference import Reference


@pytest.mark.parametrize(
    ("pattern", "means", "not_means"),
    [
        ("*", ["busybox", "x.example/a", "[::1]:5000/a", "localhost/a"], []),
        ("docker.io", ["busybox", "me/app", "index.docker.io/me/app"], ["x.example/docker.io"]),
        ("docker.io/library", ["busybox"], ["library2/x", "me/app"]),
        (
            "x.example/team",
            ["x.example/team", "x.example/team/app", "X.EXAMPLE/team", "x.example:5000/team/a"],
            ["x.example/team2", "x.example/other/team", "x.example.evil/team", "ax.example/team"],
        ),
        ("x.example:5000", ["x.example:5000/a"], ["x.example/a", "x.example:50000/a"]),
        ("x.example/team/*-dev", ["x.example/team/a-dev", "x.example/team/a-dev/b"],
         ["x.example/team/a", "x.example/team/a/b-dev"]),
        ("*.example", ["a.example/x", "a.b.example/x"], ["example.com/x", "a.example.com/x"]),
        ("*/secret", ["x.example/secret", "secret/app"], ["x.example/a/secret"]),
        ("[::1]:5000/a", ["[::1]:5000/a"], ["[::1]:5001/a"]),
        ("x.example/a.c", ["x.example/a.c"], ["x.example/abc"]),
    ],
)  # fmt: skip
def test_patterns(pattern: str, means: list[str], not_means: list[str]) -> None:
    assert [name for name in means if not matches(pattern, Reference.parse(name))] == []
    assert [name for name in not_means if matches(pattern, Reference.parse(name))] == []


def test_the_first_that_says_something_decides() -> None:
    policy = RegistryPolicy(
        (
            RegistryRule(match="x.example/team/free", require=()),
            RegistryRule(match="x.example/team", push="allow", require=("/k",), signed_as="*/up"),
            RegistryRule(match="x.example", pull="allow"),
            RegistryRule(match="*", pull="deny", push="deny"),
        )
    )
    team, free = Reference.parse("x.example/team/app"), Reference.parse("x.example/team/free")
    away = Reference.parse("busybox:1")
    for action, reference in (("pull", team), ("push", team), ("pull", free), ("push", free)):
        policy.check(action, reference)  # type: ignore[arg-type]
    with pytest.raises(PermissionDenied, match=r"^pull busybox: denied .*rule 4: \*\)$"):
        policy.check("pull", away)
    with pytest.raises(PermissionDenied):
        policy.check("push", Reference.parse("x.example/other"))
    assert policy.requirement(team) == Requirement(("/k",), "*/up")
    assert policy.requirement(free) is None
    assert policy.requirement(away) is None


def test_what_arrives_another_way() -> None:
    """Where no rule says ``load``, what holds for a pull; a rule that says it decides alone."""
    policy = RegistryPolicy(
        (
            RegistryRule(match="x.example/carried", load="allow"),
            RegistryRule(match="x.example/registry-only", load="deny"),
            RegistryRule(match="x.example/denied", pull="deny"),
            RegistryRule(match="x.example/free", require=()),
            RegistryRule(match="x.example", require=("/k",)),
            RegistryRule(match="x.example", tag="deny"),
        )
    )
    named = {name: Reference.parse(f"x.example/{name}") for name in ("a", "free", "carried")}
    assert policy.arrival(named["a"]) == Requirement(("/k",))
    assert policy.arrival(named["free"]) is None
    assert policy.arrival(named["carried"]) is None
    policy.unsigned(named["free"], "none comes")
    with pytest.raises(PermissionDenied, match="requires a signature, and none comes: pull it"):
        policy.unsigned(named["a"], "none comes")
    for denied, rule in (("registry-only", 2), ("denied", 3)):
        with pytest.raises(PermissionDenied, match=rf"^load x.example/{denied}: .*rule {rule}:"):
            policy.arrival(Reference.parse(f"x.example/{denied}"))
    with pytest.raises(PermissionDenied, match=r"^tag x.example/a: .*rule 6:"):
        policy.check("tag", named["a"])


def test_no_rule_is_no_limit() -> None:
    RegistryPolicy().check("push", Reference.parse("busybox"))
    assert RegistryPolicy().requirement(Reference.parse("busybox")) is None
    assert RegistryPolicy().arrival(Reference.parse("busybox")) is None


@pytest.mark.parametrize(
    "rule",
    [
        RegistryRule(match="x.example"),
        RegistryRule(match="", pull="deny"),
        RegistryRule(match="x.example/", pull="deny"),
        RegistryRule(match="x.example//a", pull="deny"),
        RegistryRule(match="x.example/a b", pull="deny"),
        RegistryRule(match="x.example/a@sha256:0", pull="deny"),
        RegistryRule(match="x.example", require=("key.pub",)),
        RegistryRule(match="x.example", require=("/key.pub",), signed_as="a b"),
    ],
)
def test_rules_that_mean_nothing(rule: RegistryRule) -> None:
    with pytest.raises(InvalidArgument, match="registry-policy: rule 1"):
        check_rules((rule,))
