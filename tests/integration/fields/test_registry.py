"""Each honoured field has a test that shows it, and no test shows what is not honoured."""

from __future__ import annotations

from tests.integration.fields.claims import claims, honoured


def test_each_honoured_field_has_a_test() -> None:
    shown = {name for name, _ in claims()}
    assert sorted(honoured() - shown) == []


def test_no_test_claims_what_is_not_honoured() -> None:
    known = honoured()
    assert [(name, test) for name, test in claims() if name not in known] == []
