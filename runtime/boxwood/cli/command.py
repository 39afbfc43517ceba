"""What a command of the command line is: a declaration, read by parser, help and docs alike."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from boxwood.cli.context import Context

    # The values of a command's flags by destination (`--no-trunc` is `no_trunc`): None where a
    # flag is absent and has no default, a list for what may be repeated.
    Values = dict[str, Any]
    Runner = Callable[[Context, Values, list[str]], int]

# Kinds whose flag may be given several times; `strings` is also split at commas.
REPEATED = frozenset(
    ("filter", "gpu-request", "list", "map", "mount", "network", "strings", "ulimit")
)
# Bounds of the integer kinds (pflag reads them with Go's ParseInt and ParseUint).
INTEGERS = {
    "int": (-(1 << 63), (1 << 63) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "uint16": (0, (1 << 16) - 1),
}


class Flag:
    """One flag: `name` without dashes, `short` one letter or empty.

    `kind` is what the help shows and the parser checks: ``bool``, an integer kind of `INTEGERS`,
    a kind of `REPEATED`, or any other word for a text that is checked where it is used.
    `aliases` are further long names that set the same value and that the help does not show.
    A boolean that is absent is False, or None where `optional` says that absence means something.
    """

    __slots__ = ("aliases", "default", "dest", "help", "hidden", "kind", "name", "short")

    def __init__(
        self,
        name: str,
        kind: str,
        help: str,
        short: str = "",
        *,
        default: bool | int | str | None = None,
        hidden: bool = False,
        optional: bool = False,
        aliases: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.kind = kind
        self.help = help
        self.short = short
        plain = kind == "bool" and default is None and not optional
        self.default = False if plain else default
        self.hidden = hidden
        self.aliases = aliases
        self.dest = name.replace("-", "_")

    @property
    def repeated(self) -> bool:
        """Whether the flag may be given several times, its value being a list."""
        return self.kind in REPEATED

    @property
    def shown(self) -> str:
        """The flag as errors name it: `-n, --last` or `--bad`."""
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"


class Command:
    """One command: how it is called, what it says of itself, what it runs.

    `usage` follows the command's name in the usage line. Between `least` and `most` positional
    arguments are taken (`most` None: any number). With `interspersed` false the flags end at the
    first positional argument: all that follows belongs to the container's command.
    """

    __slots__ = ("about", "flags", "interspersed", "least", "most", "run", "short", "usage")

    def __init__(
        self,
        run: Runner,
        short: str,
        usage: str = "",
        flags: tuple[Flag, ...] = (),
        *,
        least: int = 0,
        most: int | None = None,
        interspersed: bool = True,
        about: str = "",
    ) -> None:
        self.run = run
        self.short = short
        self.usage = usage
        self.flags = flags
        self.least = least
        self.most = most
        self.interspersed = interspersed
        self.about = about


def defaults(flags: Iterable[Flag]) -> Values:
    """The values of flags before any argument is read."""
    return {flag.dest: [] if flag.repeated else flag.default for flag in flags}
