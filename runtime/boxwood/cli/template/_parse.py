"""Tokens to tree: the grammar of Go's text/template, with its words for what is wrong."""

from __future__ import annotations

from boxwood.cli.template import _lex as lex
from boxwood.cli.template import _nodes as nodes
from boxwood.cli.template._errors import TemplateError
from boxwood.cli.template._numbers import number
from boxwood.cli.template._quote import quote, unquote, unquote_char

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container


MAX_DEPTH = 80  # nested actions, else-ifs or parentheses; behind it is Python's own stack

_OPERANDS = frozenset(
    (
        lex.BOOL,
        lex.CHARCONST,
        lex.COMPLEX,
        lex.DOT,
        lex.FIELD,
        lex.IDENT,
        lex.NUMBER,
        lex.KW_NIL,
        lex.RAW,
        lex.STRING,
        lex.VARIABLE,
        lex.LPAREN,
    )
)


def parse(text: str, functions: Container[str]) -> dict[str, list[nodes.Node]]:
    """The named templates of `text`; the text itself is named "".

    Raises TemplateError, in the words of Go's parser.
    """
    parser = _Parser(text, functions)
    parser.templates[""] = []
    body = parser.top()
    if _is_empty(body) and not _is_empty(parser.templates[""]):
        return parser.templates
    parser.templates[""] = body
    return parser.templates


def _is_empty(body: list[nodes.Node]) -> bool:
    """Whether a template holds nothing but space: such a one never replaces another."""
    return all(isinstance(node, nodes.Text) and not node.text.strip() for node in body)


