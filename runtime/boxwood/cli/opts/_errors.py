"""The error of flags that cannot be translated, in Docker's words."""

from __future__ import annotations


class OptError(ValueError):
    """A flag's value, or a combination of flags, that Docker's command line refuses.

    `in_flag` tells a value that its flag does not take (`invalid argument "X" for "--FLAG"
    flag: CAUSE`, followed by the usage) from what is found wrong afterwards.
    """

    in_flag = False


class FlagError(OptError):
    """A value that its flag does not take. `shown` names the flag with both spellings."""

    in_flag = True

    def __init__(self, value: str, shown: str, cause: str) -> None:
        super().__init__(f'invalid argument {quoted(value)} for "{shown}" flag: {cause}')


def quoted(text: str) -> str:
    """`text` as Go quotes it in messages; the quoting is loaded when something is wrong."""
    from boxwood.cli.template._quote import quote

    return quote(text)
