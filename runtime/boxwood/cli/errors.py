"""How a command ends when it does not succeed."""

from __future__ import annotations


class CliError(Exception):
    """Ends the command: its text goes to stderr, `code` is the exit code.

    An empty text says nothing more: what had to be said has been said.
    """

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


class UsageError(Exception):
    """The arguments make no sense; `flag` says whether it was a flag that could not be read."""

    def __init__(self, text: str, *, flag: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.flag = flag


class HelpRequested(Exception):
    """`--help` was among the flags, and all before it was right."""
