"""One record of comma-separated values, as Go's encoding/csv reads it (RFC 4180)."""

from __future__ import annotations

from boxwood.cli.opts._errors import OptError


def parse_csv(text: str) -> list[str]:
    """The fields of the first line of `text`. Raises OptError in Go's words."""
    line = text.partition("\n")[0].removesuffix("\r") if '"' not in text else text.rstrip("\n")
    if not line:
        raise OptError("EOF")
    if '"' not in line:
        return line.split(",")
    fields: list[str] = []
    at = 0
    while True:
        field, at = _quoted(line, at + 1) if line[at : at + 1] == '"' else _bare(line, at)
        fields.append(field)
        if at >= len(line):
            return fields
        at += 1


def _fail(line: str, at: int, cause: str) -> OptError:
    column = len(line[:at].encode("utf-8", "surrogateescape")) + 1
    return OptError(f"parse error on line 1, column {column}: {cause}")


def _bare(line: str, at: int) -> tuple[str, int]:
    end = line.find(",", at)
    end = len(line) if end < 0 else end
    quote = line.find('"', at, end)
    if quote >= 0:
        raise _fail(line, quote, 'bare " in non-quoted-field')
    return line[at:end], end


def _quoted(line: str, at: int) -> tuple[str, int]:
    """The field whose opening quote stands before `at`, and where its comma is."""
    field = ""
    while True:
        quote = line.find('"', at)
        if quote < 0:
            raise _fail(line, len(line), 'extraneous or missing " in quoted-field')
        field += line[at:quote]
        after = line[quote + 1 : quote + 2]
        if after in ("", ","):
            return field, quote + 1
        if after != '"':
            raise _fail(line, quote, 'extraneous or missing " in quoted-field')
        field += '"'
        at = quote + 2
