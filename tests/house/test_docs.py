"""The docs say what is: rendered pages are up to date, and what is written by hand is complete."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from tests.support.paths import ROOT

DOCS = ROOT / "docs"


def render() -> ModuleType:
    """Import docs/render.py."""
    spec = importlib.util.spec_from_file_location("docs_render", DOCS / "render.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["api-coverage.md", "cli.md", "configuration.md"])
def test_rendered_page_is_up_to_date(name: str) -> None:
    """A page that is made from the code is what the code makes; `./dev docs` writes it."""
    assert (DOCS / name).read_text() == render().PAGES[name]()


def test_every_configuration_key_is_explained() -> None:
    """No key without a line."""
    from boxwood.configuration import DOCS as MEANINGS
    from boxwood.configuration import Configuration

    keys = {field.encode_name for field in msgspec.structs.fields(Configuration)}
    assert keys == set(MEANINGS)


def test_every_command_is_documented() -> None:
    """Each command at the top has its part in docs/cli.md."""
    from boxwood.cli import tree

    page = (DOCS / "cli.md").read_text()
    missing = [name for name in tree.TOP if f"boxwood {name}" not in page]
    assert missing == []


def documented_hooks() -> dict[str, list[str]]:
    """Return the hooks that docs/plugins.md has a heading for, with their arguments."""
    found = re.findall(
        r"^### `(\w+)\(([\w, ]*)\)`", (DOCS / "plugins.md").read_text(), re.MULTILINE
    )
    return {name: [word.strip() for word in words.split(",") if word] for name, words in found}


def test_every_hook_is_documented() -> None:
    """docs/plugins.md has each hook with just its arguments, and no other."""
    from boxwood.drivers.hookspecs import SPECS

    hooks = {
        name: [word for word in inspect.signature(function).parameters if word != "self"]
        for spec in SPECS.values()
        for name, function in vars(spec).items()
        if inspect.isfunction(function)
    }
    assert documented_hooks() == hooks


@pytest.mark.parametrize("page", sorted([ROOT / "README.md", *DOCS.glob("*.md")]), ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link is to a file that is there."""
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []
