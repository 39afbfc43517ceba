"""Whatever the text and the data: a result or a TemplateError, and what must hold of results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwood.cli.template import Template, TemplateError
from boxwood.cli.template._gofmt import sprintf
from boxwood.cli.template._json import encode
from boxwood.cli.template._quote import quote, unquote
from tests.fuzz.fuzz_template import target

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus" / "template"
PIECES = (
    "{{ }} . $ | ( ) := = , - {{- -}} if else end range with define template block break continue "
    'nil true .L .M.a .Z $x eq index printf len json and or not "%d" "T" \'a\' `r` 0 1 2.5 1e2 '
    "/* */ x \n \t"
).split(" ")

pytestmark = pytest.mark.property
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@pytest.mark.parametrize("seed", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_corpus(seed: Path) -> None:
    target(seed.read_bytes())


@given(st.lists(st.sampled_from(PIECES), max_size=30).map(" ".join))
def test_any_tokens(text: str) -> None:
    target(text.encode())


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    target(b"{{" + data + b"}}")
    target(data)


@given(st.text())
def test_text_without_actions_is_itself(text: str) -> None:
    text = text.replace("{{", "")
    if "{{" not in text:
        assert Template(text).render({}) == text


@given(st.text())
def test_quoted_text_reads_back(text: str) -> None:
    clean = text.encode("utf-8", "replace").decode()
    assert unquote(quote(clean)) == clean
    assert Template("{{" + quote(clean) + "}}").render({}) == clean


def _floats(value: Any) -> Any:
    """Numbers as floats: Go writes 1.0 as 1."""
    if isinstance(value, dict):
        return {key: _floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_floats(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < 1 << 1000 else value
    return value


@given(values)
def test_json_reads_back(value: Any) -> None:
    clean = json.loads(json.dumps(value).encode("utf-8", "replace"))
    encoded = encode(clean).encode("utf-8", "replace").decode()
    assert _floats(json.loads(encoded)) == _floats(clean) or "\ufffd" in encoded


@given(values, st.sampled_from("vdsqxXtTfgecbouU"), st.integers(-20, 20), st.booleans())
def test_printf_never_fails(value: Any, verb: str, width: int, plus: bool) -> None:
    assert isinstance(sprintf(f"%{'+' if plus else ''}{width}{verb}", [value]), str)
    assert isinstance(sprintf(f"%.{abs(width)}{verb}|%[2]{verb}", [value]), str)


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_integers_stay_exact(number: int) -> None:
    assert Template("{{.}}").render(number) == str(number)
    assert Template("{{" + str(number) + "}}").render(None) == str(number)


@given(values)
def test_rendering_needs_no_luck(value: Any) -> None:
    for text in ("{{.}}", "{{json .}}", "{{range .}}{{.}}{{end}}", "{{len .}}", "{{.a.b}}"):
        try:
            assert isinstance(Template(text).render(value if text[2] != "r" else [value]), str)
        except TemplateError:
            continue
