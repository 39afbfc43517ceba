"""The quick JSON agrees with the standard module, its reference."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwood.client import jsonwire

ROOT = Path(__file__).resolve().parents[3]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)


@pytest.mark.property
@given(VALUES)
def test_documents_are_written_and_read_as_by_the_reference(value: object) -> None:
    data = jsonwire.dumps(value)
    assert data == json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    assert jsonwire.loads(data) == value
    assert jsonwire.loads(b" \r\n\t" + data + b"\n") == value


@pytest.mark.property
@given(
    st.binary(max_size=40)
    | st.text('[]{}",:0123456789.eE+-truefalsn\\u \n', max_size=40).map(str.encode)
)
def test_any_bytes_are_read_as_by_the_reference_or_refused(data: bytes) -> None:
    try:
        expected = json.loads(data.decode())
    except ValueError:
        with pytest.raises(ValueError):
            jsonwire.loads(data)
        return
    if "NaN" not in (found := repr(jsonwire.loads(data))):
        assert found == repr(expected)


def test_deep_nesting_is_refused_not_fatal() -> None:
    with pytest.raises((ValueError, RecursionError)):
        jsonwire.loads(b"[" * 200_000)


def test_words_that_are_not_utf8_are_sent_as_go_sends_them() -> None:
    assert jsonwire.dumps(["a\udcff"]) == '["a\ufffd"]'.encode()


@pytest.mark.parametrize("value", [object(), {1, 2}, float("nan"), float("inf")])
def test_what_has_no_form(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        jsonwire.dumps(value)


def test_errors_are_worded_even_where_json_was_never_imported() -> None:
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT / 'runtime')!r}]\n"
        "from boxwood.client import jsonwire\n"
        "assert 'json' not in sys.modules\n"
        "assert jsonwire.loads(b'[1]') == [1] and 'json' not in sys.modules\n"
        "try: jsonwire.loads(b'[1, }')\n"
        "except ValueError as error: print(type(error).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "JSONDecodeError\n"
