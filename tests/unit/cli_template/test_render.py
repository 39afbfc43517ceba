"""The template engine, without Docker: what it renders and how it fails.

The oracle proper stands in tests/integration/cli_opts/test_templates.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from boxwood.cli.template import ExecError, List, Map, NilPointer, Struct, Template, TemplateError

DATA: dict[str, Any] = {
    "Name": "/web",
    "Count": 10**18,
    "Ratio": 2.5,
    "On": True,
    "Nothing": None,
    "List": ["a", "b", "c"],
    "Map": {"b": 2, "a": 1},
    "Deep": [{"x": {"y": "z"}}],
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("plain", "plain"),
        ("{{.Name}}", "/web"),
        ("{{.Count}} {{.Ratio}} {{.On}}", "1000000000000000000 2.5 true"),
        ("{{.Nothing}} {{.Missing}} {{.Missing.x}}", "<no value> <no value> <no value>"),
        ("{{.List}} {{.Map}}", "[a b c] map[a:1 b:2]"),
        ("{{range .List}}[{{.}}]{{end}}", "[a][b][c]"),
        ("{{range $i, $e := .List}}{{$i}}{{$e}}{{end}}", "0a1b2c"),
        ("{{range $k, $v := .Map}}{{$k}}={{$v}} {{end}}", "a=1 b=2 "),
        ("{{range .Nothing}}x{{else}}none{{end}}", "none"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        ("{{range .List}}{{if eq . `b`}}{{break}}{{end}}{{.}}{{end}}", "a"),
        ("{{range .List}}{{if eq . `b`}}{{continue}}{{end}}{{.}}{{end}}", "ac"),
        ("{{with .Nothing}}x{{else with .Name}}{{.}}{{end}}", "/web"),
        ("{{if and .On (gt .Count 5)}}y{{else}}n{{end}}", "y"),
        ("{{$x := 1}}{{if .On}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{(index .Deep 0).x.y}}", "z"),
        ("{{index .Map `a`}} {{index .Deep 0 `x` `y`}}", "1 z"),
        ("{{.Name | printf `%-6s|`}}", "/web  |"),
        ("{{json .Map}} {{json .List}} {{json .Nothing}}", '{"a":1,"b":2} ["a","b","c"] null'),
        ('{{join .List ","}} {{split "a b" " "}} {{title "ab cd"}}', "a,b,c [a b] Ab Cd"),
        ('{{pad "x" 1 2}}| {{truncate "abcdef" 3}}', " x  | abc"),
        ('a {{- " " -}} b {{/* gone */ -}} c', "a b c"),
        (
            '{{define "t"}}<{{.}}>{{end}}{{template "t" .Name}}{{template "t"}}',
            "</web><<no value>>",
        ),
        ('{{block "b" .Name}}[{{.}}]{{end}}', "[/web]"),
        ("{{len .List}} {{slice .Name 1}} {{not .On}}", "3 web false"),
        ("{{eq .Name `x` `/web`}} {{ne 1 2}} {{le 2 2}}", "true true true"),
        ("{{or .Nothing .Name}} {{and .On 0}}", "/web 0"),
        ("{{html `<a>`}} {{js `'x'`}} {{urlquery `a b&`}}", r"&lt;a&gt; \'x\' a+b%26"),
    ],
)
def test_renders(template: str, expected: str) -> None:
    assert Template(template).render(DATA) == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ } }}", 'template: :1: unexpected "}" in command'),
        ("{{.Name", "template: :1: unclosed action"),
        ("{{if .On}}x", "template: :1: unexpected EOF"),
        ("{{end}}", "template: :1: unexpected {{end}}"),
        ("{{nofunc 1}}", 'template: :1: function "nofunc" not defined'),
        ("\n\n{{$x}}", 'template: :3: undefined variable "$x"'),
        ("{{break}}", "template: :1: {{break}} outside {{range}}"),
        ("{{}}", "template: :1: missing value for command"),
    ],
)
def test_parse_errors(template: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template(template)
    assert caught.value.parsing
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{{.Name.x}}",
            'template: :1:7: executing "" at <.Name.x>: '
            "can't evaluate field x in type interface {}",
        ),
        (
            "{{index .List 9}}",
            'template: :1:2: executing "" at <index .List 9>: '
            "error calling index: index out of range: 9",
        ),
        (
            '{{template "no"}}',
            'template: :1:11: executing "" at <{{template "no"}}>: template "no" not defined',
        ),
    ],
)
def test_errors_while_rendering(template: str, message: str) -> None:
    with pytest.raises(ExecError) as caught:
        Template(template).render(DATA)
    assert str(caught.value) == message


def test_strict_refuses_missing_keys() -> None:
    with pytest.raises(ExecError, match="map has no entry for key"):
        Template("{{.Missing}}").render(DATA, strict=True)


def test_typed_values() -> None:
    inner = Struct(Status="up", Health=NilPointer("container.Health"))
    inner.go_name, inner.pointer = "container.State", True
    data = Struct(State=inner, Labels=Map(a="1"), Env=List(["x", "y"]))
    show = Template("{{.State}} {{.State.Health}} {{index .Labels `no`}}|{{.Labels.no}} {{.Env}}")
    assert show.render(data) == "{up <nil>} <nil> |<no value> [x y]"
    assert Template("{{if .State.Health}}y{{else}}n{{end}}").render(data) == "n"
    with pytest.raises(ExecError, match=r"nil pointer evaluating \*container.Health.Status"):
        Template("{{.State.Health.Status}}").render(data)


@pytest.mark.parametrize(
    "text",
    [
        "{{(" * 5000 + "1" + ")" * 5000 + "}}",
        "{{if 1}}" * 5000,
        "{{if 1}}a" + "{{else if 1}}b" * 5000 + "{{end}}",
        '{{define "r"}}{{template "r"}}{{end}}{{template "r"}}',
        "{{" + "(print " * 60 + "1" + ")" * 60 + "}}",
    ],
)
def test_depth_is_bounded(text: str) -> None:
    try:
        Template(text).render({})
    except TemplateError:
        return
    assert text.startswith("{{(print ")


def test_output_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boxwood.cli.template._exec.MAX_OUTPUT", 1000)
    with pytest.raises(ExecError, match="output too large"):
        Template("{{range 100000}}xxxxxxxx{{end}}").render({})
