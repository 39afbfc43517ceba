"""Fuzz target: no template and no data bring anything but TemplateError."""

from __future__ import annotations

from boxwood.cli.template import Template, TemplateError

DATA = {
    "Id": "abc",
    "N": 3,
    "F": 1.5,
    "T": True,
    "Z": None,
    "L": [1, "two", None, {"x": "y"}],
    "M": {"a": 1, "b": {"c": []}},
}
MAX_TEXT = 4096  # longer templates find nothing that shorter ones do not


def target(data: bytes) -> None:
    """Parses and renders `data` as a template, in both modes of missing keys."""
    text = data[:MAX_TEXT].decode("utf-8", "surrogateescape")
    if _is_costly(text):
        return
    try:
        template = Template(text)
    except TemplateError:
        return
    for strict in (False, True):
        try:
            template.render(DATA, strict=strict)
        except TemplateError:
            continue


def _is_costly(text: str) -> bool:
    """Whether it might run over a huge integer or pad to a huge width: slow, but no error."""
    digits = 0
    for char in text:
        digits = digits + 1 if char.isdigit() or char == "_" else 0
        if digits > 3:
            return True
    return "0x" in text.lower() or ("e" in text.lower() and "range" in text) or "'" in text