class _Parser:
    """A recursive-descent parser; `at` is the next token that was not consumed."""

    def __init__(self, text: str, functions: Container[str]) -> None:
        self.tokens = lex.tokenize(text)
        self.at = 0
        self.furthest = 0
        self.functions = functions
        self.variables = ["$"]
        self.templates: dict[str, list[nodes.Node]] = {}
        self.range_depth = 0
        self.depth = 0
        self.action_line = 0

    # -- tokens

    def next(self) -> lex.Token:
        """Consumes a token; the last one (EOF or ERROR) is given again and again."""
        token = self.peek()
        self.at += 1
        return token

    def peek(self) -> lex.Token:
        """The next token."""
        at = min(self.at, len(self.tokens) - 1)
        self.furthest = max(self.furthest, at)
        return self.tokens[at]

    def next_solid(self) -> lex.Token:
        """Consumes a token, after any space."""
        self.skip_space()
        return self.next()

    def peek_solid(self) -> lex.Token:
        """The next token after any space, which is consumed."""
        self.skip_space()
        return self.peek()

    def skip_space(self) -> None:
        """Passes over space."""
        while self.peek().kind == lex.SPACE:
            self.at += 1

    def fail(self, message: str) -> TemplateError:
        """The error at the line that was read last."""
        return TemplateError(f"template: :{self.tokens[self.furthest].line}: {message}")

    def unexpected(self, token: lex.Token, context: str) -> TemplateError:
        """The error for a token that cannot stand in `context`."""
        if token.kind != lex.ERROR:
            return self.fail(f"unexpected {token} in {context}")
        extra = ""
        if self.action_line and self.action_line != token.line:
            extra = f" in action started at :{self.action_line}"
            if token.text.endswith(" action"):
                extra = extra.removeprefix(" in action")
        return self.fail(f"{token}{extra}")

    def expect(self, kinds: tuple[int, ...], context: str) -> lex.Token:
        """Consumes a token of one of these kinds, or fails."""
        token = self.next_solid()
        if token.kind not in kinds:
            raise self.unexpected(token, context)
        return token

    # -- lists

    def top(self) -> list[nodes.Node]:
        """The whole text."""
        body: list[nodes.Node] = []
        while self.peek().kind != lex.EOF:
            start = self.at
            if self.peek().kind == lex.LEFT:
                self.next()
                if self.next_solid().kind == lex.KEYWORDS["define"]:
                    self.define()
                    continue
                self.at = start
            node = self.text_or_action()
            if _ends(node):
                raise self.fail(f"unexpected {node}")
            body.append(node)
        return body

    def text_or_action(self) -> nodes.Node:
        """The next piece of a list."""
        token = self.next_solid()
        if token.kind == lex.TEXT:
            return nodes.Text(token.pos, token.text)
        if token.kind != lex.LEFT:
            raise self.unexpected(token, "input")
        self.action_line = token.line
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.fail("template nested too deeply")
        try:
            return self.action()
        finally:
            self.depth -= 1
            self.action_line = 0

    def body(self) -> tuple[list[nodes.Node], nodes.Word]:
        """A list up to its `else` or `end`, and that."""
        found: list[nodes.Node] = []
        while self.peek_solid().kind != lex.EOF:
            node = self.text_or_action()
            if isinstance(node, nodes.Word) and _ends(node):
                return found, node
            found.append(node)
        raise self.fail("unexpected EOF")

    def action(self) -> nodes.Node:
        """What stands between `{{` and `}}`, and what hangs on it."""
        start = self.at
        token = self.next_solid()
        handler = _ACTIONS.get(token.text) if token.kind >= lex.KEYWORD else None
        if handler is not None:
            return handler(self, token)
        self.at = start
        where = self.peek_solid().pos
        return nodes.Action(where, self.pipeline("command", lex.RIGHT))

    # -- keywords

    def branch(self, token: lex.Token) -> nodes.Branch:
        """`if`, `with` or `range`, to its `end`."""
        kind = token.text
        mark = len(self.variables)
        pipe = self.pipeline(kind, lex.RIGHT)
        self.range_depth += kind == "range"
        body, stop = self.body()
        self.range_depth -= kind == "range"
        otherwise: list[nodes.Node] | None = None
        if stop.word == "else":
            otherwise = self.otherwise(kind)
        del self.variables[mark:]
        return nodes.Branch(pipe.pos, kind, pipe, body, otherwise)

    def otherwise(self, kind: str) -> list[nodes.Node]:
        """The list after an `else`; `else if` and `else with` are a list of one."""
        if kind != "range" and self.peek().kind == lex.KEYWORDS[kind]:
            return [self.branch(self.next())]
        found, stop = self.body()
        if stop.word != "end":
            raise self.fail(f"expected end; found {stop}")
        return found

    def word_else(self, _token: lex.Token) -> nodes.Word:
        """`else`; the `if` or `with` after it is left for `otherwise`."""
        peeked = self.peek_solid()
        if peeked.kind in (lex.KEYWORDS["if"], lex.KEYWORDS["with"]):
            return nodes.Word(peeked.pos, "else")
        return nodes.Word(self.expect((lex.RIGHT,), "else").pos, "else")

    def word_end(self, _token: lex.Token) -> nodes.Word:
        """`end`."""
        return nodes.Word(self.expect((lex.RIGHT,), "end").pos, "end")

    def word_jump(self, token: lex.Token) -> nodes.Word:
        """`break` or `continue`."""
        after = self.next_solid()
        if after.kind != lex.RIGHT:
            raise self.unexpected(after, "{{" + token.text + "}}")
        if not self.range_depth:
            raise self.fail("{{" + token.text + "}} outside {{range}}")
        return nodes.Word(token.pos, token.text)

    def string_of(self, token: lex.Token) -> str:
        """The value of a string token."""
        try:
            return unquote(token.text)
        except ValueError:
            raise self.fail("invalid syntax") from None

    def template_name(self, context: str) -> tuple[lex.Token, str]:
        """The name after `template` or `block`."""
        token = self.expect((lex.STRING, lex.RAW), context)
        return token, self.string_of(token)

    def call(self, _token: lex.Token) -> nodes.Call:
        """`template "name" pipeline`."""
        at, name = self.template_name("template clause")
        pipe = None
        if self.peek_solid().kind == lex.RIGHT:
            self.next()
        else:
            pipe = self.pipeline("template clause", lex.RIGHT)
        return nodes.Call(at.pos, name, pipe)

    def block(self, _token: lex.Token) -> nodes.Call:
        """`block "name" pipeline`: a definition and its use."""
        at, name = self.template_name("block clause")
        pipe = self.pipeline("block clause", lex.RIGHT)
        self.definition_body(name, "block clause")
        return nodes.Call(at.pos, name, pipe)

    def define(self) -> None:
        """`define "name"`, to its `end`."""
        context = "define clause"
        name = self.template_name(context)[1]
        self.expect((lex.RIGHT,), context)
        self.definition_body(name, context)

    def definition_body(self, name: str, context: str) -> None:
        """The body of a definition: its own variables, its own ranges."""
        outer, self.variables = self.variables, ["$"]
        range_depth, self.range_depth = self.range_depth, 0
        body, stop = self.body()
        if stop.word != "end":
            raise self.fail(f"unexpected {stop} in {context}")
        self.variables, self.range_depth = outer, range_depth
        if name not in self.templates or not _is_empty(body):
            self.templates[name] = body

    # -- pipelines

    def pipeline(self, context: str, end: int) -> nodes.Pipe:
        """Commands joined by `|`, up to a token of kind `end`, which is consumed."""
        pipe = nodes.Pipe(self.peek_solid().pos)
        self.declarations(pipe, context)
        while True:
            token = self.peek_solid()
            if token.kind == end:
                self.next()
                self.check(pipe, context)
                return pipe
            if token.kind not in _OPERANDS:
                self.next()
                raise self.unexpected(token, context)
            pipe.commands.append(self.command())

    def declarations(self, pipe: nodes.Pipe, context: str) -> None:
        """The `$a, $b :=` at the start of a pipeline, if there is one."""
        while self.peek_solid().kind == lex.VARIABLE:
            start = self.at
            token = self.next()
            after = self.peek_solid()
            if after.kind in (lex.ASSIGN, lex.DECLARE):
                self.next()
                pipe.assign = after.kind == lex.ASSIGN
                self.declare(pipe, token)
                return
            if not (after.kind == lex.CHAR and after.text == ","):
                self.at = start
                return
            self.next()
            self.declare(pipe, token)
            if context != "range" or len(pipe.variables) > 1:
                raise self.fail(f"too many declarations in {context}")
            if self.peek_solid().kind not in (lex.VARIABLE, lex.RIGHT, lex.RPAREN):
                raise self.fail("range can only initialize variables")

    def declare(self, pipe: nodes.Pipe, token: lex.Token) -> None:
        """Notes a variable that the pipeline sets."""
        pipe.variables.append(nodes.Variable(token.pos, token.text.split(".")))
        self.variables.append(token.text)

    def check(self, pipe: nodes.Pipe, context: str) -> None:
        """A pipeline has a value, and what it pipes into is a function."""
        if not pipe.commands:
            raise self.fail(f"missing value for {context}")
        for at, command in enumerate(pipe.commands[1:], 2):
            if isinstance(command.args[0], nodes.Literal | nodes.Dot | nodes.Nil):
                raise self.fail(f"non executable command in pipeline stage {at}")

    def command(self) -> nodes.Command:
        """One stage: operands parted by space."""
        command = nodes.Command(self.peek_solid().pos)
        while True:
            self.skip_space()
            operand = self.operand()
            if operand is not None:
                command.args.append(operand)
            token = self.next()
            if token.kind == lex.SPACE:
                continue
            if token.kind in (lex.RIGHT, lex.RPAREN):
                self.at -= 1
            elif token.kind != lex.PIPE:
                raise self.unexpected(token, "operand")
            break
        if not command.args:
            raise self.fail("empty command")
        return command

    def operand(self) -> nodes.Node | None:
        """A term with the fields taken of it; None where no term stands."""
        term = self.term()
        if term is None or self.peek().kind != lex.FIELD:
            return term
        where = self.peek().pos
        names = []
        while self.peek().kind == lex.FIELD:
            names.append(self.next().text[1:])
        if isinstance(term, nodes.Field):
            return nodes.Field(where, term.names + names)
        if isinstance(term, nodes.Variable):
            return nodes.Variable(where, term.names + names)
        if isinstance(term, nodes.Literal | nodes.Nil | nodes.Dot):
            raise self.fail(f"unexpected . after term {quote(str(term))}")
        return nodes.Chain(where, term, names)

    def term(self) -> nodes.Node | None:
        """A value without its fields; None where none stands."""
        token = self.next_solid()
        kind = token.kind
        if kind == lex.FIELD:
            return nodes.Field(token.pos, [token.text[1:]])
        if kind == lex.IDENT:
            if token.text not in self.functions:
                raise self.fail(f"function {quote(token.text)} not defined")
            return nodes.Identifier(token.pos, token.text)
        if kind == lex.VARIABLE:
            return self.use(token)
        if kind == lex.LPAREN:
            return self.parenthesised()
        if kind in (lex.STRING, lex.RAW):
            return nodes.Literal(token.pos, "string", token.text, self.string_of(token))
        return self.constant(token)

    def constant(self, token: lex.Token) -> nodes.Node | None:
        """A constant that is no string."""
        kind = token.kind
        if kind == lex.DOT:
            return nodes.Dot(token.pos)
        if kind == lex.KW_NIL:
            return nodes.Nil(token.pos)
        if kind == lex.BOOL:
            return nodes.Literal(token.pos, "bool", token.text, token.text == "true")
        if kind == lex.CHARCONST:
            try:
                return nodes.Literal(token.pos, "number", token.text, unquote_char(token.text))
            except ValueError:
                raise self.fail(f"malformed character constant: {token.text}") from None
        if kind in (lex.NUMBER, lex.COMPLEX):
            try:
                return nodes.Literal(token.pos, "number", token.text, number(token.text))
            except ValueError as error:
                raise self.fail(str(error)) from None
        self.at -= 1
        return None

    def use(self, token: lex.Token) -> nodes.Variable:
        """A variable that was declared."""
        if token.text not in self.variables:
            raise self.fail(f"undefined variable {quote(token.text)}")
        return nodes.Variable(token.pos, [token.text])

    def parenthesised(self) -> nodes.Pipe:
        """The pipeline in parentheses."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.fail("template nested too deeply")
        pipe = self.pipeline("parenthesized pipeline", lex.RPAREN)
        self.depth -= 1
        return pipe


def _ends(node: nodes.Node) -> bool:
    """Whether the node ends a list."""
    return isinstance(node, nodes.Word) and node.word in ("else", "end")


_ACTIONS: dict[str, Callable[[_Parser, lex.Token], nodes.Node]] = {
    "block": _Parser.block,
    "break": _Parser.word_jump,
    "continue": _Parser.word_jump,
    "else": _Parser.word_else,
    "end": _Parser.word_end,
    "if": _Parser.branch,
    "range": _Parser.branch,
    "template": _Parser.call,
    "with": _Parser.branch,
}
