"""Templates over inspected objects print, and fail, as the real client does."""

from __future__ import annotations

import io
import json
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from boxwood.cli.format import inspect_print
from boxwood.cli.template import TemplateError
from tests.integration.cli_opts.generated import Maker
from tests.integration.cli_opts.recorder import Recorder

FOLDER = Path(__file__).with_name("templates")
KINDS = ("container", "image", "network", "volume")
WORKERS = 2
EXIT_BAD_TEMPLATE = 64


def read(kind: str) -> Any:
    """The object that the templates of a kind are tried on."""
    return json.loads((FOLDER / f"{kind}.json").read_text())


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    """A daemon that has one object of each kind, named `x`."""
    answers = {f"/{kind}s/x": read(kind) for kind in KINDS}
    with Recorder(answers) as made:
        yield made


def theirs(recorder: Recorder, kind: str, template: str) -> tuple[int, str]:
    """Exit code and output (the error, where there is one) of `docker KIND inspect -f`."""
    done = recorder.docker(kind, "inspect", "-f", template, "x")
    return done.returncode, done.stderr.strip() if done.returncode else done.stdout


def ours(kind: str, template: str) -> tuple[int, str]:
    """The same of our own rendering."""
    out = io.StringIO()
    try:
        inspect_print([read(kind)], template, out, kind=kind)
    except TemplateError as error:
        return (EXIT_BAD_TEMPLATE if error.parsing else 1), str(error).strip()
    return 0, out.getvalue()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_templates_print_what_dockers_do(recorder: Recorder, kind: str) -> None:
    templates = (FOLDER / f"{kind}.txt").read_text().splitlines()
    entries = tomllib.loads((FOLDER / "allowed-differences.toml").read_text())["difference"]
    allowed = {entry["template"] for entry in entries if entry["kind"] == kind}
    with ThreadPoolExecutor(WORKERS) as pool:
        expected = list(pool.map(lambda template: theirs(recorder, kind, template), templates))
    wrong = []
    for template, docker in zip(templates, expected, strict=True):
        boxwood = ours(kind, template)
        if (docker == boxwood) == (template in allowed):
            wrong.append(f"{template}\n    docker  {docker!r}\n    boxwood {boxwood!r}")
    assert not wrong, "\n".join(wrong)
    assert allowed <= set(templates)


def unnamed(result: tuple[int, str]) -> tuple[int, str]:
    """A result without the one type that we cannot know: that of a value out of an interface."""
    code, text = result
    start, found, _ = text.partition("cannot index slice/array with type ")
    return code, start + found


@pytest.mark.timeout(300)
def test_generated_templates_print_what_dockers_do(recorder: Recorder, soak: bool) -> None:
    seeds = range(5000 if soak else 200)
    templates = [Maker(seed).template() for seed in seeds]
    with ThreadPoolExecutor(WORKERS) as pool:
        expected = pool.map(lambda template: theirs(recorder, "volume", template), templates)
        rendered = 0
        for seed, template, docker in zip(seeds, templates, expected, strict=True):
            rendered += not docker[0]
            assert unnamed(ours("volume", template)) == unnamed(docker), f"seed {seed}: {template}"
    assert rendered > len(seeds) // 20  # most fail, as is right; some must not


@pytest.mark.parametrize("template", ["", "json"])
@pytest.mark.parametrize("kind", KINDS)
def test_json_is_dockers(recorder: Recorder, kind: str, template: str) -> None:
    flags = ["-f", template] if template else []
    done = recorder.docker(kind, "inspect", *flags, "x")
    out = io.StringIO()
    inspect_print([read(kind)], template or None, out, kind=kind)
    assert json.loads(out.getvalue()) == json.loads(done.stdout)
    if kind == "container":  # Docker passes these on as they came; others go through a Go struct
        assert out.getvalue() == done.stdout
