"""Random templates that parse more often than not, each from a seed.

`join` is not among them: ours also joins lists that hold nothing but texts, Docker's only
slices of strings.
"""

from __future__ import annotations

from random import Random

PATHS = (
    ".",
    "$",
    ".Name",
    ".Driver",
    ".Labels",
    ".Labels.k",
    ".Labels.no",
    ".Options",
    ".UsageData",
    ".Status",
    *(f".Status.{name}" for name in "n f s l m t z e u nest el em no".split()),
    ".Status.m.a",
    ".Status.nest.x",
    ".Status.no.x",
    ".Status.s.x",
    ".Nope",
    "$x",
)
LITERALS = ("0", "1", "2", "-1", "1.5", "2e3", "'a'", '"a"', '"k"', "`b`", '""', "true", "nil")
FUNCTIONS = (
    "and or not len index slice print println html js urlquery eq ne lt le gt ge json split "
    "title lower upper pad truncate"
).split()
FORMATS = ("%v", "%d", "%s", "%q", "%5v|", "%-6s|", "%x", "%T", "%t", "%.1f", "%03d", "%+v", "%c")


class Maker:
    """Makes one template from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def template(self) -> str:
        """Three pieces at most, after a variable that some of them use."""
        body = "".join(self.piece(2) for _ in range(self.random.randint(1, 3)))
        return "{{$x := " + self.random.choice(PATHS[:-1]) + "}}" + body

    def term(self, depth: int) -> str:
        """A path, a literal or a pipeline in parentheses."""
        roll = self.random.random()
        if depth <= 0 or roll < 0.55:
            return self.random.choice(PATHS)
        if roll < 0.75:
            return self.random.choice(LITERALS)
        return f"({self.pipeline(depth - 1)})" + self.random.choice(("", "", "", ".a"))

    def call(self, depth: int) -> str:
        """A function with arguments, or a term."""
        if self.random.random() < 0.4:
            return self.term(depth)
        if self.random.random() < 0.2:
            form = "".join(self.random.sample(FORMATS, self.random.randint(1, 2)))
            return f'printf "{form}" {self.term(depth)} {self.term(depth)}'
        count = self.random.choice((1, 1, 2, 2, 2, 3))
        return " ".join((self.random.choice(FUNCTIONS), *(self.term(depth) for _ in range(count))))

    def pipeline(self, depth: int) -> str:
        """One call, or a few."""
        calls = [self.call(depth)]
        while self.random.random() < 0.2:
            calls.append(self.random.choice((*FUNCTIONS, 'printf "%v"', "eq 1", "index .Status")))
        return " | ".join(calls)

    def piece(self, depth: int) -> str:
        """Text, an action or a block."""
        roll = self.random.random()
        if depth <= 0 or roll < 0.5:
            left, right = self.random.choice(("{{", "{{- ")), self.random.choice(("}}", " -}}"))
            return f" {left}{self.pipeline(1)}{right} "
        inner = self.piece(depth - 1)
        other = self.random.choice(("", "{{else}}" + self.piece(depth - 1)))
        kind = self.random.choice(
            ("if", "with", "range", "range $i, $x :=", "range $x :=", "if $x :=")
        )
        return "{{" + f"{kind} {self.pipeline(1)}" + "}}" + inner + other + "{{end}}"
