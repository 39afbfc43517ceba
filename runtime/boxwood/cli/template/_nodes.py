"""The syntax tree of a template. `str(node)` is the node as Go prints it in messages."""

from __future__ import annotations

from boxwood.cli.template._quote import quote


class Node:
    """What every node has: its offset in the source, in code points."""

    __slots__ = ("pos",)

    def __init__(self, pos: int) -> None:
        self.pos = pos


class Text(Node):
    """Text that is copied to the output."""

    __slots__ = ("text",)

    def __init__(self, pos: int, text: str) -> None:
        self.pos = pos
        self.text = text

    def __str__(self) -> str:
        return quote(self.text)


class Literal(Node):
    """A constant: `value` is its Python value, `source` how it was written."""

    __slots__ = ("kind", "source", "value")

    def __init__(self, pos: int, kind: str, source: str, value: object) -> None:
        self.pos = pos
        self.kind = kind
        self.source = source
        self.value = value

    def __str__(self) -> str:
        return self.source


class Dot(Node):
    """The cursor, `.`."""

    __slots__ = ()

    def __str__(self) -> str:
        return "."


class Nil(Node):
    """The untyped constant `nil`."""

    __slots__ = ()

    def __str__(self) -> str:
        return "nil"


class Field(Node):
    """A chain of fields of the cursor: `.A.B`."""

    __slots__ = ("names",)

    def __init__(self, pos: int, names: list[str]) -> None:
        self.pos = pos
        self.names = names

    def __str__(self) -> str:
        return "." + ".".join(self.names)


class Variable(Node):
    """A variable with the fields taken of it: `$x.A`; `names[0]` has the dollar."""

    __slots__ = ("names",)

    def __init__(self, pos: int, names: list[str]) -> None:
        self.pos = pos
        self.names = names

    def __str__(self) -> str:
        return ".".join(self.names)


class Identifier(Node):
    """The name of a function."""

    __slots__ = ("name",)

    def __init__(self, pos: int, name: str) -> None:
        self.pos = pos
        self.name = name

    def __str__(self) -> str:
        return self.name


class Command(Node):
    """One stage of a pipeline: a function, method or value, and its arguments."""

    __slots__ = ("args",)

    def __init__(self, pos: int) -> None:
        self.pos = pos
        self.args: list[Node] = []

    def __str__(self) -> str:
        return " ".join(f"({arg})" if isinstance(arg, Pipe) else str(arg) for arg in self.args)


class Pipe(Node):
    """A pipeline, with the variables that it declares or assigns."""

    __slots__ = ("assign", "commands", "variables")

    def __init__(self, pos: int) -> None:
        self.pos = pos
        self.assign = False
        self.variables: list[Variable] = []
        self.commands: list[Command] = []

    def __str__(self) -> str:
        shown = " | ".join(map(str, self.commands))
        if not self.variables:
            return shown
        return ", ".join(map(str, self.variables)) + (" = " if self.assign else " := ") + shown


class Chain(Node):
    """Fields of a term that is not a field itself: `(index .A 0).B`."""

    __slots__ = ("names", "term")

    def __init__(self, pos: int, term: Node, names: list[str]) -> None:
        self.pos = pos
        self.term = term
        self.names = names

    def __str__(self) -> str:
        term = f"({self.term})" if isinstance(self.term, Pipe) else str(self.term)
        return term + "".join("." + name for name in self.names)


class Action(Node):
    """A pipeline whose value is printed, unless it sets variables."""

    __slots__ = ("pipe",)

    def __init__(self, pos: int, pipe: Pipe) -> None:
        self.pos = pos
        self.pipe = pipe

    def __str__(self) -> str:
        return "{{" + str(self.pipe) + "}}"


class Branch(Node):
    """An `if`, `with` or `range`; `otherwise` is None without an `else`."""

    __slots__ = ("body", "kind", "otherwise", "pipe")

    def __init__(
        self, pos: int, kind: str, pipe: Pipe, body: list[Node], otherwise: list[Node] | None
    ) -> None:
        self.pos = pos
        self.kind = kind
        self.pipe = pipe
        self.body = body
        self.otherwise = otherwise

    def __str__(self) -> str:
        shown = "{{" + f"{self.kind} {self.pipe}" + "}}" + "".join(map(str, self.body))
        if self.otherwise is not None:
            shown += "{{else}}" + "".join(map(str, self.otherwise))
        return shown + "{{end}}"


class Word(Node):
    """`break`, `continue`, and while parsing `else` and `end`."""

    __slots__ = ("word",)

    def __init__(self, pos: int, word: str) -> None:
        self.pos = pos
        self.word = word

    def __str__(self) -> str:
        return "{{" + self.word + "}}"


class Call(Node):
    """`{{template "name" pipeline}}`."""

    __slots__ = ("name", "pipe")

    def __init__(self, pos: int, name: str, pipe: Pipe | None) -> None:
        self.pos = pos
        self.name = name
        self.pipe = pipe

    def __str__(self) -> str:
        pipe = "" if self.pipe is None else f" {self.pipe}"
        return "{{template " + quote(self.name) + pipe + "}}"
