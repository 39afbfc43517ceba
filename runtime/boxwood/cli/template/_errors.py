"""The one error of the template engine."""

from __future__ import annotations


class TemplateError(Exception):
    """A template that does not parse, or cannot be rendered over its data.

    The message is Go's own, from `template: ` on. `parsing` tells the two apart.
    """

    parsing = True


class ExecError(TemplateError):
    """A template that parsed, but failed over its data."""

    parsing = False
