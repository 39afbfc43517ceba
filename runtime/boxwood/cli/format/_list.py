"""Lists: the four forms of `--format`, and tables as Docker's tab writer draws them."""

from __future__ import annotations

from boxwood.cli.template import Struct, Template, TemplateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import IO, Any


MIN_WIDTH = 10  # of a column, its padding included
PADDING = 3  # spaces at least between two columns


class Row(Struct):
    """One thing of a list: its fields are strings, by the names that templates use.

    `labels` is what `{{.Label "key"}}` looks in. `go_name` is the name in error messages.
    """

    go_name = "formatter.Context"
    pointer = True
    as_map = True
    raw_format = ""
    labels: Mapping[str, str] | None = None

    def method(self, name: str) -> Callable[..., object] | None:
        """`Label`, where the thing has labels."""
        return self._label if name == "Label" and self.labels is not None else None

    def _label(self, key: str) -> str:
        return (self.labels or {}).get(key, "")


class _HeaderRow(Struct):
    """A header that has a `Label` method; unknown fields are missing keys."""

    def method(self, name: str) -> Callable[..., object] | None:
        """Labels are headed by the last part of their key; unknown columns by nothing."""
        if name == "Label":
            return _label_header
        return None if name in self else _no_value


def _no_value() -> str:
    return "<no value>"


def _label_header(key: str) -> str:
    return key.rpartition(".")[2].replace("-", " ").replace("_", " ")


def print_list(
    rows: Iterable[Mapping[str, Any]],
    *,
    template: str | None,
    default_table: str,
    headers: Mapping[str, str],
    quiet_field: str | None,
    out: IO[str],
) -> None:
    """Writes a list to `out`.

    `template` is the user's `--format`: None or `table` for `default_table` (a template with or
    without its leading `table`), `table TEMPLATE`, `json` (an object on each line), `raw`, or a
    template. `quiet_field` names the one field that `-q` shows. Raises TemplateError, its message
    in Docker's words, before anything was written.
    """
    if quiet_field is not None:
        out.write("".join(f"{row[quiet_field]}\n" for row in rows))
        return
    chosen = template or "table"
    if chosen == "json":
        from boxwood.cli.template._json import encode

        out.write("".join(f"{encode(_row(row))}\n" for row in rows))
        return
    wrapped = [_row(row) for row in rows]
    if chosen == "raw" and wrapped:
        chosen = wrapped[0].raw_format or chosen
    if chosen == "table":
        chosen = "table " + default_table.removeprefix("table").strip(" ")
    out.write(_rendered(wrapped, chosen, headers))


def _rendered(rows: Sequence[Row], chosen: str, headers: Mapping[str, str]) -> str:
    """The rows through a template; a header and aligned columns when it starts with `table`."""
    is_table = chosen.startswith("table")
    text = (chosen[len("table") :] if is_table else chosen).strip(" ")
    text = text.replace("\\t", "\t").replace("\\n", "\n")
    try:
        body = Template(text)
        lines = [body.render(row) + "\n" for row in rows]
        if not is_table:
            return "".join(lines)
        head = Template(text, header=True).render(_HeaderRow(headers)) + "\n"
    except TemplateError as error:
        raise _docker_error(error) from None
    return align(head + "".join(lines))


def _docker_error(error: TemplateError) -> TemplateError:
    """The error as Docker's lists word it."""
    return type(error)(f"template parsing error: {error}")


def _row(row: Mapping[str, Any]) -> Row:
    return row if isinstance(row, Row) else Row(row)


def table_text(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain cells, drawn like every other one."""
    return align("".join("\t".join(cells) + "\n" for cells in (headers, *rows)))


def align(text: str) -> str:
    """Tab-separated cells in columns, as Go's text/tabwriter sets them.

    A column is as wide as its widest cell in adjoining lines that have it; what stands after a
    line's last tab is no cell of a column. Widths are those of a terminal.
    """
    lines = [line.split("\t") for line in text.split("\n")]
    out: list[str] = []
    _block(lines, 0, len(lines), [], out)
    return "\n".join(out)


def _block(
    lines: list[list[str]], start: int, stop: int, widths: list[int], out: list[str]
) -> None:
    """Sets the lines from `start` to `stop`, whose first columns have these widths."""
    column = len(widths)
    at = start
    while at < stop:
        if len(lines[at]) - 1 <= column:
            out.append(_set(lines[at], widths))
            at += 1
            continue
        end = at
        width = MIN_WIDTH
        while end < stop and len(lines[end]) - 1 > column:
            width = max(width, text_width(lines[end][column]) + PADDING)
            end += 1
        _block(lines, at, end, [*widths, width], out)
        at = end


def _set(cells: list[str], widths: list[int]) -> str:
    """One line; the last cell is not padded."""
    padded = [
        cell + " " * (width - text_width(cell)) for cell, width in zip(cells, widths, strict=False)
    ]
    return "".join(padded) + cells[-1]


def text_width(text: str) -> int:
    """The columns that `text` takes on a terminal: two for a wide character, none for a mark."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(
        0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text
    )
