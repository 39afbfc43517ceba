"""What `inspect` prints: JSON arrays, or a template over each object."""

from __future__ import annotations

from boxwood.cli.template import ExecError, Template, TemplateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import IO, Any


def inspect_print(
    objects: Iterable[Any], template: str | None, out: IO[str], *, kind: str | None = None
) -> None:
    """Writes inspected objects to `out`.

    Without a template: one JSON array, indented by four, keys in the order they came in. With
    `json`: the same in one line. With a template: a line for each object. `kind` (container,
    image, network, volume) names the Go type that the template is tried on first, so that fields
    which an object lacks have their zero value. Raises TemplateError in Docker's words; what was
    rendered before is on `out` by then.
    """
    if not template or template == "json":
        _print_json(list(objects), template == "json", out)
        return
    try:
        parsed = Template(template)
    except TemplateError as error:
        raise TemplateError(f"template parsing error: {error}") from None
    for item in objects:
        out.write(_render(parsed, item, kind) + "\n")


def render_object(template: str, item: Any, *, kind: str | None = None) -> str:
    """One object through a template (`info`, `version`), without a newline."""
    try:
        return _render(Template(template), item, kind)
    except ExecError:
        raise
    except TemplateError as error:
        raise TemplateError(f"template parsing error: {error}") from None


def typed_object(item: Any, kind: str) -> Any:
    """An API object (container, image, network, volume, event, version) as its Go struct.

    Templates find fields by their Go names in it, and those that JSON left out. What is no such
    object is given back as it is.
    """
    from boxwood.cli.format._schema import typed

    found = typed(item, kind)
    return item if found is None else found


def _print_json(objects: list[Any], compact: bool, out: IO[str]) -> None:
    import json

    if not objects:
        out.write("[]\n")
    elif compact:
        out.write(json.dumps(objects, ensure_ascii=False, separators=(",", ":")) + "\n")
    else:
        out.write(json.dumps(objects, ensure_ascii=False, indent=4) + "\n")


def _render(template: Template, item: Any, kind: str | None) -> str:
    """The template over the typed object, or when that fails over the plain JSON, strictly."""
    if kind is None:
        return template.render(item)
    from boxwood.cli.format._schema import RAW_FALLBACK, typed

    value = typed(item, kind)
    if value is None:
        return template.render(item)
    try:
        return template.render(value)
    except ExecError as error:
        first = error
    if kind in RAW_FALLBACK:
        try:
            return template.render(item, strict=True)
        except ExecError as error:
            # `version` knows no second try in Docker: there the first error is what is said.
            first = first if kind == "version" else error
    raise first if kind == "version" else ExecError(f"template parsing error: {first}")
