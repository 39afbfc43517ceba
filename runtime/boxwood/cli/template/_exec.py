"""Walking the tree over data: the evaluator of Go's text/template."""

from __future__ import annotations

from boxwood.cli.template import _gofmt as gofmt
from boxwood.cli.template import _nodes as nodes
from boxwood.cli.template._errors import ExecError
from boxwood.cli.template._funcs import CallError, Function, NotAFunction
from boxwood.cli.template._quote import quote
from boxwood.cli.template._values import (
    MISSING,
    NilPointer,
    Struct,
    truth,
    type_name,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


MAX_CALLS = 100  # nested {{template}}; Go allows 100,000, Python's stack does not
MAX_OUTPUT = 256 << 20  # characters; a range over a huge integer must end somewhere

_NO_ARG = object()


class _Break(Exception):
    """Leaves the innermost range."""


class _Continue(Exception):
    """Goes on with the innermost range's next item."""


class Evaluator:
    """One rendering: the output so far, the variables in scope, where the walk is."""

    def __init__(
        self,
        source: str,
        templates: dict[str, list[nodes.Node]],
        functions: dict[str, Function],
        missing_is_error: bool,
    ) -> None:
        self.source = source
        self.templates = templates
        self.functions = functions
        self.strict = missing_is_error
        self.out: list[str] = []
        self.size = 0
        self.variables: list[tuple[str, object]] = []
        self.node: nodes.Node = nodes.Dot(0)
        self.name = ""
        self.calls = 0
        self.loose = False  # the cursor came out of an untyped list or map

    def run(self, data: object) -> str:
        """The whole output. Raises ExecError in Go's words."""
        self.variables = [("$", data)]
        self.walk_list(data, self.templates[""])
        return "".join(self.out)

    # -- errors

    def fail(self, message: str, node: nodes.Node | None = None) -> ExecError:
        """The error at `node`, or where the walk is."""
        where = self.node if node is None else node
        before = self.source[: where.pos]
        line = before.count("\n") + 1
        column = len(before.rpartition("\n")[2].encode("utf-8", "surrogateescape"))
        return ExecError(
            f"template: :{line}:{column}: executing {quote(self.name)} at <{where}>: {message}"
        )

    # -- statements

    def walk_list(self, dot: object, body: list[nodes.Node]) -> None:
        """Each node of a list in turn."""
        for node in body:
            self.walk(dot, node)

    def walk(self, dot: object, node: nodes.Node) -> None:
        """One node."""
        if isinstance(node, nodes.Text):
            self.write(node.text)
        elif isinstance(node, nodes.Action):
            self.node = node
            value = self.pipeline(dot, node.pipe)
            if not node.pipe.variables:
                self.write("<no value>" if value is None or value is MISSING else _shown(value))
        elif isinstance(node, nodes.Branch):
            mark = len(self.variables)
            if node.kind == "range":
                self.walk_range(dot, node)
            else:
                self.walk_if(dot, node)
            del self.variables[mark:]
        elif isinstance(node, nodes.Call):
            self.walk_call(dot, node)
        elif isinstance(node, nodes.Word):
            raise _Break if node.word == "break" else _Continue

    def write(self, text: str) -> None:
        """Adds to the output, which has a bound."""
        self.size += len(text)
        if self.size > MAX_OUTPUT:
            raise self.fail("output too large")
        self.out.append(text)

    def walk_if(self, dot: object, node: nodes.Branch) -> None:
        """`if` and `with`."""
        value = self.pipeline(dot, node.pipe)
        if truth(value):
            kept = self.loose
            self.loose = kept and node.kind != "with"
            self.walk_list(value if node.kind == "with" else dot, node.body)
            self.loose = kept
        elif node.otherwise is not None:
            self.walk_list(dot, node.otherwise)

    def walk_range(self, dot: object, node: nodes.Branch) -> None:
        """`range` over a list, a map in the order of its keys, or an integer."""
        self.node = node
        value = self.pipeline(dot, node.pipe)
        mark = len(self.variables)
        empty, loose = True, self.loose
        try:
            for key, item in self.items(value, node):
                empty = False
                self.loose = _is_loose(value)
                self.iteration(node, key, item, mark)
        except _Break:
            del self.variables[mark:]
            return
        finally:
            self.loose = loose
        if empty and node.otherwise is not None:
            self.walk_list(dot, node.otherwise)

    def items(self, value: object, node: nodes.Branch) -> Iterable[tuple[object, object]]:
        """The pairs that a range runs over."""
        if value is None or value is MISSING:
            return ()
        if isinstance(value, list):
            return enumerate(value)
        if isinstance(value, dict) and not isinstance(value, Struct):
            return ((key, value[key]) for key in sorted(value))
        if isinstance(value, int) and not isinstance(value, bool):
            if len(node.pipe.variables) > 1:
                raise self.fail(f"can't use {value} to iterate over more than one variable")
            return ((number, number) for number in range(value))
        raise self.fail(f"range can't iterate over {gofmt.show(value)}")

    def iteration(self, node: nodes.Branch, key: object, item: object, mark: int) -> None:
        """One turn of a range: its variables, then its body."""
        self.range_variables(node.pipe, key, item, mark)
        inner = len(self.variables)
        try:
            self.walk_list(item, node.body)
        except _Continue:
            pass
        del self.variables[inner:]

    def range_variables(self, pipe: nodes.Pipe, key: object, item: object, mark: int) -> None:
        """Gives the range's variables their values; the pipeline pushed those it declares."""
        values = (key, item) if len(pipe.variables) > 1 else (item,)
        for at, (variable, value) in enumerate(zip(pipe.variables, values, strict=False)):
            if pipe.assign:
                self.assign(variable.names[0], value)
            else:
                self.variables[mark - len(pipe.variables) + at] = (variable.names[0], value)

    def walk_call(self, dot: object, node: nodes.Call) -> None:
        """`template`: another template over the pipeline's value, with its own variables."""
        self.node = node
        body = self.templates.get(node.name)
        if body is None:
            raise self.fail(f"template {quote(node.name)} not defined")
        if self.calls == MAX_CALLS:
            raise self.fail(f"exceeded maximum template depth ({MAX_CALLS})")
        inner = None if node.pipe is None else self.pipeline(dot, node.pipe)
        kept = self.variables, self.name
        self.variables, self.name = [("$", inner)], node.name
        loose, self.loose = self.loose, False
        self.calls += 1
        self.walk_list(inner, body)
        self.calls -= 1
        self.loose = loose
        self.variables, self.name = kept

    def assign(self, name: str, value: object) -> None:
        """Changes the innermost variable of that name."""
        for at in range(len(self.variables) - 1, -1, -1):
            if self.variables[at][0] == name:
                self.variables[at] = (name, value)
                return
        raise self.fail(f"undefined variable: {name}")

    def lookup(self, name: str) -> object:
        """The value of the innermost variable of that name."""
        for known, value in reversed(self.variables):
            if known == name:
                return value
        raise self.fail(f"undefined variable: {name}")

    # -- expressions

    def pipeline(self, dot: object, pipe: nodes.Pipe) -> object:
        """The value of a pipeline, which its variables receive."""
        self.node = pipe
        value: object = _NO_ARG
        for command in pipe.commands:
            value = self.command(dot, command, value)
            value = MISSING if value is None else value  # what is in the interface: nothing
        for variable in pipe.variables:
            if pipe.assign:
                self.assign(variable.names[0], value)
            else:
                self.variables.append((variable.names[0], value))
        return value

    def command(self, dot: object, command: nodes.Command, final: object) -> object:
        """One stage; `final` is the value piped into it, or _NO_ARG."""
        first = command.args[0]
        if isinstance(first, nodes.Field | nodes.Variable | nodes.Chain):
            return self.chain(dot, first, command.args, final)
        if isinstance(first, nodes.Identifier):
            return self.function(dot, first, command, command.args, final)
        if isinstance(first, nodes.Pipe):
            self.not_a_function(command.args, final)
            return self.pipeline(dot, first)
        self.node = first
        self.not_a_function(command.args, final)
        if isinstance(first, nodes.Nil):
            raise self.fail("nil is not a command")
        return self.constant(dot, first)

    def constant(self, dot: object, node: nodes.Node) -> object:
        """The cursor, nil or a literal."""
        if isinstance(node, nodes.Dot):
            return dot
        if not isinstance(node, nodes.Literal):
            return MISSING
        value = node.value
        if type(value) is int and not -(1 << 63) <= value < 1 << 63:
            raise self.fail(f"{node.source} overflows int")
        return value

    def not_a_function(self, args: list[nodes.Node], final: object) -> None:
        """A value takes no arguments."""
        if len(args) > 1 or final is not _NO_ARG:
            raise self.fail(f"can't give argument to non-function {args[0]}")

    def chain(
        self,
        dot: object,
        node: nodes.Field | nodes.Variable | nodes.Chain,
        args: list[nodes.Node],
        final: object,
    ) -> object:
        """Fields of the cursor, of a variable or of a term; the last may be a method."""
        self.node = node
        names = node.names
        receiver = dot
        typed = "interface {}" if self.loose else type_name(dot)
        if isinstance(node, nodes.Variable):
            receiver = self.lookup(names[0])
            typed = type_name(receiver)
            names = names[1:]
            if not names:
                self.not_a_function(args, final)
                return receiver
        elif isinstance(node, nodes.Chain):
            if isinstance(node.term, nodes.Nil):
                raise self.fail(f"indirection through explicit nil in {node}")
            receiver = self.argument(dot, node.term, "any")
            receiver = MISSING if receiver is None else receiver
            typed = type_name(receiver)
        for name in names[:-1]:
            owner = receiver
            receiver = self.field(dot, name, [], _NO_ARG, receiver, typed)
            typed = "interface {}" if _is_loose(owner) else type_name(receiver)
        return self.field(dot, names[-1], args, final, receiver, typed)

    def field(
        self,
        dot: object,
        name: str,
        args: list[nodes.Node],
        final: object,
        receiver: object,
        typed: str,
    ) -> object:
        """The field, key or method `name` of `receiver`."""
        if receiver is MISSING:
            if self.strict:
                raise self.fail(f"nil data; no entry for key {quote(name)}")
            return MISSING
        if isinstance(receiver, Struct):
            return self.struct_field(dot, name, args, final, receiver)
        if isinstance(receiver, dict):
            return self.map_key(name, args, final, receiver)
        if receiver is None:
            raise self.fail(f"nil pointer evaluating {typed}.{name}")
        if isinstance(receiver, NilPointer):
            if receiver.fields is not None and name not in receiver.fields:
                words = f"can't evaluate field {name} in type {type_name(receiver)}"
                raise self.fail(words)
            raise self.fail(f"nil pointer evaluating {type_name(receiver)}.{name}")
        raise self.fail(f"can't evaluate field {name} in type {typed}")

    def struct_field(
        self,
        dot: object,
        name: str,
        args: list[nodes.Node],
        final: object,
        receiver: Struct,
    ) -> object:
        """A method, else a field, of a struct."""
        method = receiver.method(name)
        if method is not None:
            values = [self.argument(dot, arg, "any") for arg in args[1:]]
            values += [] if final is _NO_ARG else [final]
            try:
                return method(*values)
            except TypeError:
                want = getattr(method, "argument_count", 1)
                raise self.fail(
                    f"wrong number of args for {name}: want {want} got {len(values)}"
                ) from None
        if name not in receiver:
            raise self.fail(f"can't evaluate field {name} in type {type_name(receiver)}")
        if len(args) > 1 or final is not _NO_ARG:
            raise self.fail(f"{name} has arguments but cannot be invoked as function")
        return receiver[name]

    def map_key(
        self,
        name: str,
        args: list[nodes.Node],
        final: object,
        receiver: dict[str, object],
    ) -> object:
        """An entry of a map."""
        if len(args) > 1 or final is not _NO_ARG:
            raise self.fail(f"{name} is not a method but has arguments")
        if name in receiver:
            return receiver[name]
        if self.strict:
            raise self.fail(f"map has no entry for key {quote(name)}")
        return MISSING

    # -- functions

    def function(
        self,
        dot: object,
        node: nodes.Identifier,
        command: nodes.Node,
        args: list[nodes.Node],
        final: object,
    ) -> object:
        """A call of a function, arguments first; `and` and `or` stop at what decides them."""
        self.node = node
        name = node.name
        function = self.functions[name]
        given = args[1:]
        count = len(given) + (final is not _NO_ARG)
        fixed = len(function.params)
        if function.rest is not None and count < fixed:
            raise self.fail(
                f"wrong number of args for {name}: want at least {fixed} got {len(given)}"
            )
        if function.rest is None and count != fixed:
            raise self.fail(f"wrong number of args for {name}: want {fixed} got {count}")
        if name in ("and", "or"):
            return self.logic(dot, given, final, name == "or")
        values = [self.argument(dot, arg, _param(function, at)) for at, arg in enumerate(given)]
        if final is not _NO_ARG:
            values.append(self.fit(final, _param(function, len(given))))
        try:
            return function.call(*values)
        except NotAFunction as error:
            words = f"error calling call: non-function {given[0] if given else 'nil'} {error}"
            raise self.fail(words, command) from None
        except CallError as error:
            raise self.fail(f"error calling {name}: {error}", command) from None

    def logic(self, dot: object, args: list[nodes.Node], final: object, wanted: bool) -> object:
        """`or` (wanted true) and `and` (wanted false)."""
        value: object = None
        for arg in args:
            value = self.argument(dot, arg, "any")
            if truth(value) == wanted:
                return value
        return value if final is _NO_ARG else final

    def argument(self, dot: object, node: nodes.Node, kind: str) -> object:
        """The value of an argument for a parameter of type `kind`."""
        self.node = node
        if isinstance(node, nodes.Pipe):
            return self.fit(self.pipeline(dot, node), kind)
        if isinstance(node, nodes.Field | nodes.Variable | nodes.Chain):
            value = self.chain(dot, node, [node], _NO_ARG)
            if value is None and kind != "any":
                raise self.fail(
                    f"wrong type for value; expected {_GO_KINDS[kind]}; got interface {{}}"
                )
            return self.fit(value, kind)
        if isinstance(node, nodes.Identifier):
            return self.fit(self.function(dot, node, node, [node], _NO_ARG), kind)
        if isinstance(node, nodes.Dot):
            return self.fit(dot, kind)
        if isinstance(node, nodes.Nil) and kind == "strings":
            return []
        if isinstance(node, nodes.Nil) and kind != "any":
            raise self.fail(f"cannot assign nil to {_GO_KINDS[kind]}")
        value = self.constant(dot, node)
        if kind == "any" or _fits(value, kind):
            return value
        if kind == "strings":
            raise self.fail(f"can't handle {node} for arg of type []string")
        raise self.fail(f"expected {'integer' if kind == 'int' else kind}; found {node}")

    def fit(self, value: object, kind: str) -> object:
        """`value` if a parameter of type `kind` takes it."""
        if kind == "any" or _fits(value, kind):
            return value
        go_kind = _GO_KINDS[kind]
        if value is None or value is MISSING:
            if kind == "strings":
                return []
            raise self.fail(f"invalid value; expected {go_kind}")
        raise self.fail(f"wrong type for value; expected {go_kind}; got {type_name(value)}")


def _is_loose(owner: object) -> bool:
    """Whether Go sees only `interface {}` in the value's elements."""
    return type(owner) in (dict, list) or getattr(owner, "go_name", "").endswith("interface {}")


_GO_KINDS = {"string": "string", "int": "int", "strings": "[]string"}


def _shown(value: object) -> str:
    """A value as an action prints it: pointers are followed once."""
    if isinstance(value, str):
        return value
    if isinstance(value, Struct) and value.pointer:
        return gofmt.show(value)[1:]
    return gofmt.show(value)


def _param(function: Function, at: int) -> str:
    """The type of the parameter at `at`."""
    return function.params[at] if at < len(function.params) else function.rest or "any"


def _fits(value: object, kind: str) -> bool:
    """Whether a parameter of type `kind` takes the value."""
    if kind == "string":
        return isinstance(value, str)
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
