"""classes.toml is whole: what it names exists, and what exists is named."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.attacks import registries, test_python, weaken
from tests.attacks.launches import ATTACKS
from tests.support.paths import ROOT

CLASSES: dict[str, dict[str, Any]] = tomllib.loads(
    Path(__file__).with_name("classes.toml").read_text()
)
IN_SCOPE = [name for name, entry in CLASSES.items() if "out" not in entry]


@cache
def functions(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in tree.body if isinstance(node, kinds))


def missing(test: str) -> bool:
    """Is there no such test?"""
    path, _, name = test.partition("::")
    return not (ROOT / path).exists() or name not in functions(path)


def test_a_test_that_is_not_there_is_found_out() -> None:
    assert missing("tests/attacks/test_classes.py::test_nothing")
    assert missing("tests/attacks/test_no_such_file.py::test_nothing")
    assert not missing("tests/attacks/test_classes.py::test_a_test_that_is_not_there_is_found_out")


@pytest.mark.parametrize("name", IN_SCOPE)
def test_a_class_in_scope_has_its_tests(name: str) -> None:
    entry = CLASSES[name]
    assert set(entry) <= {"also", "what", "defence", "attacks", "tests"}
    assert entry["what"]
    assert entry["defence"]
    assert entry.get("attacks") or entry.get("tests")
    assert [attack for attack in entry.get("attacks", []) if attack not in ATTACKS] == []
    assert [test for test in entry.get("tests", []) if missing(test)] == []


def test_a_class_out_of_scope_says_why() -> None:
    for name in CLASSES.keys() - set(IN_SCOPE):
        assert CLASSES[name].keys() == {"also", "out"}, name


def test_no_weakness_stands_in_two_classes() -> None:
    names = [*IN_SCOPE, *(other for entry in CLASSES.values() for other in entry.get("also", []))]
    assert sorted(names) == sorted(set(names))
    good = r"CVE-20\d\d-\d{4,7}|GHSA(-[0-9a-z]{4}){3}|moby#\d+"
    assert [name for name in names if not re.fullmatch(good, name)] == []


def test_every_attack_is_of_a_class() -> None:
    named = {attack for name in IN_SCOPE for attack in CLASSES[name].get("attacks", [])}
    assert named == set(ATTACKS)


def test_every_guard_is_shown_to_be_one() -> None:
    """A guard that no attack needs is not shown to defend anything."""
    shown = {guard for attack in ATTACKS.values() for guards in attack.bites for guard in guards}
    text = Path(test_python.__file__).read_text()
    shown |= {attack.guard for attack in registries.ATTACKS.values()}
    rest = (weaken.GUARDS.keys() | weaken.PYTHON_GUARDS.keys()) - shown
    assert [guard for guard in sorted(rest) if f'"{guard}"' not in text] == []


@pytest.mark.parametrize("guard", [*weaken.GUARDS, *weaken.PYTHON_GUARDS])
def test_each_guard_stands_where_the_table_says(guard: str) -> None:
    python = guard in weaken.PYTHON_GUARDS
    edit = (weaken.PYTHON_GUARDS if python else weaken.GUARDS)[guard]
    folder = ROOT if python else weaken.SOURCES
    text = (folder / edit.file).read_text()
    assert weaken.weakened_text(text, edit) != text
    with pytest.raises(weaken.NotTheGuard):
        weaken.weakened_text(text.replace(edit.old, ""), edit)
