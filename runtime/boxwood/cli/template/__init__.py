"""Go's text/template language, with the functions of Docker's command line.

    >>> Template("{{range .Names}}{{upper .}} {{end}}").render({"Names": ["a", "b"]})
    'A B '

Data is what JSON decodes to, or the typed values of `boxwood.cli.template._values`. Numbers stay
exact. A map's missing key prints `<no value>`; with `strict` it is an error, as it is in Docker's
second try of `inspect --format`.
"""

from __future__ import annotations

from boxwood.cli.template._errors import ExecError, TemplateError
from boxwood.cli.template._values import MISSING, List, Map, NilPointer, Struct

__all__ = [
    "MISSING",
    "ExecError",
    "List",
    "Map",
    "NilPointer",
    "Struct",
    "Template",
    "TemplateError",
]


class Template:
    """A parsed template. Immutable; may be rendered any number of times.

    `header` gives the functions that a table's header row is rendered with. Raises TemplateError
    in Go's words: `template: :LINE: cause`.
    """

    __slots__ = ("_functions", "_templates", "text")

    def __init__(self, text: str, *, header: bool = False) -> None:
        from boxwood.cli.template._funcs import BUILTINS, HEADER_FUNCTIONS
        from boxwood.cli.template._parse import parse

        self.text = text
        self._functions = HEADER_FUNCTIONS if header else BUILTINS
        try:
            self._templates = parse(text, self._functions)
        except RecursionError:
            raise TemplateError("template: :1: template nested too deeply") from None

    def render(self, data: object, *, strict: bool = False) -> str:
        """The template over `data`.

        Raises ExecError: `template: :LINE:COLUMN: executing "" at <NODE>: cause`.
        """
        from boxwood.cli.template._exec import Evaluator

        try:
            return Evaluator(self.text, self._templates, self._functions, strict).run(data)
        except RecursionError:
            raise ExecError("template: :1: exceeded maximum template depth") from None
